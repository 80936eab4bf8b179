/**
 * Tails while the nodes of a Cluster do not agree who has a slot.
 */
import { assert, describe, it } from "@effect/vitest"
import { Effect, Fiber, Layer, Schema, Stream as Streams } from "effect"
import { hashSlot } from "../../src/internal/slot.js"
import * as IoRedis from "../../src/IoRedis.js"
import * as Stream from "../../src/Stream/index.js"
import { array, bulk, type FakeNode, range, two } from "../kit/FakeNode.js"

const Numbers = Stream.define({ name: "numbers", schema: Schema.Struct({ n: Schema.String }) })

describe("a tail", () => {
  it.scopedLive("goes on when the nodes have agreed, however long that took", () =>
    Effect.gen(function*() {
      const [a, b] = yield* two
      const asked = (node: FakeNode) => node.seen.filter((command) => command.startsWith("XRANGE")).length
      const entries = array([array([bulk("5-0"), array([bulk("n"), bulk("1")])])])
      a.answer = b.answer = ([name, , from]) =>
        name === "XRANGE" ? from === "(0-0" ? entries : "*0\r\n" : "-ERR not now\r\n"
      const layer = Stream.layer.pipe(
        Layer.provide(IoRedis.layer({
          clusterNodes: [{ host: a.host, port: a.port }],
          commandTimeout: "300 millis"
        }))
      )
      const heard: Array<string> = []
      const tail = yield* Stream.tail(Numbers, { after: "0-0" }).pipe(
        Streams.tap(({ id }) => Effect.sync(() => void heard.push(id))),
        Streams.take(2),
        Streams.runDrain,
        Effect.provide(layer),
        Effect.fork
      )
      const until = (holds: () => boolean) =>
        Effect.raceFirst(Effect.repeat(Effect.sleep(10), { until: holds }), Fiber.join(tail))
      yield* until(() => heard.length === 1)
      // Each sends everything to the other one, and their maps say so, too.
      const to = ({ port }: FakeNode) => () => `-MOVED ${hashSlot("numbers")} 127.0.0.1:${port}\r\n`
      a.slots = array([range(0, 16383, "127.0.0.1", b.port)])
      b.slots = array([range(0, 16383, "127.0.0.1", a.port)])
      a.answer = to(b)
      b.answer = to(a)
      const before = asked(a) + asked(b)
      // In one command timeout there is time for ten.
      yield* until(() => asked(a) + asked(b) > before + 30)
      assert.strictEqual(yield* Fiber.poll(tail).pipe(Effect.map((exit) => exit._tag)), "None")
      b.slots = a.slots
      b.answer = ([name, , from]) =>
        name === "XRANGE" && from === "(5-0" ? entries.replace("5-0", "6-0") : "-ERR not now\r\n"
      yield* Fiber.join(tail)
      assert.deepStrictEqual(heard, ["5-0", "6-0"])
    }))
})
