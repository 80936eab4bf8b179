/**
 * A thousand open pages, half of them by server-sent events and half by WebSocket, and one connection to Redis for them.
 */
import { HttpRouter, HttpServer, HttpServerRequest, HttpServerResponse } from "@effect/platform"
import { NodeHttpServer } from "@effect/platform-node"
import { assert, it } from "@effect/vitest"
import { Array as Arr, Data, Deferred, Effect, Layer, Schedule, Schema, type Scope, Stream } from "effect"
import { type ClientRequest, createServer, get, type IncomingMessage } from "node:http"
import type { Socket } from "node:net"
import * as PubSub from "../../src/PubSub/index.js"
import * as Notifications from "../../src/PubSub/Notifications.js"
import { RedisClient } from "../../src/RedisClient.js"
import { connect, unique } from "../IoRedis/support.js"

const PAGES = 1000
const USERS = 200

const Alerts = Notifications.define({ name: unique("sockets"), schema: Schema.String })

const authenticated = <A, E, R>(effect: Effect.Effect<A, E, R | Notifications.CurrentUser>) =>
  Effect.gen(function*() {
    const { headers } = yield* HttpServerRequest.HttpServerRequest
    const id = headers.authorization
    if (id === undefined) return HttpServerResponse.empty({ status: 401 })
    return yield* Effect.provideService(effect, Notifications.CurrentUser, { id })
  })

const lines = Notifications.subscribeScoped(Alerts).pipe(
  Effect.map(({ stream }) =>
    Stream.concat(
      Stream.make("ready\n"),
      Stream.map(stream, (each) => `${each._tag === "Gap" ? "gap" : each.payload}\n`)
    )
  ),
  Stream.unwrapScoped
)

const router = HttpRouter.empty.pipe(
  HttpRouter.get(
    "/events",
    authenticated(Effect.map(
      Effect.context<Notifications.Notifications | Notifications.CurrentUser>(),
      (context) => HttpServerResponse.stream(Stream.provideContext(Stream.encodeText(lines), context))
    ))
  ),
  HttpRouter.get(
    "/socket",
    authenticated(
      Effect.gen(function*() {
        const socket = yield* HttpServerRequest.upgrade
        const write = yield* socket.writer
        yield* Effect.raceFirst(Stream.runForEach(lines, write), socket.run(() => Effect.void))
        return HttpServerResponse.empty()
      }).pipe(Effect.scoped)
    )
  )
)

/** The texts of the frames of a server, which are short and not masked. */
const unframe = (bytes: Buffer): readonly [texts: string, rest: Buffer] => {
  let texts = ""
  while (bytes.length >= 2 && bytes.length >= 2 + bytes[1]!) {
    texts += bytes.subarray(2, 2 + bytes[1]!).toString()
    bytes = bytes.subarray(2 + bytes[1]!)
  }
  return [texts, bytes]
}

class NotOpen extends Data.TaggedError("NotOpen")<{ readonly message: string }> {}

interface Page {
  text: string
  readonly close: Effect.Effect<void>
}

const HANDSHAKE = {
  connection: "Upgrade",
  upgrade: "websocket",
  "sec-websocket-version": "13",
  "sec-websocket-key": "dGhlIHNhbXBsZSBub25jZQ=="
}

/** A request that was upgraded has let go of its socket. */
const close = (request: ClientRequest) =>
  Effect.sync(() => {
    request.socket?.destroy()
    request.destroy()
  })

/** Open once the server says that it is subscribed. */
const open = (
  port: number,
  kind: "events" | "socket",
  headers: Readonly<Record<string, string>>
): Effect.Effect<Page, NotOpen, Scope.Scope> =>
  Effect.acquireRelease(
    Effect.sync(() =>
      get({
        port,
        host: "127.0.0.1",
        path: `/${kind}`,
        agent: false,
        headers: kind === "events" ? headers : { ...headers, ...HANDSHAKE }
      })
    ),
    close
  ).pipe(
    Effect.flatMap((request) =>
      Effect.async<Page, NotOpen>((resume) => {
        const page: Page = { text: "", close: close(request) }
        const add = (text: string) => {
          page.text += text
          if (page.text.startsWith("ready\n")) resume(Effect.succeed(page))
        }
        const fail = ({ message }: Error) => resume(Effect.fail(new NotOpen({ message })))
        request.on("error", fail)
        request.on("response", (response: IncomingMessage) => {
          if (response.statusCode !== 200) fail(new Error(`status ${response.statusCode}`))
          response.on("error", () => {})
          response.on("data", (chunk: Buffer) => add(chunk.toString()))
        })
        request.on("upgrade", (_: IncomingMessage, socket: Socket, head: Buffer) => {
          let rest = head
          const read = (chunk: Buffer) => {
            const [texts, left] = unframe(Buffer.concat([rest, chunk]))
            rest = left
            add(texts)
          }
          socket.on("error", () => {})
          socket.on("data", read)
          read(Buffer.alloc(0))
        })
      })
    )
  )

const eventually = <A, E, R>(effect: Effect.Effect<A, E, R>) =>
  Effect.retry(effect, Schedule.intersect(Schedule.spaced("50 millis"), Schedule.recurs(400)))

it.scopedLive(
  "a thousand pages are open over one connection to Redis, and get what is theirs",
  () =>
    Effect.gen(function*() {
      const name = unique("pages")
      const client = yield* connect({ name, keyPrefix: `${name}:` })
      const direct = yield* connect({ keyPrefix: `${name}:` })
      const publisher = yield* Effect.provideServiceEffect(
        Notifications.make,
        PubSub.PubSub,
        Effect.provideService(PubSub.make, RedisClient, direct)
      )
      const serving = yield* Deferred.make<number>()
      yield* Effect.gen(function*() {
        yield* HttpServer.serveEffect(router)
        const { address } = yield* HttpServer.HttpServer
        yield* Deferred.succeed(serving, address._tag === "TcpAddress" ? address.port : 0)
        return yield* Effect.never
      }).pipe(
        Effect.scoped,
        Effect.provide(Layer.mergeAll(
          NodeHttpServer.layer(createServer, { port: 0 }),
          Notifications.layer.pipe(Layer.provide(PubSub.layer), Layer.provide(Layer.succeed(RedisClient, client)))
        )),
        Effect.forkScoped
      )
      const port = yield* Deferred.await(serving)
      for (const kind of ["events", "socket"] as const) {
        assert.strictEqual((yield* Effect.flip(Effect.scoped(open(port, kind, {})))).message, "status 401")
      }

      const pages = yield* Effect.forEach(
        Arr.range(0, PAGES - 1),
        (i) => open(port, (i / USERS) % 2 < 1 ? "events" : "socket", { authorization: `user-${i % USERS}` }),
        { concurrency: 50 }
      )
      const subscribers = Effect.map(
        direct.send("CLIENT", "LIST", "TYPE", "PUBSUB"),
        (list) => String(list).split("\n").filter((line) => line.includes(` name=${name} `)).length
      )
      assert.strictEqual(yield* subscribers, 1)
      // One for each user and one for everybody.
      assert.lengthOf(yield* direct.pubsubChannels(), USERS + 1)

      yield* publisher.broadcast(Alerts, "all 1")
      yield* Effect.forEach(
        Arr.range(0, USERS - 1),
        (user) => publisher.notify(Alerts, `user-${user}`, `only ${user}`),
        { concurrency: 20 }
      )
      yield* publisher.broadcast(Alerts, "all 2")
      const wanted = (i: number) => `ready\nall 1\nonly ${i % USERS}\nall 2\n`
      yield* eventually(
        Effect.suspend(() =>
          pages.every(({ text }, i) => text.length >= wanted(i).length) ? Effect.void : Effect.fail("not yet")
        )
      )
      pages.forEach(({ text }, i) => assert.strictEqual(text, wanted(i)))

      yield* Effect.forEach(pages, ({ close }) => close, { discard: true })
      yield* eventually(Effect.filterOrFail(direct.pubsubChannels(), (channels) => channels.length === 0))
    }),
  120_000
)
