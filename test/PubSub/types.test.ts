/**
 * What the compiler makes of channels and handlers. Nothing here runs; the type check of the tests is the test.
 */
// Only types are looked at here.
// @effect-diagnostics floatingEffect:off
import { describe, expectTypeOf, it } from "@effect/vitest"
import { type Cause, Context, Effect, Schema, type Scope, type Stream } from "effect"
import * as EventBus from "../../src/PubSub/EventBus.js"
import * as PubSub from "../../src/PubSub/index.js"
import type { RedisError } from "../../src/RedisError.js"

class Created extends Schema.TaggedClass<Created>()("Created", { id: Schema.String }) {}
class Renamed extends Schema.TaggedClass<Renamed>()("Renamed", { id: Schema.String, name: Schema.String }) {}

class Mailer extends Context.Tag("test/Mailer")<Mailer, { readonly send: Effect.Effect<void> }>() {}
class Store extends Context.Tag("test/Store")<Store, { readonly save: Effect.Effect<void> }>() {}

const Users = PubSub.channel("users", Schema.Union(Created, Renamed))
const Text = PubSub.channel("text", Schema.String, { format: "plain" })
const Prices = PubSub.pattern("prices.*", Schema.NumberFromString)

declare const some: boolean

/** Only the types matter, so the body is never called. */
const types = (name: string, check: () => void) => it(name, () => expectTypeOf(check).toBeFunction())

describe("types of channels", () => {
  types("a format asks for a schema that fits", () => {
    expectTypeOf(Users).toEqualTypeOf<PubSub.Channel<Created | Renamed, "envelope">>()
    expectTypeOf(Text).toEqualTypeOf<PubSub.Channel<string, "plain">>()
    expectTypeOf(Prices).toEqualTypeOf<PubSub.Pattern<number, "envelope">>()
    // @ts-expect-error it does not encode to a text
    PubSub.channel("x", Schema.Number, { format: "plain" })
    // @ts-expect-error it does not encode to bytes
    PubSub.channel("x", Schema.String, { format: "binary" })
    // @ts-expect-error nothing says which version it is
    PubSub.channel("x", Schema.String, { format: "plain", version: 2 })
    // @ts-expect-error a pattern is never of sharded channels
    PubSub.pattern("x", Schema.String, { sharded: true })
  })

  types("what is published is what the channel is for", () => {
    expectTypeOf(PubSub.publish(Users, new Created({ id: "1" }))).toEqualTypeOf<
      Effect.Effect<number, RedisError, PubSub.PubSub>
    >()
    PubSub.publish(Users, new Created({ id: "1" }), { correlationId: "x" })
    // @ts-expect-error another value
    PubSub.publish(Users, "x")
    // @ts-expect-error there is no envelope
    PubSub.publish(Text, "x", { correlationId: "x" })
    // @ts-expect-error nothing can be published to a pattern
    PubSub.publish(Prices, 1)
  })

  types("options say what is delivered", () => {
    expectTypeOf(PubSub.subscribe(Users)).toEqualTypeOf<
      Stream.Stream<PubSub.Message<Created | Renamed>, RedisError, PubSub.PubSub>
    >()
    expectTypeOf(PubSub.subscribe(Text)).toEqualTypeOf<
      Stream.Stream<PubSub.PlainMessage<string>, RedisError, PubSub.PubSub>
    >()
    expectTypeOf(PubSub.subscribe(Prices, { gaps: true })).toEqualTypeOf<
      Stream.Stream<PubSub.Message<number> | PubSub.Gap, RedisError, PubSub.PubSub>
    >()
    expectTypeOf(PubSub.subscribe(Users, { gaps: some, failures: true, skipOwn: true })).toEqualTypeOf<
      Stream.Stream<
        PubSub.Message<Created | Renamed> | PubSub.Gap | PubSub.DecodeFailure,
        RedisError,
        PubSub.PubSub
      >
    >()
    expectTypeOf(PubSub.subscribe([Users, Users], { gaps: false })).toEqualTypeOf<
      Stream.Stream<PubSub.Message<Created | Renamed>, RedisError, PubSub.PubSub>
    >()
    expectTypeOf(PubSub.subscribeScoped(Prices, { buffer: { policy: "fail" } })).toEqualTypeOf<
      Effect.Effect<
        PubSub.Subscription<PubSub.Message<number>, PubSub.SubscriberTooSlow>,
        RedisError,
        PubSub.PubSub | Scope.Scope
      >
    >()
    expectTypeOf(PubSub.subscribeScoped(Prices, { buffer: { policy: "drop-newest" } })).toEqualTypeOf<
      Effect.Effect<PubSub.Subscription<PubSub.Message<number>>, RedisError, PubSub.PubSub | Scope.Scope>
    >()
    const anything: PubSub.SubscribeOptions = {}
    expectTypeOf(PubSub.subscribe(Users, anything)).toEqualTypeOf<
      Stream.Stream<
        PubSub.Message<Created | Renamed> | PubSub.Gap | PubSub.DecodeFailure,
        RedisError | PubSub.SubscriberTooSlow,
        PubSub.PubSub
      >
    >()
  })
})

describe("types of handlers", () => {
  types("a handler gets the members with its tag", () => {
    const on = EventBus.on(
      Users,
      "Renamed",
      (event, message) => {
        expectTypeOf(event).toEqualTypeOf<Renamed>()
        expectTypeOf(message).toEqualTypeOf<PubSub.Message<Renamed>>()
        return Effect.flatMap(Mailer, ({ send }) => some ? send : Effect.fail("no" as const))
      },
      {
        onFailure: ({ cause, message }) => {
          expectTypeOf(cause).toEqualTypeOf<Cause.Cause<"no">>()
          expectTypeOf(message).toEqualTypeOf<PubSub.Message<Renamed>>()
          return Effect.flatMap(Store, ({ save }) => save)
        }
      }
    )
    expectTypeOf(on).toEqualTypeOf<
      Effect.Effect<void, RedisError, Mailer | Store | EventBus.EventBus | Scope.Scope>
    >()
    // @ts-expect-error there is no such event
    EventBus.on(Users, "Deleted", () => Effect.void)
  })

  types("a record has a handler for every tag", () => {
    const handle = EventBus.handle(Users, {
      Created: (event) => {
        expectTypeOf(event).toEqualTypeOf<Created>()
        return Effect.flatMap(Mailer, ({ send }) => send)
      },
      Renamed: (event, { source }) => {
        expectTypeOf(event).toEqualTypeOf<Renamed>()
        expectTypeOf(source).toEqualTypeOf<string>()
        return Effect.flatMap(Store, ({ save }) => save)
      }
    })
    expectTypeOf(handle).toEqualTypeOf<
      Effect.Effect<void, RedisError, Mailer | Store | EventBus.EventBus | Scope.Scope>
    >()
    // @ts-expect-error nobody handles Renamed
    EventBus.handle(Users, { Created: () => Effect.void })
  })
})
