/**
 * The limits of the API. Orders are charged to the buyer and to the address: both are used, or none of them.
 */
import { Clock, Duration, Effect, Layer, Option } from "effect"
import { type EventBus, RateLimiter } from "effect-redis-kit"
import { ClientAddress, RateLimits, Sessions } from "effect-redis-kit/http"
import { Logins, PerAddress, PerBuyer, StockTakes, Talk, tellRefusal } from "../limits.js"
import type { Sale } from "../sale.js"
import { LoginLimit, StockTakeLimit, TalkLimit } from "./api.js"

const address = ClientAddress.fromRequest()

const orders = RateLimits.layerApi(RateLimits.RateLimit, {
  charge: Effect.gen(function*() {
    const session = yield* Effect.serviceOption(Sessions.CurrentSession)
    return [
      ...Option.match(session, { onNone: () => [], onSome: ({ userId }) => [{ policy: PerBuyer, id: userId }] }),
      { policy: PerAddress, id: yield* address }
    ]
  })
})

const logins = RateLimits.layerApi(LoginLimit, {
  charge: Effect.map(address, (id) => ({ policy: Logins, id }))
})

const talk = RateLimits.layerApi(TalkLimit, {
  charge: Effect.gen(function*() {
    const session = yield* Effect.serviceOption(Sessions.CurrentSession)
    return { policy: Talk, id: Option.match(session, { onNone: () => "", onSome: ({ userId }) => userId }) }
  })
})

/** All processes and all who ask have one limit. */
const stockTakes = (sale: Sale) =>
  RateLimits.layerApi(StockTakeLimit, { charge: Effect.succeed({ policy: StockTakes, id: sale.id }) })

/** At most so often a process tells of refusals: they are what is many when somebody attacks. */
const TELL_EVERY = 100

/** The same limits, which tell who was refused. */
const telling = (sale: Sale) =>
  Layer.effect(
    RateLimiter.RateLimiter,
    Effect.gen(function*() {
      const limiter = yield* RateLimiter.RateLimiter
      const context = yield* Effect.context<EventBus.EventBus>()
      let told = -Infinity
      const tell = (decision: RateLimiter.Decision, id: string | undefined) =>
        Effect.gen(function*() {
          if (decision.allowed) return
          const now = yield* Clock.currentTimeMillis
          if (now - told < TELL_EVERY) return
          told = now
          const isName = decision.policy === PerBuyer.name || decision.policy === Talk.name
          yield* tellRefusal(sale, decision, isName && id !== undefined ? id : "somebody")
        }).pipe(Effect.provide(context))
      return RateLimiter.RateLimiter.of({
        ...limiter,
        consume: (policy, id, options) =>
          Effect.tap(limiter.consume(policy, id, options), (decision) => tell(decision, id)),
        consumeAll: (requests) =>
          Effect.tap(
            limiter.consumeAll(requests),
            (decision) => tell(decision, requests.find(({ policy }) => policy.name === decision.policy)?.id)
          )
      })
    })
  )

export const limits = (sale: Sale) =>
  Layer.mergeAll(orders, logins, talk, stockTakes(sale)).pipe(Layer.provide(telling(sale)))

const left = (policy: RateLimiter.Policy, id: string) =>
  Effect.map(RateLimiter.check(policy, id), ({ limit, policy, remaining, resetAfter }) => ({
    policy,
    limit,
    remaining,
    reset: Math.ceil(Duration.toSeconds(resetAfter))
  }))

/** What is left. Looking uses nothing. */
export const leftOf = (buyer: Option.Option<string>) =>
  Effect.flatMap(address, (id) =>
    Effect.all({
      address: left(PerAddress, id),
      buyer: Option.match(buyer, { onNone: () => Effect.succeed(null), onSome: (buyer) => left(PerBuyer, buyer) })
    }, { concurrency: "unbounded" }))
