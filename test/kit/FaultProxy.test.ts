import { assert, describe, it } from "@effect/vitest"
import { Effect } from "effect"
import * as Net from "node:net"
import { serverAddress } from "../IoRedis/support.js"
import * as FaultProxy from "./FaultProxy.js"
import * as Resp from "./resp.js"

const ask = (proxy: FaultProxy.FaultProxy, command: ReadonlyArray<string>, timeout = 5000) =>
  Effect.tryPromise(async () => (await Resp.talk(proxy, [command], timeout))[0])

const make = Effect.suspend(() => FaultProxy.make(serverAddress()))

describe("FaultProxy", () => {
  it.scopedLive("passes commands and counts them", () =>
    Effect.gen(function*() {
      const proxy = yield* make
      assert.strictEqual(yield* ask(proxy, ["PING"]), "PONG")
      assert.strictEqual(yield* ask(proxy, ["echo", "x"]), "x")
      assert.deepStrictEqual([...yield* proxy.commandsSeen], [["PING", 1], ["ECHO", 1]])
    }))

  it.scopedLive("refuses and accepts", () =>
    Effect.gen(function*() {
      const proxy = yield* make
      yield* proxy.refuse
      assert.isTrue(yield* Effect.isFailure(ask(proxy, ["PING"])))
      yield* proxy.accept
      assert.strictEqual(yield* ask(proxy, ["PING"]), "PONG")
    }))

  it.scopedLive("swallows what it is told to", () =>
    Effect.gen(function*() {
      const proxy = yield* make
      yield* proxy.stall("replies")
      assert.isTrue(yield* Effect.isFailure(ask(proxy, ["PING"], 100)))
      assert.strictEqual((yield* proxy.commandsSeen).get("PING"), 1)
      yield* proxy.stall("requests")
      assert.isTrue(yield* Effect.isFailure(ask(proxy, ["PING"], 100)))
      assert.strictEqual((yield* proxy.commandsSeen).get("PING"), 1)
      yield* proxy.resume
      assert.strictEqual(yield* ask(proxy, ["PING"]), "PONG")
    }))

  it.scopedLive("drops the replies of some commands, and cuts", () =>
    Effect.gen(function*() {
      const proxy = yield* make
      yield* proxy.dropReplies(1, { command: "ECHO" })
      assert.strictEqual(yield* ask(proxy, ["PING"]), "PONG")
      const error = yield* Effect.flip(ask(proxy, ["ECHO", "x"]))
      assert.include(String(error.error), "closed")
      assert.strictEqual(yield* ask(proxy, ["ECHO", "x"]), "x")
      yield* proxy.dropReplies(1, { cut: false })
      const silent = yield* Effect.flip(ask(proxy, ["PING"], 100))
      assert.include(String(silent.error), "no reply")
    }))

  it.scopedLive("holds back requests, and keeps their order when that ends", () =>
    Effect.gen(function*() {
      const proxy = yield* make
      yield* proxy.delay(200)
      const socket = Net.connect(proxy.port, proxy.host)
      yield* Effect.addFinalizer(() => Effect.sync(() => socket.destroy()))
      const parser = new Resp.Parser()
      const replies: Array<Resp.Reply> = []
      socket.on("data", (chunk) => parser.push(chunk).forEach(({ value }) => replies.push(value)))
      socket.write("*2\r\n$4\r\nECHO\r\n$5\r\nfirst\r\n")
      const seen = Effect.map(proxy.commandsSeen, (seen) => seen.get("ECHO"))
      yield* Effect.repeat(Effect.delay(seen, 5), { until: (n) => n === 1 })
      yield* proxy.delay(0)
      socket.write("*2\r\n$4\r\nECHO\r\n$6\r\nsecond\r\n")
      yield* Effect.repeat(Effect.delay(Effect.sync(() => replies.length), 5), { until: (n) => n === 2 })
      assert.deepStrictEqual(replies, ["first", "second"])
    }))

  it.scopedLive("rewrites what the server says", () =>
    Effect.gen(function*() {
      const proxy = yield* FaultProxy.make(
        serverAddress(),
        (chunk) => Buffer.from(chunk.toString("latin1").replace("there", "here!"), "latin1")
      )
      assert.strictEqual(yield* ask(proxy, ["ECHO", "over there"]), "over here!")
    }))

  it.scopedLive("cuts", () =>
    Effect.gen(function*() {
      const proxy = yield* make
      const closed = yield* Effect.async<Effect.Effect<void>>((resume) => {
        const socket = Net.connect(proxy.port, proxy.host, () =>
          resume(Effect.succeed(
            Effect.async<void>((resume) => {
              if (socket.destroyed) resume(Effect.void)
              else socket.on("close", () => resume(Effect.void))
            })
          )))
        socket.on("error", () => {})
        socket.resume()
      })
      yield* Effect.iterate(0, { while: (n) => n === 0, body: () => Effect.delay(proxy.connections, 5) })
      yield* proxy.cut
      yield* closed
      assert.strictEqual(yield* proxy.connections, 0)
    }))
})

describe("Parser", () => {
  it("reads values however they are cut", () => {
    const bytes = Buffer.from("+OK\r\n:12\r\n$-1\r\n*2\r\n$3\r\na\r\n\r\n*1\r\n:1\r\n-ERR no\r\n*-1\r\n$0\r\n\r\n")
    const whole = new Resp.Parser().push(bytes).map(({ value }) => value)
    assert.deepStrictEqual(whole.slice(0, 4), ["OK", 12, null, ["a\r\n".slice(0, 3), [1]]])
    const parser = new Resp.Parser()
    const pieces = Array.from(bytes, (byte) => parser.push(Uint8Array.of(byte))).flat()
    assert.deepStrictEqual(pieces.map(({ value }) => value), whole)
    assert.deepStrictEqual(Buffer.concat(pieces.map(({ bytes }) => bytes)), bytes)
  })
})
