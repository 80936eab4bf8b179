/**
 * A process that fights for one lock, for the tests that need several. It says what happens in lines of JSON, and ends
 * by itself when nothing is left that could run.
 */
import { Effect, Either, Fiber, Logger, LogLevel, Redacted, Stream } from "effect"
import { createInterface } from "node:readline"
import { layer as redis } from "../../src/IoRedis.js"
import * as Lock from "../../src/Lock/index.js"
import { RedisClient } from "../../src/RedisClient.js"
import * as RedisScript from "../../src/RedisScript.js"

interface Task {
  readonly url: string
  readonly kind: "crowd" | "holder"
  readonly name: string
  readonly fibers: number
  readonly rounds: number
}

const task: Task = JSON.parse(process.argv[2] ?? "{}")

const say = (message: object) => Effect.sync(() => void process.stdout.write(`${JSON.stringify(message)}\n`))

/** Adds a token to the log of writes, unless a newer one has written. */
export const write = RedisScript.make({
  name: "write",
  lua: `${Lock.fenceLua}
    if not fence(KEYS[1], 'fence', ARGV[1]) then return 0 end
    redis.call('RPUSH', KEYS[2], ARGV[1] .. ' ' .. ARGV[2])
    return 1`,
  params: (name: string, token: number, who: string) => ({
    keys: [`{${name}}:state`, `{${name}}:log`],
    args: [token, who]
  }),
  result: RedisScript.boolean
})

/** Two writes with a moment between them, in which everything can go wrong. */
const turn = (who: string) =>
  Effect.scoped(Effect.gen(function*() {
    const client = yield* RedisClient
    const held = yield* Lock.acquire(task.name, { lease: "1 second", waitTimeout: "1 minute" })
    return yield* held.protect(Effect.gen(function*() {
      const first = yield* client.eval(write, task.name, held.fencingToken, who)
      yield* Effect.sleep("1 millis")
      const second = yield* client.eval(write, task.name, held.fencingToken, who)
      return first && second
    }))
  }))

const crowd = Effect.gen(function*() {
  const results = yield* Effect.forEach(
    Array.from({ length: task.fibers }, (_, i) => `${process.pid}/${i}`),
    (who) =>
      Effect.gen(function*() {
        const outcomes: Record<string, number> = {}
        for (let round = 0; round < task.rounds; round++) {
          const result = yield* Effect.either(turn(who))
          const outcome = Either.isRight(result) ? (result.right ? "served" : "fenced off") : result.left._tag
          outcomes[outcome] = (outcomes[outcome] ?? 0) + 1
        }
        return outcomes
      }),
    { concurrency: "unbounded" }
  )
  const total: Record<string, number> = {}
  for (const outcomes of results) {
    for (const [outcome, n] of Object.entries(outcomes)) total[outcome] = (total[outcome] ?? 0) + n
  }
  yield* say({ outcomes: total })
})

const lines = Stream.fromAsyncIterable(createInterface({ input: process.stdin }), String)

/** Takes the lock, waits for a line, and then does everything that a late holder might. */
const holder = Effect.scoped(Effect.gen(function*() {
  const client = yield* RedisClient
  const lock = yield* Lock.Lock
  const held = yield* Lock.acquire(task.name, { lease: "1 second" })
  const lost = yield* Effect.fork(Effect.flip(held.lost))
  yield* say({ held: held.fencingToken })
  yield* Stream.runHead(lines)
  const isHeld = yield* held.isHeld
  const extended = yield* Effect.either(held.extend("1 minute"))
  const written = yield* client.eval(write, task.name, held.fencingToken, "late")
  const fenced = yield* Effect.either(lock.fencedSet(`${task.name}:value`, "late", held.fencingToken))
  const released = yield* held.release
  yield* say({
    isHeld,
    extended: Either.isRight(extended) ? "extended" : extended.left._tag,
    written,
    fenced: Either.isRight(fenced) ? "written" : fenced.left._tag,
    released,
    lost: (yield* Fiber.join(lost))._tag
  })
}))

await Effect.runPromise(
  (task.kind === "crowd" ? crowd : holder).pipe(
    Effect.provide(Lock.layer),
    Effect.provide(redis({ url: Redacted.make(task.url), commandTimeout: "2 seconds" })),
    // What is lost is what this is about, and the lines of the output are for the test.
    Logger.withMinimumLogLevel(LogLevel.None)
  )
)
process.stdin.destroy()
