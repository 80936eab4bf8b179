import * as Reactivity from "@effect/experimental/Reactivity"
import { assert, layer } from "@effect/vitest"
import { Data, Effect, FastCheck, type Layer, Mailbox, Stream } from "effect"
import * as RedisReactivity from "../../src/integrations/Reactivity.js"
import type { RedisClient } from "../../src/RedisClient.js"
import type { RedisError } from "../../src/RedisError.js"
import { fresh, type Time, until } from "../kit/suites.js"

type Keys = Parameters<Reactivity.Reactivity.Service["invalidate"]>[0]

/** One process. */
const join = (name: string) => RedisReactivity.make({ name })

/** A query that counts how often it ran. */
const counted = (process: Reactivity.Reactivity.Service, keys: Keys) =>
  Effect.gen(function*() {
    let runs = 0
    const results = yield* process.query(keys, Effect.sync(() => ++runs))
    assert.strictEqual(yield* Effect.orDie(results.take), 1)
    return { runs: Effect.sync(() => runs), results }
  })

const id = FastCheck.oneof(
  FastCheck.constantFrom("a", "b", "", "a:b", "s1", "ä\u0000"),
  FastCheck.constantFrom<unknown>(1, 2, -1, 0.5, 1n, true, null, undefined),
  FastCheck.constantFrom("a", "b").map((name) => Data.struct({ name })),
  FastCheck.constantFrom(0, 1).map((time) => new Date(time))
)

const keys: FastCheck.Arbitrary<Keys> = FastCheck.oneof(
  FastCheck.array(id, { minLength: 1, maxLength: 3 }),
  FastCheck.dictionary(FastCheck.constantFrom("a", "b", "s1"), FastCheck.array(id, { maxLength: 2 }), { minKeys: 1 })
)

export const suite = (
  name: string,
  driver: Layer.Layer<RedisClient, RedisError>,
  options: { readonly excludeTestServices?: boolean },
  time: Time
) => {
  layer(driver, options)(`Reactivity, ${name}`, (it) => {
    const eventually = until(time)

    it.scoped("what is invalidated in one process runs the queries of all, each of them once", () =>
      Effect.gen(function*() {
        const app = fresh("all")
        const here = yield* join(app)
        const there = yield* join(app)
        const own = yield* counted(here, ["seats"])
        const other = yield* counted(there, ["seats"])
        const unconcerned = yield* counted(there, ["prices"])
        yield* here.invalidate(["seats"])
        assert.strictEqual(yield* Effect.orDie(own.results.take), 2)
        assert.strictEqual(yield* Effect.orDie(other.results.take), 2)
        // What comes back to the one that told it would have come before this.
        yield* there.invalidate(["seats"])
        assert.strictEqual(yield* Effect.orDie(own.results.take), 3)
        assert.strictEqual(yield* own.runs, 3)
        assert.strictEqual(yield* unconcerned.runs, 1)
      }))

    it.scoped("a mutation tells when it has succeeded, and not when it failed", () =>
      Effect.gen(function*() {
        const app = fresh("mutation")
        const here = yield* join(app)
        const there = yield* join(app)
        const query = yield* counted(there, { seats: ["hall-1"] })
        assert.strictEqual(
          yield* Effect.flip(here.mutation({ seats: ["hall-1"] }, Effect.fail("sold out"))),
          "sold out"
        )
        assert.strictEqual(yield* here.mutation({ seats: ["hall-1"] }, Effect.succeed("sold")), "sold")
        assert.strictEqual(yield* Effect.orDie(query.results.take), 2)
        // Had the first one told, this would be the third or fourth.
        yield* here.invalidate({ seats: ["hall-1"] })
        assert.strictEqual(yield* Effect.orDie(query.results.take), 3)
      }))

    it.scoped("a stream goes on with each invalidation", () =>
      Effect.gen(function*() {
        const app = fresh("stream")
        const here = yield* join(app)
        const there = yield* join(app)
        let seats = 10
        const seen = yield* Mailbox.make<number>()
        yield* there.stream(["seats"], Effect.sync(() => seats)).pipe(
          Stream.runForEach((n) => seen.offer(n)),
          Effect.forkScoped
        )
        assert.strictEqual(yield* Effect.orDie(seen.take), 10)
        seats = 9
        here.unsafeInvalidate(["seats"])
        assert.strictEqual(yield* Effect.orDie(seen.take), 9)
      }))

    it.scoped("processes with another name hear nothing", () =>
      Effect.gen(function*() {
        const app = fresh("name")
        const here = yield* join(app)
        const there = yield* join(app)
        const stranger = yield* join(fresh("stranger"))
        const query = yield* counted(stranger, ["seats"])
        const heard = yield* counted(there, ["seats"])
        yield* here.invalidate(["seats"])
        assert.strictEqual(yield* Effect.orDie(heard.results.take), 2)
        assert.strictEqual(yield* query.runs, 1)
      }))

    it.scoped("keys mean the same everywhere: what runs there is what would have run here", () =>
      Effect.gen(function*() {
        const app = fresh("keys")
        const here = yield* join(app)
        const there = yield* join(app)
        const cases = FastCheck.sample(
          FastCheck.record({ registered: FastCheck.array(keys, { maxLength: 4 }), invalidated: keys }),
          25
        )
        for (const { invalidated, registered } of cases) {
          const local = yield* Reactivity.make
          const ran = { local: new Set<number>(), there: new Set<number>() }
          let marked = false
          registered.forEach((keys, i) => local.unsafeRegister(keys, () => void ran.local.add(i)))
          const cancels = registered.map((keys, i) => there.unsafeRegister(keys, () => void ran.there.add(i)))
          cancels.push(there.unsafeRegister(["marker"], () => {
            marked = true
          }))
          local.unsafeInvalidate(invalidated)
          // Told with the keys, and known to have come.
          here.unsafeInvalidate(invalidated)
          here.unsafeInvalidate(["marker"])
          yield* eventually(Effect.sync(() => marked))
          for (const cancel of cancels) cancel()
          assert.deepStrictEqual([...ran.there].sort(), [...ran.local].sort())
        }
      }))

    it.scoped("what only this process can know is told to nobody", () =>
      Effect.gen(function*() {
        const app = fresh("identity")
        const here = yield* join(app)
        const there = yield* join(app)
        const key = { only: "here" }
        const own = yield* counted(here, [key])
        const other = yield* counted(there, [key])
        const marker = yield* counted(there, ["marker"])
        yield* here.invalidate([key])
        yield* here.invalidate(["marker"])
        assert.strictEqual(yield* Effect.orDie(marker.results.take), 2)
        assert.strictEqual(yield* own.runs, 2)
        assert.strictEqual(yield* other.runs, 1)
      }))

    it.scoped("too many keys at once are everything", () =>
      Effect.gen(function*() {
        const app = fresh("many")
        const here = yield* join(app)
        const there = yield* join(app)
        const query = yield* counted(there, ["not among them"])
        yield* here.invalidate(Array.from({ length: 10_001 }, (_, i) => `key-${i}`))
        assert.strictEqual(yield* Effect.orDie(query.results.take), 2)
      }))

    it.scoped("what was invalidated just before the end is told", () =>
      Effect.gen(function*() {
        const app = fresh("end")
        const there = yield* join(app)
        const query = yield* counted(there, ["seats"])
        yield* Effect.scoped(Effect.flatMap(join(app), (here) => here.invalidate(["seats"])))
        assert.strictEqual(yield* Effect.orDie(query.results.take), 2)
      }))

    it.scoped("a name that can't be one is refused", () =>
      Effect.gen(function*() {
        assert.strictEqual((yield* Effect.flip(join("")))._tag, "RedisInputError")
      }))
  })
}
