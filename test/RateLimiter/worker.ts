/**
 * A process that uses rate limits as fast as it can, and says what it was allowed in a line of JSON. Its clock may be
 * wrong.
 */
import { Clock, Effect, Redacted } from "effect"
import { once } from "node:events"
import { layer as redis } from "../../src/IoRedis.js"
import * as RateLimiter from "../../src/RateLimiter/index.js"
import type { Task } from "./task.js"

const task: Task = JSON.parse(process.argv[2] ?? "{}")

// Whatever asks for the time gets a wrong one, Effect's clock as well.
const RealDate = Date
globalThis.Date = new Proxy(RealDate, {
  construct: (target, args) => Reflect.construct(target, args.length === 0 ? [RealDate.now() + task.ahead] : args),
  get: (target, name) => name === "now" ? () => RealDate.now() + task.ahead : Reflect.get(target, name)
})

const say = (message: object) => Effect.sync(() => void process.stdout.write(`${JSON.stringify(message)}\n`))

const howManyAllowed = <E, R>(one: Effect.Effect<RateLimiter.Decision, E, R>) =>
  Effect.map(
    Effect.forEach(Array.from({ length: task.times }), () => one, { concurrency: 50 }),
    (decisions) => decisions.filter(({ allowed }) => allowed).length
  )

const work = Effect.gen(function*() {
  // The connection is there before all of them begin together.
  yield* RateLimiter.check(task.policies[0]!, "warm")
  yield* say({ ready: true })
  yield* Effect.promise(() => once(process.stdin, "data"))
  const allowed = yield* Effect.forEach(
    task.policies,
    (policy) => howManyAllowed(RateLimiter.consume(policy, task.id, { cost: policy.limit / 10 })),
    { concurrency: "unbounded" }
  )
  const together = yield* howManyAllowed(
    RateLimiter.consumeAll(
      task.policies.map((policy, i) => ({ policy, id: `${task.id}-${i}`, cost: policy.limit / 10 }))
    )
  )
  yield* say({ date: yield* Clock.currentTimeMillis, allowed, together })
})

await Effect.runPromise(
  work.pipe(
    Effect.provide(RateLimiter.layer),
    Effect.provide(redis(
      "url" in task.options
        ? { url: Redacted.make(task.options.url) }
        : { clusterNodes: task.options.nodes.map(({ host, port }) => ({ host, port })) }
    ))
  )
)
process.exit(0)
