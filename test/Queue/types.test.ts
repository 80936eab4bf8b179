/**
 * What is inferred for the users of queues.
 */
// Only types are looked at here.
// @effect-diagnostics floatingEffect:off
// @effect-diagnostics missingEffectError:off
import { assert, expectTypeOf, it } from "@effect/vitest"
import { Context, Data, Effect, Either, type Layer, Schedule, Schema, type Scope } from "effect"
import * as Queue from "../../src/Queue/index.js"
import type { RedisError, RedisInputError } from "../../src/RedisError.js"

class Mailer extends Context.Tag("test/Mailer")<Mailer, { readonly send: (to: string) => Effect.Effect<void> }>() {}

class Bounced extends Data.TaggedError("Bounced")<{ readonly to: string }> {}

const Emails = Queue.define({
  name: "emails",
  payload: Schema.Struct({ to: Schema.String, at: Schema.Date }),
  backoff: Schedule.spaced("1 second")
})

const handler = (job: Queue.Job<{ readonly to: string; readonly at: Date }>) =>
  Effect.flatMap(
    Mailer,
    (mailer) => job.payload.to === "" ? new Bounced({ to: job.payload.to }) : mailer.send(job.payload.to)
  )

it("types of queues", () => {
  expectTypeOf(Emails).toEqualTypeOf<Queue.Definition<{ readonly to: string; readonly at: Date }>>()
  expectTypeOf(Queue.enqueue(Emails, { to: "", at: new Date(0) })).toEqualTypeOf<
    Effect.Effect<Queue.Enqueued, Queue.PayloadTooLarge | Queue.QueueFull | RedisError, Queue.Queue>
  >()
  // A worker needs what its handler needs, and cannot fail as it does.
  expectTypeOf(Queue.worker(Emails, handler)).toEqualTypeOf<
    Layer.Layer<never, RedisInputError, Queue.Queue | Mailer>
  >()
  expectTypeOf(Queue.runWorker(Emails, handler)).toEqualTypeOf<
    Effect.Effect<never, RedisInputError, Queue.Queue | Mailer>
  >()
  expectTypeOf(Queue.makeWorker(Emails, handler)).toEqualTypeOf<
    Effect.Effect<Queue.Worker, RedisInputError, Queue.Queue | Mailer | Scope.Scope>
  >()
  // The payload is that of the definition, and so are the errors for `retryable`.
  Queue.worker(Emails, (job) => {
    expectTypeOf(job.payload).toEqualTypeOf<{ readonly to: string; readonly at: Date }>()
    return job.payload.to === "" ? new Bounced({ to: "" }) : Effect.void
  }, { retryable: (error) => error._tag !== "Bounced" })
  // What a handler acquires is released with each attempt.
  expectTypeOf(Queue.worker(Emails, () => Effect.acquireRelease(Effect.void, () => Effect.void))).toEqualTypeOf<
    Layer.Layer<never, RedisInputError, Queue.Queue>
  >()
  // @ts-expect-error: another payload
  Queue.enqueue(Emails, { to: "" })
  // @ts-expect-error: a window needs its length
  Queue.enqueue(Emails, { to: "", at: new Date(0) }, { deduplicate: { key: "k", mode: "window" } })
  // @ts-expect-error: another job
  Queue.worker(Emails, (job: Queue.Job<number>) => Effect.log(job.payload))
  // @ts-expect-error: not the errors of this handler
  Queue.worker(Emails, handler, { retryable: (error: string) => error === "" })
  // A queue with a result takes only handlers that give it.
  const Sums = Queue.define({ name: "sums", payload: Schema.Array(Schema.Number), result: Schema.NumberFromString })
  expectTypeOf(Sums).toEqualTypeOf<Queue.Definition<ReadonlyArray<number>, number>>()
  Queue.worker(Sums, (job) => Effect.succeed(job.payload.length))
  // @ts-expect-error: another result
  Queue.worker(Sums, () => Effect.succeed(""))
  // @ts-expect-error: none
  Queue.worker(Sums, () => Effect.void)
  // Batches: `retryable` gets what jobs fail with.
  Queue.batchWorker(
    Emails,
    (jobs) =>
      Effect.zipRight(
        jobs.length > 5 ? Effect.fail(5) : Effect.void,
        Queue.batchFailures([[jobs[0], new Bounced({ to: "" })]])
      ),
    { size: 10, within: 5, retryable: (error) => typeof error === "number" || error._tag === "Bounced" }
  )
  Queue.batchWorker(Sums, (jobs) => Effect.succeed(jobs.map((job) => Either.right(job.payload.length))), {
    size: 10,
    within: 5
  })
  // @ts-expect-error: it has to say something of each job
  Queue.batchWorker(Sums, () => Effect.void, { size: 10, within: 5 })
  // @ts-expect-error: another result
  Queue.batchWorker(Sums, (jobs) => Effect.succeed(jobs.map(() => Either.right(""))), { size: 10, within: 5 })
  assert.strictEqual(Emails.name, "emails")
})
