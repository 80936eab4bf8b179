import * as Effect from "effect/Effect"
import type { Run } from "../../RedisCommands.js"
import type { RedisError } from "../../RedisError.js"
import type { Args } from "./args.js"
import { isBad } from "./args.js"
import type { Decoder } from "./decode.js"

/**
 * What the commands of one data type are made of. `read` is for commands that change nothing: the client may send them
 * again.
 *
 * @internal
 */
export interface Env {
  readonly run: Run
  readonly prefix: string
  readonly key: (name: string) => string
  readonly read: <A>(command: string, args: Args, decoder: Decoder<A>) => Effect.Effect<A, RedisError>
  readonly write: <A>(command: string, args: Args, decoder: Decoder<A>) => Effect.Effect<A, RedisError>
}

/** @internal */
export const readOnly = { idempotent: "read" } as const

/** @internal */
export const makeEnv = (run: Run, prefix: string): Env => ({
  run,
  prefix,
  key: (name) => prefix + name,
  read: (command, args, decoder) => isBad(args) ? Effect.fail(args) : run(command, args, decoder(command), readOnly),
  write: (command, args, decoder) => isBad(args) ? Effect.fail(args) : run(command, args, decoder(command))
})
