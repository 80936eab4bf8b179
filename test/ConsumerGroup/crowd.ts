/**
 * Several processes that handle the entries of one stream, while they are killed and their server is restarted.
 */
import {
  Chunk,
  Deferred,
  Effect,
  ExecutionStrategy,
  Exit,
  Fiber,
  Layer,
  Logger,
  LogLevel,
  Random,
  Redacted,
  Schedule,
  Scope,
  Stream
} from "effect"
import * as ConsumerGroup from "../../src/ConsumerGroup/index.js"
import { layer as redis } from "../../src/IoRedis.js"
import * as RedisStream from "../../src/Stream/index.js"
import * as RealServer from "../kit/RealServer.js"
import * as Worker from "../kit/worker.js"
import { BATCH, CONCURRENCY, Group, isPoison, Numbers, type Task } from "./task.js"

export interface Options {
  readonly entries: number
  readonly processes: number
  /** In milliseconds: how often one of them is killed, how long a handler takes, and how long it takes to append. */
  readonly killEvery: number
  readonly work: number
  readonly appendFor: number
  readonly restarts: number
}

export interface Report {
  /** How many entries are in the stream. */
  readonly entries: number
  /** Entries that nobody has handled though they should be. */
  readonly lost: number
  /** How often entries were handled again. */
  readonly duplicates: number
  /** As often as that can be: what a killed process, or one whose server was restarted, had not acknowledged. */
  readonly mostDuplicates: number
  readonly kills: number
  readonly restarts: number
  readonly poison: number
  readonly deadLetters: number
  /** Dead letters of entries that have one already, or of such that can be handled. */
  readonly wrongDeadLetters: number
  readonly pending: number
  readonly seconds: number
}

const patient = <A, E, R>(effect: Effect.Effect<A, E, R>) =>
  Effect.orDie(Effect.retry(effect, Schedule.intersect(Schedule.spaced("100 millis"), Schedule.recurs(300))))

export const soak = (options: Options) =>
  Effect.gen(function*() {
    const started = performance.now()
    const server = yield* RealServer.start({ appendonly: true })
    const scope = yield* Effect.scope
    const services = yield* Layer.build(
      Layer.provideMerge(
        Layer.mergeAll(RedisStream.layer, ConsumerGroup.layer),
        redis({ url: Redacted.make(server.url), commandTimeout: "3 seconds" })
      )
    )
    return yield* Effect.gen(function*() {
      const handled = new Map<string, number>()
      let kills = 0
      let restarts = 0
      let names = 0

      interface Running {
        readonly kill: Effect.Effect<void>
      }
      /** Those that work, and not those that are only starting. */
      const working = new Set<Running>()

      const open = Effect.gen(function*() {
        const own = yield* Scope.fork(scope, ExecutionStrategy.sequential)
        const task: Task = { url: server.url, consumer: `worker-${names++}`, work: options.work }
        const worker = yield* Scope.extend(Worker.start(new URL("worker.ts", import.meta.url), task), own)
        const ready = yield* Deferred.make<void>()
        const listening = yield* Effect.forkDaemon(Stream.runForEach(worker.messages, (message) =>
          Effect.suspend(() => {
            if (!Array.isArray(message)) return Deferred.succeed(ready, undefined)
            handled.set(message[0], (handled.get(message[0]) ?? 0) + 1)
            return Effect.void
          })))
        yield* Deferred.await(ready)
        const running: Running = {
          // What it said is heard, also what it said last.
          kill: Effect.sync(() => {
            working.delete(running)
            worker.child.kill("SIGKILL")
          }).pipe(
            Effect.zipRight(worker.exit),
            Effect.zipRight(Fiber.await(listening)),
            Effect.zipRight(Scope.close(own, Exit.void))
          )
        }
        working.add(running)
      })

      yield* Effect.all(Array.from({ length: options.processes }, () => open), { concurrency: "unbounded" })

      const killing = Effect.gen(function*() {
        yield* Effect.sleep(options.killEvery)
        const victim = Array.from(working)[yield* Random.nextIntBetween(0, options.processes)]
        if (victim === undefined || working.size === 1) return
        yield* victim.kill
        kills++
        yield* Effect.forkDaemon(open)
      })

      const appending = Effect.gen(function*() {
        const batch = Math.max(10, Math.ceil(options.entries / 200))
        const pause = options.appendFor / (options.entries / batch)
        let n = 0
        while (true) {
          const length = yield* patient(RedisStream.length(Numbers))
          if (length >= options.entries) return
          const values = Array.from({ length: Math.min(batch, options.entries - length) }, () => ({ n: n++ }))
          // What became of a batch without an answer tells the length.
          yield* Effect.ignore(RedisStream.appendAll(Numbers, values))
          yield* Effect.sleep(pause)
        }
      })

      const restarting = Effect.gen(function*() {
        for (let i = 1; i <= options.restarts; i++) {
          const goal = options.entries * i / (options.restarts + 1)
          while (handled.size < goal) yield* Effect.sleep("50 millis")
          yield* server.kill
          yield* server.restart
          restarts++
        }
      })

      const done = Effect.gen(function*() {
        const summary = yield* patient(ConsumerGroup.pending(Group))
        const [group] = yield* patient(RedisStream.groups(Numbers))
        const last = yield* patient(RedisStream.lastId(Numbers))
        return summary.total === 0 && group?.lastDeliveredId === last
      })

      const killer = yield* Effect.fork(Effect.forever(killing))
      yield* Effect.all([appending, restarting], { concurrency: "unbounded", discard: true })
      // To the end somebody dies now and then.
      yield* Effect.sleep("50 millis").pipe(Effect.repeat({ until: () => kills >= 2 }))
      while (!(yield* done)) yield* Effect.sleep("100 millis")
      yield* Fiber.interrupt(killer)
      while (!(yield* done)) yield* Effect.sleep("100 millis")
      yield* Effect.forEach(working, ({ kill }) => kill, { discard: true, concurrency: "unbounded" })

      const all = Chunk.toReadonlyArray(
        yield* patient(Stream.runCollect(RedisStream.entries(Numbers, { count: 1000 })))
      )
      const service = yield* ConsumerGroup.ConsumerGroup
      const letters = Chunk.toReadonlyArray(yield* patient(Stream.runCollect(service.allDeadLetters(Group))))
      const poison = new Set(all.flatMap((each) => each._tag === "Entry" && isPoison(each.value.n) ? [each.id] : []))
      const buried = new Set(letters.map(({ originalId }) => originalId))
      const times = Array.from(handled.values())
      const report: Report = {
        entries: all.length,
        lost: all.filter(({ id }) => !poison.has(id) && !handled.has(id)).length +
          Array.from(poison).filter((id) => !buried.has(id)).length,
        duplicates: times.reduce((sum, n) => sum + n - 1, 0),
        mostDuplicates: (kills + restarts * options.processes) * (CONCURRENCY + 3 * BATCH),
        kills,
        restarts,
        poison: poison.size,
        deadLetters: letters.length,
        wrongDeadLetters: letters.length - Array.from(buried).filter((id) => poison.has(id)).length,
        pending: (yield* patient(ConsumerGroup.pending(Group))).total,
        seconds: (performance.now() - started) / 1000
      }
      return report
    }).pipe(Effect.provide(services))
  }).pipe(Effect.scoped, Logger.withMinimumLogLevel(LogLevel.None))
