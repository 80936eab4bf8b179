/**
 * Caches beside bentocache, and what they cost over the bare commands. Values are 100 bytes of JSON.
 */
import * as PersistedCache from "@effect/experimental/PersistedCache"
import * as PersistenceRedis from "@effect/experimental/Persistence/Redis"
import { Cache as EffectCache, Context, Effect, Layer, PrimaryKey, Redacted, Schema } from "effect"
import * as Cache from "effect-redis-kit/Cache"
import * as IoRedis from "effect-redis-kit/IoRedis"
import type { Redis } from "ioredis"
import { type Case, fibers, type Measure, promises, type Slice } from "../harness.js"
import * as Peers from "../peers.js"
import { connect, PREFIX, Server } from "../server.js"
import type { Crowd, Stampede } from "../stampede-worker.js"
import { ask, worker } from "../worker.js"

const KEYS = 1000
const names = Array.from({ length: KEYS }, (_, i) => `${i}`)
const keyOf = (n: number): string => names[n % KEYS]!

const User = Schema.Struct({ id: Schema.String, name: Schema.String, email: Schema.String, visits: Schema.Number })

const user = { id: "7f1f2ad4-55b5-4a1b", name: "Augusta Ada Lovelace", email: "lovelace@example.com", visits: 42 }

const lookup = Effect.succeed(user)

const TAGS = ["org:7", "country:gb", "plan:pro"]

const TTL = 3_600_000

const define = (name: string, options: { readonly near?: boolean; readonly tags?: ReadonlyArray<string> } = {}) =>
  Cache.define({
    name,
    key: Schema.String,
    value: User,
    ttl: TTL,
    ...(options.near === true ? { near: { capacity: 10_000 } } : {}),
    ...(options.tags === undefined ? {} : { tags: () => options.tags ?? [] })
  })

/** A process of its own. */
const service = Effect.flatMap(Server, ({ url }) =>
  Effect.map(
    Layer.build(Layer.provide(Cache.layer, IoRedis.layer({ url: Redacted.make(url), keyPrefix: PREFIX }))),
    (context) => Context.get(context, Cache.Cache)
  ))

const bento = (near: boolean) =>
  Effect.gen(function*() {
    const connection = yield* connect()
    const { BentoCache, bentostore, memoryDriver, redisDriver } = yield* Effect.promise(Peers.bentocache)
    const l2 = redisDriver({ connection, prefix: `${PREFIX}bento` })
    const store = bentostore()
    return new BentoCache({
      default: "store",
      stores: {
        store: near ? store.useL1Layer(memoryDriver({ maxItems: 10_000 })).useL2Layer(l2) : store.useL2Layer(l2)
      }
    })
  })

const measure = (name: string, ratio: number): Measure => ({ name, unit: "op/s", better: "higher", target: { ratio } })

/** Both of these keep their values in a store of keyv: in memory when none is given. */
const keyed = (near: boolean) =>
  Effect.flatMap(Server, ({ url }) =>
    Effect.acquireRelease(
      Effect.sync(() => {
        const store = () => Peers.keyvRedis().createKeyv(url, { namespace: `${PREFIX}keyv` })
        return [
          new (Peers.cacheable().Cacheable)(near ? {} : { primary: store() }),
          Peers.cacheManager().createCache(near ? {} : { stores: [store()] })
        ] as const
      }),
      (caches) => Effect.promise(() => Promise.all(caches.map((cache) => cache.disconnect())))
    ))

class UserById extends Schema.TaggedRequest<UserById>()("UserById", {
  success: User,
  failure: Schema.String,
  payload: { id: Schema.String }
}) {
  [PrimaryKey.symbol]() {
    return this.id
  }
}

/** Persisted in Redis, behind one entry in memory. */
const persisted = Effect.flatMap(Server, ({ url }) => {
  const { hostname, port } = new URL(url)
  const layer = PersistenceRedis.layerResult({ host: hostname, port: Number(port), keyPrefix: PREFIX })
  return Effect.flatMap(Layer.build(layer), (context) =>
    Effect.provide(
      PersistedCache.make<UserById, never>({
        storeId: "persisted",
        lookup: () => lookup,
        timeToLive: () => TTL,
        inMemoryCapacity: 1
      }),
      context
    ))
})

/** Both are measured by the same figure. */
const twice = (slice: Slice): Slice => (seconds) => Effect.map(slice(seconds), ([value]) => [value!, value!])

/** How long a near copy takes to be served: the invalidations have to be heard first. */
const warm = <K, A, E>(handle: Cache.Handle<K, A, E>, read: (n: number) => Effect.Effect<unknown, unknown>) =>
  Effect.gen(function*() {
    for (let round = 0; round < 200; round++) {
      for (let n = 0; n < KEYS; n++) yield* read(n)
      const { near } = yield* handle.stats
      if (near.hits >= KEYS) return
      yield* Effect.sleep("20 millis")
    }
    return yield* Effect.dieMessage("nothing is near")
  })

const nearHit: Case = {
  measures: [
    measure("cache.near.hit", 8),
    { name: "cache.near.hit.rate", unit: "op/s", better: "higher", target: { absolute: 1_500_000 } }
  ],
  contenders: Effect.gen(function*() {
    const handle = yield* (yield* service).open(define("near", { near: true }))
    const peer = yield* bento(true)
    const [cacheable, manager] = yield* keyed(true)
    for (const key of names) {
      yield* Effect.promise(() => Promise.all([cacheable.set(key, user, TTL), manager.set(key, user, TTL)]))
    }
    const local = yield* EffectCache.make<string, typeof user>({
      capacity: KEYS,
      timeToLive: TTL,
      lookup: () => lookup
    })
    yield* warm(handle, (n) => handle.getOrSet(keyOf(n), lookup))
    for (const key of names) yield* Effect.promise(() => peer.getOrSet({ key, ttl: TTL, factory: () => user }))
    return [
      { name: "ours", slice: twice(fibers(1, (n) => handle.getOrSet(keyOf(n), lookup))) },
      {
        name: "bentocache",
        slice: twice(promises(1, (n) => peer.getOrSet({ key: keyOf(n), ttl: TTL, factory: () => user })))
      },
      { name: "ours, get", slice: twice(fibers(1, (n) => handle.get(keyOf(n)))) },
      { name: "cacheable, get", slice: twice(promises(1, (n) => cacheable.get(keyOf(n)))) },
      { name: "cache-manager, get", slice: twice(promises(1, (n) => manager.get(keyOf(n)))) },
      { name: "effect/Cache", slice: twice(fibers(1, (n) => local.get(keyOf(n)))) }
    ]
  })
}

const nearHitTags: Case = {
  measures: [measure("cache.near.hit.tags3", 0.85)],
  contenders: Effect.gen(function*() {
    const caches = yield* service
    const tagged = yield* caches.open(define("near-tags", { near: true, tags: TAGS }))
    const plain = yield* caches.open(define("near-plain", { near: true }))
    yield* warm(tagged, (n) => tagged.getOrSet(keyOf(n), lookup))
    yield* warm(plain, (n) => plain.getOrSet(keyOf(n), lookup))
    return [
      { name: "ours, three tags", slice: fibers(1, (n) => tagged.getOrSet(keyOf(n), lookup)) },
      { name: "ours, no tags", slice: fibers(1, (n) => plain.getOrSet(keyOf(n), lookup)) }
    ]
  })
}

const hit = (loops: number, target: number): Case => ({
  measures: [measure(`cache.hit.${loops}`, target)],
  contenders: Effect.gen(function*() {
    const handle = yield* (yield* service).open(define("hit"))
    const batched = yield* connect({ enableAutoPipelining: true })
    const peer = yield* bento(false)
    const [cacheable, manager] = yield* keyed(false)
    const persistedUsers = yield* persisted
    for (const key of names) {
      yield* handle.set(key, user)
      yield* Effect.promise(async () => {
        await Promise.all([cacheable.set(key, user, TTL), manager.set(key, user, TTL)])
        await batched.set(`${PREFIX}raw:${key}`, JSON.stringify(user))
        await peer.set({ key, value: user, ttl: TTL })
      })
    }
    return [
      { name: "ours", slice: fibers(loops, (n) => handle.get(keyOf(n))) },
      { name: "ioredis auto-pipelined", slice: promises(loops, (n) => batched.get(`${PREFIX}raw:${keyOf(n)}`)) },
      { name: "ours, getOrSet", slice: fibers(loops, (n) => handle.getOrSet(keyOf(n), lookup)) },
      { name: "bentocache", slice: promises(loops, (n) => peer.get({ key: keyOf(n) })) },
      { name: "cacheable", slice: promises(loops, (n) => cacheable.get(keyOf(n))) },
      { name: "cache-manager", slice: promises(loops, (n) => manager.get(keyOf(n))) },
      { name: "PersistedCache", slice: fibers(loops, (n) => persistedUsers.get(new UserById({ id: keyOf(n) }))) }
    ]
  })
})

const hitTags: Case = {
  measures: [measure("cache.hit.tags3.100", 10)],
  contenders: Effect.gen(function*() {
    const handle = yield* (yield* service).open(define("hit-tags", { tags: TAGS }))
    const peer = yield* bento(false)
    for (const key of names) {
      yield* handle.set(key, user)
      yield* Effect.promise(() => peer.set({ key: `tags:${key}`, value: user, ttl: TTL, tags: TAGS }))
    }
    return [
      { name: "ours", slice: fibers(100, (n) => handle.get(keyOf(n))) },
      { name: "bentocache", slice: promises(100, (n) => peer.get({ key: `tags:${keyOf(n)}` })) }
    ]
  })
}

const set: Case = {
  measures: [measure("cache.set.100", 0.65)],
  contenders: Effect.gen(function*() {
    const handle = yield* (yield* service).open(define("set", { tags: TAGS }))
    const batched = yield* connect({ enableAutoPipelining: true })
    const peer = yield* bento(false)
    const json = JSON.stringify(user)
    return [
      { name: "ours, three tags", slice: fibers(100, (n) => handle.set(keyOf(n), user)) },
      {
        name: "ioredis auto-pipelined",
        slice: promises(100, (n) => batched.set(`${PREFIX}raw:${keyOf(n)}`, json, "PX", TTL))
      },
      {
        name: "bentocache",
        slice: promises(100, (n) => peer.set({ key: `set:${keyOf(n)}`, value: user, ttl: TTL, tags: TAGS }))
      }
    ]
  })
}

/** A hundred keys at once, one call after the other. */
const getMany: Case = {
  measures: [measure("cache.getMany.100", 0.5)],
  contenders: Effect.gen(function*() {
    const handle = yield* (yield* service).open(define("many"))
    const redis = yield* connect()
    const hundred = names.slice(0, 100)
    for (const key of hundred) yield* handle.set(key, user)
    const raw = hundred.map((key) => `${PREFIX}many:${key}`)
    yield* Effect.promise(() => redis.mset(new Map(raw.map((key) => [key, JSON.stringify(user)]))))
    return [
      { name: "ours", slice: fibers(1, () => handle.getMany(hundred)) },
      { name: "ioredis, MGET", slice: promises(1, () => redis.mget(raw)) },
      {
        name: "ioredis, MGET and JSON.parse",
        slice: promises(1, async () => (await redis.mget(raw)).map((text) => JSON.parse(text ?? "null")))
      }
    ]
  })
}

const miss: Case = {
  measures: [measure("cache.miss.100", 1.5)],
  contenders: Effect.gen(function*() {
    const handle = yield* (yield* service).open({ ...define("miss"), ttl: 1000 })
    const peer = yield* bento(false)
    let next = 0
    return [
      { name: "ours", slice: fibers(100, () => handle.getOrSet(`ours:${next++}`, lookup)) },
      {
        name: "bentocache",
        slice: promises(100, () => peer.getOrSet({ key: `theirs:${next++}`, ttl: 1000, factory: () => user }))
      }
    ]
  })
}

/** How often in a slice: the first ones run code that is not compiled yet. */
const STAMPEDES = 10

/** In each process. */
const CALLERS = 1000

/** Milliseconds. */
const LOOKUP = 50

/** Two processes, in each of which many callers want one key at once. */
const stampede: Case = {
  measures: [
    { name: "cache.stampede", unit: "ms", better: "lower", target: { absolute: 60 } },
    { name: "cache.stampede.lookups", unit: "lookups", better: "lower", target: { absolute: 1 } }
  ],
  contenders: Effect.gen(function*() {
    const workers = yield* Effect.replicateEffect(worker("./stampede-worker.js"), 2)
    const medianOf = (times: Array<number>): number => times.sort((a, b) => a - b)[Math.floor(times.length / 2)]!
    let key = 0
    /** The median of all callers, and the most lookups that one key has needed. */
    const several = (who: Stampede["who"]): Slice => () =>
      Effect.gen(function*() {
        const times: Array<number> = []
        let most = 0
        for (let n = 0; n < STAMPEDES; n++) {
          const stampede: Stampede = {
            who,
            key: `${key++}`,
            callers: CALLERS,
            lookup: LOOKUP,
            start: Date.now() + 20
          }
          const crowds = yield* Effect.forEach(workers, (child) => ask<Crowd>(child, stampede), {
            concurrency: "unbounded"
          })
          times.push(...crowds.flatMap(({ times }) => times))
          most = Math.max(most, crowds.reduce((sum, { lookups }) => sum + lookups, 0))
        }
        return [medianOf(times), most]
      })
    return [{ name: "ours", slice: several("ours") }, { name: "bentocache", slice: several("bentocache") }]
  })
}

const MEMBERS = 10_000

/** How often the server has read from a connection; the commands of a script are not sent. */
const reads = async (redis: Redis): Promise<number> =>
  Number(/total_reads_processed:(\d+)/.exec(await redis.info("stats"))?.[1])

const invalidateTag: Case = {
  measures: [
    { name: "cache.invalidateTag", unit: "ms", better: "lower", target: { absolute: 1 } },
    { name: "cache.invalidateTag.commands", unit: "commands", better: "lower", target: { absolute: 1 } }
  ],
  contenders: Effect.gen(function*() {
    const handle = yield* (yield* service).open(define("invalidate", { tags: ["everybody"] }))
    const redis = yield* connect()
    yield* handle.setMany(Array.from({ length: MEMBERS }, (_, n) => [`${n}`, user] as const))
    const set = `${PREFIX}set`
    const fill = async () => {
      const pipeline = redis.pipeline()
      for (let n = 0; n < MEMBERS; n++) pipeline.set(`${PREFIX}member:${n}`, "x").sadd(set, `${PREFIX}member:${n}`)
      await pipeline.exec()
    }
    const timed = async (run: () => Promise<unknown>): Promise<ReadonlyArray<number>> => {
      const before = await reads(redis)
      const started = performance.now()
      await run()
      const time = performance.now() - started
      // One INFO is counted.
      return [time, (await reads(redis)) - before - 1]
    }
    const run = (effect: Effect.Effect<unknown, unknown>) => () => Effect.runPromise(effect)
    return [
      { name: "ours", slice: () => Effect.promise(() => timed(run(handle.invalidateTags("everybody")))) },
      {
        name: "a set of keys",
        slice: () =>
          Effect.promise(async () => {
            await fill()
            return timed(async () => {
              const members = await redis.smembers(set)
              for (let n = 0; n < members.length; n += 1000) await redis.unlink(members.slice(n, n + 1000))
              await redis.del(set)
            })
          })
      }
    ]
  })
}

const bytes: Case = {
  measures: [{ name: "cache.bytes", unit: "B", better: "lower", target: { ratio: 1.3 } }],
  contenders: Effect.gen(function*() {
    const handle = yield* (yield* service).open(define("bytes", { tags: TAGS }))
    const redis = yield* connect()
    const used = async () => Number(/used_memory:(\d+)/.exec(await redis.info("memory"))?.[1])
    const json = JSON.stringify(user)
    const clean = async () => {
      for await (const keys of redis.scanStream({ match: `${PREFIX}*`, count: 1000 })) {
        if (keys.length > 0) await redis.del(...keys)
      }
    }
    const per = (fill: () => Effect.Effect<unknown, unknown>): Slice => () =>
      Effect.gen(function*() {
        yield* Effect.promise(clean)
        const before = yield* Effect.promise(used)
        yield* fill()
        const after = yield* Effect.promise(used)
        return [(after - before) / MEMBERS]
      })
    return [
      {
        name: "ours, three tags",
        slice: per(() => handle.setMany(Array.from({ length: MEMBERS }, (_, n) => [`${n}`, user] as const)))
      },
      {
        name: "SET PX",
        slice: per(() =>
          Effect.promise(async () => {
            const pipeline = redis.pipeline()
            for (let n = 0; n < MEMBERS; n++) pipeline.set(`${PREFIX}cache:bytes:${n}`, json, "PX", TTL)
            await pipeline.exec()
          })
        )
      }
    ]
  })
}

export const cases: ReadonlyArray<Case> = [
  nearHit,
  nearHitTags,
  hit(1, 0.85),
  hit(100, 0.65),
  hitTags,
  set,
  getMany,
  miss,
  stampede,
  invalidateTag,
  bytes
]
