/**
 * Random flows beside a model of what must come of them, while the processes that add them and work at them die at any call,
 * before or after the server has executed it, and replies are lost.
 */
import { assert, describe, it } from "@effect/vitest"
import { Effect, Exit, FastCheck, Logger, LogLevel, Option, Schema, Scope, TestClock } from "effect"
import * as flowScripts from "../../src/Queue/flowScripts.js"
import * as Queue from "../../src/Queue/index.js"
import { keysOf } from "../../src/Queue/keys.js"
import * as scripts from "../../src/Queue/scripts.js"
import { RedisClient, type Service as Client } from "../../src/RedisClient.js"
import { Fault, RedisTestServer } from "../../src/RedisTestServer.js"

/** More with QUEUE_RUNS=1000. */
const RUNS = Number(process.env["QUEUE_RUNS"] ?? 10)

const LEASE = 1000

/** What a job comes to by itself. */
type Fate = "completes" | "fails at first" | "fails"

interface Tree {
  readonly queue: number
  readonly onFailure: Queue.OnFailure
  readonly fate: Fate
  readonly delay: number
  readonly children: ReadonlyArray<Tree>
}

const onFailure = FastCheck.constantFrom<Array<Queue.OnFailure>>("fail", "fail", "ignore", "remove")
const fate = FastCheck.constantFrom<Array<Fate>>("completes", "completes", "completes", "fails at first", "fails")

const treeOf = (depth: number): FastCheck.Arbitrary<Tree> =>
  FastCheck.record({
    queue: FastCheck.nat(2),
    onFailure,
    fate,
    delay: FastCheck.constantFrom(0, 0, 0, 100),
    children: depth === 1 ? FastCheck.constant([]) : FastCheck.array(treeOf(depth - 1), { maxLength: 3 })
  })

/** After how many calls a process dies, and whether the server has executed the last one. */
const death = FastCheck.record({ calls: FastCheck.integer({ min: 1, max: 25 }), executed: FastCheck.boolean() })

type Death = typeof death extends FastCheck.Arbitrary<infer A> ? A : never

const scenario = FastCheck.record({
  flows: FastCheck.array(treeOf(3), { minLength: 1, maxLength: 3 }),
  producers: FastCheck.array(death, { maxLength: 2 }),
  workers: FastCheck.array(death, { maxLength: 4 }),
  seed: FastCheck.nat(1000)
})

type Scenario = typeof scenario extends FastCheck.Arbitrary<infer A> ? A : never

const Payload = Schema.Struct({ fate: Schema.String })

const queues = ["one", "two", "three"].map((name) =>
  Queue.define({
    name,
    payload: Payload,
    result: Schema.String,
    lease: LEASE,
    // Whoever dies uses up one attempt of each job that it has.
    attempts: 1000,
    backoff: () => 10
  })
)

const flowOf = ({ children, delay, fate, queue }: Tree, id: string): Queue.Flow =>
  Queue.flow(queues[queue]!, { fate }, {
    id,
    delay,
    children: children.map((one, i) => {
      const { definition, options, payload } = flowOf(one, `${id}/${i}`)
      return Queue.child(definition, payload, { ...options, onFailure: one.onFailure })
    })
  })

/** What must come of each job. */
interface Expected {
  readonly queue: string
  readonly runs: boolean
  readonly outcome: "completed" | "unrecoverable" | "child-failed"
  /** What it sees of its children. */
  readonly sees: ReadonlyArray<string>
}

const expect = (tree: Tree, id: string, all: Map<string, Expected>): Expected => {
  const sees: Array<string> = []
  let doomed = false
  tree.children.forEach((one, i) => {
    const { outcome } = expect(one, `${id}/${i}`, all)
    if (outcome !== "completed" && one.onFailure === "fail") doomed = true
    if (outcome === "completed" || one.onFailure !== "remove") sees.push(`${id}/${i} ${outcome}`)
  })
  const expected: Expected = {
    queue: queues[tree.queue]!.name,
    runs: !doomed,
    outcome: doomed ? "child-failed" : tree.fate === "fails" ? "unrecoverable" : "completed",
    sees
  }
  all.set(id, expected)
  return expected
}

const conforms = ({ flows, producers, seed, workers }: Scenario) =>
  Effect.gen(function*() {
    const server = yield* RedisTestServer
    const client = yield* RedisClient
    const expected = new Map<string, Expected>()
    flows.forEach((tree, i) => expect(tree, String(i), expected))
    const runs = new Map<string, number>()
    const wrong: Array<string> = []
    /** All that was ever delivered, to be delivered again. */
    const told: Array<Effect.Effect<unknown, unknown>> = []

    /** A process that dies with a call: from then on it is given no answer, and sends nothing. */
    const start = (death: Death | undefined) =>
      Effect.gen(function*() {
        const scope = yield* Scope.make()
        let calls = 0
        const mortal: Client = {
          ...client,
          eval: (script, ...params) =>
            Effect.suspend(() => {
              calls++
              if (death !== undefined && calls > death.calls) return Effect.never
              const call = client.eval(script, ...params)
              if (Object.is(script, flowScripts.receive)) told.push(call)
              if (calls !== death?.calls) return call
              return death.executed ? Effect.zipRight(call, Effect.never) : Effect.never
            })
        }
        const queue = yield* Queue.make.pipe(
          Effect.provideService(RedisClient, mortal),
          Scope.extend(scope)
        )
        return { queue, scope, isDead: () => death !== undefined && calls >= death.calls }
      })

    type Process = Effect.Effect.Success<ReturnType<typeof start>>

    /** It waits for answers, which takes its time. */
    const end = ({ scope }: Process) => Effect.forkDaemon(Scope.close(scope, Exit.void))

    for (const { sha } of [scripts.work, flowScripts.enqueueFlow, flowScripts.readOutbox, flowScripts.receive]) {
      yield* server.inject(Fault.loseReply({ command: sha, probability: 0.1, times: 3, seed }))
    }

    // Producers add one flow after the other, and the next one goes on where the one before has died.
    let next = 0
    for (const death of [...producers, undefined]) {
      const producer = yield* start(death)
      while (next < flows.length && !producer.isDead()) {
        const adding = yield* Effect.fork(
          Effect.tap(producer.queue.enqueueFlow(flowOf(flows[next]!, String(next))), () => Effect.sync(() => next++))
        )
        for (let i = 0; i < 100 && adding.unsafePoll() === null && !producer.isDead(); i++) {
          yield* TestClock.adjust(10)
        }
        if (producer.isDead()) yield* Effect.forkDaemon(adding.interruptAsFork(adding.id()))
      }
      yield* end(producer)
    }
    assert.strictEqual(next, flows.length)

    const handle = (job: Queue.Job<typeof Payload.Type>) =>
      Effect.gen(function*() {
        const { attempt, id, payload } = job
        runs.set(id, (runs.get(id) ?? 0) + 1)
        const sees = (yield* job.children).map((one) =>
          `${one.id} ${one._tag === "Completed" ? "completed" : one.error.reason}`
        )
        const { runs: mayRun, sees: must } = expected.get(id)!
        if (!mayRun) wrong.push(`${id} ran`)
        if (sees.join() !== must.join()) wrong.push(`${id} saw ${sees.join()}, not ${must.join()}`)
        if (payload.fate === "fails") return yield* Queue.unrecoverable("no")
        if (payload.fate === "fails at first" && attempt === 1) return yield* Effect.fail("no")
        return id
      })

    const isDone = Effect.gen(function*() {
      for (const definition of queues) {
        const { outbox } = keysOf(definition.name)
        const { blocked, delayed, ready, running } = yield* Queue.counts(definition)
        if (blocked + delayed + ready + running > 0 || (yield* client.exists(outbox)) === 1) return false
      }
      return true
    })

    for (const death of [...workers, undefined]) {
      const worker = yield* start(death)
      for (const definition of queues) {
        yield* Scope.extend(worker.queue.makeWorker(definition, handle, { concurrency: 2, drain: 0 }), worker.scope)
      }
      for (let i = 0; i < 500 && !worker.isDead() && !(yield* isDone); i++) yield* TestClock.adjust(500)
      yield* end(worker)
      if (worker.isDead()) yield* TestClock.adjust(2 * LEASE)
    }
    assert.isTrue(yield* isDone, "it never came to its end")
    assert.deepStrictEqual(wrong, [])

    // Whatever comes late does nothing.
    yield* server.clearFaults
    const counts = () => Effect.forEach(queues, (definition) => Queue.counts(definition))
    const before = yield* counts()
    for (const again of told) yield* Effect.ignore(again)
    assert.deepStrictEqual(yield* counts(), before)

    for (const [id, { outcome, queue, runs: must }] of expected) {
      assert.strictEqual(runs.has(id), must, id)
      const definition = queues.find(({ name }) => name === queue)!
      const letter = Option.map(yield* Queue.deadLetter(definition, id), ({ reason }) => reason)
      assert.deepStrictEqual(letter, outcome === "completed" ? Option.none() : Option.some(outcome), id)
    }
    for (const definition of queues) yield* Queue.cleanDeadLetters(definition, 0)
    for (const { name } of queues) {
      const { all, marker, meta, stamps } = keysOf(name)
      for (const key of all) {
        if (key === marker || key === meta || key === stamps) continue
        // What their parents were told, when they had been told before, is delivered by whoever works there.
        if (key === keysOf(name).outbox || key === keysOf(name).flows) continue
        assert.strictEqual(yield* client.exists(key), 0, key)
      }
    }
  }).pipe(Logger.withMinimumLogLevel(LogLevel.None))

describe("flows, whoever dies at whatever call", () => {
  it.scoped.prop(
    "come to what a model says",
    { scenario },
    ({ scenario }) => Effect.provide(conforms(scenario), Queue.layerTest),
    { fastCheck: { numRuns: RUNS }, timeout: 60_000 + RUNS * 2000 }
  )
})
