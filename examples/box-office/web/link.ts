/**
 * Whether this process has its Redis, for the pages that it serves.
 */
import { Duration, Effect, Option, Stream, SubscriptionRef } from "effect"
import { RedisClient } from "effect-redis-kit"

export interface Link {
  readonly up: boolean
  /** How long an answer takes, in milliseconds. */
  readonly latency: number
  readonly version: string
  readonly mode: string
  readonly clients: number
  readonly memory: string
}

const linkOf = ({ healthy, responseTime, server }: RedisClient.Health): Link => ({
  up: healthy,
  latency: Math.round(Duration.toMillis(responseTime) * 10) / 10,
  version: Option.match(server, { onNone: () => "", onSome: ({ version }) => version }),
  mode: Option.match(server, { onNone: () => "", onSome: ({ mode }) => mode }),
  clients: Option.match(server, { onNone: () => 0, onSome: ({ connectedClients }) => connectedClients }),
  memory: Option.match(server, { onNone: () => "", onSome: ({ usedMemoryHuman }) => usedMemoryHuman })
})

const DOWN: Link = { up: false, latency: 0, version: "", mode: "", clients: 0, memory: "" }

/**
 * A lost connection is known at once. A server that has fallen silent is found by asking it now and then.
 */
export const watchRedis = Effect.gen(function*() {
  const redis = yield* RedisClient.RedisClient
  const link = yield* SubscriptionRef.make(linkOf(yield* redis.health))
  const changes = Stream.mapEffect(
    redis.state,
    ({ status }) => status === "connected" ? Effect.map(redis.health, linkOf) : Effect.succeed(DOWN)
  )
  yield* Stream.merge(changes, Stream.map(redis.healthChanges("2 seconds"), linkOf)).pipe(
    Stream.runForEach((now) => SubscriptionRef.set(link, now)),
    Effect.forkScoped
  )
  return link
})
