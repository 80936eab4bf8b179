/**
 * Values of a source that changes, read through a cache of Redis and through one with near copies.
 */
import { Effect, Either, Schema } from "effect"
import * as Cache from "../../src/Cache/index.js"
import { chance, COMMAND_TIMEOUT, found, type Load, now, pick, Work } from "./work.js"

export const SHARED = "cache: nothing older than an acknowledged invalidation"
export const NEAR = "near cache: the same, a command timeout later"

const KEYS = ["{c0}", "{c1}", "{c2}", "{c3}"]

const tagOf = (key: string): string => key < "{c2}" ? "low" : "high"

const options = { key: Schema.String, value: Schema.Number, ttl: "1 minute", lease: "2 seconds" } as const

const Shared = Cache.define({ ...options, name: "shared", tags: (_, key) => [tagOf(key)] })

/**
 * A process that is cut off would keep what it looks up meanwhile, until it hears of changes again. So this one is asked
 * to fail then.
 */
const Near = Cache.define({
  ...options,
  name: "near",
  near: { capacity: 100 },
  onUnavailable: "fail",
  tags: (_, key) => [tagOf(key)]
})

/** A near copy may live until a dead connection is noticed. */
const BOUND = COMMAND_TIMEOUT + 500

/** An invalidation that can't get lost: from `at` on nobody may see a version before this one. */
interface Floor {
  readonly version: number
  readonly at: number
}

export const load: Load = {
  run: Effect.gen(function*() {
    const { ask, book, bug, check, confirm, paced, task } = yield* Work
    for (
      const { bound, cache, every, promise } of [
        { cache: yield* Effect.orDie(Cache.open(Shared)), bound: 0, every: 250, promise: SHARED },
        // The next change would make up for one that was not told, before anybody can say so.
        { cache: yield* Effect.orDie(Cache.open(Near)), bound: BOUND, every: 2500, promise: NEAR }
      ]
    ) {
      const source = (key: string) => `source:${cache.name}:${key}`
      const floor = (key: string) => `floor:${cache.name}:${key}`
      const noteFloor = (key: string, version: number) =>
        Effect.promise(() => book.redis.set(floor(key), JSON.stringify({ version, at: now() } satisfies Floor)))

      // A process has a key of its own to change. What others have near would stay there if they were not told.
      const key = KEYS[Number(/\d+/.exec(task.name)?.[0] ?? 0) % KEYS.length]!
      const change = Effect.gen(function*() {
        if (!chance(0.03)) {
          const version = yield* Effect.promise(() => book.redis.incr(source(key)))
          const remove = bug() ? Effect.void : ask("Cache.delete", cache.delete(key))
          const { confirmed } = yield* confirm(`cache:${cache.name}:e:${key}`, remove)
          if (confirmed) yield* noteFloor(key, version)
          return
        }
        const keys = KEYS.filter((other) => tagOf(other) === tagOf(key))
        const versions = yield* Effect.forEach(keys, (key) => Effect.promise(() => book.redis.incr(source(key))))
        const { confirmed } = yield* confirm(
          `cache:${cache.name}:tags`,
          ask("Cache.invalidateTags", cache.invalidateTags(tagOf(key)))
        )
        if (confirmed) yield* Effect.forEach(keys, (key, i) => noteFloor(key, versions[i]!))
      })
      yield* Effect.forkScoped(paced(every, change))

      /** What this process knows of each key, oldest first. */
      const floors = new Map<string, Array<Floor>>()
      const read = Effect.gen(function*() {
        const key = pick(KEYS)!
        const text = yield* Effect.promise(() => book.redis.get(floor(key)))
        const known = floors.get(key) ?? []
        floors.set(key, known)
        if (text !== null) {
          known.push(JSON.parse(text))
          if (known.length > 1000) known.shift()
        }
        const from = now()
        const least = known.findLast(({ at }) => at + bound < from)?.version ?? 0
        const get = ask(
          "Cache.getOrSet",
          cache.getOrSet(key, Effect.map(Effect.promise(() => book.redis.get(source(key))), Number)),
          2000
        )
        const value = yield* Effect.either(get)
        if (Either.isLeft(value)) return
        if (value.right >= least) return yield* check(promise, true, () => "")
        const wrong = (value: number) =>
          check(
            promise,
            value >= least,
            () => `${key} was ${value} at ${from.toFixed(1)}, to ${now().toFixed(1)}, after ${least}`
          )
        if (bound > 0) return yield* wrong(value.right)
        // A master that was away does not know at once that it is none any more. What it says is looked at again.
        const { confirmed, result } = yield* confirm(`cache:${cache.name}:e:${key}`, get)
        if (confirmed && Either.isRight(result)) yield* wrong(result.right)
      })
      for (let i = 0; i < 3; i++) yield* Effect.forkScoped(paced(60, read))
    }
  }),
  judge: (book) => Effect.all([found(book, SHARED), found(book, NEAR)])
}
