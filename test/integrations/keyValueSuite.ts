import * as KeyValueStore from "@effect/platform/KeyValueStore"
import { assert, layer } from "@effect/vitest"
import { Effect, Layer, Option, Schema } from "effect"
import * as Store from "../../src/integrations/KeyValueStore.js"
import { RedisClient } from "../../src/RedisClient.js"
import type { RedisError } from "../../src/RedisError.js"
import { fresh } from "../kit/suites.js"

class User extends Schema.Class<User>("User")({ name: Schema.String, age: Schema.NumberFromString }) {}

const Account = Schema.Struct({ balance: Schema.NumberFromString })

/** A store that nobody else uses. */
const own = Effect.suspend(() => Store.make({ prefix: `${fresh("kv")}:` }))

const bytes = (...values: ReadonlyArray<number>) => Uint8Array.from(values)

/** Whatever kind of array a driver makes. */
const plain = Option.map((value: Uint8Array) => Array.from(value))

export const suite = (
  name: string,
  driver: Layer.Layer<RedisClient, RedisError>,
  options: { readonly excludeTestServices?: boolean }
) => {
  layer(Layer.orDie(Layer.provideMerge(Store.layer, driver)), options)(`KeyValueStore, ${name}`, (it) => {
    it.effect("set, get, size", () =>
      Effect.gen(function*() {
        const store = yield* own
        assert.isTrue(yield* store.isEmpty)
        yield* store.set("/foo/bar", "bar")
        assert.deepStrictEqual(yield* store.get("/foo/bar"), Option.some("bar"))
        assert.deepStrictEqual(yield* store.get("/foo"), Option.none())
        assert.isTrue(yield* store.has("/foo/bar"))
        assert.isFalse(yield* store.has("/foo"))
        assert.strictEqual(yield* store.size, 1)
        assert.isFalse(yield* store.isEmpty)
        yield* store.set("/foo/bar", "")
        assert.deepStrictEqual(yield* store.get("/foo/bar"), Option.some(""))
        assert.isTrue(yield* store.has("/foo/bar"))
        assert.strictEqual(yield* store.size, 1)
      }))

    it.effect("bytes are kept as they are, and a text is its bytes", () =>
      Effect.gen(function*() {
        const store = yield* own
        const all = Uint8Array.from({ length: 256 }, (_, i) => i)
        yield* store.set("bytes", all)
        assert.deepStrictEqual(plain(yield* store.getUint8Array("bytes")), Option.some(Array.from(all)))
        yield* store.set("empty", bytes())
        assert.deepStrictEqual(plain(yield* store.getUint8Array("empty")), Option.some([]))
        assert.deepStrictEqual(yield* store.getUint8Array("none"), Option.none())
        yield* store.set("text", "\ufeffé€😀")
        assert.deepStrictEqual(yield* store.get("text"), Option.some("\ufeffé€😀"))
        assert.deepStrictEqual(
          plain(yield* store.getUint8Array("text")),
          Option.some(Array.from(new TextEncoder().encode("\ufeffé€😀")))
        )
      }))

    it.effect("remove, also of what is not there", () =>
      Effect.gen(function*() {
        const store = yield* own
        yield* store.set("foo", "bar")
        yield* store.remove("foo")
        yield* store.remove("foo")
        assert.deepStrictEqual(yield* store.get("foo"), Option.none())
        assert.strictEqual(yield* store.size, 0)
      }))

    it.effect("clear removes all of it, also of an empty one", () =>
      Effect.gen(function*() {
        const store = yield* own
        yield* store.clear
        const keys = Array.from({ length: 1100 }, (_, i) => `key ${i}`)
        yield* Effect.forEach(keys, (key) => store.set(key, "1"), { concurrency: "unbounded", discard: true })
        assert.strictEqual(yield* store.size, 1100)
        yield* store.clear
        assert.strictEqual(yield* store.size, 0)
        assert.isTrue(yield* store.isEmpty)
      }))

    it.effect("clear and size never mean what others have, whatever the prefix", () =>
      Effect.gen(function*() {
        const client = yield* RedisClient
        const id = fresh("others")
        const others = [`${id}bc`, `${id}b:c`, `x${id}*`, "kv:theirs"]
        for (const key of others) yield* client.set(key, "theirs")
        for (const prefix of [`${id}*`, `${id}?`, `${id}[b]`, `${id}\\`]) {
          const store = yield* Store.make({ prefix })
          yield* store.set("mine", "1")
          assert.strictEqual(yield* store.size, 1)
          yield* store.clear
          assert.strictEqual(yield* store.size, 0)
        }
        assert.strictEqual(yield* client.exists(...others), others.length)
        yield* client.del(...others)
      }))

    it.effect("modify gives the new value, and nothing where there is none", () =>
      Effect.gen(function*() {
        const store = yield* own
        assert.deepStrictEqual(yield* store.modify("foo", (value) => `${value}bar`), Option.none())
        assert.strictEqual(yield* store.size, 0)
        yield* store.set("foo", "bar")
        assert.deepStrictEqual(yield* store.modify("foo", (value) => `${value}bar`), Option.some("barbar"))
        assert.deepStrictEqual(yield* store.modify("foo", (value) => value), Option.some("barbar"))
        assert.deepStrictEqual(yield* store.modify("foo", () => ""), Option.some(""))
        assert.deepStrictEqual(yield* store.modify("foo", (value) => `${value}1`), Option.some("1"))
        assert.deepStrictEqual(yield* store.get("foo"), Option.some("1"))
      }))

    it.effect("modify of bytes may write into what it gets", () =>
      Effect.gen(function*() {
        const store = yield* own
        yield* store.set("foo", bytes(255, 0, 128))
        const changed = yield* store.modifyUint8Array("foo", (value) => {
          value[1] = 7
          return value
        })
        assert.deepStrictEqual(plain(changed), Option.some([255, 7, 128]))
        assert.deepStrictEqual(plain(yield* store.getUint8Array("foo")), Option.some([255, 7, 128]))
        assert.deepStrictEqual(yield* store.modifyUint8Array("none", (value) => value), Option.none())
      }))

    it.effect("a text modify that changes nothing leaves bytes that are no text as they are", () =>
      Effect.gen(function*() {
        const store = yield* own
        yield* store.set("foo", bytes(255, 254))
        yield* store.modify("foo", (value) => value)
        assert.deepStrictEqual(plain(yield* store.getUint8Array("foo")), Option.some([255, 254]))
      }))

    it.effect("no modify of many at once is lost", () =>
      Effect.gen(function*() {
        const store = yield* own
        yield* store.set("n", "0")
        yield* store.set("list", bytes())
        const many = Array.from({ length: 40 }, (_, i) => i)
        yield* Effect.forEach(
          many,
          (i) =>
            Effect.all([
              store.modify("n", (n) => String(Number(n) + 1)),
              store.modifyUint8Array("list", (list) => bytes(...list, i))
            ]),
          { concurrency: "unbounded", discard: true }
        )
        assert.deepStrictEqual(yield* store.get("n"), Option.some("40"))
        const list = Option.getOrThrow(yield* store.getUint8Array("list"))
        assert.deepStrictEqual(Array.from(list).sort((a, b) => a - b), many)
      }))

    it.effect("no modify of many at once is lost in a store with a schema, and none brings back what was removed", () =>
      Effect.gen(function*() {
        const store = yield* own
        const accounts = KeyValueStore.prefix(store, "accounts/").forSchema(Account)
        yield* accounts.set("a", { balance: 0 })
        const pay = accounts.modify("a", ({ balance }) => ({ balance: balance + 1 }))
        yield* Effect.forEach(Array.from({ length: 30 }), () => pay, { concurrency: "unbounded", discard: true })
        assert.deepStrictEqual(yield* accounts.get("a"), Option.some({ balance: 30 }))
        assert.isTrue(yield* store.has("accounts/a"))
        const results = yield* Effect.all([pay, pay, accounts.remove("a"), pay, pay], { concurrency: "unbounded" })
        assert.strictEqual(results.length, 5)
        assert.deepStrictEqual(yield* accounts.get("a"), Option.none())
        assert.deepStrictEqual(yield* pay, Option.none())
      }))

    it.effect("a store with a schema encodes, decodes, and can have a prefix", () =>
      Effect.gen(function*() {
        const store = yield* own
        const users = store.forSchema(User)
        yield* users.set("foo", new User({ name: "foo", age: 42 }))
        assert.deepStrictEqual(
          yield* users.modify("foo", (user) => new User({ ...user, age: 43 })),
          Option.some(new User({ name: "foo", age: 43 }))
        )
        assert.deepStrictEqual(yield* users.get("foo"), Option.some(new User({ name: "foo", age: 43 })))
        assert.deepStrictEqual(yield* store.get("foo"), Option.some(`{"name":"foo","age":"43"}`))
        const prefixed = KeyValueStore.prefix(users, "prefix/")
        yield* prefixed.set("foo", new User({ name: "bar", age: 1 }))
        assert.isTrue(Option.isSome(yield* users.get("prefix/foo")))
        yield* store.set("bad", `{"name":1}`)
        assert.strictEqual((yield* Effect.flip(users.get("bad")))._tag, "ParseError")
        assert.strictEqual((yield* Effect.flip(users.modify("bad", (user) => user)))._tag, "ParseError")
      }))

    it.effect("a store with a prefix is one with that prefix", () =>
      Effect.gen(function*() {
        const store = yield* own
        const prefixed = KeyValueStore.prefix(store, "prefix/")
        yield* prefixed.set("foo", "bar")
        yield* prefixed.modify("foo", (value) => `${value}bar`)
        assert.deepStrictEqual(yield* prefixed.get("foo"), Option.some("barbar"))
        assert.deepStrictEqual(yield* store.get("prefix/foo"), Option.some("barbar"))
      }))

    it.effect("errors say what it was about, and keep their cause", () =>
      Effect.gen(function*() {
        const client = yield* RedisClient
        const prefix = `${fresh("kv")}:`
        const store = yield* Store.make({ prefix })
        yield* client.rpush(`${prefix}list`, "a")
        const failure = yield* Effect.flip(store.get("list"))
        assert(failure._tag === "SystemError")
        assert.strictEqual(failure.reason, "InvalidData")
        assert.strictEqual(failure.method, "get")
        assert.strictEqual(failure.pathOrDescriptor, "list")
        assert.propertyVal(failure.cause, "code", "WRONGTYPE")
        const nameless = yield* Store.make({ prefix: "" })
        assert.strictEqual((yield* Effect.flip(nameless.get("")))._tag, "BadArgument")
      }))

    it.effect("the layer has a store under kv:", () =>
      Effect.gen(function*() {
        const client = yield* RedisClient
        const store = yield* KeyValueStore.KeyValueStore
        yield* store.set("a", "1")
        assert.deepStrictEqual(yield* client.get("kv:a"), Option.some("1"))
      }))
  })
}
