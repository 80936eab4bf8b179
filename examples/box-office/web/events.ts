/**
 * What happens while a page is open, as server-sent events. However many pages a process serves, it has one connection to
 * Redis for all of them.
 */
import { HttpServerResponse } from "@effect/platform"
import { Effect, Option, Schedule, Stream, SubscriptionRef } from "effect"
import { Notifications, Presence, PubSub } from "effect-redis-kit"
import { Sessions } from "effect-redis-kit/http"
import { randomUUID } from "node:crypto"
import { seatsSold, Visitors } from "../live.js"
import type { Sale } from "../sale.js"
import { AccountChanged, Cookie } from "./account.js"

const event = (name: string, data: unknown) => `event: ${name}\ndata: ${JSON.stringify(data)}\n\n`

/** A comment now and then, so that a connection that is gone is noticed. */
const heartbeats = Stream.repeatEffectWithSchedule(Effect.succeed(": still here\n\n"), Schedule.spaced("15 seconds"))

/** How many visitors there are, counted once for all pages of this process. */
export const countVisitors = (sale: Sale) =>
  Effect.gen(function*() {
    const visitors = yield* SubscriptionRef.make(0)
    const count = Effect.flatMap(
      Presence.count(Visitors, sale.id),
      ({ users }) => SubscriptionRef.set(visitors, users)
    )
    yield* Presence.subscribe(Visitors, sale.id).pipe(
      Effect.tap(() => count),
      Effect.flatMap((events) =>
        events.pipe(
          // Many who come and go at once are one count.
          Stream.buffer({ capacity: 1, strategy: "sliding" }),
          Stream.runForEach(() => Effect.zipRight(Effect.sleep("50 millis"), count))
        )
      ),
      Effect.scoped,
      Effect.retry(Schedule.spaced("1 second")),
      Effect.forkScoped
    )
    return visitors
  })

/** A visitor is there as long as this runs. */
const eventsFor = (sale: Sale, buyer: Option.Option<string>, visitors: SubscriptionRef.SubscriptionRef<number>) =>
  Effect.gen(function*() {
    const sold = yield* PubSub.subscribeScoped(seatsSold(sale), { gaps: true })
    const account = Option.isNone(buyer) ? Stream.empty : yield* Notifications.subscribeScoped(AccountChanged).pipe(
      Effect.provideService(Notifications.CurrentUser, { id: buyer.value }),
      Effect.map(({ stream }) => stream)
    )
    yield* Presence.join(Visitors, sale.id, Option.getOrElse(buyer, () => randomUUID()))
    // From here on nothing is missed: the page reads what there is.
    return Stream.concat(
      Stream.make(event("ready", {})),
      Stream.mergeAll([
        Stream.map(
          sold.stream,
          (element) => element._tag === "Gap" ? event("reload", {}) : event("sold", element.payload)
        ),
        Stream.map(account, () => event("account", {})),
        Stream.map(visitors.changes, (visitors) => event("visitors", { visitors })),
        heartbeats
      ], { concurrency: "unbounded" })
    )
  })

/** The events for whoever the cookie says it is. */
export const events = (sale: Sale, visitors: SubscriptionRef.SubscriptionRef<number>) =>
  Effect.gen(function*() {
    const session = yield* Sessions.attach(Cookie)
    const context = yield* Effect.context<Notifications.Notifications | Presence.Presence | PubSub.PubSub>()
    const buyer = Option.map(session, ({ userId }) => userId)
    return HttpServerResponse.stream(
      Stream.unwrapScoped(eventsFor(sale, buyer, visitors)).pipe(Stream.encodeText, Stream.provideContext(context)),
      { contentType: "text/event-stream", headers: { "cache-control": "no-store", "x-accel-buffering": "no" } }
    )
  }).pipe(Effect.orElseSucceed(() => HttpServerResponse.empty({ status: 503 })))
