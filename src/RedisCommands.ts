/** stub while compiling */
import type * as Effect from "effect/Effect"
import type * as Stream from "effect/Stream"
import type { Encoding, Reply, RedisArg, Connection } from "./RedisClient.js"
import type { RedisError } from "./RedisError.js"
export interface Commands {}
export interface BlockingCommands {}
export type Run = <A>(
  command: string,
  args: ReadonlyArray<RedisArg>,
  onReply: (reply: any) => Effect.Effect<A, RedisError>,
  options?: { readonly encoding?: Encoding; readonly idempotent?: "read" | "write" }
) => Effect.Effect<A, RedisError>
export declare const make: (run: Run, prefix: string) => Commands
export declare const makeBlocking: (send: Connection["sendBlocking"], executor: Commands, prefix: string) => BlockingCommands
export declare const escapeGlob: (s: string) => string
export declare const asVoid: (command: string) => (reply: Reply) => Effect.Effect<void, RedisError>
export declare const scanWith: (run: Run, command: string, head: ReadonlyArray<RedisArg>, tail: ReadonlyArray<RedisArg>) => Stream.Stream<string, RedisError>
