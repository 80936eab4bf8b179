/**
 * What the compiler makes of handlers by type and of operations. Nothing here runs; the type check of the tests is the
 * test.
 */
// Only types are looked at here.
// @effect-diagnostics floatingEffect:off
import { describe, expectTypeOf, it } from "@effect/vitest"
import { Context, Effect, type Either, type Option, Schema } from "effect"
import * as Queue from "../../src/Queue/index.js"
import type { RedisError } from "../../src/RedisError.js"

class Mailer
  extends Context.Tag("test/Mailer")<Mailer, { readonly send: (to: string) => Effect.Effect<void, "down"> }>()
{}

const Mails = Queue.define({
  name: "mails",
  payload: Schema.Union(
    Schema.TaggedStruct("Welcome", { to: Schema.String }),
    Schema.TaggedStruct("Receipt", { amount: Schema.Number })
  )
})

type Mail =
  | { readonly _tag: "Welcome"; readonly to: string }
  | { readonly _tag: "Receipt"; readonly amount: number }

/** Only the types matter, so the body is never called. */
const types = (name: string, check: () => void) => it(name, () => expectTypeOf(check).toBeFunction())

describe("types of operating queues", () => {
  types("a handler gets its own type, and all errors and requirements come together", () => {
    const handler = Queue.handlers(Mails, {
      Welcome: (payload, job) => {
        expectTypeOf(payload).toEqualTypeOf<{ readonly _tag: "Welcome"; readonly to: string }>()
        expectTypeOf(job.payload).toEqualTypeOf(payload)
        return Effect.flatMap(Mailer, (mailer) => mailer.send(payload.to))
      },
      Receipt: ({ amount }) => amount > 0 ? Effect.succeed(amount) : Effect.fail("nothing" as const)
    })
    expectTypeOf(handler).parameter(0).toEqualTypeOf<Queue.Job<Mail>>()
    expectTypeOf(handler).returns.toEqualTypeOf<Effect.Effect<unknown, "down" | "nothing", Mailer>>()
    expectTypeOf(Queue.runWorker(Mails, handler)).toMatchTypeOf<
      Effect.Effect<never, RedisError, Mailer | Queue.Queue>
    >()
  })

  types("no handler may be missing, and none may be for a type that there is not", () => {
    // @ts-expect-error Receipt is missing
    Queue.handlers(Mails, { Welcome: () => Effect.void })
    // @ts-expect-error there is no Reminder
    Queue.handlers(Mails, { Welcome: () => Effect.void, Receipt: () => Effect.void, Reminder: () => Effect.void })
    // @ts-expect-error a Welcome has no amount
    Queue.handlers(Mails, { Welcome: ({ amount }) => Effect.log(amount), Receipt: () => Effect.void })
    const Untagged = Queue.define({ name: "untagged", payload: Schema.String })
    // @ts-expect-error it has no types
    Queue.handlers(Untagged, {})
    // @ts-expect-error the handlers of other jobs
    Queue.runWorker(Untagged, Queue.handlers(Mails, { Welcome: () => Effect.void, Receipt: () => Effect.void }))
  })

  types("a payload is literal where its schema is", () => {
    const One = Queue.define({ name: "one", payload: Schema.TaggedStruct("One", { n: Schema.Literal(1, 2) }) })
    Queue.enqueue(One, { _tag: "One", n: 1 })
    Queue.enqueueAll(One, [{ payload: { _tag: "One", n: 2 } }])
    // @ts-expect-error there is no 3
    Queue.enqueue(One, { _tag: "One", n: 3 })
  })

  types("operations fail with what can go wrong, and no more", () => {
    expectTypeOf(Queue.remove(Mails, "id")).toEqualTypeOf<
      Effect.Effect<void, Queue.JobNotFound | Queue.JobIsRunning | RedisError, Queue.Queue>
    >()
    expectTypeOf(Queue.replay(Mails, "id")).toEqualTypeOf<
      Effect.Effect<void, Queue.JobNotFound | Queue.JobNotDead | RedisError, Queue.Queue>
    >()
    expectTypeOf(Queue.cancel(Mails, "id")).toEqualTypeOf<Effect.Effect<boolean, RedisError, Queue.Queue>>()
    expectTypeOf(Queue.get(Mails, "id")).toEqualTypeOf<
      Effect.Effect<Option.Option<Queue.JobInfo<Mail>>, RedisError, Queue.Queue>
    >()
    expectTypeOf<Queue.DeadLetter<Mail>["payload"]>().toEqualTypeOf<Either.Either<Mail, string>>()
  })
})
