/**
 * Mails as jobs: two types in one queue, urgent ones first, three attempts, and dead letters that somebody can send again.
 */
import { Console, Context, Data, Effect, Either, Option, Schedule, Schema } from "effect"
import { Queue } from "effect-redis-kit"

export class MailboxBusy extends Data.TaggedError("MailboxBusy") {
  override readonly message = "the mailbox is busy"
}

/** What sends them. `key` is the same for each attempt at a mail, so that a provider can tell that it has sent it already. */
export class Mailer extends Context.Tag("recipes/Mailer")<Mailer, {
  readonly send: (
    mail: { readonly key: string; readonly to: string; readonly subject: string }
  ) => Effect.Effect<void, MailboxBusy>
}>() {}

// #region queue
export const Mails = Queue.define({
  name: "emails",
  payload: Schema.Union(
    Schema.TaggedStruct("Welcome", { to: Schema.String, name: Schema.String }),
    Schema.TaggedStruct("PasswordReset", { to: Schema.String })
  ),
  attempts: 3,
  backoff: Schedule.exponential("1 second")
})

/** Runs in as many processes as you like. A handler is safe to repeat: the id of the job is the key of the mail. */
export const Worker = Queue.worker(
  Mails,
  Queue.handlers(Mails, {
    Welcome: ({ name, to }, job) =>
      Effect.flatMap(Mailer, (mailer) => mailer.send({ key: job.id, to, subject: `Welcome, ${name}!` })),
    PasswordReset: ({ to }, job) =>
      Effect.flatMap(Mailer, (mailer) => mailer.send({ key: job.id, to, subject: "Your new password" }))
  }),
  { concurrency: 3 }
)
// #endregion queue

// #region producer
/** However often it is asked for, a user is welcomed once. */
export const welcome = (to: string, name: string) =>
  Queue.enqueue(Mails, { _tag: "Welcome", to, name }, { id: `welcome:${to}` })

/** Somebody waits for it, so it goes before all others; and after ten minutes nobody waits any more. */
export const resetPassword = (to: string) =>
  Queue.enqueue(Mails, { _tag: "PasswordReset", to }, { priority: 1, deadline: "10 minutes" })
// #endregion producer

/** How many jobs are in which state, and why the dead ones died. */
export const status = Effect.gen(function*() {
  const { dead, delayed, ready, running } = yield* Queue.counts(Mails)
  const { letters } = yield* Queue.deadLetters(Mails)
  return {
    waiting: ready + delayed,
    running,
    dead,
    letters: letters.map(({ error, id, payload, reason }) => ({
      id,
      reason,
      error: Option.getOrNull(error),
      to: Either.match(payload, { onLeft: () => "nobody", onRight: ({ to }) => to })
    }))
  }
})

const finished = Effect.repeat(Queue.counts(Mails), {
  schedule: Schedule.spaced("50 millis"),
  until: ({ delayed, ready, running }) => ready + delayed + running === 0
})

/** Enqueues some mails while no worker is there, and then sends them. */
export const program = Effect.gen(function*() {
  yield* welcome("ada@example.com", "Ada")
  yield* welcome("ada@example.com", "Ada")
  yield* welcome("busy@example.com", "Busy")
  yield* resetPassword("grace@example.com")
  yield* Effect.provide(finished, Worker)
  const { dead, letters } = yield* status
  yield* Console.log(`${dead} dead: ${letters.map(({ error, to }) => `${to} (${error})`).join(", ")}`)
})
