/**
 * What happens while a page is open, as server-sent events. However many pages a process serves, it has one connection to
 * Redis for all of them, and reads what all of them show once.
 */
import { HttpServerResponse } from "@effect/platform"
import { Effect, Option, PubSub as Hub, Schedule, Stream, SubscriptionRef } from "effect"
import { type ChatRoom, EventBus, Notifications, Presence, PubSub, RedisClient } from "effect-redis-kit"
import { Sessions } from "effect-redis-kit/http"
import { randomUUID } from "node:crypto"
import { seatsSold, Visitors } from "../live.js"
import { listen } from "../lobby.js"
import { news } from "../news.js"
import type { Sale } from "../sale.js"
import { ticks } from "../ticker.js"
import { AccountChanged, Cookie } from "./account.js"
import { keepBoard } from "./board.js"
import { watchRedis } from "./link.js"

const event = (name: string, data: unknown) => `event: ${name}\ndata: ${JSON.stringify(data)}\n\n`

/** A comment now and then, so that a connection that is gone is noticed. */
const heartbeats = Stream.repeatEffectWithSchedule(Effect.succeed(": still here\n\n"), Schedule.spaced("15 seconds"))

/** How many visitors there are, counted once for all pages of this process. */
const countVisitors = (sale: Sale) =>
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

/** The ticker and the news, which a page that is too slow loses the oldest of. */
const passOn = (sale: Sale) =>
  Effect.gen(function*() {
    const hub = yield* Effect.acquireRelease(Hub.sliding<string>(256), Hub.shutdown)
    yield* ticks(sale).pipe(
      Stream.runForEach((tick) => Hub.publish(hub, event("tick", tick))),
      Effect.retry(Schedule.spaced("1 second")),
      Effect.forkScoped
    )
    const tell = (data: unknown) => Hub.publish(hub, event("news", data))
    yield* EventBus.handle(news(sale), { Refused: tell, SentAgain: tell }).pipe(
      Effect.zipRight(Effect.never),
      Effect.scoped,
      Effect.retry(Schedule.spaced("1 second")),
      Effect.forkScoped
    )
    return hub
  })

/** What the pages of this process share. */
export const openFeeds = (sale: Sale) =>
  Effect.all({
    visitors: countVisitors(sale),
    hub: passOn(sale),
    link: watchRedis,
    board: keepBoard(sale)
  })

type Feeds = Effect.Effect.Success<ReturnType<typeof openFeeds>>

const said = (element: ChatRoom.Element<string>) =>
  element._tag === "Message"
    ? Option.some(event("said", {
      id: element.id,
      n: element.position.offset,
      who: element.user,
      at: element.at.epochMillis,
      words: element.value
    }))
    : Option.none()

/** A visitor is there as long as this runs. */
const eventsFor = (sale: Sale, buyer: Option.Option<string>, { board, hub, link, visitors }: Feeds) =>
  Effect.gen(function*() {
    const sold = yield* PubSub.subscribeScoped(seatsSold(sale), { gaps: true })
    const account = Option.isNone(buyer) ? Stream.empty : yield* Notifications.subscribeScoped(AccountChanged).pipe(
      Effect.provideService(Notifications.CurrentUser, { id: buyer.value }),
      Effect.map(({ stream }) => stream)
    )
    const lobby = yield* listen(sale)
    const passedOn = yield* Stream.fromPubSub(hub, { scoped: true })
    yield* board.watch
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
        Stream.map(link.changes, (link) => event("redis", link)),
        Stream.filterMap(board.board.changes, Option.map((board) => event("board", board))),
        Stream.filterMap(lobby, said),
        passedOn,
        heartbeats
      ], { concurrency: "unbounded" })
    )
  })

/** Whether Redis is there. When it was not a moment ago, it is given a moment to answer. */
const isThere = ({ link }: Feeds) =>
  Effect.gen(function*() {
    if ((yield* SubscriptionRef.get(link)).up) return true
    const redis = yield* RedisClient.RedisClient
    const health = yield* Effect.timeoutOption(redis.health, "300 millis")
    return Option.exists(health, ({ healthy }) => healthy)
  })

/** What a page asks that has lost its events. It needs no Redis. */
export const linkOf = ({ link }: Feeds) =>
  Effect.flatMap(SubscriptionRef.get(link), ({ up }) => HttpServerResponse.json({ up }))

/** The events for whoever the cookie says it is. */
export const events = (sale: Sale, feeds: Feeds) =>
  Effect.gen(function*() {
    if (!(yield* isThere(feeds))) return HttpServerResponse.empty({ status: 503 })
    const session = yield* Sessions.attach(Cookie)
    const context = yield* Effect.context<
      ChatRoom.ChatRoom | Notifications.Notifications | Presence.Presence | PubSub.PubSub
    >()
    const buyer = Option.map(session, ({ userId }) => userId)
    return HttpServerResponse.stream(
      Stream.unwrapScoped(eventsFor(sale, buyer, feeds)).pipe(Stream.encodeText, Stream.provideContext(context)),
      { contentType: "text/event-stream", headers: { "cache-control": "no-store", "x-accel-buffering": "no" } }
    )
  }).pipe(Effect.orElseSucceed(() => HttpServerResponse.empty({ status: 503 })))
