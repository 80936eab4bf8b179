/**
 * Every command that the in-memory server knows, by name.
 */
import { Command, type Table } from "../command.js"
import { bits } from "./bits.js"
import { geo } from "./geo.js"
import { hashes } from "./hashes.js"
import { hyperLogLog } from "./hyperLogLog.js"
import { keys } from "./keys.js"
import { lcs } from "./lcs.js"
import { lists } from "./lists.js"
import { pubsub } from "./pubsub.js"
import { scripting } from "./scripting.js"
import { server } from "./server.js"
import { sets } from "./sets.js"
import { sorting } from "./sort.js"
import { sortedSets } from "./sortedSets.js"
import { streams } from "./streams.js"
import { strings } from "./strings.js"
import { transactions } from "./transactions.js"

/** By the heading that documentation puts over them. */
export const commandGroups: Readonly<Record<string, Table>> = {
  Keys: { ...keys, ...sorting },
  Strings: { ...strings, ...lcs },
  Bits: bits,
  HyperLogLog: hyperLogLog,
  Hashes: hashes,
  Lists: lists,
  Sets: sets,
  "Sorted sets": sortedSets,
  Geo: geo,
  Streams: streams,
  "Pub/sub": pubsub,
  Scripting: scripting,
  Transactions: transactions,
  Server: server
}

export const commandTable: ReadonlyMap<string, Command> = (() => {
  const commands = new Map<string, Command>()
  const all = Object.values(commandGroups).flatMap((table) => Object.entries(table))
  for (const [name, definition] of all) {
    if (name.includes("|")) continue
    const subcommands = new Map<string, Command>()
    for (const [other, child] of all) {
      if (other.startsWith(`${name}|`)) {
        subcommands.set(other.slice(name.length + 1), new Command(other.toLowerCase(), child, undefined))
      }
    }
    commands.set(name, new Command(name.toLowerCase(), definition, subcommands.size > 0 ? subcommands : undefined))
  }
  return commands
})()
