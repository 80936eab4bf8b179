import { assert, layer } from "@effect/vitest"
import {
  Chunk,
  DateTime,
  Deferred,
  Duration,
  Effect,
  Either,
  Exit,
  Fiber,
  Layer,
  Logger,
  LogLevel,
  Option,
  Schema,
  Stream
} from "effect"
import { settingsOf } from "../../src/Queue/Definition.js"
import * as Queue from "../../src/Queue/index.js"
import { keysOf } from "../../src/Queue/keys.js"
import { log } from "../../src/Queue/resultScripts.js"
import { RedisClient } from "../../src/RedisClient.js"
import { RedisDecodeError, type RedisError } from "../../src/RedisError.js"
import { error, fresh, type Time, until } from "../kit/suites.js"
import { makeHand } from "./hand.js"
import { keysLeft } from "./suite.js"

const Payload = Schema.Struct({ n: Schema.Number })
const Answer = Schema.Struct({ square: Schema.NumberFromString })

type Options = Partial<
  Queue.Options<typeof Payload.Type, typeof Payload.Encoded, typeof Answer.Type, typeof Answer.Encoded>
>

/** Keeps completed jobs, with their results. */
const define = (text: string, options: Options = {}) =>
  Queue.define({
    name: fresh(text),
    payload: Payload,
    result: Answer,
    backoff: () => 0,
    completed: {},
    ...options
  })

type Definition = ReturnType<typeof define>

const add = (queue: Definition, ids: ReadonlyArray<string>, options: Queue.EnqueueOptions = {}) =>
  Queue.enqueueAll(queue, ids.map((id, n) => ({ ...options, id, payload: { n } })))

const idsOf = (jobs: ReadonlyArray<{ readonly id: string }>) => jobs.map(({ id }) => id)

const square = ({ payload: { n } }: Queue.Job<typeof Payload.Type>) => Effect.succeed({ square: n * n })

/** Makes members of a sorted set older, so that no test has to wait. */
const age = (key: string, by: number, only: (member: string) => boolean = () => true) =>
  Effect.gen(function*() {
    const client = yield* RedisClient
    const found = yield* client.zrangeWithScores(key)
    yield* client.zadd(
      key,
      found.filter(([member]) => only(member)).map(([member, score]) => [member, score - by] as const)
    )
  })

const reasonOf = (exit: Exit.Exit<unknown, unknown>) =>
  Exit.match(exit, {
    onFailure: (cause) => {
      const failure = Option.getOrUndefined(Option.fromNullable(cause._tag === "Fail" ? cause.error : undefined))
      return failure instanceof Queue.JobFailed ? failure.reason : (failure as { _tag: string } | undefined)?._tag
    },
    onSuccess: () => "completed"
  })

export const resultsSuite = (
  name: string,
  driver: Layer.Layer<RedisClient, RedisError>,
  options: { readonly excludeTestServices?: boolean },
  time: Time
) => {
  const { elapse } = time
  const eventually = until(time)

  // Dead letters are logged as warnings.
  const silent = Logger.minimumLogLevel(LogLevel.Error)
  const services = Layer.provideMerge(Layer.orDie(Layer.provideMerge(Queue.layer, driver)), silent)

  /** What became of it, when it has ended. */
  const exitOf = <A, E>(fiber: Fiber.RuntimeFiber<A, E>) =>
    Effect.zipRight(eventually(Effect.map(Fiber.poll(fiber), Option.isSome)), Fiber.await(fiber))

  /** How many subscriptions somebody has to hear of ends. */
  const listeners = ({ name }: Definition) =>
    Effect.flatMap(
      RedisClient,
      (client) =>
        Effect.map(client.send("PUBSUB", "NUMSUB", client.key(keysOf(name).done)), (reply) => Number((reply as any)[1]))
    )

  /** Waits for a job, and has been told that it has not ended. */
  const awaiting = (queue: Definition, id: string, timeout: Duration.DurationInput = "1 hour") =>
    Effect.gen(function*() {
      const fiber = yield* Effect.fork(Queue.awaitResult(queue, id, { timeout }))
      if (name.includes("Cluster")) yield* elapse("20 millis")
      else yield* eventually(Effect.map(listeners(queue), (n) => n === 1))
      return fiber
    })

  layer(services, options)(`results of jobs, ${name}`, (it) => {
    // -----------------------------------------------------------------------------------------------------------------
    // Completed jobs
    // -----------------------------------------------------------------------------------------------------------------

    it.scoped("completed jobs are kept with what they gave, and only where that is wanted", () =>
      Effect.gen(function*() {
        const kept = define("kept")
        const plain = define("plain", { completed: undefined })
        const none = define("none", { completed: { count: 0 } })
        for (const queue of [kept, plain, none]) {
          yield* Queue.enqueue(queue, { n: 3 }, { id: "three", priority: 2, attempts: 5 })
          yield* Queue.makeWorker(queue, (job) => job.attempt === 1 ? Effect.fail("once") : square(job))
          yield* eventually(Effect.map(Queue.status(queue), ({ totals }) => totals.completed === 1))
        }
        for (const queue of [plain, none]) {
          assert.deepStrictEqual(yield* keysLeft(queue.name), [])
          assert.isTrue(Option.isNone(yield* Queue.completedJob(queue, "three")))
        }
        const job = yield* Effect.flatten(Queue.completedJob(kept, "three"))
        assert.deepStrictEqual(job.payload, Either.right({ n: 3 }))
        assert.deepStrictEqual(job.result, Either.right({ square: 9 }))
        assert.deepStrictEqual([job.failures, job.attempts, job.priority], [1, 5, 2])
        assert.isAtLeast(job.completedAt.epochMillis, job.enqueuedAt.epochMillis - 1)
        const info = yield* Effect.flatten(Queue.get(kept, "three"))
        assert.deepStrictEqual([info.state, info.failures, info.priority], ["completed", 1, 2])
        assert.deepStrictEqual(info.at, Option.some(job.completedAt))
        assert.deepStrictEqual(yield* Queue.counts(kept), {
          ready: 0,
          delayed: 0,
          blocked: 0,
          running: 0,
          dead: 0,
          completed: 1
        })
        // Its id is in use, and nothing else of it.
        assert.deepStrictEqual(yield* Queue.enqueue(kept, { n: 4 }, { id: "three" }), {
          id: "three",
          outcome: "duplicate"
        })
        const [notDelayed, notDead] = yield* Effect.all([
          error(Queue.promote(kept, "three")),
          error(Queue.replay(kept, "three"))
        ])
        assert.strictEqual(notDelayed._tag === "JobNotDelayed" && notDelayed.state, "completed")
        assert.strictEqual(notDead._tag === "JobNotDead" && notDead.state, "completed")
        assert.isFalse(yield* Queue.cancel(kept, "three"))
        yield* Queue.remove(kept, "three")
        assert.deepStrictEqual(yield* keysLeft(kept.name), [])
        assert.strictEqual((yield* Queue.enqueue(kept, { n: 4 }, { id: "three" })).outcome, "added")
      }))

    it.scoped("no more are kept than wanted, and none longer, apart from dead letters", () =>
      Effect.gen(function*() {
        const queue = define("bounds", { completed: { count: 3, age: "1 hour" } })
        const hand = yield* makeHand(queue)
        yield* add(queue, ["dead"])
        yield* hand.bury("exhausted", 1)(yield* hand.next)
        for (const id of ["a", "b", "c", "d", "e"]) {
          yield* add(queue, [id])
          assert.isTrue(yield* hand.completeWith(`{"square":"1"}`)(yield* hand.next))
          yield* elapse("2 millis")
        }
        assert.deepStrictEqual(idsOf((yield* Queue.completedJobs(queue)).jobs), ["e", "d", "c"])
        assert.deepStrictEqual(idsOf((yield* Queue.list(queue, "completed")).jobs), ["c", "d", "e"])
        yield* age(keysOf(queue.name).kept, 3_600_000, (id) => id !== "e")
        // A worker that only looks removes them, too.
        yield* hand.take(1)
        assert.deepStrictEqual(idsOf((yield* Queue.completedJobs(queue)).jobs), ["e"])
        assert.deepStrictEqual(yield* Queue.counts(queue), {
          ready: 0,
          delayed: 0,
          blocked: 0,
          running: 0,
          dead: 1,
          completed: 1
        })
        assert.strictEqual(yield* Queue.cleanDeadLetters(queue, 0), 1)
        assert.strictEqual(yield* Queue.cleanCompleted(queue, "1 minute"), 0)
        assert.strictEqual(yield* Queue.cleanCompleted(queue, 0), 1)
        assert.deepStrictEqual(yield* keysLeft(queue.name), [])
      }))

    it.effect("many that end at once are kept in pages, and counted; they leave room in the queue", () =>
      Effect.gen(function*() {
        const queue = define("pages", { completed: { count: 1200 }, maxSize: 1500 })
        const hand = yield* makeHand(queue)
        const ids = Array.from({ length: 1500 }, (_, i) => `j${String(i).padStart(4, "0")}`)
        yield* add(queue, ids)
        assert.strictEqual((yield* error(add(queue, ["more"])))._tag, "QueueFull")
        const taken = [...yield* hand.take(1000), ...yield* hand.take(1000)]
        yield* hand.completeAll(taken)
        assert.strictEqual((yield* Queue.counts(queue)).completed, 1200)
        yield* add(queue, Array.from({ length: 1500 }, (_, i) => `more${i}`))
        const first = yield* Queue.completedJobs(queue, { limit: 1000, order: "oldest" })
        const rest = yield* Queue.completedJobs(queue, {
          limit: 1000,
          order: "oldest",
          offset: Option.getOrThrow(first.next)
        })
        assert.isTrue(Option.isNone(rest.next))
        assert.deepStrictEqual(idsOf([...first.jobs, ...rest.jobs]), ids.slice(300))
        assert.strictEqual(yield* Queue.cleanCompleted(queue, 0), 1200)
        assert.strictEqual((yield* Queue.counts(queue)).ready, 1500)
      }))

    // -----------------------------------------------------------------------------------------------------------------
    // Waiting
    // -----------------------------------------------------------------------------------------------------------------

    it.scoped("waits for a job that ends later, has ended, or ends meanwhile, and gives what its handler gave", () =>
      Effect.gen(function*() {
        const queue = define("await")
        yield* add(queue, ["later"])
        const later = yield* awaiting(queue, "later")
        yield* Queue.makeWorker(queue, square)
        assert.deepStrictEqual(yield* exitOf(later), Exit.succeed({ square: 0 }))
        assert.deepStrictEqual(yield* Queue.awaitResult(queue, "later"), { square: 0 })
        const meanwhile = yield* Effect.fork(
          Effect.forEach([1, 2, 3, 4, 5], (n) => Queue.enqueueAndWait(queue, { n }), { concurrency: "unbounded" })
        )
        assert.deepStrictEqual(
          yield* exitOf(meanwhile),
          Exit.succeed([1, 4, 9, 16, 25].map((square) => ({ square })))
        )
        // A duplicate waits for the one that is there.
        assert.deepStrictEqual(yield* Queue.enqueueAndWait(queue, { n: 9 }, { id: "later" }), { square: 0 })
        yield* eventually(Effect.map(listeners(queue), (n) => n === 0))
      }))

    it.scoped("a queue without results gives nothing, and one that keeps nothing can't be waited for", () =>
      Effect.gen(function*() {
        const quiet = Queue.define({ name: fresh("quiet"), payload: Payload, completed: { age: "1 minute" } })
        yield* Queue.makeWorker(quiet, () => Effect.succeed("dropped"))
        const fiber = yield* Effect.fork(Queue.enqueueAndWait(quiet, { n: 1 }))
        assert.deepStrictEqual(yield* exitOf(fiber), Exit.succeed(undefined))
        const forgetful = define("forgetful", { completed: undefined })
        for (
          const waiting of [Queue.awaitResult(forgetful, "a"), Queue.enqueueAndWait(forgetful, { n: 1 })]
        ) {
          const refused = yield* error(waiting)
          assert.strictEqual(refused._tag, "RedisInputError")
          assert.include(refused.message, "keeps completed jobs")
        }
        assert.deepStrictEqual(yield* keysLeft(forgetful.name), [])
        const queue = define("input")
        for (const timeout of [0, -1, "0 seconds", Duration.infinity] as const) {
          assert.strictEqual((yield* error(Queue.awaitResult(queue, "a", { timeout })))._tag, "RedisInputError")
        }
        assert.strictEqual((yield* error(Queue.awaitResult(queue, "")))._tag, "RedisInputError")
      }))

    it.scoped("every end of a job ends the waiting, and says which one it was", () =>
      Effect.gen(function*() {
        const queue = define("ends", { attempts: 2 })
        const client = yield* RedisClient
        const hand = yield* makeHand(queue)
        const ids = [
          "exhausted",
          "unrecoverable",
          "deadline",
          "cancelled",
          "undecodable",
          "lease-expired",
          "fine",
          "drained",
          "delayed",
          "removed"
        ]
        yield* add(queue, ids.slice(0, 7))
        yield* add(queue, ["drained"])
        yield* add(queue, ["delayed", "removed"], { delay: "1 hour" })
        const waits = new Map<string, Fiber.RuntimeFiber<typeof Answer.Type, Queue.AwaitError>>()
        for (const id of ids) waits.set(id, yield* awaiting(queue, id))
        const ended = (id: string) => Effect.map(exitOf(waits.get(id)!), reasonOf)

        yield* Queue.remove(queue, "removed")
        assert.strictEqual(yield* ended("removed"), "JobNotFound")
        const taken = yield* hand.take(7)
        for (const [i, id] of ids.slice(0, 6).entries()) {
          assert.isTrue(yield* hand.bury(id as Queue.DeadReason, 2)(taken[i]!))
          assert.strictEqual(yield* ended(id), id)
        }
        assert.isTrue(yield* hand.completeWith(`{"square":"49"}`)(taken[6]!))
        assert.deepStrictEqual(yield* exitOf(waits.get("fine")!), Exit.succeed({ square: 49 }))
        yield* Queue.drain(queue, { delayed: false })
        assert.strictEqual(yield* ended("drained"), "JobNotFound")
        yield* Queue.obliterate(queue)
        assert.strictEqual(yield* ended("delayed"), "JobNotFound")
        yield* eventually(Effect.map(listeners(queue), (n) => n === 0))
        assert.strictEqual(yield* client.exists(keysOf(queue.name).jobs), 0)
      }))

    it.scoped("workers end it, too: failed, cancelled, unreadable, too late", () =>
      Effect.gen(function*() {
        const queue = define("workers", { attempts: 2 })
        const client = yield* RedisClient
        yield* add(queue, ["fails", "cancelled", "undecodable", "odd"])
        yield* client.hset(keysOf(queue.name).jobs, { undecodable: `{"t":5,"p":{"n":"secret"}}` })
        const running = yield* Deferred.make<void>()
        const waits = yield* Effect.forEach(
          ["fails", "cancelled", "undecodable", "odd", "never"],
          (id) => Effect.fork(Queue.awaitResult(queue, id, { timeout: "1 hour" }))
        )
        yield* Queue.makeWorker(queue, (job) =>
          job.id === "fails"
            ? Effect.fail("no route")
            : job.id === "cancelled"
            ? Effect.zipRight(Deferred.succeed(running, undefined), Effect.never)
            : Effect.succeed({ square: Number.NaN, more: 1 }), { concurrency: 4 })
        yield* Deferred.await(running)
        yield* eventually(Queue.cancel(queue, "cancelled"))
        const exits = yield* Effect.forEach(waits, exitOf)
        assert.deepStrictEqual(exits.map(reasonOf), [
          "exhausted",
          "cancelled",
          "undecodable",
          "completed",
          "JobNotFound"
        ])
        assert.deepStrictEqual(
          yield* error(Queue.awaitResult(queue, "fails")),
          new Queue.JobFailed({ queue: queue.name, id: "fails", reason: "exhausted", attempts: 2, error: "no route" })
        )
        assert.notInclude((yield* error(Queue.awaitResult(queue, "fails"))).message, "no route")
      }))

    it.scoped("a job that is replayed, retried or follows another one is waited for to its end", () =>
      Effect.gen(function*() {
        const queue = define("again", { attempts: 1 })
        const hand = yield* makeHand(queue)
        yield* add(queue, ["a"])
        yield* hand.bury("exhausted", 1)(yield* hand.next)
        assert.strictEqual((yield* error(Queue.awaitResult(queue, "a")))._tag, "JobFailed")
        yield* Queue.replay(queue, "a")
        const replayed = yield* awaiting(queue, "a")
        yield* hand.retry(0)(yield* hand.next)
        yield* hand.release(yield* hand.next)
        assert.isTrue(yield* hand.completeWith(`{"square":"1"}`)(yield* hand.next))
        assert.deepStrictEqual(yield* exitOf(replayed), Exit.succeed({ square: 1 }))

        const deduplicate = { key: "k", mode: "keep-last" } as const
        yield* add(queue, ["first"], { deduplicate })
        const first = yield* hand.next
        const outcomes = yield* Effect.forEach(["second", "third"], (id) => add(queue, [id], { deduplicate }))
        assert.deepStrictEqual(outcomes.flat().map(({ outcome }) => outcome), ["kept", "kept"])
        // It is not there any more: the third one took its place.
        assert.strictEqual((yield* error(Queue.awaitResult(queue, "second")))._tag, "JobNotFound")
        const third = yield* awaiting(queue, "third")
        yield* hand.completeWith(`{"square":"1"}`)(first)
        yield* hand.completeWith(`{"square":"9"}`)(yield* hand.next)
        assert.deepStrictEqual(yield* exitOf(third), Exit.succeed({ square: 9 }))
      }))

    it.scoped("it does not wait longer than it may, and the job goes on", () =>
      Effect.gen(function*() {
        const queue = define("patience")
        yield* add(queue, ["a"])
        const fiber = yield* Effect.fork(Queue.awaitResult(queue, "a", { timeout: "50 millis" }))
        yield* elapse("50 millis")
        assert.deepStrictEqual(
          yield* exitOf(fiber),
          Exit.fail(new Queue.AwaitTimedOut({ queue: queue.name, id: "a", timeout: 50 }))
        )
        yield* eventually(Effect.map(listeners(queue), (n) => n === 0))
        assert.strictEqual((yield* Queue.counts(queue)).ready, 1)
      }))

    it.scoped("a result that is too old is gone, and one that can't be read says so", () =>
      Effect.gen(function*() {
        const queue = define("old", { completed: { age: "1 hour" } })
        const hand = yield* makeHand(queue)
        yield* add(queue, ["a", "b", "c"])
        const [a, b, c] = yield* hand.take(3)
        yield* hand.completeWith(`{"square":"1"}`)(a!)
        yield* hand.completeWith(`{"square":"secret"}`)(b!)
        yield* hand.complete(c!)
        yield* age(keysOf(queue.name).kept, 3_600_000, (id) => id === "a")
        // Nobody has removed it yet.
        assert.strictEqual((yield* Queue.counts(queue)).completed, 3)
        assert.deepStrictEqual(
          yield* error(Queue.awaitResult(queue, "a")),
          new Queue.JobNotFound({ queue: queue.name, id: "a" })
        )
        for (const [id, detail] of [["b", "does not fit"], ["c", "there is none"]] as const) {
          const unreadable = yield* error(Queue.awaitResult(queue, id))
          assert.instanceOf(unreadable, RedisDecodeError)
          assert.include(unreadable.message, detail)
          assert.notInclude(unreadable.message, "secret")
          assert.isTrue(Either.isLeft((yield* Effect.flatten(Queue.completedJob(queue, id))).result))
        }
      }))

    it.scoped("many wait with one subscription, and each gets its own", () =>
      Effect.gen(function*() {
        const queue = define("many", { completed: { count: 10_000 } })
        const count = 300
        const ids = Array.from({ length: count }, (_, i) => `j${i}`)
        yield* add(queue, ids)
        const waits = yield* Effect.forEach(ids, (id) => Effect.fork(Queue.awaitResult(queue, id)))
        const twice = yield* Effect.fork(Queue.awaitResult(queue, "j7"))
        const interrupted = yield* Effect.fork(Queue.awaitResult(queue, "j8"))
        yield* eventually(Effect.map(listeners(queue), (n) => n === 1))
        yield* Fiber.interrupt(interrupted)
        yield* Queue.makeWorker(queue, square, { concurrency: 50 })
        for (const [n, fiber] of waits.entries()) {
          assert.deepStrictEqual(yield* exitOf(fiber), Exit.succeed({ square: n * n }))
        }
        assert.deepStrictEqual(yield* exitOf(twice), Exit.succeed({ square: 49 }))
        yield* eventually(Effect.map(listeners(queue), (n) => n === 0))
      }))

    // -----------------------------------------------------------------------------------------------------------------
    // Log lines
    // -----------------------------------------------------------------------------------------------------------------

    it.scoped("what handlers log stays with the job, and goes with it", () =>
      Effect.gen(function*() {
        const queue = define("logs", { attempts: 2 })
        const plain = define("unkept", { completed: undefined })
        const client = yield* RedisClient
        yield* add(queue, ["fine", "dead"])
        yield* add(plain, ["gone"])
        const held: Array<boolean> = []
        const handler = (job: Queue.Job<typeof Payload.Type>) =>
          Effect.gen(function*() {
            held.push(yield* job.log(`attempt ${job.attempt}`))
            yield* Effect.all([job.log("two\nlines"), job.log("\ud800 \0 ü")], { concurrency: "unbounded" })
            return job.id === "dead" || job.attempt === 1 ? yield* Effect.fail("no") : { square: 1 }
          })
        yield* Queue.makeWorker(queue, handler)
        yield* Queue.makeWorker(plain, handler)
        yield* eventually(
          Effect.map(Queue.counts(queue), ({ completed, dead }) => completed === 1 && dead === 1)
        )
        yield* eventually(Effect.map(Queue.status(plain), ({ totals }) => totals.completed === 1))
        assert.isTrue(held.length === 6 && held.every((mine) => mine))
        for (const id of ["fine", "dead"]) {
          const lines = yield* Queue.logs(queue, id)
          assert.deepStrictEqual(lines.map(({ line }) => line), [
            "attempt 1",
            "two\nlines",
            "\ud800 \0 ü",
            "attempt 2",
            "two\nlines",
            "\ud800 \0 ü"
          ])
          const at = lines.map(({ at }) => at.epochMillis)
          assert.deepStrictEqual(at, at.toSorted((a, b) => a - b))
          yield* Queue.remove(queue, id)
          assert.deepStrictEqual(yield* Queue.logs(queue, id), [])
        }
        assert.deepStrictEqual(yield* keysLeft(plain.name), [])
        assert.strictEqual(yield* client.exists(keysOf(queue.name).logs), 0)
      }))

    it.scoped("only so many lines and bytes are kept, whoever has no lease adds none, and a repeated call neither", () =>
      Effect.gen(function*() {
        const bounds = { lines: 5, bytes: 1024 }
        const queue = define("lines", { logs: bounds })
        const client = yield* RedisClient
        const hand = yield* makeHand(queue)
        const keys = keysOf(queue.name)
        yield* add(queue, ["a"])
        const { member } = yield* hand.next
        const write = (n: number, line: string) => client.eval(log, keys, member, "a", n, JSON.stringify(line), bounds)
        for (let n = 1; n <= 8; n++) {
          assert.isTrue(yield* write(n, `line ${n}`))
          assert.isTrue(yield* write(n, `line ${n}`))
        }
        const lines = Effect.map(Queue.logs(queue, "a"), (all) => all.map(({ line }) => line))
        assert.deepStrictEqual(yield* lines, ["line 4", "line 5", "line 6", "line 7", "line 8"])
        for (const [n, letter] of ["x", "y", "z"].entries()) yield* write(9 + n, letter.repeat(400))
        assert.deepStrictEqual(yield* lines, ["y".repeat(400), "z".repeat(400)])
        yield* hand.complete({ id: "a", member })
        assert.isFalse(yield* write(12, "late"))
        assert.lengthOf(yield* lines, 2)

        const long = define("long", { logs: bounds })
        yield* Queue.makeWorker(long, (job) => Effect.zipRight(job.log("x".repeat(5000)), square(job)))
        yield* exitOf(yield* Effect.fork(Queue.enqueueAndWait(long, { n: 1 }, { id: "b" })))
        assert.deepStrictEqual((yield* Queue.logs(long, "b")).map(({ line }) => line.length), [128])
      }))

    // -----------------------------------------------------------------------------------------------------------------
    // Events
    // -----------------------------------------------------------------------------------------------------------------

    /** Each as `Tag id detail`. */
    const texts = (events: ReadonlyArray<Queue.JobEvent | Queue.EventsMissed>) =>
      events.map((event) => {
        const details = Object.entries(event).filter(([key]) => !["at", "position", "_tag"].includes(key))
          .map(([, value]) => Duration.isDuration(value) ? Duration.toMillis(value) : value)
        return [event._tag, ...details].join(" ")
      })

    it.scoped("events tell what happens to jobs, in order; without them there is no stream", () =>
      Effect.gen(function*() {
        const queue = define("events", { events: { maxLength: 1000 }, completed: undefined })
        const plain = define("eventless")
        const client = yield* RedisClient
        const hand = yield* makeHand(queue)
        yield* add(queue, ["a", "b"])
        yield* Queue.pause(queue)
        yield* Queue.pause(queue)
        yield* Queue.resume(queue)
        const [a, b] = yield* hand.take(2)
        yield* hand.retry(3_600_000)(a!)
        yield* hand.release(b!)
        const again = yield* hand.next
        yield* hand.bury("exhausted", 1)(again)
        yield* Queue.promote(queue, "a")
        const last = yield* hand.next
        assert.strictEqual(last.id, "a")
        yield* hand.complete(last)
        yield* Queue.replay(queue, "b")
        yield* Queue.remove(queue, "b")
        yield* Queue.enqueue(queue, { n: 1 }, { id: "c", delay: "1 hour" })
        yield* Queue.drain(queue)
        const { events, missed, next } = yield* Queue.eventsPage(queue)
        assert.isFalse(missed)
        assert.deepStrictEqual(texts(events), [
          "Added a",
          "Added b",
          "Paused",
          "Resumed",
          "Started a 1",
          "Started b 1",
          "Retried a 3600000",
          "Released b 0",
          "Started b 1",
          "Dead b exhausted",
          "Drained",
          "Started a 2",
          "Completed a",
          "Drained",
          "Replayed b",
          "Removed b",
          "Added c",
          "Removed c"
        ])
        assert.isTrue(events.every(({ at }) => DateTime.isDateTime(at)))
        assert.deepStrictEqual(yield* Queue.eventsPage(queue, { after: next }), { events: [], missed: false, next })
        const page = yield* Queue.eventsPage(queue, { limit: 3 })
        const second = yield* Queue.eventsPage(queue, { after: page.next, limit: 3 })
        assert.deepStrictEqual(texts([...page.events, ...second.events]), texts(events.slice(0, 6)))

        yield* add(plain, ["a"])
        yield* Queue.pause(plain)
        assert.strictEqual(yield* client.exists(keysOf(plain.name).events), 0)
        for (
          const refused of [
            Queue.eventsPage(plain),
            Stream.runDrain(Queue.events(plain)),
            Stream.runDrain(Queue.events(queue, { from: "now" })),
            Queue.eventsPage(queue, { limit: 0 })
          ]
        ) {
          assert.strictEqual(
            (yield* error(refused as Effect.Effect<unknown, RedisError, Queue.Queue>))._tag,
            "RedisInputError"
          )
        }
        yield* Queue.obliterate(queue)
        assert.deepStrictEqual(yield* keysLeft(queue.name), [])
      }))

    it.scoped("a worker tells starts, progress, leases that ended, and the end of the work once", () =>
      Effect.gen(function*() {
        const queue = define("told", { events: {}, completed: undefined })
        const hand = yield* makeHand(queue, 5)
        yield* add(queue, ["a", "b"])
        // Nobody renews its lease.
        yield* hand.next
        yield* elapse("10 millis")
        yield* Queue.makeWorker(queue, (job) =>
          job.progress({ at: 1 }).pipe(
            Effect.zipRight(job.progress({ at: 1 })),
            Effect.zipRight(square(job))
          ), { concurrency: 2, prefetch: 0 })
        yield* eventually(Effect.map(Queue.eventsPage(queue), ({ events }) => events.at(-1)?._tag === "Drained"))
        const { events } = yield* Queue.eventsPage(queue)
        const of = (id: string) => texts(events.filter((event) => "id" in event && event.id === id))
        assert.deepStrictEqual(of("a"), [
          "Added a",
          "Started a 1",
          "Stalled a",
          "Started a 2",
          "Progress a [object Object]",
          "Completed a"
        ])
        assert.deepStrictEqual(of("b"), ["Added b", "Started b 1", "Progress b [object Object]", "Completed b"])
        const value = events.find((event) => event._tag === "Progress")
        assert.deepStrictEqual(value?._tag === "Progress" ? value.value : undefined, { at: 1 })
        assert.strictEqual(events.filter(({ _tag }) => _tag === "Drained").length, 1)
      }))

    it.scoped("a stream of events begins now or where it is told to, and waits for more", () =>
      Effect.gen(function*() {
        const queue = define("stream", { events: {} })
        yield* add(queue, ["before"])
        const seen: Array<string> = []
        const all: Array<string> = []
        let position = "0"
        const follow = (into: Array<string>, from?: string) =>
          Effect.forkScoped(Stream.runForEach(Queue.events(queue, from === undefined ? {} : { from }), (event) =>
            Effect.sync(() => {
              into.push(...texts([event]))
              if (event._tag !== "EventsMissed") position = event.position
            })))
        const now = yield* follow(seen)
        yield* follow(all, "0")
        // From when on it reads is known by what it has read.
        for (let n = 0; seen.length === 0; n++) {
          yield* add(queue, [`probe${n}`])
          yield* elapse("10 millis")
        }
        assert.notInclude(seen, "Added before")
        yield* add(queue, ["x"])
        yield* eventually(Effect.sync(() =>
          seen.at(-1) === "Added x" && all.at(-1) === "Added x"
        ))
        assert.strictEqual(all[0], "Added before")
        yield* Fiber.interrupt(now)
        const from = position
        yield* add(queue, ["y", "z"])
        const rest = yield* Effect.fork(Stream.runCollect(Stream.take(Queue.events(queue, { from }), 2)))
        const exit = yield* exitOf(rest)
        assert.deepStrictEqual(Exit.isSuccess(exit) ? texts(Array.from(exit.value)) : [], ["Added y", "Added z"])
        yield* eventually(Effect.sync(() => all.at(-1) === "Added z"))
      }))

    it.scoped("no more events are kept than wanted, and whoever was too slow is told", () =>
      Effect.gen(function*() {
        const queue = define("trimmed", { events: { maxLength: 100 } })
        const client = yield* RedisClient
        yield* add(queue, ["first"])
        const { next } = yield* Queue.eventsPage(queue)
        yield* add(queue, Array.from({ length: 1000 }, (_, i) => `j${i}`))
        assert.isAtMost(yield* client.xlen(keysOf(queue.name).events), 300)
        assert.isTrue((yield* Queue.eventsPage(queue, { after: next })).missed)
        assert.isFalse((yield* Queue.eventsPage(queue)).missed)
        const exit = yield* exitOf(
          yield* Effect.fork(Stream.runCollect(Stream.take(Queue.events(queue, { from: next }), 2)))
        )
        const [gap, oldest] = Exit.isSuccess(exit) ? Chunk.toReadonlyArray(exit.value) : []
        assert.strictEqual(gap?._tag, "EventsMissed")
        assert.strictEqual(oldest?._tag, "Added")
        const settings = yield* settingsOf(queue)
        assert.strictEqual(settings.mostEvents, 100)
      }))
  })
}
