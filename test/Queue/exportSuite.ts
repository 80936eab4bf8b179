import { assert, layer } from "@effect/vitest"
import { Chunk, DateTime, Effect, Either, FastCheck, Layer, Logger, LogLevel, Option, Schema, Stream } from "effect"
import * as Queue from "../../src/Queue/index.js"
import { keysOf } from "../../src/Queue/keys.js"
import { RedisClient } from "../../src/RedisClient.js"
import type { RedisError } from "../../src/RedisError.js"
import { error, fresh, type Time } from "../kit/suites.js"
import { makeHand } from "./hand.js"
import { define, type Task } from "./suite.js"

const idsOf = (letters: Iterable<{ readonly id: string }>) => Array.from(letters, ({ id }) => id)

const ids = (prefix: string, count: number) =>
  Array.from({ length: count }, (_, i) => `${prefix}${String(i).padStart(3, "0")}`)

/** Jobs that became dead letters at the same instant, on a server whose time stands still. */
const bury = (queue: Queue.Definition<Task>, ids: ReadonlyArray<string>, options: Queue.EnqueueOptions = {}) =>
  Effect.gen(function*() {
    const hand = yield* makeHand(queue)
    yield* Queue.enqueueAll(queue, ids.map((id, n) => ({ ...options, id, payload: { n } })))
    yield* hand.buryAll("exhausted", 2)(yield* hand.take(ids.length))
  })

const exported = (queue: Queue.Definition<Task>, options?: Queue.ExportOptions) =>
  Effect.map(Stream.runCollect(Queue.exportDeadLetters(queue, options)), Chunk.toReadonlyArray)

export const exportSuite = (
  name: string,
  driver: Layer.Layer<RedisClient, RedisError>,
  options: { readonly excludeTestServices?: boolean },
  { elapse }: Time
) => {
  const services = Layer.provideMerge(
    Layer.orDie(Layer.provideMerge(Queue.layer, driver)),
    Logger.minimumLogLevel(LogLevel.Error)
  )

  layer(services, options)(`export of dead letters, ${name}`, (it) => {
    it.effect("all of them, the oldest first, with what is known", () =>
      Effect.gen(function*() {
        const queue = define("all", { priorities: 8 })
        assert.deepStrictEqual(yield* exported(queue), [])
        yield* bury(queue, ids("a", 3), { priority: 7 })
        yield* elapse("2 millis")
        yield* bury(queue, ["b"])
        const client = yield* RedisClient
        yield* client.hset(keysOf(queue.name).jobs, { b: "no envelope" })
        yield* client.hset(keysOf(queue.name).deadInfo, { b: "no JSON" })
        const letters = yield* exported(queue, { pageSize: 2 })
        const { letters: listed } = yield* Queue.deadLetters(queue, { order: "oldest" })
        for (const [i, letter] of listed.entries()) {
          assert.deepStrictEqual(letters[i], { ...letter, record: letters[i]!.record })
        }
        assert.lengthOf(letters, 4)
        const [first, , , last] = letters
        assert.deepStrictEqual(
          [first?.id, first?.reason, first?.failures, first?.priority, first?.record.queue],
          ["a000", "exhausted", 2, 7, queue.name]
        )
        assert.strictEqual(first?.record.failedAt, DateTime.toEpochMillis(first!.failedAt))
        assert.isTrue(Either.isLeft(last!.payload))
        assert.deepStrictEqual([last?.reason, last?.record.envelope, last?.record.info], [
          "unknown",
          "no envelope",
          "no JSON"
        ])
        // It goes on where an earlier one has ended, also when that letter is gone.
        yield* Queue.removeDeadLetters(queue, ["a001"])
        assert.deepStrictEqual(idsOf(yield* exported(queue, { after: letters[1]!.record })), ["a002", "b"])
      }))

    it.effect("letters that come and go meanwhile do not disturb it", () =>
      Effect.gen(function*() {
        const queue = define("moving")
        // Many in the same millisecond, so that the order within it counts.
        yield* bury(queue, ids("m", 60))
        const hand = yield* makeHand(queue)
        yield* elapse("2 millis")
        let page = 0
        const seen = yield* Queue.exportDeadLetters(queue, { pageSize: 10 }).pipe(
          Stream.chunks,
          Stream.mapEffect((chunk) =>
            Effect.gen(function*() {
              const here = idsOf(chunk)
              // Some that were seen go, among them the last one of the page, and some that were not.
              yield* Queue.removeDeadLetters(queue, [
                here[0]!,
                here.at(-1)!,
                `m${String(page * 10 + 15).padStart(3, "0")}`
              ])
              // One is replayed and dies again, and a new one comes.
              yield* elapse("2 millis")
              yield* Queue.replay(queue, here[2]!)
              yield* Queue.enqueue(queue, { n: 0 }, { id: `z${page}` })
              yield* hand.buryAll("exhausted", 1)(yield* hand.take(2))
              page++
              return here
            })
          ),
          Stream.runCollect
        )
        const all = Chunk.toReadonlyArray(seen).flat()
        assert.strictEqual(new Set(all).size, all.length)
        const gone = [15, 25, 35, 45, 55].map((n) => `m0${n}`)
        assert.deepStrictEqual(all, ids("m", 60).filter((id) => !gone.includes(id)))
      }))

    it.effect("what was exported comes back once, also when it is imported twice", () =>
      Effect.gen(function*() {
        const queue = define("back")
        yield* bury(queue, ids("b", 205), { priority: 1 })
        const letters = yield* exported(queue)
        const lines = letters.map(({ record }) => JSON.stringify(record))
        yield* Queue.obliterate(queue)
        yield* Queue.enqueue(queue, { n: -1 }, { id: "b003" })
        const records = Stream.fromIterable(lines).pipe(
          Stream.mapEffect((line) => Schema.decode(Schema.parseJson(Queue.DeadLetterRecord))(line))
        )
        assert.deepStrictEqual(yield* Queue.importDeadLetters(queue, records), {
          imported: 204,
          present: 1,
          refused: 0
        })
        assert.deepStrictEqual(yield* Queue.importDeadLetters(queue, records), {
          imported: 0,
          present: 205,
          refused: 0
        })
        assert.deepStrictEqual(yield* exported(queue), letters.filter(({ id }) => id !== "b003"))
        assert.deepStrictEqual(yield* Queue.counts(queue), {
          ready: 1,
          delayed: 0,
          blocked: 0,
          running: 0,
          dead: 204,
          completed: 0
        })
        // Then they are dead letters as any others.
        assert.strictEqual(yield* Queue.replayMany(queue, ["b000", "b003"]), 1)
        const { jobs } = yield* Queue.list(queue, "ready")
        assert.deepStrictEqual(jobs.map(({ id, priority }) => [id, priority]), [["b000", 1], ["b003", 0]])
      }))

    it.effect("a job keeps its group", () =>
      Effect.gen(function*() {
        const queue = define("grouped", { groups: {} })
        yield* bury(queue, ["a"], { group: "tenant" })
        const letters = yield* exported(queue)
        yield* Queue.removeDeadLetters(queue, ["a"])
        const [{ record }] = letters as [Queue.ExportedDeadLetter<Task>]
        // What can't be the name of a group is none.
        const odd = new Queue.DeadLetterRecord({
          ...record,
          id: "b",
          envelope: record.envelope.replace(`"tenant"`, `"\\u0000"`)
        })
        assert.include(odd.envelope, "u0000")
        yield* Queue.importDeadLetters(queue, Stream.make(record, odd))
        assert.strictEqual(yield* Queue.replayMany(queue, ["a", "b"]), 2)
        const [overview] = yield* Queue.overview([queue.name])
        assert.deepStrictEqual([overview?.readyInGroups, overview?.readyByPriority[0], overview?.counts.ready], [
          1,
          1,
          2
        ])
      }))

    it.effect("it makes no more dead letters than the queue keeps, and none of the future", () =>
      Effect.gen(function*() {
        const queue = define("room", { deadLetters: { count: 2 } })
        const records = ids("r", 4).map((id) =>
          new Queue.DeadLetterRecord({
            queue: "another",
            id,
            envelope: `{"t":1,"p":{"n":1}}`,
            priority: 0,
            failedAt: 8e15,
            info: `{"reason":"cancelled","attempts":1}`
          })
        )
        assert.deepStrictEqual(yield* Queue.importDeadLetters(queue, Stream.fromIterable(records)), {
          imported: 2,
          present: 0,
          refused: 2
        })
        const { letters } = yield* Queue.deadLetters(queue, { order: "oldest" })
        assert.deepStrictEqual(letters.map(({ id, reason }) => [id, reason]), [["r000", "cancelled"], [
          "r001",
          "cancelled"
        ]])
        assert.isBelow(DateTime.toEpochMillis(letters[0]!.failedAt), 8e15)
        assert.deepStrictEqual(letters.map(({ payload }) => Either.getOrNull(payload)), [{ n: 1 }, { n: 1 }])
      }))

    it.effect("whatever is imported, nothing breaks", () =>
      Effect.gen(function*() {
        const queue = define("hostile")
        const records = FastCheck.sample(
          FastCheck.record({
            id: FastCheck.string({ minLength: 1, maxLength: 20 }).filter((id) => !id.includes("\0")),
            envelope: FastCheck.oneof(FastCheck.string(), FastCheck.json()),
            priority: FastCheck.nat(7),
            failedAt: FastCheck.nat(),
            info: FastCheck.oneof(FastCheck.string(), FastCheck.json())
          }),
          50
        ).map((record) => new Queue.DeadLetterRecord({ ...record, queue: "x" }))
        const distinct = new Set(idsOf(records)).size
        const { imported } = yield* Queue.importDeadLetters(queue, Stream.fromIterable(records))
        assert.strictEqual(imported, distinct)
        assert.lengthOf(yield* exported(queue), distinct)
        assert.strictEqual(yield* Queue.replayWhere(queue, () => true), distinct)
        assert.deepStrictEqual(yield* Queue.counts(queue), {
          ready: distinct,
          delayed: 0,
          blocked: 0,
          running: 0,
          dead: 0,
          completed: 0
        })
      }))

    it.effect("refuses what makes no sense", () =>
      Effect.gen(function*() {
        const queue = define("refused")
        const fieldOf = (options: Queue.ExportOptions) =>
          Effect.map(error(exported(queue, options)), (failure) => failure._tag === "RedisInputError" && failure.field)
        assert.strictEqual(yield* fieldOf({ pageSize: 0 }), "pageSize")
        assert.strictEqual(yield* fieldOf({ pageSize: 1001 }), "pageSize")
        assert.strictEqual(yield* fieldOf({ after: { id: "", failedAt: 0 } }), "after.id")
        assert.strictEqual(yield* fieldOf({ after: { id: "a", failedAt: -1 } }), "after.failedAt")
        const bad = new Queue.DeadLetterRecord({
          queue: fresh("q"),
          id: "a\0b",
          envelope: "",
          priority: 0,
          failedAt: 0,
          info: ""
        })
        const failure = yield* error(Queue.importDeadLetters(queue, Stream.make(bad)))
        assert.strictEqual(failure._tag, "RedisInputError")
        assert.strictEqual(yield* error(Queue.importDeadLetters(queue, Stream.fail("no"))), "no")
        assert.isTrue(Option.isNone(yield* Queue.deadLetter(queue, "a")))
      }))
  })
}
