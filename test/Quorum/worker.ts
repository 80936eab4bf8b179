/**
 * A process that fights for one lock over several servers, for the tests that need several. It says what happened in a
 * line of JSON, and ends by itself when nothing is left that could run.
 */
import { Context, Effect, Either, Layer, Logger, LogLevel, Redacted } from "effect"
import { layer as redis } from "../../src/IoRedis.js"
import { fenceLua } from "../../src/Lock/index.js"
import * as Quorum from "../../src/Quorum/index.js"
import { RedisClient } from "../../src/RedisClient.js"
import * as RedisScript from "../../src/RedisScript.js"

interface Task {
  readonly urls: readonly [string, ...Array<string>]
  /** Of the server that holds what the lock protects. */
  readonly resource: string
  readonly name: string
  readonly fibers: number
  readonly rounds: number
}

const task: Task = JSON.parse(process.argv[2] ?? "{}")

/** Adds a token to the log of writes, unless a newer one has written. */
const write = RedisScript.make({
  name: "write",
  lua: `${fenceLua}
    if not fence(KEYS[1], 'fence', ARGV[1]) then return 0 end
    redis.call('RPUSH', KEYS[2], ARGV[1] .. ' ' .. ARGV[2])
    return 1`,
  params: (name: string, token: number, who: string) => ({
    keys: [`{${name}}:state`, `{${name}}:log`],
    args: [token, who]
  }),
  result: RedisScript.boolean
})

const client = (url: string) => redis({ url: Redacted.make(url), commandTimeout: "1 second" })

const program = Effect.gen(function*() {
  const resource = Context.get(yield* Layer.build(client(task.resource)), RedisClient)
  /** Two writes with a moment between them, in which everything can go wrong. */
  const turn = (who: string) =>
    Effect.scoped(Effect.gen(function*() {
      const held = yield* Quorum.acquire(task.name, { lease: "3 seconds", waitTimeout: "1 minute" })
      return yield* held.protect(Effect.gen(function*() {
        const first = yield* resource.eval(write, task.name, held.fencingToken, who)
        yield* Effect.sleep("1 millis")
        return first && (yield* resource.eval(write, task.name, held.fencingToken, who))
      }))
    }))
  const outcomes: Record<string, number> = {}
  yield* Effect.forEach(
    Array.from({ length: task.fibers }, (_, i) => `${process.pid}/${i}`),
    (who) =>
      Effect.replicateEffect(
        Effect.map(Effect.either(turn(who)), (result) => {
          const outcome = Either.isRight(result) ? (result.right ? "served" : "fenced off") : result.left._tag
          outcomes[outcome] = (outcomes[outcome] ?? 0) + 1
        }),
        task.rounds,
        { discard: true }
      ),
    { concurrency: "unbounded", discard: true }
  )
  process.stdout.write(`${JSON.stringify(outcomes)}\n`)
})

const [first, ...others] = task.urls

await Effect.runPromise(
  Effect.scoped(program).pipe(
    Effect.provide(Quorum.layer([client(first), ...others.map(client)])),
    // What is lost is what this is about, and the lines of the output are for the test.
    Logger.withMinimumLogLevel(LogLevel.None)
  )
)
