/**
 * `npm run bench:memory`: how many bytes of a server each thing takes. The table of docs/operations.md is made with it.
 *
 * A server of its own is filled with many of one kind, and `used_memory` of `INFO` is read before and after. Connections are
 * the same both times. Small hashes and sorted sets are stored tightly, so some things are cheaper in small numbers.
 */
import { Effect, Redacted, Schema, type Scope } from "effect"
import {
  Cache,
  ChatRoom,
  ConsumerGroup,
  Counter,
  EventStore,
  Geo,
  Layers,
  Leaderboard,
  Lock,
  Presence,
  PubSub,
  Queue,
  RateLimiter,
  RedisClient,
  Semaphore,
  Session,
  Stream,
  UniqueCounter
} from "effect-redis-kit"
import { print } from "./harness.js"
import { layer as serverLayer, Server } from "./server.js"

type Fill = Effect.Effect<unknown, unknown, RedisClient.RedisClient | Layers.Services | Scope.Scope>

const numbers = (n: number): ReadonlyArray<number> => Array.from({ length: n }, (_, i) => i)

const each = <A, E, R>(n: number, f: (i: number) => Effect.Effect<A, E, R>) =>
  Effect.forEach(numbers(n), f, { concurrency: 200, discard: true })

/** A name of eight characters. */
const name = (i: number) => `n${String(i).padStart(7, "0")}`

/** As long as it says, and no two are the same. */
const text = (i: number, length: number) => `${i}`.padStart(length, "x")

const day = "1 day"

const Mails = (id: string) => Queue.define({ name: id, payload: Schema.Struct({ text: Schema.String }), attempts: 1 })

class Happened extends Schema.TaggedClass<Happened>()("Happened", { text: Schema.String }) {}

const entries = Stream.define({ name: "entries", schema: Schema.Struct({ text: Schema.String }) })

const cases: ReadonlyArray<readonly [what: string, n: number, fill: (n: number) => Fill, before?: Fill]> = [
  ["`Lock`: one that is held", 5000, (n) => each(n, (i) => Lock.acquire(name(i), { lease: day, renew: false }))],
  [
    "`Lock`: its last token, for a day after it was released",
    5000,
    (n) => each(n, (i) => Lock.withLock(Effect.void, name(i)))
  ],
  ["`Semaphore`: each holder, of 1000 permits", 1000, (n) => {
    const all = Semaphore.define({ name: "all", permits: n })
    return each(n, () => Semaphore.acquire(all, 1, { lease: day, renew: false }))
  }],
  ["`RateLimiter`: an identifier, `gcra` or `token-bucket`", 10_000, (n) => {
    const policy = RateLimiter.policy({ name: "calls", limit: 10, window: day })
    return each(n, (i) => RateLimiter.consume(policy, name(i)))
  }],
  ["`RateLimiter`: an identifier, `fixed-window`", 10_000, (n) => {
    const policy = RateLimiter.policy({ name: "calls", limit: 10, window: day, algorithm: "fixed-window" })
    return each(n, (i) => RateLimiter.consume(policy, name(i)))
  }],
  ["`RateLimiter`: an identifier with 10 uses, `sliding-window` up to 1000", 2000, (n) => {
    const policy = RateLimiter.policy({ name: "calls", limit: 10, window: day, algorithm: "sliding-window" })
    return each(n * 10, (i) => RateLimiter.consume(policy, name(i % n)))
  }],
  ["`RateLimiter`: an identifier, `sliding-window` above 1000", 2000, (n) => {
    const policy = RateLimiter.policy({ name: "calls", limit: 10_000, window: day, algorithm: "sliding-window" })
    return each(n, (i) => RateLimiter.consume(policy, name(i)))
  }],
  [
    "`Cache`: an entry with a value of 100 bytes",
    10_000,
    (n) =>
      Effect.flatMap(
        Cache.open(Cache.json<string>({ name: "texts", ttl: day })),
        (cache) => each(n, (i) => cache.set(name(i), text(i, 98)))
      )
  ],
  [
    "`Cache`: the same with a tag of 8 characters",
    10_000,
    (n) =>
      Effect.flatMap(
        Cache.open(Cache.json<string>({ name: "tagged", ttl: day, tags: () => ["abcdefgh"] })),
        (cache) => each(n, (i) => cache.set(name(i), text(i, 98)))
      )
  ],
  [
    "`Session`: one, of a user with one, without data",
    5000,
    (n) =>
      Effect.flatMap(
        Session.open(Session.define({ name: "users" })),
        (sessions) => each(n, (i) => sessions.create({ userId: name(i), data: {} }))
      )
  ],
  [
    "`Queue`: a job that is ready, with a payload of 100 bytes",
    10_000,
    (n) => each(n, (i) => Queue.enqueue(Mails("ready"), { text: text(i, 89) }))
  ],
  [
    "`Queue`: a job that is delayed, with a payload of 100 bytes",
    10_000,
    (n) => each(n, (i) => Queue.enqueue(Mails("late"), { text: text(i, 89) }, { delay: day }))
  ],
  ["`Presence`: a connection, each of another user", 5000, (n) => {
    const Pages = Presence.define({ name: "pages", ttl: "10 minutes" })
    return each(n, (i) => Presence.join(Pages, "home", name(i)))
  }],
  ["`Presence`: a user who has left, for `lastSeen`", 5000, (n) => {
    const Pages = Presence.define({ name: "pages", ttl: "10 minutes" })
    return each(n, (i) => Effect.scoped(Presence.join(Pages, "home", name(i))))
  }],
  ["`ChatRoom`: a member", 5000, (n) => {
    const Support = ChatRoom.define({ name: "support", message: Schema.String })
    return each(n, (i) => ChatRoom.join(Support, "room", name(i)))
  }],
  ["`ChatRoom`: a message of 100 bytes", 5000, (n) => {
    const Support = ChatRoom.define({ name: "support", message: Schema.String, history: { size: n } })
    return Effect.zipRight(
      ChatRoom.join(Support, "room", "ada"),
      each(n, (i) => ChatRoom.send(Support, "room", "ada", text(i, 98)))
    )
  }],
  ["`Stream`: an entry of 100 bytes", 10_000, (n) => each(n, (i) => Stream.append(entries, { text: text(i, 89) }))],
  [
    "`ConsumerGroup`: an entry that is pending",
    5000,
    () =>
      Effect.flatMap(
        RedisClient.RedisClient,
        (redis) =>
          redis.send("XREADGROUP", "GROUP", "g", "c", "COUNT", 5000, "STREAMS", redis.key("stream:{entries}"), ">")
      ),
    Effect.zipRight(
      each(5000, (i) => Stream.append(entries, { text: text(i, 89) })),
      ConsumerGroup.create(ConsumerGroup.define({ stream: entries, name: "g", from: "start" }))
    )
  ],
  [
    "`EventStore`: an event of 100 bytes, 10 for each aggregate",
    5000,
    (n) =>
      Effect.flatMap(
        EventStore.open(EventStore.define({ name: "store", event: Happened })),
        (store) =>
          each(n, (i) => store.append({ type: "thing", id: name(i % (n / 10)) }, [new Happened({ text: text(i, 70) })]))
      )
  ],
  ["`Counter`: the total of a key", 10_000, (n) => {
    const Views = Counter.define({ name: "views", key: Schema.String })
    return each(n, (i) => Counter.increment(Views, name(i)))
  }],
  ["`Counter`: a key with one hour", 10_000, (n) => {
    const Views = Counter.define({ name: "views", key: Schema.String, windows: { hour: "7 days" } })
    return each(n, (i) => Counter.increment(Views, name(i)))
  }],
  ["`UniqueCounter`: a key with 10 members", 2000, (n) => {
    const Visitors = UniqueCounter.define({ name: "visitors", key: Schema.String, member: Schema.NumberFromString })
    return each(n, (i) => UniqueCounter.add(Visitors, name(i), ...numbers(10)))
  }],
  ["`UniqueCounter`: a key with 10,000 members", 200, (n) => {
    const Visitors = UniqueCounter.define({ name: "visitors", key: Schema.String, member: Schema.NumberFromString })
    return each(
      n * 10,
      (i) => UniqueCounter.add(Visitors, name(i % n), ...numbers(1000).map((k) => Math.floor(i / n) * 1000 + k))
    )
  }],
  ["`Leaderboard`: a member", 10_000, (n) => {
    const Board = Leaderboard.define({ name: "board" })
    return each(n, (i) => Leaderboard.submit(Board, name(i), i))
  }],
  ["`Leaderboard`: a member with a profile of 30 bytes", 10_000, (n) => {
    const Board = Leaderboard.define({ name: "board", player: Schema.String })
    return each(n, (i) => Leaderboard.submit(Board, name(i), i, { player: text(i, 28) }))
  }],
  ["`Geo`: a member", 10_000, (n) => {
    const Shops = Geo.define({ name: "shops", member: Schema.String })
    return each(n, (i) => Geo.add(Shops, [{ member: name(i), longitude: i % 180, latitude: i % 80 }]))
  }],
  ["`Geo`: a member with a value of 30 bytes", 10_000, (n) => {
    const Shops = Geo.define({ name: "shops", member: Schema.String, value: Schema.String })
    return each(
      n,
      (i) => Geo.add(Shops, [{ member: name(i), longitude: i % 180, latitude: i % 80, value: text(i, 28) }])
    )
  }],
  [
    "`PubSub`: a channel that a process listens to",
    2000,
    (n) => each(n, (i) => PubSub.subscribeScoped(PubSub.channel(name(i), Schema.String)))
  ],
  [
    "a connection, as of `reserve`",
    100,
    (n) => Effect.flatMap(RedisClient.RedisClient, (redis) => each(n, () => redis.reserve()))
  ]
]

const measure = (fill: Fill, n: number, before: Fill = Effect.void) =>
  Effect.gen(function*() {
    const redis = yield* RedisClient.RedisClient
    yield* redis.flushDb
    yield* before
    const used = Effect.map(redis.send("INFO", "memory"), (info) => Number(/used_memory:(\d+)/.exec(String(info))?.[1]))
    // What a first call leaves behind for good: scripts, subscriptions, buffers.
    yield* Effect.sleep("300 millis")
    const start = yield* used
    yield* fill
    yield* Effect.sleep("300 millis")
    return Math.round(((yield* used) - start) / n)
  }).pipe(Effect.scoped)

const program = Effect.gen(function*() {
  const { url, version } = yield* Server
  const live = Layers.live({ url: Redacted.make(url) })
  print(`${version}, bytes for each\n\n| what | bytes |\n|---|---|`)
  for (const [what, n, fill, before] of cases) {
    // Twice: the first time makes what stays.
    const once = measure(fill(n), n, before)
    const bytes = yield* Effect.zipRight(once, once).pipe(
      Effect.provide(live)
    )
    print(`| ${what} | ${bytes} |`)
  }
})

await Effect.runPromise(program.pipe(Effect.provide(serverLayer)))
