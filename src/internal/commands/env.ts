import * as Effect from "effect/Effect"
import * as Either from "effect/Either"
import type { RedisArg } from "../../RedisClient.js"
import type { Nodes, Run } from "../../RedisCommands.js"
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
  /**
   * A command whose arguments are groups of `width`, each beginning with a key. On a Cluster it is sent for each slot
   * apart; `merge` gets what came of each part, with the indexes of its groups.
   */
  readonly split: <A>(
    kind: "read" | "write",
    command: string,
    args: Args,
    width: number,
    decoder: Decoder<A>,
    merge: (parts: ReadonlyArray<readonly [result: A, indexes: ReadonlyArray<number>]>) => A
  ) => Effect.Effect<A, RedisError>
  /** A command about a whole server, which on a Cluster goes to every master. */
  readonly everywhere: <A>(
    kind: "read" | "write",
    command: string,
    args: Args,
    decoder: Decoder<A>,
    merge: (results: ReadonlyArray<A>) => A
  ) => Effect.Effect<A, RedisError>
}

/** @internal */
export const readOnly = { idempotent: "read" } as const

/** A failure that says that nothing was executed says nothing about the other parts. */
const combine = <A>(
  nodes: Nodes,
  kind: "read" | "write",
  command: string,
  parts: ReadonlyArray<Effect.Effect<A, RedisError>>
): Effect.Effect<ReadonlyArray<A>, RedisError> =>
  kind === "read"
    ? Effect.all(parts, { concurrency: "unbounded" })
    : Effect.flatMap(Effect.all(parts.map(Effect.either), { concurrency: "unbounded" }), (results) => {
      const failures: Array<RedisError> = []
      const successes: Array<A> = []
      for (const result of results) {
        if (Either.isLeft(result)) failures.push(result.left)
        else successes.push(result.right)
      }
      const first = failures[0]
      if (first === undefined) return Effect.succeed(successes)
      const unknown = failures.find((error) => error._tag === "RedisOutcomeUnknownError")
      return Effect.fail(unknown ?? (successes.length === 0 ? first : nodes.partial(command)))
    })

/** @internal */
export const makeEnv = (run: Run, prefix: string, nodes: Nodes | undefined): Env => {
  const read: Env["read"] = (command, args, decoder) =>
    isBad(args) ? Effect.fail(args) : run(command, args, decoder(command), readOnly)
  const write: Env["write"] = (command, args, decoder) =>
    isBad(args) ? Effect.fail(args) : run(command, args, decoder(command))
  const one = { read, write }

  const split: Env["split"] = (kind, command, args, width, decoder, merge) => {
    if (nodes === undefined || isBad(args) || args.length <= width) return one[kind](command, args, decoder)
    const parts = new Map<number, { readonly args: Array<RedisArg>; readonly indexes: Array<number> }>()
    for (let i = 0; i < args.length; i += width) {
      const slot = nodes.slot(String(args[i]))
      let part = parts.get(slot)
      if (part === undefined) parts.set(slot, part = { args: [], indexes: [] })
      part.indexes.push(i / width)
      for (let j = i; j < i + width; j++) part.args.push(args[j]!)
    }
    if (parts.size === 1) return one[kind](command, args, decoder)
    const all = Array.from(parts.values())
    return Effect.map(
      combine(nodes, kind, command, all.map((part) => one[kind](command, part.args, decoder))),
      (results) => merge(results.map((result, i) => [result, all[i]!.indexes]))
    )
  }

  const everywhere: Env["everywhere"] = (kind, command, args, decoder, merge) =>
    nodes === undefined || isBad(args)
      ? one[kind](command, args, decoder)
      : Effect.flatMap(nodes.masters, (masters) =>
        Effect.map(
          combine(
            nodes,
            kind,
            command,
            masters.map((run) => run(command, args, decoder(command), kind === "read" ? readOnly : undefined))
          ),
          merge
        ))

  return { run, prefix, key: (name) => prefix + name, read, write, split, everywhere }
}

/** @internal */
export const sum = (results: ReadonlyArray<number>): number => results.reduce((a, b) => a + b, 0)
