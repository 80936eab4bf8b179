/**
 * HyperLogLog: how many different elements there were, about.
 */
import { allKeys, firstKey, type Table } from "../command.js"
import type { Engine } from "../Engine.js"
import { estimateOf, HyperLogLog, noRegisters } from "../hyperLogLog.js"
import { ErrorReply, OK } from "../reply.js"
import { write } from "./strings.js"

const NOT_VALID = new ErrorReply("WRONGTYPE Key is not a valid HyperLogLog string value.")

const read = (engine: Engine, key: string): HyperLogLog | undefined => {
  const text = engine.string(key)
  if (text === undefined) return undefined
  const value = HyperLogLog.parse(text)
  if (value === undefined) throw NOT_VALID
  return value
}

export const hyperLogLog: Table = {
  PFADD: {
    arity: -2,
    flags: ["write"],
    keys: firstKey,
    run(engine, argv) {
      const key = argv[1]!
      const present = read(engine, key)
      const value = present ?? HyperLogLog.empty()
      let changed = present === undefined
      try {
        for (let i = 2; i < argv.length; i++) if (value.add(argv[i]!)) changed = true
      } finally {
        // Also when a corrupted one ends too early: what was added before stays.
        if (changed) {
          value.invalidate()
          write(engine, key, value.toString())
        }
      }
      return changed ? 1 : 0
    }
  },
  PFCOUNT: {
    arity: -2,
    flags: ["readonly"],
    keys: allKeys,
    run(engine, argv) {
      if (argv.length === 2) {
        const value = read(engine, argv[1]!)
        if (value === undefined) return 0
        const cached = value.cached
        if (cached !== undefined) return Number(cached)
        const count = value.estimate()
        // Like the server, this counts as a change of the key: its string holds the estimate now.
        write(engine, argv[1]!, value.toString())
        return Number(count)
      }
      const registers = noRegisters()
      for (let i = 1; i < argv.length; i++) read(engine, argv[i]!)?.mergeInto(registers)
      return Number(estimateOf(registers))
    }
  },
  PFMERGE: {
    arity: -2,
    flags: ["write"],
    keys: allKeys,
    run(engine, argv) {
      const key = argv[1]!
      const registers = noRegisters()
      let dense = false
      for (let i = 1; i < argv.length; i++) {
        const source = read(engine, argv[i]!)
        source?.mergeInto(registers)
        if (source?.dense === true) dense = true
      }
      const value = read(engine, key) ?? HyperLogLog.empty()
      if (dense) value.makeDense()
      registers.forEach((least, index) => {
        if (least > 0) value.raise(index, least)
      })
      value.invalidate()
      write(engine, key, value.toString())
      return OK
    }
  }
}
