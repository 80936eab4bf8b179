import { assert, describe, it } from "@effect/vitest"
import { FastCheck } from "effect"
import { type Attributes, NearStore, type Read } from "../../src/Cache/NearStore.js"

const plain: Attributes = { expiresAt: Infinity, bytes: 1 }

const valueOf = <V>(store: NearStore<V>, key: string, now = 0) => store.get(key, now)?.value

describe("NearStore", () => {
  it("keeps values with what is known of them, falsy ones too", () => {
    const store = new NearStore<unknown>({ capacity: 10 })
    for (const value of [null, 0, "", false, undefined, Number.NaN]) {
      assert.isTrue(store.set("a", value, { expiresAt: 5, bytes: 3 }))
      const entry = store.get("a", 4)!
      assert.deepStrictEqual([entry.key, entry.value, entry.expiresAt, entry.bytes], ["a", value, 5, 3])
    }
    assert.strictEqual(store.size, 1)
    assert.strictEqual(store.bytes, 3)
    assert.isUndefined(store.get("b", 0))
  })

  it("takes any text for a key", () => {
    const store = new NearStore<string>({ capacity: 10 })
    const keys = ["", "__proto__", "constructor", "\0", "\ud800", "é", "e\u0301"]
    for (const key of keys) store.set(key, key, plain)
    for (const key of keys) assert.strictEqual(valueOf(store, key), key)
    assert.strictEqual(store.size, keys.length)
  })

  it("an entry ends at the instant its life does, and is no eviction", () => {
    const store = new NearStore<string>({ capacity: 10 })
    store.set("a", "a", { ...plain, expiresAt: 1000 })
    store.set("never", "never", { ...plain, expiresAt: 0 })
    assert.isUndefined(store.get("never", 0))
    assert.strictEqual(valueOf(store, "a", 999), "a")
    assert.isUndefined(store.get("a", 1000))
    // It is not there any more, wherever the clock goes.
    assert.isUndefined(store.get("a", 0))
    assert.deepStrictEqual([store.size, store.bytes, store.evictions], [0, 0, 0])
  })

  it("the least recently used one goes first", () => {
    const store = new NearStore<string>({ capacity: 3 })
    for (const key of ["a", "b", "c"]) store.set(key, key, plain)
    store.get("a", 0)
    store.set("b", "b2", plain)
    store.set("d", "d", plain)
    assert.deepStrictEqual(["a", "b", "c", "d"].map((key) => valueOf(store, key)), ["a", "b2", undefined, "d"])
    assert.deepStrictEqual([store.size, store.evictions], [3, 1])
  })

  it("one that is too large for all of the room takes nobody's place, and leaves no old value", () => {
    const store = new NearStore<string>({ capacity: 10, bytes: 100 })
    store.set("a", "a", { ...plain, bytes: 60 })
    store.set("b", "b", { ...plain, bytes: 40 })
    assert.isFalse(store.set("a", "larger", { ...plain, bytes: 101 }))
    assert.deepStrictEqual(["a", "b"].map((key) => valueOf(store, key)), [undefined, "b"])
    assert.isTrue(store.set("a", "all", { ...plain, bytes: 100 }))
    assert.deepStrictEqual(["a", "b"].map((key) => valueOf(store, key)), ["all", undefined])
    assert.deepStrictEqual([store.size, store.bytes, store.evictions], [1, 100, 1])
  })

  it("without capacity keeps nothing", () => {
    const store = new NearStore<string>({ capacity: 0 })
    assert.isFalse(store.set("a", "a", plain))
    assert.isFalse(store.beginRead("a").store("a", plain))
    assert.strictEqual(store.size, 0)
  })

  describe("a read under way", () => {
    const store = () => {
      const store = new NearStore<string>({ capacity: 10 })
      store.set("a", "before", plain)
      return store
    }
    const invalidations: ReadonlyArray<readonly [string, (store: NearStore<string>) => unknown, string | undefined]> = [
      ["a deletion", (store) => store.delete("a"), undefined],
      ["a newer value", (store) => store.set("a", "newer", plain), "newer"],
      ["the loss of everything", (store) => store.clear(), undefined]
    ]
    for (const [name, invalidate, after] of invalidations) {
      it(`is not kept after ${name}`, () => {
        const near = store()
        const read = near.beginRead("a")
        invalidate(near)
        assert.isFalse(read.store("old", plain))
        assert.strictEqual(valueOf(near, "a"), after)
        // Neither later.
        assert.isFalse(read.store("old", plain))
        assert.isTrue(near.beginRead("a").store("new", plain))
        assert.strictEqual(valueOf(near, "a"), "new")
      })
    }

    it("is kept when nothing happened, or nothing to its key", () => {
      const near = store()
      const read = near.beginRead("a")
      near.delete("b")
      near.set("c", "c", plain)
      near.get("a", 0)
      near.beginRead("a").store("another read", plain)
      assert.isTrue(read.store("read", plain))
      assert.strictEqual(valueOf(near, "a"), "read")
    })

    it("is not kept after a deletion of a key that was not there", () => {
      const near = new NearStore<string>({ capacity: 10 })
      const read = near.beginRead("a")
      assert.isFalse(near.delete("a"))
      assert.isFalse(read.store("old", plain))
    })

    it("is not kept after any number of other invalidations, and what is remembered of them is bounded", () => {
      const near = store()
      const read = near.beginRead("a")
      near.delete("a")
      for (let i = 0; i < 50_000; i++) near.delete(`other-${i}`)
      assert.isFalse(read.store("old", plain))
      const { old, young } = Reflect.get(near, "changed") as Record<"old" | "young", ReadonlyMap<string, number>>
      assert.isAtMost(old.size + young.size, 8192)
    })
  })

  it("is what a plain model says, for any sequence", () => {
    interface Modelled {
      readonly key: string
      readonly value: number
      readonly expiresAt: number
      readonly bytes: number
    }
    const key = FastCheck.constantFrom("a", "b", "c", "d", "e", "f")
    const step = FastCheck.oneof(
      FastCheck.record({
        step: FastCheck.constantFrom("set" as const, "store" as const),
        key,
        bytes: FastCheck.nat(8),
        life: FastCheck.nat(20),
        read: FastCheck.nat(5)
      }),
      FastCheck.record({ step: FastCheck.constantFrom("get" as const, "delete" as const, "begin" as const), key }),
      FastCheck.record({ step: FastCheck.constant("clear" as const) }),
      FastCheck.record({ step: FastCheck.constant("pass" as const), millis: FastCheck.nat(10) })
    )
    FastCheck.assert(
      FastCheck.property(
        FastCheck.integer({ min: 1, max: 5 }),
        FastCheck.integer({ min: 1, max: 20 }),
        FastCheck.array(step, { maxLength: 80 }),
        (capacity, limit, steps) => {
          const store = new NearStore<number>({ capacity, bytes: limit })
          // The most recently used one is the last.
          let model: Array<Modelled> = []
          let evictions = 0
          let now = 0
          let value = 0
          const reads: Array<{ readonly read: Read<number>; readonly key: string; good: boolean }> = []
          const put = (entry: Modelled): boolean => {
            model = model.filter((other) => other.key !== entry.key)
            if (entry.bytes > limit) return false
            while (
              model.length >= capacity || model.reduce((sum, { bytes }) => sum + bytes, entry.bytes) > limit
            ) {
              model.shift()
              evictions++
            }
            model.push(entry)
            return true
          }
          for (const step of steps) {
            if (step.step === "set") {
              const entry = { key: step.key, value: value++, expiresAt: now + step.life, bytes: step.bytes }
              for (const read of reads) if (read.key === step.key) read.good = false
              assert.strictEqual(store.set(step.key, entry.value, { ...plain, ...entry }), put(entry))
            } else if (step.step === "begin") {
              reads.push({ read: store.beginRead(step.key), key: step.key, good: true })
            } else if (step.step === "store") {
              const read = reads[step.read % Math.max(1, reads.length)]
              if (read === undefined) continue
              const entry = { key: read.key, value: value++, expiresAt: now + step.life, bytes: step.bytes }
              assert.strictEqual(read.read.store(entry.value, { ...plain, ...entry }), read.good && put(entry))
            } else if (step.step === "get") {
              const found = model.find((entry) => entry.key === step.key)
              if (found !== undefined) model = model.filter((entry) => entry !== found)
              const alive = found !== undefined && now < found.expiresAt
              if (alive) model.push(found)
              assert.strictEqual(store.get(step.key, now)?.value, alive ? found.value : undefined)
            } else if (step.step === "delete") {
              for (const read of reads) if (read.key === step.key) read.good = false
              assert.strictEqual(store.delete(step.key), model.some((entry) => entry.key === step.key))
              model = model.filter((entry) => entry.key !== step.key)
            } else if (step.step === "clear") {
              for (const read of reads) read.good = false
              store.clear()
              model = []
            } else if (step.step === "pass") {
              now += step.millis
            }
            assert.strictEqual(store.size, model.length)
            assert.strictEqual(store.bytes, model.reduce((sum, { bytes }) => sum + bytes, 0))
            assert.strictEqual(store.evictions, evictions)
          }
          for (const entry of model) {
            assert.strictEqual(store.get(entry.key, now)?.value, now < entry.expiresAt ? entry.value : undefined)
          }
        }
      ),
      { numRuns: 2000 }
    )
  })
})
