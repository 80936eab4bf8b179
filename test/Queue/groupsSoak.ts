/**
 * `npm run test:soak:groups`: a thousand groups on both drivers, see `groupsRun.ts`. It ends with 1 when anything is not as
 * it must be.
 */
import { Console, Effect, Layer, Redacted } from "effect"
import * as IoRedis from "../../src/IoRedis.js"
import * as Queue from "../../src/Queue/index.js"
import * as RealServer from "../kit/RealServer.js"
import { run } from "./groupsRun.js"

const options = {
  name: "soak",
  groups: 1000,
  large: 20,
  skew: 1000,
  concurrency: 3,
  workers: 8,
  vanish: 40
}

const judged = (driver: string) =>
  Effect.gen(function*() {
    const { claims, most, problems, slowest, vanished } = yield* run(options)
    yield* Console.log(
      `${driver}: ${claims} claims of ${options.groups} groups, ${vanished} workers vanished; the slowest group waited for `
        + `${slowest} claims; ${most} jobs of a group ran at once`
    )
    for (const problem of problems.slice(0, 20)) yield* Console.log(`WRONG: ${problem}`)
    if (problems.length > 0) process.exitCode = 1
  })

const program = Effect.gen(function*() {
  yield* Effect.provide(judged("in memory"), Queue.layerTest)
  const server = yield* RealServer.start()
  yield* judged("live").pipe(
    Effect.provide(Layer.provideMerge(Queue.layer, IoRedis.layer({ url: Redacted.make(server.url) })))
  )
})

await Effect.runPromise(Effect.scoped(program))
