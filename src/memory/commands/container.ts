/**
 * Commands that are families of subcommands, as `CLIENT`.
 */
import { fail, type Table } from "../command.js"

/** The parent and its children, named `PARENT|CHILD`. */
export const container = (parent: string, children: Table): Table => ({
  // It never runs: a subcommand is found first, or is unknown.
  [parent]: { arity: -2, run: () => fail(`ERR unknown subcommand. Try ${parent} HELP.`) },
  ...Object.fromEntries(Object.entries(children).map(([name, child]) => [`${parent}|${name}`, child]))
})
