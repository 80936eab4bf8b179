/**
 * A Redis server in memory, for unit tests: the very same services, keys, scripts and errors, on Effect's clock.
 *
 * @since 0.1.0
 */
import * as Context from "effect/Context"
import type * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Layer from "effect/Layer"
import type * as Scope from "effect/Scope"
import type { RedisClient, Service as ClientService } from "./RedisClient.js"

/**
 * Something that goes wrong with the next commands that match. `command` is the name of a command, or the SHA of a
 * script (`script.sha`) however it is called; any command matches when it is left out. Commands inside of a script do
 * not match. `times` is how often, 1 by default.
 *
 * - `"fail-before-send"`: the connection is found broken before anything is sent: `RedisConnectionError`
 * - `"lose-reply"`: the command is executed and its reply lost: `RedisOutcomeUnknownError`
 * - `"reply"`: the server answers with this error instead of executing, as `"LOADING Redis is loading …"`
 * - `"delay"`: the command is executed after this time, and so is what the same connection sends behind it
 *
 * @since 0.1.0
 * @category models
 */
export type Fault =
  & (
    | { readonly _tag: "fail-before-send" }
    | { readonly _tag: "lose-reply" }
    | { readonly _tag: "reply"; readonly error: string }
    | { readonly _tag: "delay"; readonly duration: Duration.DurationInput }
  )
  & { readonly command?: string | undefined; readonly times?: number | undefined }

/**
 * @since 0.1.0
 * @category models
 */
export interface Service {
  /** One more client of the same server, as another process would have; closed with the scope. */
  readonly client: (
    options?: { readonly keyPrefix?: string | undefined; readonly commandTimeout?: Duration.DurationInput | undefined }
  ) => Effect.Effect<ClientService, never, Scope.Scope>
  /** Removes all keys, scripts and faults. Connections and subscriptions stay. */
  readonly flush: Effect.Effect<void>
  /** Every key with its type, its remaining life in milliseconds (-1 without) and the number of its elements. */
  readonly keys: Effect.Effect<
    ReadonlyArray<{ readonly key: string; readonly type: string; readonly ttl: number; readonly size: number }>
  >
  /** The commands that were executed since the server was made, newest last; at most the last 10,000. */
  readonly journal: Effect.Effect<ReadonlyArray<{ readonly client: number; readonly args: ReadonlyArray<string> }>>
  /** Makes the next matching commands go wrong, of every client. */
  readonly inject: (fault: Fault) => Effect.Effect<void>
  /** Cuts every connection; clients come back by themselves after `downtime` (at once by default). */
  readonly disconnect: (options?: { readonly downtime?: Duration.DurationInput | undefined }) => Effect.Effect<void>
  /** How many replicas acknowledge each write, as far as `WAIT` can tell; none at first. */
  readonly replicas: (count: number) => Effect.Effect<void>
  /** The channels and patterns that anybody is subscribed to. */
  readonly subscriptions: Effect.Effect<ReadonlyArray<string>>
  /** How many connections there are. */
  readonly connections: Effect.Effect<number>
}

/**
 * The server behind `RedisTest` and every `layerTest`.
 *
 * @since 0.1.0
 * @category tags
 */
export class RedisTestServer extends Context.Tag("effect-redis-kit/RedisTestServer")<RedisTestServer, Service>() {}

/**
 * A server in memory and one client of it. It is a constant, so that layers that are built together share one server;
 * two separate `Effect.provide` get two servers. The server is loaded when the layer is built, and not before.
 *
 * @since 0.1.0
 * @category layers
 */
export const layer: Layer.Layer<RedisClient | RedisTestServer> = Layer.unwrapEffect(
  Effect.map(Effect.promise(() => import("./memory/MemoryServer.js")), (module) => module.layer)
)
