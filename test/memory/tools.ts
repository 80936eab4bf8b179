/**
 * What the tests of the in-memory server share: a plain engine on a clock that is set by hand.
 */
import { assert, it } from "@effect/vitest"
import { Engine, type EngineOptions, type Session } from "../../src/memory/Engine.js"
import { show, type Shown } from "./show.js"

export interface Server {
  readonly engine: Engine
  readonly session: Session
  /** In milliseconds. */
  readonly clock: { now: number }
  /** Runs a command of the first session. */
  readonly run: (...argv: ReadonlyArray<string | number>) => Shown
  readonly runAs: (session: Session, ...argv: ReadonlyArray<string | number>) => Shown
}

export const makeServer = (options: Omit<EngineOptions, "now"> = {}): Server => {
  const clock = { now: 0 }
  const engine = new Engine({ ...options, now: () => clock.now })
  const session = engine.connect()
  const runAs: Server["runAs"] = (session, ...argv) => show(engine.execute(session, argv.map(String)))
  return { engine, session, clock, runAs, run: (...argv) => runAs(session, ...argv) }
}

export type Step = readonly [command: string, reply: Shown]

/** Commands separated by spaces, with what each replies. */
export const run = (server: Server, steps: ReadonlyArray<Step>): void => {
  for (const [command, reply] of steps) assert.deepStrictEqual(server.run(...command.split(" ")), reply, command)
}

/** A test of a server of its own. */
export const steps = (name: string, ...list: ReadonlyArray<Step>) => it(name, () => run(makeServer(), list))

export const WRONG_TYPE = "-WRONGTYPE Operation against a key holding the wrong kind of value"
export const NOT_INTEGER = "-ERR value is not an integer or out of range"
export const SYNTAX = "-ERR syntax error"
