/**
 * Several processes on one server in memory.
 */
import { Effect, Exit, Scope } from "effect"
import { RedisClient } from "../../src/RedisClient.js"
import { RedisTestServer } from "../../src/RedisTestServer.js"

/** What a process of its own has: a client, and a service on it. `die` ends both, and gives nothing back. */
export const inMemory = <A, E>(make: Effect.Effect<A, E, RedisClient | Scope.Scope>) =>
  Effect.gen(function*() {
    const server = yield* RedisTestServer
    const scope = yield* Scope.make()
    const client = yield* Scope.extend(server.client(), scope)
    const service = yield* make.pipe(Effect.provideService(RedisClient, client), Scope.extend(scope))
    return { service, die: Scope.close(scope, Exit.void) }
  })
