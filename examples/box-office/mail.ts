/**
 * Confirmations: each sale is a job, which some process brings to the buyer by mail. Some mailboxes are busy for a moment,
 * and some are full: what can't be brought is a dead letter, which somebody may send again.
 */
import { Chunk, Context, Data, Duration, Effect, Hash, Option, Schedule, Schema, Stream } from "effect"
import { Queue, RedisClient } from "effect-redis-kit"
import { LIFE, type Order, type Sale } from "./sale.js"
import type { Venue } from "./venues.js"

export class Confirmation extends Schema.Class<Confirmation>("Confirmation")({
  order: Schema.String,
  buyer: Schema.String,
  venue: Schema.String,
  seats: Schema.NonEmptyArray(Schema.String),
  /** In cents. */
  price: Schema.NonNegativeInt
}) {}

export class MailboxBusy extends Data.TaggedError("MailboxBusy") {
  override readonly message = "the mailbox is busy"
}

export class MailboxFull extends Data.TaggedError("MailboxFull") {
  override readonly message = "the mailbox is full"
}

/** Who sends mails; in this shop nobody ever does. */
export class Mailer extends Context.Reference<Mailer>()("box-office/Mailer", {
  defaultValue: () => ({
    send: ({ buyer }: Confirmation, attempt: number): Effect.Effect<void, MailboxBusy | MailboxFull> => {
      const luck = Math.abs(Hash.string(buyer)) % 50
      return luck === 0
        ? new MailboxFull()
        : luck < 10 && attempt === 1
        ? new MailboxBusy()
        : Effect.void
    }
  })
}) {}

/** Hash: order → buyer, of the mails that were brought. */
export const deliveredKey = ({ id }: Sale) => `box-office:{${id}}:delivered`

/** The queue of a sale. */
export const confirmations = (sale: Sale) =>
  Queue.define({
    name: `box-office:${sale.id}:mails`,
    payload: Confirmation,
    attempts: 3,
    backoff: Schedule.exponential("50 millis"),
    lease: "5 seconds",
    deadLetters: { age: LIFE },
    inspected: true
  })

/** The order is the id of the job: however often it is confirmed, there is one mail. */
export const confirm = (sale: Sale, venue: Venue, { buyer, id, price, seats }: Order) =>
  Queue.enqueue(confirmations(sale), new Confirmation({ order: id, buyer, venue: venue.id, seats, price }), { id })
    .pipe(
      Effect.retry(Schedule.spaced("200 millis").pipe(Schedule.upTo("10 seconds"))),
      Effect.ignoreLogged
    )

/** Brings the mails of all processes to the buyers, until the scope closes. */
export const deliver = (sale: Sale) =>
  Queue.makeWorker(confirmations(sale), ({ attempt, payload, progress }) =>
    Effect.gen(function*() {
      const redis = yield* RedisClient.RedisClient
      const mailer = yield* Mailer
      // Nobody waits for a mail because its progress can't be told.
      yield* Effect.ignore(progress(`to ${payload.buyer}, attempt ${attempt}`))
      yield* mailer.send(payload, attempt)
      yield* redis.hset(deliveredKey(sale), { [payload.order]: payload.buyer })
      yield* redis.expire(deliveredKey(sale), LIFE)
    }), { concurrency: 20 })

/** How many letters are looked at. Nobody has more of them. */
const LETTERS = 1000

/** What became of the confirmations of a sale, in all processes together. */
export const mailsOf = (sale: Sale) =>
  Effect.gen(function*() {
    const redis = yield* RedisClient.RedisClient
    const { delayed, ready, running } = yield* Queue.counts(confirmations(sale))
    const { letters } = yield* Queue.deadLetters(confirmations(sale), { limit: LETTERS })
    return {
      delivered: yield* redis.hlen(deliveredKey(sale)),
      waiting: delayed + ready + running,
      undelivered: letters.map(({ error, failures, id, reason }) => ({
        order: id,
        reason,
        error: Option.getOrNull(error),
        attempts: failures
      }))
    }
  })

/** How many running jobs are shown. */
const SHOWN = 10

/** The queue, as a page shows it. */
export const queueOf = (sale: Sale) =>
  Effect.gen(function*() {
    const queue = confirmations(sale)
    const [overview] = yield* Queue.overview([queue.name])
    const workers = yield* Queue.workers(queue)
    const running = yield* Effect.forEach(
      workers.flatMap(({ jobs }) => jobs).slice(0, SHOWN),
      ({ id }) => Effect.map(Queue.progress(queue, id), (progress) => ({ id, progress: Option.getOrNull(progress) })),
      { concurrency: "unbounded" }
    )
    return {
      counts: overview!.counts,
      paused: overview!.paused,
      workers: overview!.workers,
      oldest: Option.getOrNull(Option.map(overview!.oldestReady, ({ age }) => Duration.toSeconds(age))),
      throughput: overview!.throughput.slice(-5).map(({ completed, failed, minute }) => ({
        minute,
        completed,
        failed
      })),
      running
    }
  })

/** Tries once more to bring what could not be brought. */
export const sendAgain = (sale: Sale, order: string) =>
  Queue.replay(confirmations(sale), order, { resetAttempts: true })

/** Until every mail is with its buyer, or can't be brought. */
export const allDelivered = (sale: Sale) =>
  Effect.repeat(Queue.counts(confirmations(sale)), {
    schedule: Schedule.spaced("20 millis").pipe(Schedule.upTo("20 seconds")),
    until: ({ delayed, ready, running }) => delayed + ready + running === 0
  })

/** The orders whose buyers have their mail, and those for which there is a dead letter. */
export const confirmed = (sale: Sale) =>
  Effect.gen(function*() {
    const redis = yield* RedisClient.RedisClient
    const letters = yield* Stream.runCollect(
      Stream.paginateChunkEffect(0, (offset) =>
        Effect.map(
          Queue.deadLetters(confirmations(sale), { offset, limit: LETTERS }),
          ({ letters, next }) => [Chunk.fromIterable(letters.map(({ id }) => id)), next]
        ))
    )
    return new Set([...yield* redis.hkeys(deliveredKey(sale)), ...letters])
  })

/** Nothing of the mails of a sale is left. */
export const forgetMails = (sale: Sale) =>
  Effect.gen(function*() {
    const redis = yield* RedisClient.RedisClient
    yield* Queue.obliterate(confirmations(sale), { force: true })
    yield* redis.unlink(deliveredKey(sale))
  })
