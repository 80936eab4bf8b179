/**
 * How a command is described, and what many commands share.
 */
import type { Engine, Session } from "./Engine.js"
import { parseDouble, parseInt64, parseInteger } from "./numbers.js"
import { type EngineReply, ErrorReply } from "./reply.js"
import { NOT_FLOAT, NOT_INTEGER } from "./values.js"

type Flag =
  | "write"
  | "readonly"
  | "blocking"
  /** Not allowed in scripts. */
  | "noscript"
  /** Allowed for a connection that has subscriptions. */
  | "pubsub"
  /** Executed at once also between MULTI and EXEC. */
  | "unqueued"

/** `[first, last, step]` as in `COMMAND INFO`; a function where the keys are counted by an argument. */
export type Keys = readonly [first: number, last: number, step: number] | ((argv: Argv) => ReadonlyArray<string>)

/** The command's name and its arguments. */
export type Argv = ReadonlyArray<string>

export type Run = (engine: Engine, argv: Argv, session: Session) => EngineReply

export interface Definition {
  /** With the name; negative for "at least". */
  readonly arity: number
  readonly flags?: ReadonlyArray<Flag>
  readonly keys?: Keys
  readonly run: Run
}

export type Table = Readonly<Record<string, Definition>>

/** A command ready to be called. */
export class Command {
  readonly write: boolean
  readonly noScript: boolean
  readonly pubsub: boolean
  readonly unqueued: boolean
  readonly arity: number
  readonly keys: Keys | undefined
  readonly run: Run
  constructor(
    /** As in error messages: `get`, `client|id`. */
    readonly name: string,
    readonly definition: Definition,
    readonly subcommands: ReadonlyMap<string, Command> | undefined
  ) {
    const flags = definition.flags ?? []
    this.write = flags.includes("write")
    this.noScript = flags.includes("noscript")
    this.pubsub = flags.includes("pubsub")
    this.unqueued = flags.includes("unqueued")
    this.arity = definition.arity
    this.keys = definition.keys
    this.run = definition.run
  }

  accepts(count: number): boolean {
    return this.arity >= 0 ? count === this.arity : count >= -this.arity
  }

  keysOf(argv: Argv): ReadonlyArray<string> {
    const { keys } = this
    if (keys === undefined) return []
    if (typeof keys === "function") return keys(argv)
    const [first, last, step] = keys
    const end = last < 0 ? argv.length + last : last
    const out: Array<string> = []
    for (let i = first; i <= end && i < argv.length; i += step) out.push(argv[i]!)
    return out
  }
}

export const firstKey: Keys = [1, 1, 1]
export const twoKeys: Keys = [1, 2, 1]
export const allKeys: Keys = [1, -1, 1]
/** All but the last argument, a timeout. */
export const blockingKeys: Keys = [1, -2, 1]

/** Keys whose number stands at `at`, after those before it. */
export const countedKeys = (at: number, before: number = at): Keys => (argv) => {
  const count = parseInteger(argv[at] ?? "") ?? 0
  const first = before === at ? [] : argv.slice(before, at)
  return first.concat(count > 0 ? argv.slice(at + 1, at + 1 + count) : [])
}

export const fail = (text: string): never => {
  throw new ErrorReply(text)
}

export const wrongArguments = (name: string): ErrorReply =>
  new ErrorReply(`ERR wrong number of arguments for '${name}' command`)

export const wrongSubcommand = (parent: string, name: string): ErrorReply =>
  new ErrorReply(`ERR unknown subcommand or wrong number of arguments for '${name}'. Try ${parent} HELP.`)

export const integer = (text: string): number => {
  const value = parseInteger(text)
  if (value === undefined) throw NOT_INTEGER
  return value
}

/** A count whose sign has a meaning: Redis excludes the one number that has no opposite. */
export const signedCount = (text: string): number =>
  text === "-9223372036854775808"
    ? fail("ERR value is out of range, value must between -9223372036854775807 and 9223372036854775807")
    : integer(text)

export const bigint = (text: string): bigint => {
  const value = parseInt64(text)
  if (value === undefined) throw NOT_INTEGER
  return value
}

export const double = (text: string, error: ErrorReply = NOT_FLOAT): number => {
  const value = parseDouble(text)
  if (value === undefined) throw error
  return value
}

/** An integer within bounds, with the error of `getRangeLongFromObjectOrReply`. */
export const ranged = (text: string, min: number, max: number, error: string): number => {
  const value = parseInteger(text)
  if (value === undefined || value < min || value > max) throw new ErrorReply(error)
  return value
}

export const positive = (text: string): number =>
  ranged(text, 0, Infinity, "ERR value is out of range, must be positive")

/** Whether an argument is this option, in any case. */
export const is = (text: string | undefined, option: string): boolean =>
  text !== undefined && text.length === option.length && (text === option || text.toUpperCase() === option)

/** The places of a range given by two indexes that may count from the end; `to` is without its last one. */
export const slice = (start: number, stop: number, length: number): readonly [from: number, to: number] => {
  const from = start < 0 ? Math.max(0, length + start) : start
  const to = stop < 0 ? length + stop : Math.min(stop, length - 1)
  return from > to || from >= length ? [0, 0] : [from, to + 1]
}
