import { assert, layer } from "@effect/vitest"
import { Effect, Either, Layer, Logger, LogLevel, Option, Schema } from "effect"
import * as Queue from "../../src/Queue/index.js"
import { keysOf } from "../../src/Queue/keys.js"
import { RedisClient } from "../../src/RedisClient.js"
import type { RedisError } from "../../src/RedisError.js"
import { error, fresh, type Time, until } from "../kit/suites.js"

const Payload = Schema.Struct({ n: Schema.Number })
const Result = Schema.Struct({ doubled: Schema.Number, at: Schema.Date })

type Options = Partial<Queue.Options<typeof Payload.Type, typeof Payload.Encoded>>

const define = (text: string, options: Options = {}) =>
  Queue.define({ name: fresh(text), payload: Payload, attempts: 1, backoff: () => 0, ...options })

const returning = (text: string, options: Options = {}) =>
  Queue.define({ name: fresh(text), payload: Payload, attempts: 1, backoff: () => 0, ...options, result: Result })

type Definition = Queue.Definition<{ readonly n: number }, any>

/** The keys of queues that are there, without counters and what ends by itself. */
const left = (...queues: ReadonlyArray<Definition>) =>
  Effect.gen(function*() {
    const client = yield* RedisClient
    const found: Array<string> = []
    for (const { name } of queues) {
      const { all, marker, meta, stamps, starts } = keysOf(name)
      for (const key of all) {
        if (key === marker || key === meta || key === stamps || key === starts) continue
        if ((yield* client.exists(key)) === 1) found.push(key)
      }
    }
    return found
  })

/** Counts, which must agree with what is stored. */
const counted = (definition: Definition) =>
  Effect.gen(function*() {
    const client = yield* RedisClient
    const counts = yield* Queue.counts(definition)
    const { blocked, dead, delayed, ready, running } = counts
    assert.strictEqual(ready + delayed + blocked + running + dead, yield* client.hlen(keysOf(definition.name).jobs))
    return counts
  })

const states = (node: Queue.FlowNode): unknown =>
  node.children.length === 0 ? node.state : [node.state, ...node.children.map(states)]

const tree = (definition: Definition, id: string) =>
  Effect.map(Queue.flowTree(definition, id), (found) => Option.getOrUndefined(Option.map(found, states)))

export const flowSuite = (
  name: string,
  driver: Layer.Layer<RedisClient, RedisError>,
  options: { readonly excludeTestServices?: boolean },
  time: Time
) => {
  const eventually = until(time)
  const holds = (condition: () => boolean) => eventually(Effect.sync(condition))
  const gone = (...queues: ReadonlyArray<Definition>) =>
    eventually(Effect.map(left(...queues), (keys) => keys.length === 0))
  const isState = (definition: Definition, id: string, state: Queue.JobState) =>
    eventually(
      Effect.map(Queue.get(definition, id), (job) => Option.isSome(job) && job.value.state === state)
    )

  // Dead letters are logged as warnings.
  const silent = Logger.minimumLogLevel(LogLevel.Error)
  const services = Layer.provideMerge(Layer.orDie(Layer.provideMerge(Queue.layer, driver)), silent)

  layer(services, options)(`flows, ${name}`, (it) => {
    it.scoped("a parent runs after its children of other queues, gets their results, and nothing is left", () =>
      Effect.gen(function*() {
        const top = define("top")
        const middle = returning("middle")
        const bottom = define("bottom")
        const order: Array<string> = []
        const note = (word: string) => (job: Queue.Job<{ readonly n: number }>) =>
          Effect.sync(() => void order.push(`${word}${job.payload.n}`))
        const results: Array<unknown> = []
        yield* Queue.makeWorker(bottom, note("bottom"), { concurrency: 3 })
        yield* Queue.makeWorker(
          middle,
          (job) => Effect.as(note("middle")(job), { doubled: 2 * job.payload.n, at: new Date(job.payload.n) }),
          { concurrency: 3 }
        )
        yield* Queue.makeWorker(top, (job) =>
          Effect.gen(function*() {
            results.push(yield* Effect.flatMap(Queue.childResults(job, middle), Effect.all))
            yield* note("top")(job)
          }))
        const added = yield* Queue.enqueueFlow(Queue.flow(top, { n: 0 }, {
          id: "root",
          children: [
            Queue.child(middle, { n: 1 }, {
              children: [Queue.child(bottom, { n: 1 }), Queue.child(bottom, { n: 2 })]
            }),
            Queue.child(middle, { n: 2 }, { children: [Queue.child(bottom, { n: 3 })] }),
            Queue.child(bottom, { n: 4 })
          ]
        }))
        assert.deepStrictEqual(added, { id: "root", outcome: "added" })
        yield* gone(top, middle, bottom)
        assert.lengthOf(order, 7)
        assert.strictEqual(order[6], "top0")
        const at = (word: string) => order.indexOf(word)
        assert.isTrue(at("middle1") > at("bottom1") && at("middle1") > at("bottom2"))
        assert.isTrue(at("middle2") > at("bottom3"))
        assert.deepStrictEqual(results, [[
          { doubled: 2, at: new Date(1) },
          { doubled: 4, at: new Date(2) }
        ]])
      }))

    it.scoped("what becomes of a parent whose child fails is said by each child", () =>
      Effect.gen(function*() {
        const parent = define("parent")
        const child = returning("child")
        const other = define("other")
        const seen = new Map<number, ReadonlyArray<Queue.ChildOutcome>>()
        const results = new Map<number, ReadonlyArray<Either.Either<unknown, Queue.ChildFailed>>>()
        yield* Queue.makeWorker(
          child,
          ({ payload: { n } }) => n < 0 ? Effect.fail(`no ${n}`) : Effect.succeed({ doubled: 2 * n, at: new Date(0) }),
          { concurrency: 5 }
        )
        yield* Queue.makeWorker(other, () => Effect.void)
        yield* Queue.makeWorker(parent, (job) =>
          Effect.gen(function*() {
            seen.set(job.payload.n, yield* job.children)
            results.set(job.payload.n, yield* Queue.childResults(job, child))
          }))
        const add = (n: number, onFailure: Queue.OnFailure | undefined) =>
          Queue.enqueueFlow(Queue.flow(parent, { n }, {
            id: `p${n}`,
            children: [
              Queue.child(child, { n: 1 }),
              Queue.child(child, { n: -1 }, { id: `c${n}`, onFailure }),
              Queue.child(other, { n: 1 })
            ]
          }))
        yield* add(1, "fail")
        yield* add(2, "ignore")
        yield* add(3, "remove")
        yield* add(4, undefined)
        yield* isState(parent, "p1", "dead")
        yield* isState(parent, "p4", "dead")
        yield* holds(() => seen.has(2) && seen.has(3))
        const letter = Option.getOrThrow(yield* Queue.deadLetter(parent, "p1"))
        assert.deepStrictEqual([letter.reason, letter.failures], ["child-failed", 0])
        assert.strictEqual(
          Option.getOrThrow(letter.error),
          `the child c1 of the queue ${child.name} became a dead letter`
        )
        assert.isFalse(seen.has(1))
        assert.deepStrictEqual(seen.get(2)?.map(({ _tag, queue }) => [_tag, queue]), [
          ["Completed", child.name],
          ["Failed", child.name],
          ["Completed", other.name]
        ])
        const completed = Either.right({ doubled: 2, at: new Date(0) })
        const failed = results.get(2)?.[1]
        assert.deepStrictEqual(results.get(2)?.[0], completed)
        assert.isTrue(failed !== undefined && Either.isLeft(failed))
        if (failed !== undefined && Either.isLeft(failed)) {
          const { attempts, error, id, reason } = failed.left
          assert.deepStrictEqual([id, reason, error, attempts], ["c2", "exhausted", "no -1", 1])
        }
        assert.deepStrictEqual(results.get(3), [completed])
        assert.strictEqual((yield* Queue.status(parent)).totals.dead, 2)
      }))

    it.scoped("a failure goes up to the first one, and a job without children has none", () =>
      Effect.gen(function*() {
        const queues = [define("first"), define("second"), define("third")] as const
        const [first, second, third] = queues
        const seen: Array<ReadonlyArray<Queue.ChildOutcome>> = []
        yield* Queue.makeWorker(first, (job) => Effect.map(job.children, (children) => seen.push(children)))
        yield* Queue.makeWorker(second, () => Effect.void)
        yield* Queue.makeWorker(third, () => Effect.fail("no"))
        yield* Queue.enqueueFlow(Queue.flow(first, { n: 0 }, {
          id: "a",
          children: [Queue.child(second, { n: 0 }, { id: "b", children: [Queue.child(third, { n: 0 }, { id: "c" })] })]
        }))
        yield* isState(first, "a", "dead")
        assert.strictEqual(Option.getOrThrow(yield* Queue.deadLetter(second, "b")).reason, "child-failed")
        assert.deepStrictEqual(yield* tree(first, "a"), ["dead", ["dead", "dead"]])
        yield* Queue.enqueue(first, { n: 1 })
        yield* holds(() => seen.length === 1)
        assert.deepStrictEqual(seen, [[]])
        // Each has a bound for its dead letters.
        for (const queue of queues) yield* Queue.cleanDeadLetters(queue, 0)
        yield* gone(...queues)
      }))

    it.scoped("a blocked job is a state of its own", () =>
      Effect.gen(function*() {
        const parent = define("parent")
        const child = define("child")
        const order: Array<string> = []
        for (const [id, priority] of [["a", 0], ["b", 1], ["c", 0]] as const) {
          yield* Queue.enqueueFlow(Queue.flow(parent, { n: 0 }, {
            id,
            priority,
            children: [Queue.child(child, { n: 0 }, { id: `${id}1` })]
          }))
        }
        yield* Queue.enqueueFlow(Queue.flow(parent, { n: 0 }, {
          id: "late",
          delay: "1 hour",
          children: [Queue.child(child, { n: 0 }, { delay: "2 hours", id: "late1" })]
        }))
        yield* eventually(Effect.map(Queue.counts(child), ({ delayed, ready }) => ready === 3 && delayed === 1))
        assert.deepStrictEqual(yield* counted(parent), {
          ready: 0,
          delayed: 0,
          blocked: 4,
          running: 0,
          dead: 0,
          completed: 0
        })
        const { jobs, next } = yield* Queue.list(parent, "blocked", { limit: 3 })
        assert.lengthOf(jobs, 3)
        assert.deepStrictEqual(next, Option.some(3))
        const info = Option.getOrThrow(yield* Queue.get(parent, "b"))
        assert.deepStrictEqual([info.state, info.priority, Option.isSome(info.at)], ["blocked", 1, true])
        assert.strictEqual((yield* error(Queue.promote(parent, "a")))._tag, "JobNotDelayed")
        assert.strictEqual((yield* error(Queue.changeDelay(parent, "a", { delay: 0 })))._tag, "JobNotDelayed")
        assert.strictEqual((yield* error(Queue.replay(parent, "a")))._tag, "JobNotDead")
        assert.isFalse(yield* Queue.cancel(parent, "a"))
        yield* Queue.changePriority(parent, "c", 3)
        yield* Queue.pause(parent)
        yield* Queue.makeWorker(child, () => Effect.void)
        yield* Queue.makeWorker(parent, ({ id }) => Effect.sync(() => void order.push(id)))
        yield* eventually(Effect.map(Queue.counts(parent), ({ ready }) => ready === 3))
        yield* Queue.resume(parent)
        yield* holds(() => order.length === 3)
        assert.deepStrictEqual(order, ["c", "b", "a"])
        // The delay of a parent counts from the beginning.
        yield* Queue.promote(child, "late1")
        yield* isState(parent, "late", "delayed")
        yield* Queue.promote(parent, "late")
        yield* gone(parent, child)
      }))

    it.scoped("removing a parent takes its children with it, and cancels those that run", () =>
      Effect.gen(function*() {
        const parent = define("parent")
        const child = define("child")
        const deep = define("deep")
        const started: Array<string> = []
        yield* Queue.enqueueFlow(Queue.flow(parent, { n: 0 }, {
          id: "p",
          children: [
            Queue.child(child, { n: 0 }, { id: "runs" }),
            Queue.child(child, { n: 0 }, { id: "ready" }),
            Queue.child(child, { n: 0 }, { id: "delayed", delay: "1 hour" }),
            Queue.child(child, { n: 0 }, { id: "blocked", children: [Queue.child(deep, { n: 0 }, { id: "deep" })] })
          ]
        }))
        yield* isState(deep, "deep", "ready")
        const worker = yield* Queue.makeWorker(child, ({ id }) => {
          started.push(id)
          return Effect.never
        })
        yield* holds(() => started.length === 1)
        assert.deepStrictEqual(yield* tree(parent, "p"), [
          "blocked",
          "running",
          "ready",
          "delayed",
          ["blocked", "ready"]
        ])
        assert.strictEqual(Option.getOrThrow(yield* Queue.flowTree(parent, "p")).children[0]?.id, "runs")
        yield* Queue.cancelFlow(parent, "p")
        yield* isState(child, "runs", "dead")
        assert.strictEqual(Option.getOrThrow(yield* Queue.deadLetter(child, "runs")).reason, "cancelled")
        yield* Queue.removeDeadLetters(child, ["runs"])
        // The ids of jobs that were removed while they were ready are in the lists until somebody comes past them.
        yield* Queue.makeWorker(deep, ({ id }) => Effect.sync(() => void started.push(id)))
        yield* gone(parent, child, deep)
        assert.deepStrictEqual(started, ["runs"])
        yield* worker.stop
        assert.strictEqual((yield* error(Queue.cancelFlow(parent, "p")))._tag, "JobNotFound")
        assert.isTrue(Option.isNone(yield* Queue.flowTree(parent, "p")))
      }))

    it.scoped("a running parent is cancelled with its flow, and the flow of a dead one is removed", () =>
      Effect.gen(function*() {
        const parent = define("parent")
        const child = define("child")
        let started = 0
        yield* Queue.makeWorker(child, () => Effect.void)
        yield* Queue.makeWorker(parent, () => {
          started++
          return Effect.never
        })
        yield* Queue.enqueueFlow(Queue.flow(parent, { n: 0 }, { id: "p", children: [Queue.child(child, { n: 0 })] }))
        yield* holds(() => started === 1)
        assert.deepStrictEqual(yield* tree(parent, "p"), ["running", "completed"])
        yield* Queue.cancelFlow(parent, "p")
        yield* isState(parent, "p", "dead")
        yield* Queue.cancelFlow(parent, "p")
        yield* gone(parent, child)
      }))

    it.scoped("a child that is removed has failed", () =>
      Effect.gen(function*() {
        const parent = define("parent")
        const child = define("child")
        const seen: Array<unknown> = []
        const add = (id: string, onFailure: Queue.OnFailure) =>
          Queue.enqueueFlow(Queue.flow(parent, { n: 0 }, {
            id,
            children: [
              Queue.child(child, { n: 0 }, { id: `${id} 1`, onFailure, delay: "1 hour" }),
              Queue.child(child, { n: 0 }, { id: `${id} 2`, onFailure, delay: "1 hour" })
            ]
          }))
        yield* add("fails", "fail")
        yield* add("goes on", "ignore")
        yield* add("is drained", "ignore")
        yield* eventually(Effect.map(Queue.counts(child), ({ delayed }) => delayed === 6))
        yield* Queue.makeWorker(child, () => Effect.void)
        yield* Queue.makeWorker(parent, (job) =>
          Effect.map(job.children, (children) =>
            seen.push([
              job.id,
              ...children.map((one) => one._tag === "Failed" ? one.error.reason : "completed")
            ])))
        for (const id of ["fails", "goes on"]) {
          yield* Queue.promote(child, `${id} 2`)
          yield* Queue.remove(child, `${id} 1`)
        }
        yield* isState(parent, "fails", "dead")
        yield* holds(() => seen.length === 1)
        assert.strictEqual(yield* Queue.drain(child), 2)
        yield* holds(() => seen.length === 2)
        assert.deepStrictEqual(seen, [["goes on", "removed", "completed"], ["is drained", "removed", "removed"]])
        assert.include(Option.getOrThrow(Option.getOrThrow(yield* Queue.deadLetter(parent, "fails")).error), "removed")
        yield* Queue.remove(parent, "fails")
        yield* gone(parent, child)
      }))

    it.scoped("drains blocked jobs with their children, and leaves them when only ready ones go", () =>
      Effect.gen(function*() {
        const parent = define("parent")
        const child = define("child")
        for (const id of ["a", "b", "c"]) {
          yield* Queue.enqueueFlow(Queue.flow(parent, { n: 0 }, {
            id,
            children: [Queue.child(child, { n: 0 }), Queue.child(child, { n: 1 })]
          }))
        }
        yield* eventually(Effect.map(Queue.counts(child), ({ ready }) => ready === 6))
        assert.strictEqual(yield* Queue.drain(parent, { delayed: false }), 0)
        assert.strictEqual(yield* Queue.drain(parent), 3)
        // Somebody who works there delivers.
        yield* Queue.makeWorker(parent, () => Effect.void)
        yield* eventually(Effect.map(Queue.counts(child), ({ ready }) => ready === 0))
        let started = 0
        yield* Queue.makeWorker(child, () => Effect.sync(() => void started++))
        yield* gone(parent, child)
        assert.strictEqual(started, 0)
      }))

    it.scoped("ids that are in use", () =>
      Effect.gen(function*() {
        const parent = define("parent")
        const child = define("child")
        const seen: Array<unknown> = []
        yield* Queue.enqueue(child, { n: 1 }, { id: "taken", delay: "1 hour" })
        const make = (id: string) =>
          Queue.flow(parent, { n: 0 }, {
            id,
            children: [
              Queue.child(child, { n: 2 }, {
                id: "taken",
                onFailure: "ignore",
                // What is below a duplicate is not added either.
                children: [Queue.child(child, { n: 3 })]
              })
            ]
          })
        yield* Queue.enqueueFlow(make("p"))
        assert.deepStrictEqual(yield* Queue.enqueueFlow(make("taken")), { id: "taken", outcome: "added" })
        assert.deepStrictEqual(yield* Queue.enqueueFlow(make("taken")), { id: "taken", outcome: "duplicate" })
        yield* Queue.makeWorker(parent, (job) =>
          Effect.map(job.children, (children) =>
            seen.push(children.map((one) =>
              one._tag === "Failed" ? [one.id, one.error.reason] : "completed"
            ))))
        yield* holds(() =>
          seen.length === 2
        )
        assert.deepStrictEqual(seen, [[["taken", "duplicate"]], [["taken", "duplicate"]]])
        const other = Option.getOrThrow(yield* Queue.get(child, "taken"))
        assert.deepStrictEqual(other.payload, Either.right({ n: 1 }))
        yield* Queue.remove(child, "taken")
        yield* gone(parent, child)
      }))

    it.scoped("a dead child that is replayed in time is waited for again", () =>
      Effect.gen(function*() {
        const parent = define("parent")
        const child = returning("child")
        let works = false
        const done: Array<string> = []
        yield* Queue.makeWorker(
          child,
          () => works ? Effect.succeed({ doubled: 1, at: new Date(0) }) : Effect.fail("no")
        )
        yield* Queue.makeWorker(
          parent,
          (job) =>
            Effect.map(Effect.flatMap(Queue.childResults(job, child), Effect.all), ({ length }) =>
              done.push(`${job.id} ${length}`))
        )
        yield* Queue.enqueueFlow(Queue.flow(parent, { n: 0 }, {
          id: "p",
          children: [
            Queue.child(child, { n: 0 }, { id: "a" }),
            Queue.child(child, { n: 0 }, { id: "b", delay: "1 hour" })
          ]
        }))
        yield* isState(child, "a", "dead")
        works = true
        yield* Queue.replay(child, "a")
        yield* eventually(
          Effect.map(tree(parent, "p"), (found) =>
            JSON.stringify(found) === JSON.stringify(["blocked", "completed", "delayed"]))
        )
        yield* Queue.promote(child, "b")
        yield* holds(() =>
          done.length === 1
        )
        assert.deepStrictEqual(done, ["p 2"])
        yield* gone(parent, child)
      }))

    it.scoped("replays after the parent has died: of the child and then of it, and of it alone", () =>
      Effect.gen(function*() {
        const parent = define("parent")
        const child = define("child")
        let works = false
        const done: Array<string> = []
        const tried: Array<string> = []
        yield* Queue.makeWorker(child, ({ id, payload }) => {
          tried.push(id)
          return works || payload.n === 0 ? Effect.void : Effect.fail("no")
        })
        yield* Queue.makeWorker(
          parent,
          (job) =>
            Effect.map(job.children, (children) => done.push([job.id, ...children.map(({ _tag }) => _tag)].join(" ")))
        )
        for (const id of ["one", "two"]) {
          yield* Queue.enqueueFlow(Queue.flow(parent, { n: 0 }, {
            id,
            children: [
              Queue.child(child, { n: 0 }, { id: `${id} good` }),
              Queue.child(child, { n: 1 }, { id: `${id} bad` })
            ]
          }))
          yield* isState(parent, id, "dead")
        }
        // It fails again, and so does its parent.
        yield* Queue.replay(parent, "two")
        yield* eventually(Effect.map(Queue.status(parent), ({ totals }) => totals.dead === 3))
        yield* isState(parent, "two", "dead")
        works = true
        yield* Queue.replay(child, "one bad")
        yield* eventually(
          Effect.map(
            tree(parent, "one"),
            (found) => JSON.stringify(found) === JSON.stringify(["dead", "completed", "completed"])
          )
        )
        assert.lengthOf(done, 0)
        yield* Queue.replay(parent, "one")
        yield* holds(() => done.length === 1)
        yield* Queue.replay(parent, "two")
        yield* holds(() => done.length === 2)
        assert.deepStrictEqual(done, ["one Completed Completed", "two Completed Completed"])
        assert.deepStrictEqual(tried.filter((id) => id.endsWith("good")), ["one good", "two good"])
        yield* gone(parent, child)
        // A child that is gone can't be tried again.
        works = false
        yield* Queue.enqueueFlow(Queue.flow(parent, { n: 0 }, {
          id: "three",
          children: [Queue.child(child, { n: 1 }, { id: "three bad" })]
        }))
        yield* isState(parent, "three", "dead")
        yield* Queue.removeDeadLetters(child, ["three bad"])
        yield* Queue.replay(parent, "three")
        yield* eventually(Effect.map(Queue.status(parent), ({ totals }) => totals.dead === 5))
        yield* isState(parent, "three", "dead")
        yield* Queue.removeDeadLetters(parent, ["three"])
        yield* gone(parent, child)
      }))

    it.scoped("results stay for each attempt of the parent, and as long as it is a dead letter", () =>
      Effect.gen(function*() {
        const parent = define("parent", { attempts: 2 })
        const child = returning("child")
        const seen: Array<unknown> = []
        yield* Queue.makeWorker(child, ({ payload: { n } }) => Effect.succeed({ doubled: 2 * n, at: new Date(0) }))
        yield* Queue.makeWorker(parent, (job) =>
          Effect.gen(function*() {
            const results = yield* Effect.flatMap(Queue.childResults(job, child), Effect.all)
            seen.push(results.map(({ doubled }) => doubled))
            if (seen.length < 3) return yield* Effect.fail("again")
          }))
        yield* Queue.enqueueFlow(Queue.flow(parent, { n: 0 }, {
          id: "p",
          children: [Queue.child(child, { n: 1 }), Queue.child(child, { n: 2 })]
        }))
        yield* isState(parent, "p", "dead")
        yield* Queue.replay(parent, "p")
        yield* gone(parent, child)
        assert.deepStrictEqual(seen, [[2, 4], [2, 4], [2, 4]])
      }))

    it.scoped("several flows in one queue, deep and wide", () =>
      Effect.gen(function*() {
        const queue = define("one")
        let done = 0
        yield* Queue.makeWorker(queue, () => Effect.sync(() => void done++), { concurrency: 10 })
        const chain = (depth: number): Queue.FlowChild =>
          Queue.child(queue, { n: depth }, depth === 16 ? {} : { children: [chain(depth + 1)] })
        yield* Queue.enqueueFlow(Queue.flow(queue, { n: 1 }, { children: [chain(2)] }))
        yield* Queue.enqueueFlow(Queue.flow(queue, { n: 1 }, {
          children: Array.from({ length: 300 }, (_, n) => Queue.child(queue, { n }, { priority: n % 4 }))
        }))
        yield* Queue.enqueueFlow(Queue.flow(queue, { n: 1 }))
        yield* holds(() => done === 16 + 301 + 1)
        yield* gone(queue)
      }))

    it.scoped("what is wrong with a flow is said before anything is sent", () =>
      Effect.gen(function*() {
        const queue = define("checked", { maxSize: 1, maxPayload: 20 })
        const leaf = Queue.child(queue, { n: 1 })
        const chain = (depth: number): Queue.FlowChild =>
          depth === 1 ? leaf : Queue.child(queue, { n: 1 }, { children: [chain(depth - 1)] })
        const refused = (options: Queue.ChildOptions) =>
          Effect.map(
            error(Queue.enqueueFlow(Queue.flow(queue, { n: 1 }, { id: "root", ...options }))),
            (failure) => failure._tag === "RedisInputError" ? failure.field : failure._tag
          )
        const same = Queue.child(queue, { n: 1 }, { id: "same" })
        const wide = (n: number, children: ReadonlyArray<Queue.FlowChild>) =>
          Array.from({ length: n }, () => Queue.child(queue, { n: 1 }, { children }))
        assert.strictEqual(yield* refused({ children: [chain(16)] }), "children")
        assert.strictEqual(yield* refused({ children: wide(1001, []) }), "children")
        assert.strictEqual(yield* refused({ children: wide(11, wide(1000, [])) }), "children")
        assert.strictEqual(yield* refused({ children: [same, same] }), "id")
        assert.strictEqual(yield* refused({ children: [Queue.child(queue, { n: 1 }, { id: "root" })] }), "id")
        assert.strictEqual(
          yield* refused({ children: [Queue.child(queue, { n: 1 }, { onFailure: "?" as "fail" })] }),
          "onFailure"
        )
        assert.strictEqual(yield* refused({ children: [Queue.child(queue, { n: 1 }, { priority: 9 })] }), "priority")
        const deduplicate = { deduplicate: { key: "k", mode: "keep-last" } } as Queue.ChildOptions
        assert.strictEqual(yield* refused({ children: [Queue.child(queue, { n: 1 }, deduplicate)] }), "deduplicate")
        assert.strictEqual(
          yield* refused({ children: [Queue.child(queue, { n: 123456789012345 })] }),
          "PayloadTooLarge"
        )
        assert.deepStrictEqual(yield* left(queue), [])
        yield* Queue.enqueue(queue, { n: 0 }, { delay: "1 hour" })
        assert.strictEqual(yield* refused({ children: [leaf] }), "QueueFull")
      }))

    it.scoped("jobs of flows may have groups", () =>
      Effect.gen(function*() {
        const parent = define("parent", { groups: { concurrency: 1 } })
        const child = define("child", { groups: { concurrency: 1 } })
        const order: Array<string> = []
        const note = (job: Queue.Job<{ readonly n: number }>) =>
          Effect.sync(() => void order.push(`${Option.getOrElse(job.group, () => "-")}${job.payload.n}`))
        yield* Queue.enqueueFlow(Queue.flow(parent, { n: 9 }, {
          group: "p",
          children: [
            Queue.child(child, { n: 1 }, { group: "a" }),
            Queue.child(child, { n: 2 }, { group: "a", priority: 1 }),
            Queue.child(child, { n: 3 }, { group: "b" }),
            Queue.child(child, { n: 4 })
          ]
        }))
        yield* eventually(Effect.map(Queue.counts(child), ({ ready }) => ready === 4))
        yield* Queue.makeWorker(child, note)
        yield* Queue.makeWorker(parent, note)
        yield* holds(() => order.length === 5)
        // Groups take turns in the order in which they came.
        assert.deepStrictEqual(order, ["a2", "b3", "-4", "a1", "p9"])
        yield* gone(parent, child)
      }))

    it.scoped("a queue that was removed goes on under its name", () =>
      Effect.gen(function*() {
        const parent = define("parent")
        const child = define("child")
        let done = 0
        const add = (id: string) =>
          Queue.enqueueFlow(Queue.flow(parent, { n: 0 }, { id, children: [Queue.child(child, { n: 0 })] }))
        yield* add("before")
        yield* eventually(Effect.map(Queue.counts(child), ({ ready }) => ready === 1))
        yield* Queue.obliterate(parent)
        yield* Queue.obliterate(child)
        assert.deepStrictEqual(yield* left(parent, child), [])
        yield* Queue.makeWorker(child, () => Effect.void)
        yield* Queue.makeWorker(parent, () => Effect.sync(() => void done++))
        yield* add("after")
        yield* holds(() => done === 1)
        yield* gone(parent, child)
      }))

    it.scoped("a producer that ends at once leaves no orphans: whoever works delivers", () =>
      Effect.gen(function*() {
        const client = yield* RedisClient
        const parent = define("parent")
        const child = define("child")
        let done = 0
        yield* Queue.makeWorker(child, () => Effect.void)
        const keys = keysOf(parent.name)
        for (let n = 0; n < 5; n++) {
          yield* Effect.scoped(Effect.flatMap(Queue.make, (producer) =>
            producer.enqueueFlow(Queue.flow(parent, { n }, {
              children: [Queue.child(child, { n }), Queue.child(child, { n })]
            }))))
        }
        // Whether they came to anything or not.
        assert.isAtMost(yield* client.zcard(keys.outbox), 10)
        yield* Queue.makeWorker(parent, () => Effect.sync(() => void done++))
        yield* holds(() => done === 5)
        yield* gone(parent, child)
      }))
  })
}
