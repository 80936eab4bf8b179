/**
 * Many who wait for jobs that succeed, fail, are removed, or lose their workers: processes are killed all the time. Every
 * wait has to end, and as its job did.
 */
import { Clock, Context, Effect, Exit, Fiber, Layer, Random, Redacted, Schedule } from "effect"
import { layer as redis } from "../../src/IoRedis.js"
import * as Queue from "../../src/Queue/index.js"
import { keysOf } from "../../src/Queue/keys.js"
import { RedisClient } from "../../src/RedisClient.js"
import * as RealServer from "../kit/RealServer.js"
import * as Worker from "../kit/worker.js"
import { type Fate, fateOf, jobs, optionsOf, type Task } from "./awaitsJobs.js"

export interface Options {
  readonly jobs: number
  readonly processes: number
  /** Milliseconds between two kills. */
  readonly killEvery: number
  readonly lease: number
  /** How many jobs kill whoever takes them. */
  readonly killers: number
  /** Over how many milliseconds waits begin. */
  readonly spread: number
  readonly say: (text: string) => Effect.Effect<void>
}

export interface Report {
  readonly ends: Readonly<Record<string, number>>
  readonly kills: number
  /** Waits that ended otherwise than their jobs. */
  readonly problems: ReadonlyArray<string>
  /** The most subscriptions there were at once. */
  readonly subscriptions: number
  readonly millis: number
}

/** Whoever loses the worker of the last attempt is told that. */
const expected: Readonly<Record<Fate, ReadonlyArray<string>>> = {
  succeeds: ["succeeded"],
  fails: ["exhausted", "lease-expired"],
  unrecoverable: ["unrecoverable"],
  removed: ["JobNotFound"],
  kills: ["lease-expired"]
}

const endOf = (n: number, exit: Exit.Exit<number, Queue.AwaitError>): string =>
  Exit.match(exit, {
    onSuccess: (value) => value === n ? "succeeded" : `gave ${value}`,
    onFailure: (cause) =>
      cause._tag !== "Fail" ? cause._tag : cause.error._tag === "JobFailed" ? cause.error.reason : cause.error._tag
  })

export const run = (options: Options) =>
  Effect.gen(function*() {
    const server = yield* RealServer.start()
    const queue = jobs(options.lease)
    const task: Task = { url: server.url, lease: options.lease }
    const services = yield* Layer.build(
      Layer.provideMerge(Queue.layer, redis({ url: Redacted.make(server.url), commandTimeout: "20 seconds" }))
    )
    const client = Context.get(services, RedisClient)
    const started = yield* Clock.currentTimeMillis
    let kills = 0
    let subscriptions = 0

    /** A process that is started again when it dies, and killed now and then. */
    const process = Effect.scoped(Effect.gen(function*() {
      const worker = yield* Worker.start(new URL("awaitsWorker.ts", import.meta.url), task)
      yield* Worker.first(worker.messages)
      const [low, high] = [options.killEvery * 0.5, options.killEvery * 1.5]
      yield* Effect.race(worker.exit, Effect.sleep(yield* Random.nextIntBetween(low, high)))
      worker.child.kill("SIGKILL")
      kills++
    }))
    for (let i = 0; i < options.processes; i++) yield* Effect.forkScoped(Effect.forever(process))

    yield* Effect.forkScoped(
      client.send("PUBSUB", "NUMSUB", keysOf(queue.name).done).pipe(
        Effect.map((reply) => {
          subscriptions = Math.max(subscriptions, Number(Array.isArray(reply) ? reply[1] : 0))
        }),
        Effect.repeat(Schedule.spaced("50 millis"))
      )
    )

    const numbers = Array.from({ length: options.jobs }, (_, n) => n)
    yield* Effect.forEach(
      Array.from({ length: Math.ceil(options.jobs / 1000) }, (_, i) => numbers.slice(i * 1000, (i + 1) * 1000)),
      (some) =>
        Queue.enqueueAll(
          queue,
          some.map((n) => {
            const fate = fateOf(n, options.killers)
            return { ...optionsOf(n, fate), payload: { n, fate } }
          })
        )
    ).pipe(Effect.provide(services))
    yield* options.say(`${options.jobs} jobs are there`)

    let ended = 0
    const waits = yield* Effect.forEach(numbers, (n) =>
      Effect.gen(function*() {
        yield* Effect.sleep(yield* Random.nextIntBetween(0, options.spread))
        const exit = yield* Effect.exit(Queue.awaitResult(queue, `job-${n}`, { timeout: "10 minutes" }))
        ended++
        return exit
      }).pipe(Effect.provide(services), Effect.fork))
    // Some are removed before anybody waits for them, and some after that.
    yield* Effect.forkScoped(
      Effect.forEach(numbers.filter((n) => fateOf(n, options.killers) === "removed"), (n) =>
        Effect.zipRight(
          Effect.sleep(Math.ceil(options.spread * 1.5 * n / options.jobs)),
          Queue.remove(queue, `job-${n}`)
        ), { concurrency: "unbounded", discard: true }).pipe(Effect.provide(services))
    )
    yield* Effect.forkScoped(
      Effect.repeat(Effect.suspend(() => options.say(`${ended} waits have ended`)), Schedule.spaced("5 seconds"))
    )

    const problems: Array<string> = []
    const ends: Record<string, number> = {}
    for (const n of numbers) {
      const end = endOf(n, yield* Fiber.join(waits[n]!))
      ends[end] = (ends[end] ?? 0) + 1
      const fate = fateOf(n, options.killers)
      if (!expected[fate].includes(end)) problems.push(`job ${n} ${fate}, and its wait ended with ${end}`)
    }
    const report: Report = {
      ends,
      kills,
      problems,
      subscriptions,
      millis: (yield* Clock.currentTimeMillis) - started
    }
    return report
  })
