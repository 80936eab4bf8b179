/**
 * Sessions beside connect-redis, which keeps one JSON text for each and knows neither users nor limits.
 */
import { Context, Effect, Layer, Redacted, Schema } from "effect"
import * as IoRedis from "effect-redis-kit/IoRedis"
import * as Session from "effect-redis-kit/Session"
import { randomBytes } from "node:crypto"
import { type Case, fibers, type Measure, promises } from "../harness.js"
import * as Peers from "../peers.js"
import { connect, PREFIX, Server } from "../server.js"

const SESSIONS = 1000

const Data = Schema.Struct({
  name: Schema.String,
  email: Schema.String,
  role: Schema.String,
  locale: Schema.String,
  cart: Schema.String
})

const data = {
  name: "Ada Lovelace",
  email: "ada.lovelace@example.com",
  role: "customer",
  locale: "en-GB",
  cart: "7f1f2ad4-55b5-4a1b-9c7d-3d5b5d2c9a10"
}

const device = {
  deviceId: "6f9b0c1e-2a44-4a63-9a8e-1d2f0c5b7e33",
  userAgent:
    "Mozilla/5.0 (Macintosh; Intel Mac OS X 10_15_7) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/126.0.0.0 Safari/537.36",
  ip: "203.0.113.42"
}

/** The same for a store that only knows one object. */
const theirSession = (n: number) => ({
  cookie: { originalMaxAge: 604_800_000, expires: "2030-01-01T00:00:00.000Z", httpOnly: true, path: "/" },
  userId: `user:${n}`,
  ...data,
  ...device,
  createdAt: 1_790_000_000_000,
  lastSeenAt: 1_790_000_000_000,
  authenticatedAt: 1_790_000_000_000
})

const Sessions = Session.define({ name: "bench", data: Data })

const setUp = Effect.gen(function*() {
  const { url } = yield* Server
  const context = yield* Layer.build(
    Layer.provide(Session.layer, IoRedis.layer({ url: Redacted.make(url), keyPrefix: PREFIX }))
  )
  const sessions = yield* Context.get(context, Session.Session).open(Sessions)
  const client = Peers.redis().createClient({ url })
  yield* Effect.acquireRelease(
    Effect.promise(() => client.connect()),
    () => Effect.sync(() => client.destroy())
  )
  const store = new (Peers.connectRedis().RedisStore)({ client, prefix: `${PREFIX}theirs:`, ttl: 604_800 })
  return { client, sessions, store }
})

type SetUp = Effect.Effect.Success<typeof setUp>

/** An id as express-session makes it. */
const newId = (): string => randomBytes(24).toString("base64url")

const filled = ({ sessions, store }: SetUp) =>
  Effect.gen(function*() {
    const tokens: Array<Redacted.Redacted> = []
    const ids: Array<string> = []
    for (let n = 0; n < SESSIONS; n++) {
      const { token } = yield* sessions.create({ userId: `user:${n}`, data, device })
      tokens.push(token)
      const id = newId()
      ids.push(id)
      yield* Effect.promise(() => store.set(id, theirSession(n)))
    }
    return { tokenOf: (n: number) => tokens[n % SESSIONS]!, idOf: (n: number) => ids[n % SESSIONS]! }
  })

const measure = (name: string, ratio: number): Measure => ({ name, unit: "op/s", better: "higher", target: { ratio } })

/** What every request of somebody who is logged in costs. */
const getAndTouch = (loops: number, target: number): Case => ({
  measures: [measure(`session.getAndTouch.${loops}`, target)],
  contenders: Effect.gen(function*() {
    const all = yield* setUp
    const { idOf, tokenOf } = yield* filled(all)
    const { sessions, store } = all
    return [
      { name: "ours", slice: fibers(loops, (n) => sessions.getAndTouch(tokenOf(n))) },
      { name: "connect-redis, get", slice: promises(loops, (n) => store.get(idOf(n))) },
      { name: "ours, get", slice: fibers(loops, (n) => sessions.get(tokenOf(n))) },
      { name: "ours, touch", slice: fibers(loops, (n) => sessions.touch(tokenOf(n))) },
      { name: "connect-redis, touch", slice: promises(loops, (n) => store.touch(idOf(n), theirSession(n))) },
      {
        name: "connect-redis, get and touch",
        slice: promises(loops, async (n) => {
          await store.get(idOf(n))
          await store.touch(idOf(n), theirSession(n))
        })
      }
    ]
  })
})

const USERS = 50_000

/** Logins of users who have no sessions at first, and a few at the end. */
const create = (loops: number, target: number): Case => ({
  measures: [measure(`session.create.${loops}`, target)],
  contenders: Effect.gen(function*() {
    const { sessions, store } = yield* setUp
    let logins = 0
    let theirs = 0
    return [
      {
        name: "ours",
        slice: fibers(loops, () => sessions.create({ userId: `user:${logins++ % USERS}`, data, device }))
      },
      { name: "connect-redis, set", slice: promises(loops, () => store.set(newId(), theirSession(theirs++ % USERS))) }
    ]
  })
})

const COUNTED = 5000

/** What a session takes on the server, with what finds the sessions of a user: for theirs, a set of ids. */
const bytes: Case = {
  measures: [{ name: "session.bytes", unit: "B", better: "lower", target: { ratio: 0.8 } }],
  contenders: Effect.gen(function*() {
    const { client, sessions, store } = yield* setUp
    const redis = yield* connect()
    const used = Effect.promise(async () => Number(/used_memory:(\d+)/.exec(await redis.info("memory"))?.[1]))
    const per = (fill: (n: number) => Effect.Effect<unknown, unknown>) => () =>
      Effect.gen(function*() {
        const before = yield* used
        for (let n = 0; n < COUNTED; n++) yield* fill(n)
        const after = yield* used
        yield* Effect.promise(async () => {
          for await (const keys of redis.scanStream({ match: `${PREFIX}*`, count: 1000 })) {
            if (keys.length > 0) await redis.del(...keys)
          }
        })
        return [(after - before) / COUNTED]
      })
    return [
      { name: "ours", slice: per((n) => sessions.create({ userId: `user:${n}`, data, device })) },
      {
        name: "connect-redis, with a set",
        slice: per((n) =>
          Effect.promise(async () => {
            const id = newId()
            await store.set(id, theirSession(n))
            await client.sAdd(`${PREFIX}theirs:user:${n}`, id)
          })
        )
      }
    ]
  })
}

export const cases: ReadonlyArray<Case> = [
  getAndTouch(1, 0.8),
  getAndTouch(100, 1.3),
  create(1, 0.8),
  create(100, 0.8),
  bytes
]
