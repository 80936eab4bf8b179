/**
 * Notifications for people with a page open: server-sent events and WebSockets, any number of them over one connection
 * to Redis. Who somebody is comes from the session, and never from the URL.
 *
 * It runs on the server in memory, or on the one at `REDIS_URL`. With `PORT` it goes on:
 *
 *     PORT=3000 node build/examples/notifications.js
 *     curl -N -H "cookie: session=one" localhost:3000/events
 *     curl -d "your order is on its way" "localhost:3000/notify?user=ada"
 */
import {
  HttpMiddleware,
  HttpRouter,
  HttpServer,
  HttpServerRequest,
  HttpServerResponse,
  UrlParams
} from "@effect/platform"
import { NodeHttpServer, NodeHttpServerRequest } from "@effect/platform-node"
import { Config, Console, Deferred, Effect, Fiber, Layer, Option, Schedule, Schema, Stream } from "effect"
import { Notifications, PubSub, RedisTestServer } from "effect-redis-kit"
import * as IoRedis from "effect-redis-kit/IoRedis"
import { createServer } from "node:http"

const Alerts = Notifications.define({ name: "alerts", schema: Schema.String })

/** A real service has sessions in place of this. */
const sessions: ReadonlyMap<string, string> = new Map([["one", "ada"], ["two", "grace"]])

/** Runs as the user of the session, or not at all. */
const authenticated = <A, E, R>(effect: Effect.Effect<A, E, R | Notifications.CurrentUser>) =>
  Effect.gen(function*() {
    const { cookies } = yield* HttpServerRequest.HttpServerRequest
    const id = sessions.get(cookies.session ?? "")
    if (id === undefined) return HttpServerResponse.empty({ status: 401 })
    return yield* Effect.provideService(effect, Notifications.CurrentUser, { id })
  })

/** What a browser gets. After a gap it reads again what it may have missed. */
const toText = (element: Notifications.Notification<string> | PubSub.Gap): string =>
  JSON.stringify(
    element._tag === "Gap" ? { reload: true } : { id: element.id, audience: element.audience, text: element.payload }
  )

/** A comment now and then, so that a connection that is gone is noticed. */
const heartbeats = Stream.repeatEffectWithSchedule(Effect.succeed(": still here\n\n"), Schedule.spaced("15 seconds"))

/** As slow as its reader: what a slow one has no room for is dropped here, and it is told so. */
const events = Effect.map(
  Effect.context<Notifications.Notifications | Notifications.CurrentUser>(),
  (context) =>
    HttpServerResponse.stream(
      Notifications.subscribeScoped(Alerts).pipe(
        Effect.map(({ stream }) =>
          Stream.make("event: ready\ndata: {}\n\n").pipe(
            Stream.concat(Stream.map(stream, (element) => `data: ${toText(element)}\n\n`)),
            Stream.merge(heartbeats, { haltStrategy: "left" })
          )
        ),
        Stream.unwrapScoped,
        Stream.encodeText,
        Stream.provideContext(context)
      ),
      { contentType: "text/event-stream", headers: { "cache-control": "no-store", "x-accel-buffering": "no" } }
    )
)

/** Until what was written has left this process: a WebSocket does not wait by itself. */
const drained = (request: HttpServerRequest.HttpServerRequest) => {
  const { socket } = NodeHttpServerRequest.toIncomingMessage(request)
  return Effect.async<void>((resume) => {
    if (!socket.writableNeedDrain) return resume(Effect.void)
    const done = () => resume(Effect.void)
    socket.once("drain", done)
    return Effect.sync(() => void socket.off("drain", done))
  })
}

const socket = Effect.gen(function*() {
  const request = yield* HttpServerRequest.HttpServerRequest
  const { stream } = yield* Notifications.subscribeScoped(Alerts)
  const socket = yield* HttpServerRequest.upgrade
  const write = yield* socket.writer
  const sending = Stream.make("{\"ready\":true}").pipe(
    Stream.concat(Stream.map(stream, toText)),
    Stream.runForEach((text) => Effect.zipRight(drained(request), write(text)))
  )
  // What clients send is read and left, so that their closing is noticed.
  yield* Effect.raceFirst(sending, socket.run(() => Effect.void))
  return HttpServerResponse.empty()
}).pipe(Effect.scoped)

/** A real service asks who may do this. */
const notify = Effect.gen(function*() {
  const { text, url } = yield* HttpServerRequest.HttpServerRequest
  const message = yield* text
  const to = UrlParams.getFirst(UrlParams.fromInput(new URL(url, "http://localhost").searchParams), "user")
  const reached = yield* Option.match(to, {
    onNone: () => Notifications.broadcast(Alerts, message),
    onSome: (user) => Notifications.notify(Alerts, user, message)
  })
  return HttpServerResponse.unsafeJson({ reached })
})

const router = HttpRouter.empty.pipe(
  HttpRouter.get("/events", authenticated(events)),
  HttpRouter.get("/socket", authenticated(socket)),
  HttpRouter.post("/notify", notify)
)

const RedisLive = Layer.unwrapEffect(Effect.map(
  Config.option(Config.string("REDIS_URL")),
  (url) => Option.isSome(url) ? IoRedis.layerConfig() : RedisTestServer.layer
))

const MessagesLive = Notifications.layer.pipe(
  Layer.provideMerge(PubSub.layerWith({ source: "notifications-example" })),
  Layer.provide(RedisLive)
)

const ServerLive = Layer.unwrapEffect(Effect.map(
  Config.withDefault(Config.integer("PORT"), 0),
  (port) => NodeHttpServer.layer(createServer, { port })
))

/** Two pages of ada and one of grace, and what each of them is told. */
const visit = (base: string) =>
  Effect.gen(function*() {
    const open = (session: string, name: string, lines: number) =>
      Effect.gen(function*() {
        const ready = yield* Deferred.make<void>()
        const page = Stream.fromAsyncIterable(
          (yield* Effect.promise(() => fetch(`${base}/events`, { headers: { cookie: `session=${session}` } }))).body!,
          String
        ).pipe(
          Stream.decodeText(),
          Stream.splitLines,
          Stream.filter((line) => line.startsWith("data: ")),
          Stream.tap((line) =>
            line === "data: {}" ? Deferred.succeed(ready, undefined) : Console.log(`${name} ${line}`)
          ),
          Stream.take(lines + 1),
          Stream.runDrain
        )
        const reading = yield* Effect.fork(page)
        yield* Deferred.await(ready)
        return reading
      })
    const post = (path: string, body: string) =>
      Effect.promise(() => fetch(`${base}${path}`, { method: "POST", body }).then((response) => response.text()))

    const pages = [yield* open("one", "ada", 2), yield* open("one", "ada", 2), yield* open("two", "grace", 1)]
    yield* post("/notify?user=ada", "your order is on its way")
    yield* post("/notify", "we close at midnight")
    yield* Fiber.joinAll(pages)
    const stranger = yield* Effect.promise(() => fetch(`${base}/events?user=ada`))
    yield* Console.log(`a stranger gets ${stranger.status}`)
  })

const program = Effect.gen(function*() {
  yield* HttpServer.serveEffect(router)
  const server = yield* HttpServer.HttpServer
  const port = server.address._tag === "TcpAddress" ? server.address.port : 0
  yield* Console.log(`listening on ${port}`)
  yield* process.env.PORT === undefined ? visit(`http://127.0.0.1:${port}`) : Effect.never
})

await Effect.runPromise(program.pipe(
  Effect.scoped,
  HttpMiddleware.withLoggerDisabled,
  Effect.provide(Layer.merge(MessagesLive, ServerLive))
))
