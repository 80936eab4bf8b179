/**
 * A process that fights for the permits of a semaphore or for a read-write lock, and says what became of it in a line of
 * JSON. Its clock may be wrong.
 */
import { Clock, Effect, Either, Layer, Logger, LogLevel, Option, Random, Redacted } from "effect"
import { layer as redis } from "../../src/IoRedis.js"
import * as ReadWriteLock from "../../src/ReadWriteLock/index.js"
import { RedisClient } from "../../src/RedisClient.js"
import * as RedisScript from "../../src/RedisScript.js"
import * as Semaphore from "../../src/Semaphore/index.js"
import { type Task, WRITER } from "./permitTask.js"

const task: Task = JSON.parse(process.argv[2] ?? "{}")

// Whatever asks for the time gets a wrong one, Effect's clock as well.
const RealDate = Date
globalThis.Date = new Proxy(RealDate, {
  construct: (target, args) => Reflect.construct(target, args.length === 0 ? [RealDate.now() + task.ahead] : args),
  get: (target, name) => name === "now" ? () => RealDate.now() + task.ahead : Reflect.get(target, name)
})

const keys = [`{${task.name}}:inside`, `{${task.name}}:most`, `{${task.name}}:tokens`]

/**
 * Notes who is inside and how many they are together; keeps the most there ever were, also of those without a writer, and
 * the tokens of writers.
 */
const enter = RedisScript.make({
  name: "enter",
  idempotent: true,
  lua: `
    redis.call("HSET", KEYS[1], ARGV[1], ARGV[2])
    local sum = 0
    for _, n in ipairs(redis.call("HVALS", KEYS[1])) do sum = sum + n end
    for _, field in ipairs(sum < ${WRITER} and { "sum", "readers" } or { "sum" }) do
      local most = tonumber(redis.call("HGET", KEYS[2], field) or 0)
      if sum > most then redis.call("HSET", KEYS[2], field, sum) end
    end
    if ARGV[3] ~= "" then redis.call("RPUSH", KEYS[3], ARGV[3]) end
    return sum`,
  params: (who: string, n: number, token: number | undefined) => ({ keys, args: [who, n, token ?? ""] }),
  result: RedisScript.number
})

const say = (message: object) => Effect.sync(() => void process.stdout.write(`${JSON.stringify(message)}\n`))

/** What is done inside, with the steps noted on the server. */
const inside = (who: string, n: number, token?: number) =>
  Effect.flatMap(RedisClient, (client) =>
    Effect.acquireUseRelease(
      client.eval(enter, who, n, token),
      () => Effect.flatMap(Random.nextIntBetween(1, 5), Effect.sleep),
      () => Effect.ignore(Effect.retry(client.send("HDEL", client.key(keys[0]!), who), { times: 20 }))
    ))

const settings = { lease: "4 seconds", waitTimeout: "1 minute" } as const

const take = (who: string) =>
  Effect.gen(function*() {
    const n = yield* Random.nextIntBetween(1, 5)
    const fair = yield* Random.nextBoolean
    if (task.kind === "semaphore") {
      return yield* inside(who, n).pipe(Semaphore.withPermits(task, n, { ...settings, fair }))
    }
    // A fifth writes, and half of those go on as readers.
    if (yield* Random.nextBoolean) {
      if (n > 1) return yield* inside(who, 1).pipe(ReadWriteLock.withReadLock(task.name, settings))
      const token = Effect.map(ReadWriteLock.fencingToken(task.name), Option.getOrThrow)
      return yield* Effect.flatMap(token, (token) => inside(who, WRITER, token)).pipe(
        ReadWriteLock.withWriteLock(task.name, settings)
      )
    }
    if (n > 1) return yield* inside(who, 1).pipe(ReadWriteLock.withReadLock(task.name, settings))
    const client = yield* RedisClient
    return yield* Effect.scoped(Effect.gen(function*() {
      const held = yield* ReadWriteLock.acquireWrite(task.name, settings)
      yield* held.protect(Effect.acquireUseRelease(
        client.eval(enter, who, WRITER, held.fencingToken),
        () =>
          Effect.gen(function*() {
            yield* Effect.sleep("1 millis")
            // From here on readers may come in, and still no writer.
            yield* client.eval(enter, who, 1, undefined)
            yield* held.downgrade
            yield* Effect.sleep("2 millis")
          }),
        () => Effect.ignore(Effect.retry(client.send("HDEL", client.key(keys[0]!), who), { times: 20 }))
      ))
    }))
  })

const crowd = Effect.gen(function*() {
  yield* say({ ready: true, date: Date.now(), clock: yield* Clock.currentTimeMillis })
  const outcomes: Record<string, number> = {}
  yield* Effect.forEach(
    Array.from({ length: task.fibers }, (_, i) => `${process.pid}/${i}`),
    (who) =>
      Effect.repeatN(
        Effect.map(Effect.either(take(who)), (result) => {
          const outcome = Either.isRight(result) ? "served" : result.left._tag
          outcomes[outcome] = (outcomes[outcome] ?? 0) + 1
        }),
        task.rounds - 1
      ),
    { concurrency: "unbounded", discard: true }
  )
  yield* say({ outcomes })
})

await Effect.runPromise(
  crowd.pipe(
    Effect.provide(Layer.merge(Semaphore.layer, ReadWriteLock.layer)),
    Effect.provide(redis({ url: Redacted.make(task.url), commandTimeout: "3 seconds" })),
    Logger.withMinimumLogLevel(LogLevel.None)
  )
)
