/**
 * What programs do with each capability, for users that may do no more than that.
 */
import { Effect, Fiber, Schedule, Schema, Stream as Elements } from "effect"
import {
  Cache,
  ChatRoom,
  ConsumerGroup,
  Counter,
  EventStore,
  Geo,
  type Layers,
  Leaderboard,
  Lock,
  Presence,
  PubSub,
  Queue,
  RateLimiter,
  ReadWriteLock,
  RedisClient,
  Semaphore,
  Session,
  Stream,
  UniqueCounter
} from "effect-redis-kit"

type Work = Effect.Effect<unknown, unknown, RedisClient.RedisClient | Layers.Services>

const ten = Array.from({ length: 10 }, (_, i) => i)

const contended = <A, E, R>(once: Effect.Effect<A, E, R>) =>
  Effect.all(ten.map(() => once), { concurrency: "unbounded", discard: true })

const client: Work = Effect.gen(function*() {
  const redis = yield* RedisClient.RedisClient
  yield* redis.health
})

const lock: Work = Effect.gen(function*() {
  yield* contended(Lock.withLock(Effect.sleep("2 millis"), "account", { waitTimeout: "20 seconds" }))
  yield* Lock.withLock(Effect.sleep("1 second"), "short", { lease: "2 seconds" })
  const locks = yield* Lock.Lock
  yield* Effect.scoped(locks.acquireAll(["a", "b"]))
  yield* Effect.scoped(Effect.gen(function*() {
    const held = yield* locks.acquire("report")
    yield* held.extend("20 seconds")
    yield* locks.fencedSet("lock:{report}:text", "text", held.fencingToken)
    yield* locks.inspect("report")
  }))
  yield* locks.forceRelease("report")
})

const semaphore: Work = Effect.gen(function*() {
  const Exports = Semaphore.define({ name: "exports", permits: 2 })
  yield* contended(Semaphore.withPermits(Effect.sleep("2 millis"), Exports, 1, { waitTimeout: "20 seconds" }))
  yield* Semaphore.withPermits(Effect.sleep("1 second"), Exports, 1, { lease: "2 seconds" })
  yield* Semaphore.available(Exports)
  yield* Semaphore.inspect(Exports)
})

const readWriteLock: Work = Effect.gen(function*() {
  yield* contended(ReadWriteLock.withReadLock(Effect.sleep("2 millis"), "catalogue"))
  yield* contended(ReadWriteLock.withWriteLock(Effect.sleep("2 millis"), "catalogue", { waitTimeout: "20 seconds" }))
  yield* Effect.scoped(Effect.flatMap(ReadWriteLock.acquireWrite("catalogue"), (held) => held.downgrade))
})

const rateLimiter: Work = Effect.gen(function*() {
  for (const algorithm of ["gcra", "token-bucket", "sliding-window", "fixed-window"] as const) {
    for (const limit of [5, 5000]) {
      const policy = RateLimiter.policy({ name: `${algorithm}-${limit}`, limit, window: "1 minute", algorithm })
      const limiter = yield* RateLimiter.RateLimiter
      yield* limiter.consume(policy, "ada")
      yield* limiter.check(policy, "ada")
      yield* limiter.refund(policy, "ada")
      yield* limiter.penalty(policy, "ada")
      yield* limiter.block(policy, "ada", "1 second")
      yield* limiter.count(policy, "ada")
      yield* limiter.reset(policy, "ada")
    }
  }
  const Slow = RateLimiter.policy({
    name: "slow",
    limit: 5,
    window: "100 millis",
    onExceeded: "delay",
    maxWait: "5 seconds"
  })
  yield* contended(RateLimiter.rateLimited(Effect.void, Slow, "ada"))
})

const cache: Work = Effect.gen(function*() {
  for (const near of [undefined, { capacity: 10 }]) {
    const users = yield* Cache.open(Cache.define({
      name: near === undefined ? "users" : "near-users",
      key: Schema.String,
      value: Schema.Number,
      ttl: "1 minute",
      grace: "1 minute",
      tags: () => ["all"],
      ...(near === undefined ? {} : { near })
    }))
    yield* contended(users.getOrSet("ada", Effect.delay(Effect.succeed(1), "20 millis")))
    yield* users.set("grace", 2)
    yield* users.setMany([["barbara", 3]])
    yield* users.getMany(["ada", "grace"])
    yield* users.has("ada")
    yield* users.take("barbara")
    yield* users.increment("visits")
    yield* users.count("visits")
    yield* users.delete("ada")
    yield* users.deleteMany(["grace"])
    yield* users.invalidateTags("all")
    yield* users.clearPattern("gr*")
    yield* users.clear
    // The removal of what is left goes on in the background.
    yield* Effect.sleep("200 millis")
  }
  const profiles = yield* Cache.openHash(Cache.defineHash({
    name: "profiles",
    key: Schema.String,
    fields: { name: Schema.String },
    ttl: "1 minute"
  }))
  yield* profiles.set("ada", { name: "Ada" })
  yield* profiles.setField("ada", "name", "Ada L.")
  yield* profiles.get("ada")
  yield* profiles.delete("ada")
})

const session: Work = Effect.gen(function*() {
  const Users = Session.define({
    name: "users",
    data: Schema.Struct({ theme: Schema.String }),
    maxPerUser: 2,
    onePerDevice: true,
    watchExpiry: true,
    touchEvery: "1 milli"
  })
  const sessions = yield* Session.open(Users)
  const events = yield* Effect.fork(Elements.runDrain(Elements.take(sessions.events, 1)))
  const made = yield* Effect.forEach(
    ten.slice(0, 4),
    (i) => sessions.create({ userId: "ada", data: { theme: "dark" }, device: { deviceId: `${i % 3}` } })
  )
  const { token } = made[3]!
  yield* sessions.get(token)
  yield* Effect.sleep("5 millis")
  yield* sessions.getAndTouch(token)
  yield* sessions.touch(token)
  yield* sessions.update(token, { theme: "light" })
  const rotated = yield* sessions.rotate(token)
  yield* sessions.listForUser("ada")
  yield* sessions.count("ada")
  yield* sessions.deleteOthers(rotated.token)
  yield* sessions.delete(rotated.token)
  yield* sessions.deleteForUser("ada")
  yield* sessions.sweep
  yield* Fiber.interrupt(events)
})

const queue: Work = Effect.gen(function*() {
  const Mails = Queue.define({
    name: "mails",
    payload: Schema.Struct({ to: Schema.String }),
    attempts: 2,
    backoff: () => "10 millis",
    lease: "2 seconds"
  })
  yield* Queue.enqueue(Mails, { to: "ada" }, { id: "ada", priority: 2, delay: "1 hour", deadline: "2 hours" })
  yield* Queue.changeDelay(Mails, "ada", { delay: "1 minute" })
  yield* Queue.promote(Mails, "ada")
  yield* Queue.changePriority(Mails, "ada", 1)
  yield* Queue.enqueue(Mails, { to: "once" }, { deduplicate: { key: "once", mode: "until-finished" } })
  yield* Queue.enqueueAll(Mails, ten.map((i) => ({ payload: { to: `${i}` } })))
  yield* Queue.list(Mails, "ready", {})
  yield* Queue.get(Mails, "ada")
  yield* Queue.pause(Mails)
  yield* Queue.resume(Mails)
  yield* Queue.setGlobalConcurrency(Mails, 5)
  yield* Queue.setRateLimit(Mails, { limit: 100, window: "1 second" })
  yield* Queue.setRateLimit(Mails, undefined)
  yield* Queue.setGlobalConcurrency(Mails, undefined)
  yield* Effect.scoped(Effect.gen(function*() {
    yield* Queue.makeWorker(Mails, (job) =>
      Effect.gen(function*() {
        yield* job.progress({ percent: 50 })
        if (job.payload.to === "3") yield* Effect.sleep("1 second")
        if (job.payload.to === "ada") return yield* Effect.fail("mailbox full")
      }), { concurrency: 3 })
    yield* Effect.repeat(Queue.counts(Mails), {
      until: ({ delayed, ready, running }) => delayed + ready + running === 0
    })
    // A worker that waits is woken by the next job.
    yield* Effect.sleep("100 millis")
    yield* Queue.enqueue(Mails, { to: "grace" })
    yield* Effect.repeat(Queue.counts(Mails), { until: ({ ready, running }) => ready + running === 0 })
  }))
  yield* Queue.deadLetters(Mails)
  yield* Queue.replay(Mails, "ada")
  yield* Queue.remove(Mails, "ada")
  yield* Queue.status(Mails)
  yield* Queue.drain(Mails)
  yield* Queue.cleanDeadLetters(Mails, "1 day")
  yield* Queue.obliterate(Mails, { force: true })
})

const pubSub: Work = Effect.gen(function*() {
  const News = PubSub.channel("news", Schema.String)
  yield* Effect.scoped(Effect.gen(function*() {
    const messages = yield* PubSub.subscribeScoped(News)
    yield* PubSub.publish(News, "hello")
    yield* messages.take
  }))
})

const presence: Work = Effect.gen(function*() {
  const Pages = Presence.define({ name: "pages", meta: Schema.Struct({ device: Schema.String }), ttl: "2 seconds" })
  const events = yield* Effect.fork(Elements.runDrain(Elements.take(Presence.events(Pages, "home"), 1)))
  yield* Effect.scoped(Effect.gen(function*() {
    yield* Presence.join(Pages, "home", "ada", { device: "phone" })
    yield* Presence.members(Pages, "home")
    yield* Elements.runDrain(Presence.allMembers(Pages, "home"))
    yield* Presence.connections(Pages, "home", "ada")
    yield* Presence.isOnline(Pages, "home", "ada")
    yield* Presence.count(Pages, "home")
    yield* Effect.sleep("1 second")
  }))
  yield* Presence.lastSeen(Pages, "home", "ada")
  yield* Fiber.interrupt(events)
})

const chatRoom: Work = Effect.gen(function*() {
  const Support = ChatRoom.define({ name: "support", message: Schema.Struct({ text: Schema.String }) })
  yield* ChatRoom.join(Support, "42", "ada")
  yield* ChatRoom.send(Support, "42", "ada", { text: "Where is it?" })
  yield* Elements.runDrain(Elements.take(ChatRoom.events(Support, "42", { from: "start" }), 1))
  yield* ChatRoom.history(Support, "42")
  yield* ChatRoom.members(Support, "42")
  yield* ChatRoom.memberCount(Support, "42")
  yield* ChatRoom.isMember(Support, "42", "ada")
  yield* ChatRoom.typing(Support, "42", "ada")
  yield* Effect.scoped(ChatRoom.enter(Support, "42", "ada"))
  yield* ChatRoom.here(Support, "42")
  yield* ChatRoom.leave(Support, "42", "ada")
})

const stream: Work = Effect.gen(function*() {
  const Orders = Stream.define({ name: "orders", schema: Schema.Struct({ id: Schema.String }), maxLength: 100 })
  const id = yield* Stream.append(Orders, { id: "1" })
  yield* Stream.appendAll(Orders, [{ id: "2" }, { id: "3" }])
  yield* Stream.range(Orders)
  yield* Stream.rangeReverse(Orders)
  yield* Stream.length(Orders)
  yield* Stream.info(Orders)
  yield* Stream.infoFull(Orders)
  yield* Stream.groups(Orders)
  const tail = yield* Effect.fork(Elements.runDrain(Elements.take(Stream.tail(Orders), 1)))
  // It hears of what comes after it has begun.
  yield* Effect.raceFirst(
    Fiber.join(tail),
    Effect.forever(Effect.zipRight(Stream.append(Orders, { id: "4" }), Effect.sleep("50 millis")))
  )
  yield* Stream.remove(Orders, id)
  yield* Stream.trim(Orders, { maxLength: 2 })
})

const consumerGroup: Work = Effect.gen(function*() {
  const Orders = Stream.define({ name: "parcels", schema: Schema.Struct({ id: Schema.String }), maxLength: 100 })
  const Mailers = ConsumerGroup.define({ stream: Orders, name: "mailers", from: "start" })
  yield* Stream.appendAll(Orders, ten.map((i) => ({ id: `${i}` })))
  const done = new Set<string>()
  yield* Effect.scoped(Effect.gen(function*() {
    yield* ConsumerGroup.start(Mailers, ({ value: { id } }) =>
      Effect.gen(function*() {
        if (id === "3") yield* Effect.sleep("1 second")
        done.add(id)
        if (id === "5") return yield* Effect.fail("no such address")
      }), { concurrency: 3, lease: "2 seconds", maxDeliveries: 2, retry: Schedule.spaced("10 millis") })
    yield* Effect.repeat(Effect.sleep("20 millis"), { until: () => done.size === 10 })
    yield* Effect.repeat(ConsumerGroup.pending(Mailers), { until: ({ total }) => total === 0 })
  }))
  yield* ConsumerGroup.lag(Mailers)
  yield* ConsumerGroup.deadLetters(Mailers)
  yield* ConsumerGroup.replayAll(Mailers)
  yield* ConsumerGroup.destroy(Mailers)
})

class Opened extends Schema.TaggedClass<Opened>()("Opened", { owner: Schema.String }) {}

const eventStore: Work = Effect.gen(function*() {
  const Accounts = EventStore.define({ name: "accounts", event: Opened })
  const store = yield* EventStore.open(Accounts)
  const account = { type: "account", id: "42" }
  yield* store.append(account, [new Opened({ owner: "ada" })], { expected: "no-stream" })
  yield* store.load(account)
  yield* Elements.runDrain(Elements.take(store.subscribe({}), 1))
  let seen = 0
  const projecting = yield* Effect.fork(store.project({ name: "owners", handle: () => Effect.sync(() => void seen++) }))
  yield* Effect.repeat(Effect.sleep("20 millis"), { until: () => seen === 1 })
  yield* Fiber.interrupt(projecting)
  yield* store.projectionStatus("owners")
  yield* store.resetProjection("owners")
})

const counter: Work = Effect.gen(function*() {
  const Views = Counter.define({
    name: "views",
    key: Schema.String,
    windows: { hour: "7 days" },
    top: { capacity: 10 }
  })
  yield* Counter.increment(Views, "/home")
  yield* Counter.get(Views, "/home")
  yield* Counter.getMany(Views, ["/home"])
  yield* Counter.range(Views, "/home", "hour", { last: 24 })
  yield* Counter.top(Views, "hour")
  yield* Counter.reset(Views, "/home")
})

const uniqueCounter: Work = Effect.gen(function*() {
  const Visitors = UniqueCounter.define({
    name: "visitors",
    key: Schema.String,
    member: Schema.String,
    windows: { hour: "7 days" }
  })
  yield* UniqueCounter.add(Visitors, "/home", "ada")
  yield* UniqueCounter.add(Visitors, "/shop", "grace")
  yield* UniqueCounter.count(Visitors, "/home")
  yield* UniqueCounter.union(Visitors, ["/home", "/shop"])
  yield* UniqueCounter.reset(Visitors, "/home")
})

const leaderboard: Work = Effect.gen(function*() {
  for (const ties of ["competition", "dense", "ordinal", "first-to-reach"] as const) {
    const Weekly = Leaderboard.define({
      name: `weekly-${ties}`,
      group: `game-${ties}`,
      player: Schema.String,
      maxSize: 3,
      season: "week",
      ties
    })
    for (const i of ten) yield* Leaderboard.submit(Weekly, `${i}`, i, { mode: "best", player: `player ${i}` })
    yield* Leaderboard.top(Weekly)
    yield* Leaderboard.page(Weekly, 1)
    yield* Leaderboard.around(Weekly, "8")
    yield* Leaderboard.rank(Weekly, "8")
    yield* Leaderboard.ranks(Weekly, ["8"])
    yield* Leaderboard.percentile(Weekly, "8")
    yield* Leaderboard.count(Weekly)
    yield* Leaderboard.merge(Weekly, [{ board: Weekly, season: "previous" }, { board: Weekly }])
    yield* Leaderboard.remove(Weekly, ["8"])
    yield* Leaderboard.clear(Weekly)
  }
})

const geo: Work = Effect.gen(function*() {
  const Shops = Geo.define({ name: "shops", member: Schema.String, value: Schema.String })
  yield* Geo.add(Shops, [
    { member: "harbour", longitude: 9.98, latitude: 53.54, value: "08:00" },
    { member: "station", longitude: 10.01, latitude: 53.55, value: "05:00" }
  ])
  yield* Geo.position(Shops, "harbour")
  yield* Geo.get(Shops, "harbour")
  yield* Geo.getMany(Shops, ["harbour"])
  yield* Geo.distance(Shops, "harbour", "station")
  yield* Geo.search(Shops, { around: { longitude: 10, latitude: 53.55 }, radius: 5, unit: "km", limit: 1 })
  yield* Geo.count(Shops)
  yield* Geo.remove(Shops, "harbour")
  yield* Geo.clear(Shops)
})

/** By the names that the guide has for them. */
export const capabilities: Readonly<Record<string, Work>> = {
  RedisClient: client,
  Lock: lock,
  Semaphore: semaphore,
  ReadWriteLock: readWriteLock,
  RateLimiter: rateLimiter,
  Cache: cache,
  Session: session,
  Queue: queue,
  PubSub: pubSub,
  Presence: presence,
  ChatRoom: chatRoom,
  Stream: stream,
  ConsumerGroup: consumerGroup,
  EventStore: eventStore,
  Counter: counter,
  UniqueCounter: uniqueCounter,
  Leaderboard: leaderboard,
  Geo: geo
}
