/**
 * Bugs that the comparison with a real server has to find, each of them a change of one line of the engine.
 */
export interface Mutation {
  readonly name: string
  /** Below `src/memory`. */
  readonly file: string
  /** Occurs once in the file. */
  readonly from: string
  readonly to: string
}

export const mutations: ReadonlyArray<Mutation> = [
  {
    name: "GETRANGE ends one byte early",
    file: "commands/strings.ts",
    from: "text.slice(from, to + 1)",
    to: "text.slice(from, to)"
  },
  {
    name: "SETRANGE fills up with spaces",
    file: "commands/strings.ts",
    from: `.padEnd(offset, "\\0")`,
    to: `.padEnd(offset, " ")`
  },
  {
    name: "a key lives one millisecond too long",
    file: "Engine.ts",
    from: "    entry.expireAt = at\n",
    to: "    entry.expireAt = at + 1\n"
  },
  {
    name: "PEXPIRE ignores NX",
    file: "commands/keys.ts",
    from: "if (nx && present !== Infinity) return 0",
    to: ""
  },
  {
    name: "LMOVE takes from the wrong end",
    file: "commands/lists.ts",
    from: "move(engine, argv[1]!, argv[2]!, side(argv[3]!), side(argv[4]!))",
    to: "move(engine, argv[1]!, argv[2]!, side(argv[4]!), side(argv[3]!))"
  },
  {
    name: "ZADD ignores GT",
    file: "commands/sortedSets.ts",
    from: " || (gt && score <= node.score)",
    to: ""
  },
  {
    name: "members are in the order of UTF-16",
    file: "collections.ts",
    from: "a.key < key)",
    to: `Buffer.from(a.key, "latin1").toString() < Buffer.from(key, "latin1").toString())`
  },
  {
    name: "XADD takes an id that is not above the last one",
    file: "commands/streams.ts",
    from: "if (id <= lastId || (",
    to: "if (("
  },
  {
    name: "HyperLogLog counts with the constant of its first authors",
    file: "hyperLogLog.ts",
    from: "const ALPHA = 0.5 / Math.LN2",
    to: "const ALPHA = 0.7213 / (1 + 1.079 / REGISTERS)"
  },
  {
    name: "Lua prints numbers with 17 digits",
    file: "lua/number.ts",
    from: "return generalSigned(value, 14)",
    to: "return generalSigned(value, 17)"
  }
]

/** The source with the bug in it. */
export const plant = ({ file, from, name, to }: Mutation, source: string): string => {
  const places = source.split(from)
  if (places.length !== 2) {
    throw new Error(`"${name}" must be updated: src/memory/${file} has ${places.length - 1} times ${from.trim()}`)
  }
  return places.join(to)
}
