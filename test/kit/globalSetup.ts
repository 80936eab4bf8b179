/**
 * One server for the whole run.
 */
import { Effect, Exit, Scope } from "effect"
import type { TestProject } from "vitest/node"
import * as RealServer from "./RealServer.js"

declare module "vitest" {
  export interface ProvidedContext {
    readonly redisUrl: string
  }
}

export default async function setup(project: TestProject): Promise<() => Promise<void>> {
  const scope = Effect.runSync(Scope.make())
  const close = () => Effect.runPromise(Scope.close(scope, Exit.void))
  const server = await RealServer.find().pipe(
    Effect.flatMap((source) => RealServer.open(source)),
    Scope.extend(scope),
    Effect.tapErrorCause(() => Scope.close(scope, Exit.void)),
    Effect.runPromise
  )
  const how = { Url: "of REDIS_URL", Program: "started for this run", Container: "in a container" }[server.kind]
  process.stdout.write(`Tests run against ${server.version}, ${how} (${server.host}:${server.port})\n`)
  project.provide("redisUrl", server.url)
  return close
}
