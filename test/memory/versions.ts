/**
 * What the in-memory server is compared with: Redis 7.0, which it models, or a newer Redis or Valkey.
 *
 * A 7.0 with the security fixes of its distribution is compared in everything, any other server in everything but what
 * `differences` names.
 */
import * as Resp from "../kit/resp.js"

interface RealServer {
  readonly product: "redis" | "valkey"
  readonly version: string
  // Two security fixes that distributions have brought to older releases, so the version does not tell.
  /** Scripts are kept from the metatable of strings, which all scripts share, and from `getfenv` and its like. */
  readonly sealed: boolean
  /** The errors of scripts have no line breaks. */
  readonly oneLine: boolean
}

interface Difference {
  /** The first release that has it, or a condition that is not about releases. */
  readonly when: { readonly redis?: string; readonly valkey?: string } | ((server: RealServer) => boolean)
  /** What is written differently: on both sides, what the expression finds is replaced before they are compared. */
  readonly texts?: ReadonlyArray<readonly [RegExp, string | ((text: string) => string)]>
  /** Commands of the random comparison that are not sent, because what they do differs, and so what comes after. */
  readonly unsent?: (argv: ReadonlyArray<string>, inTransaction: boolean) => boolean
  /** Scripts of the corpus that are not run. */
  readonly unrun?: RegExp
  /** Scripts whose replies are compared without their order. */
  readonly unordered?: RegExp
  /** Entries of the table of commands, as `COMMAND` for its arity or `COMMAND: flag`. */
  readonly table?: ReadonlyArray<string>
}

const differences: ReadonlyArray<Difference> = [
  {
    when: { redis: "7.2", valkey: "7.2" },
    texts: [
      // The shortest text of a floating point number in place of 17 digits: 0.1, no longer 0.10000000000000001.
      [/^-?(?:\d+\.\d+|\d+(?:\.\d+)?e[-+]?\d+|\d{17,}|0)$/, (text) => String(Number(text))],
      // An infinite time to wait.
      [/timeout is (?:negative|out of range)/, "timeout is negative or out of range"],
      [/\.set_repl\(\) requires (?:one argument|two arguments)/, ".set_repl() requires arguments"]
    ],
    // Blocking commands do not block in scripts; they used to be refused.
    unsent: ([name = "", script = ""]) => /^EVAL/i.test(name) && /'BL/.test(script),
    table: [
      ...["BLPOP", "BRPOP", "BLMOVE", "BRPOPLPUSH", "BZPOPMIN", "BZPOPMAX", "WAIT"].map((name) => `${name}: noscript`),
      // WITHSCORE
      "ZRANK",
      "ZREVRANK"
    ],
    unrun: /REDIS_VERSION/
  },
  {
    // The arguments are looked at although there is no such key; in Valkey the end of what is counted may be missing.
    when: { redis: "8.0", valkey: "8.0" },
    unsent: ([name = "", , ...args]) =>
      (/^BITCOUNT$/i.test(name) && !/^(?:-?\d{1,2} -?\d{1,2}(?: BIT| BYTE)?)?$/i.test(args.join(" "))) ||
      (/^BITPOS$/i.test(name) && !/^[01](?: -?\d{1,2}){0,2}(?: BIT| BYTE)?$/i.test(args.join(" ")))
  },
  {
    // Consumers are made whether or not they get anything, and tell when they last got something. Waiting readers are
    // asked again as if they had just come, so they hear other errors, and nothing of entries that are gone.
    when: { redis: "7.2", valkey: "7.2" },
    texts: [[/Unbalanced (?:XREAD|'\w+') list of streams: for each stream key an ID or '[$>]'/, "Unbalanced"]],
    unsent: ([name = "", sub = "", ...args], inTransaction) =>
      (/^XGROUP$/i.test(name) && /^CREATECONSUMER$/i.test(sub)) ||
      (/^XINFO$/i.test(name) && (/^(?:CONSUMERS|GROUPS)$/i.test(sub) || args.some((arg) => /^FULL$/i.test(arg)))) ||
      (/^XREADGROUP$/i.test(name) && args.join(" ").includes("BLOCK 0")) ||
      (/^XADD$/i.test(name) && args.join(" ").startsWith("MAXLEN 0")) ||
      (/^XDEL$/i.test(name) && inTransaction) ||
      // An id below that of a deleted entry is refused.
      /^XSETID$/i.test(name)
  },
  {
    // The last entry of a stream has the id `+`.
    when: { redis: "7.4", valkey: "8.0" },
    unsent: ([name = "", ...args]) => /^XREAD$/i.test(name) && args.includes("+")
  },
  {
    // Indexes at the ends of 64 bits wrap around: the server takes them for one inside the list.
    when: { redis: "7.2", valkey: "7.2" },
    unsent: ([name = "", , index = ""]) => /^LSET$/i.test(name) && /^-?922337203685477580/.test(index)
  },
  {
    when: { redis: "7.4", valkey: "8.0" },
    texts: [
      [/Invalid (?:debug|log) level/, "Invalid level"],
      // There is a global `os` now, with nothing but its clock.
      [/Script attempted to access nonexistent global variable 'os'|attempt to call field 'time' \(a nil value\)/, "os"]
    ],
    // The least count is refused: there is no positive one of its size.
    unsent: ([name = "", , count = ""]) => /^LREM$/i.test(name) && count === "-9223372036854775808",
    table: ["WAIT: blocking"]
  },
  {
    // An empty cursor is no longer 0.
    when: { redis: "7.4", valkey: "8.0" },
    unsent: ([name = "", cursor]) => /^SCAN$/i.test(name) && cursor === ""
  },
  {
    // Bounds of scores with a space before them, or in hexadecimal.
    when: { redis: "8.0" },
    unsent: ([name = "", ...args]) =>
      /^Z(?!ADD|INCRBY)/i.test(name) && args.some((arg) => arg === " 1" || arg === "0x2")
  },
  {
    // The table `redis` of scripts has more: the name and the version of Valkey.
    when: { valkey: "7.2" },
    unrun: /pairs\(redis\)/
  },
  {
    when: { valkey: "8.0" },
    texts: [
      [/(Unknown|calling|for this|No matching script\.)(?: Redis| redis lib| Please use EVAL\.)/, "$1"],
      [/Lua redis lib command arguments/, "Command arguments"],
      [/(?:redis|server)(\.\w+\(\) requires)/, "redis$1"]
    ],
    // The name of a type that there is not is refused; it used to find nothing.
    unsent: ([name = "", ...args]) => /^SCAN$/i.test(name) && args.includes("foo")
  },
  {
    // These are refused inside a transaction as before, but now it cannot be executed any more.
    when: { valkey: "8.0" },
    unsent: ([name = ""], inTransaction) => inTransaction && /^(?:MULTI|WATCH)$/i.test(name)
  },
  {
    when: { valkey: "8.1" },
    texts: [
      [/(?:Unexpected engine in script shebang:|Could not find scripting engine|Unknown lua shebang option:).*/, "#!"],
      [/border \d+/, "border"]
    ],
    // Another hash of strings, so tables are laid out differently, and those with holes end elsewhere.
    unordered: /\bpairs\(|cjson\.encode|cmsgpack\.pack/,
    // One argument too many is not an error.
    unsent: ([name = "", subcommand = "", ...args]) =>
      /^CLIENT$/i.test(name) && subcommand === "UNBLOCK" && args.length > 2
  },
  {
    // Spoils strings for all scripts that the server runs from then on, or finds what sealed servers do not have.
    when: (server) => !server.sealed,
    unrun: /getmetatable\(''\)\.__index = nil|return (?:getfenv|setfenv|newproxy)/
  },
  {
    when: (server) => !server.oneLine,
    texts: [[/\n/g, " "]]
  },
  {
    // What this table has not been tried with: error texts change with every release, their codes do not.
    when: { redis: "8.1", valkey: "8.2" },
    texts: [[/^(-?[A-Z]+) [^]*$/, "$1 ..."]]
  }
]

const reached = (version: string, first: string | undefined): boolean =>
  first !== undefined && version.localeCompare(first, "en", { numeric: true }) >= 0

const ask = async (url: string): Promise<RealServer> => {
  const { hostname, password, port } = new URL(url)
  const address = { host: hostname, port: Number(port || 6379) }
  const auth = password === "" ? [] : [["AUTH", decodeURIComponent(password)]]
  const run = async (...command: ReadonlyArray<string>): Promise<string> =>
    String((await Resp.talk(address, [...auth, command], 5000)).at(-1))
  const info = await run("INFO", "server")
  const getfenv = await run("EVAL", "return type(rawget(_G, 'getfenv'))", "0")
  const error = await run("EVAL", "error('one\\ntwo')", "0").catch(String)
  const field = (name: string): string | undefined => new RegExp(`^${name}:(.*?)\r?$`, "m").exec(info)?.[1]
  const valkey = field("valkey_version")
  return {
    product: valkey === undefined ? "redis" : "valkey",
    version: valkey ?? field("redis_version") ?? "",
    sealed: getfenv === "nil",
    oneLine: !error.includes("\n")
  }
}

/** How to compare with the server of this address. */
export interface Comparison {
  /** A text of a reply or an error, of either side, with what is written differently made the same. */
  readonly read: (text: string) => string
  readonly sends: (argv: ReadonlyArray<string>, inTransaction: boolean) => boolean
  readonly runs: (script: string) => boolean
  readonly ordered: (script: string) => boolean
  readonly tables: (entry: string) => boolean
}

export const comparison = async (url: string): Promise<Comparison> => {
  const server = await ask(url)
  const known = differences.filter(({ when }) =>
    typeof when === "function" ? when(server) : reached(server.version, when[server.product])
  )
  const texts = known.flatMap((difference) => difference.texts ?? [])
  return {
    read: (text) =>
      texts.reduce(
        (text, [found, put]) => typeof put === "string" ? text.replace(found, put) : text.replace(found, put),
        text
      ),
    sends: (argv, inTransaction) => !known.some(({ unsent }) => unsent?.(argv, inTransaction) === true),
    runs: (script) => !known.some(({ unrun }) => unrun?.test(script) === true),
    ordered: (script) => !known.some(({ unordered }) => unordered?.test(script) === true),
    tables: (entry) => !known.some(({ table }) => table?.includes(entry) === true)
  }
}
