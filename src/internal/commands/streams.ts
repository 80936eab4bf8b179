import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Either from "effect/Either"
import * as Option from "effect/Option"
import type { RedisArg } from "../../RedisClient.js"
import type {
  Entries,
  PendingRange,
  StreamBound,
  StreamClaim,
  StreamCommands,
  StreamEntry,
  StreamRange,
  StreamTrim,
  XaddOptions
} from "../../RedisCommands.js"
import type { RedisInputError } from "../../RedisError.js"
import { checkKey, inputError, nonNegativeMillis } from "../input.js"
import { type Args, checkCount, checkOffset, checkSome, isBad, noneGiven, pairs } from "./args.js"
import * as Decode from "./decode.js"
import type { Env } from "./env.js"

// ---------------------------------------------------------------------------------------------------------------------
// Arguments
// ---------------------------------------------------------------------------------------------------------------------

const checkNames = (operation: string, key: string, group: string, consumer?: string): RedisInputError | undefined =>
  checkKey(operation, key) ?? checkKey(operation, group, "group") ??
    (consumer === undefined ? undefined : checkKey(operation, consumer, "consumer"))

const trimArgs = (operation: string, trim: StreamTrim): Args => {
  const { approximate, limit, maxLength, minId } = trim
  if ((maxLength === undefined) === (minId === undefined)) {
    return inputError(operation, "trim", "either maxLength or minId", maxLength === undefined ? "neither" : "both")
  }
  if (limit !== undefined && approximate !== true) {
    return inputError(operation, "trim.limit", "used with approximate", "without")
  }
  const bad = (maxLength === undefined ? undefined : checkOffset(operation, "trim.maxLength", maxLength)) ??
    (limit === undefined ? undefined : checkOffset(operation, "trim.limit", limit))
  if (bad !== undefined) return bad
  const args: Array<RedisArg> = [
    maxLength === undefined ? "MINID" : "MAXLEN",
    approximate === true ? "~" : "=",
    maxLength ?? minId!
  ]
  if (limit !== undefined) args.push("LIMIT", limit)
  return args
}

const bound = (bound: StreamBound | undefined, open: string): string =>
  bound === undefined ? open : typeof bound === "string" ? bound : `(${bound.exclusive}`

const countArgs = (operation: string, count: number | undefined): Args =>
  count === undefined ? [] : checkCount(operation, "count", count) ?? ["COUNT", count]

/** Redis takes whole milliseconds; fractions are rounded up. */
const millisOf = (operation: string, field: string, input: Duration.DurationInput): Args => {
  const millis = nonNegativeMillis(operation, field, input)
  return Either.isLeft(millis) ? millis.left : [millis.right]
}

// ---------------------------------------------------------------------------------------------------------------------
// Replies
// ---------------------------------------------------------------------------------------------------------------------

/** What was removed from the stream has no fields any more. */
const asEntry = (reply: unknown): StreamEntry | undefined => {
  if (!Array.isArray(reply) || reply.length !== 2) return undefined
  const [id]: ReadonlyArray<unknown> = reply
  const fields = reply[1] === null ? [] : Decode.asPairs(Decode.asText)(reply[1])
  return typeof id === "string" && fields !== undefined ? { id, fields } : undefined
}

const asEntries = Decode.asArray(asEntry)

const entries = Decode.decoder("an array of entries", asEntries)

const asOptionalEntry = (reply: unknown): Option.Option<StreamEntry> | undefined => {
  if (reply === null) return Option.none()
  const entry = asEntry(reply)
  return entry === undefined ? undefined : Option.some(entry)
}

const asOptionalText = (reply: unknown): Option.Option<string> | undefined =>
  reply === null || reply === undefined ? Option.none() : typeof reply === "string" ? Option.some(reply) : undefined

const byStream = (strip: (name: string) => string) =>
  Decode.decoder("streams with their entries, or nothing", (reply) => {
    if (reply === null) return []
    const found = Decode.asPairs(asEntries)(reply)
    return found?.map(([name, entries]) => [strip(name), entries] as const)
  })

const summary = Decode.decoder("a summary of pending entries", (reply) => {
  if (!Array.isArray(reply) || reply.length !== 4) return undefined
  const [count]: ReadonlyArray<unknown> = reply
  const first = asOptionalText(reply[1])
  const last = asOptionalText(reply[2])
  const consumers = reply[3] === null ? [] : Decode.asPairs(Decode.asDouble)(reply[3])
  return typeof count === "number" && first !== undefined && last !== undefined && consumers !== undefined
    ? { count, first, last, consumers }
    : undefined
})

const pending = Decode.decoder(
  "an array of pending entries",
  Decode.asArray((reply) => {
    if (!Array.isArray(reply) || reply.length !== 4) return undefined
    const [id, consumer, idle, deliveries]: ReadonlyArray<unknown> = reply
    return typeof id === "string" && typeof consumer === "string" && typeof idle === "number" &&
        typeof deliveries === "number"
      ? { id, consumer, idle: Duration.millis(idle), deliveries }
      : undefined
  })
)

const claimed = <A>(name: string, items: (reply: unknown) => ReadonlyArray<A> | undefined) =>
  Decode.decoder(`an id, ${name}, and ids`, (reply) => {
    if (!Array.isArray(reply) || reply.length < 2) return undefined
    const [next]: ReadonlyArray<unknown> = reply
    const found = items(reply[1])
    // Servers before 7.0 do not say which entries are gone.
    const deleted = reply[2] === undefined ? [] : Decode.asArray(Decode.asText)(reply[2])
    return typeof next === "string" && found !== undefined && deleted !== undefined
      ? [next, found, deleted] as const
      : undefined
  })

const claimedEntries = claimed("entries", asEntries)

const claimedIds = claimed("ids", Decode.asArray(Decode.asText))

/** What `XINFO` answers: names with values of any kind. Newer servers have more of them. */
const asInfo = (reply: unknown): ReadonlyMap<string, unknown> | undefined => {
  const pairs = Decode.asPairs((value) => value === undefined ? undefined : { value })(reply)
  return pairs === undefined ? undefined : new Map(pairs.map(([name, { value }]) => [name, value]))
}

const numberIn = (info: ReadonlyMap<string, unknown>, name: string): number | undefined => {
  const value = info.get(name)
  return typeof value === "number" ? value : undefined
}

const textIn = (info: ReadonlyMap<string, unknown>, name: string): string | undefined => {
  const value = info.get(name)
  return typeof value === "string" ? value : undefined
}

/** `None` where the server can't tell, or is too old to. */
const optionalNumberIn = (info: ReadonlyMap<string, unknown>, name: string): Option.Option<number> =>
  Option.fromNullable(numberIn(info, name))

const streamInfo = Decode.decoder("what is known of a stream", (reply) => {
  const info = asInfo(reply)
  if (info === undefined) return undefined
  const length = numberIn(info, "length")
  const groups = numberIn(info, "groups")
  const lastGeneratedId = textIn(info, "last-generated-id")
  const first = asOptionalEntry(info.get("first-entry"))
  const last = asOptionalEntry(info.get("last-entry"))
  return length !== undefined && groups !== undefined && lastGeneratedId !== undefined && first !== undefined &&
      last !== undefined
    ? { length, groups, lastGeneratedId, entriesAdded: optionalNumberIn(info, "entries-added"), first, last }
    : undefined
})

const groupInfo = Decode.decoder(
  "what is known of groups",
  Decode.asArray((reply) => {
    const info = asInfo(reply)
    if (info === undefined) return undefined
    const name = textIn(info, "name")
    const consumers = numberIn(info, "consumers")
    const pending = numberIn(info, "pending")
    const lastDeliveredId = textIn(info, "last-delivered-id")
    return name !== undefined && consumers !== undefined && pending !== undefined && lastDeliveredId !== undefined
      ? {
        name,
        consumers,
        pending,
        lastDeliveredId,
        entriesRead: optionalNumberIn(info, "entries-read"),
        lag: optionalNumberIn(info, "lag")
      }
      : undefined
  })
)

const consumerInfo = Decode.decoder(
  "what is known of consumers",
  Decode.asArray((reply) => {
    const info = asInfo(reply)
    if (info === undefined) return undefined
    const name = textIn(info, "name")
    const pending = numberIn(info, "pending")
    const idle = numberIn(info, "idle")
    return name !== undefined && pending !== undefined && idle !== undefined
      ? { name, pending, idle: Duration.millis(idle) }
      : undefined
  })
)

// ---------------------------------------------------------------------------------------------------------------------
// Commands
// ---------------------------------------------------------------------------------------------------------------------

/** @internal */
export const make = ({ key, prefix, read, write }: Env): StreamCommands => {
  const strip = (name: string) => name.slice(prefix.length)
  const streams = byStream(strip)

  const addArgs = (
    operation: string,
    name: string,
    fields: Entries<RedisArg>,
    options: XaddOptions | undefined,
    ...flags: ReadonlyArray<string>
  ): Args => {
    const trim: Args = options?.trim === undefined ? [] : trimArgs(operation, options.trim)
    const bad = checkKey(operation, name)
    if (bad !== undefined) return bad
    if (isBad(trim)) return trim
    const args: Array<RedisArg> = [key(name), ...flags, ...trim, options?.id ?? "*"]
    const head = args.length
    for (const [field, value] of pairs(fields)) args.push(field, value)
    return args.length > head ? args : noneGiven(operation, "fields")
  }

  const range = (operation: "xrange" | "xrevRange") => (name: string, options: StreamRange = {}) => {
    const count = countArgs(operation, options.count)
    const bounds = [bound(options.start, "-"), bound(options.end, "+")]
    if (operation === "xrevRange") bounds.reverse()
    return read(
      operation.toUpperCase(),
      checkKey(operation, name) ?? (isBad(count) ? count : [key(name), ...bounds, ...count]),
      entries
    )
  }

  const readArgs = (operation: string, after: Entries<string>, head: Args): Args => {
    const all = pairs(after)
    for (const [name] of all) {
      const bad = checkKey(operation, String(name), "streams")
      if (bad !== undefined) return bad
    }
    return isBad(head)
      ? head
      : [...head, "STREAMS", ...all.map(([name]) => key(String(name))), ...all.map(([, id]) => id)]
  }

  const claimArgs = (operation: string, name: string, claim: StreamClaim, ids: ReadonlyArray<string>): Args => {
    const { consumer, group, minIdle } = claim
    const least = millisOf(operation, "minIdle", minIdle)
    const bad = checkNames(operation, name, group, consumer) ?? checkSome(operation, "ids", ids)
    return bad ?? (isBad(least) ? least : [key(name), group, consumer, ...least, ...ids])
  }

  const autoClaimArgs = (
    operation: string,
    name: string,
    claim: StreamClaim,
    options: { readonly start?: string | undefined; readonly count?: number | undefined } | undefined,
    ...flags: ReadonlyArray<string>
  ): Args => {
    const { consumer, group, minIdle } = claim
    const least = millisOf(operation, "minIdle", minIdle)
    const count = countArgs(operation, options?.count)
    const bad = checkNames(operation, name, group, consumer)
    if (bad !== undefined) return bad
    if (isBad(least)) return least
    return isBad(count) ? count : [key(name), group, consumer, ...least, options?.start ?? "0-0", ...count, ...flags]
  }

  const pendingArgs = (name: string, group: string, options: PendingRange): Args => {
    const { consumer, count, end, minIdle, start } = options
    const idle: Args = minIdle === undefined ? [] : millisOf("xpendingRange", "minIdle", minIdle)
    const bad = checkNames("xpendingRange", name, group, consumer) ?? checkCount("xpendingRange", "count", count)
    if (bad !== undefined) return bad
    if (isBad(idle)) return idle
    return [
      key(name),
      group,
      ...(idle.length === 0 ? [] : ["IDLE", ...idle]),
      bound(start, "-"),
      bound(end, "+"),
      count,
      ...(consumer === undefined ? [] : [consumer])
    ]
  }

  return {
    xadd: (name, fields, options) => write("XADD", addArgs("xadd", name, fields, options), Decode.text),
    xaddNoMkStream: (name, fields, options) =>
      write("XADD", addArgs("xaddNoMkStream", name, fields, options, "NOMKSTREAM"), Decode.optionalText),
    xlen: (name) => read("XLEN", checkKey("xlen", name) ?? [key(name)], Decode.integer),
    xrange: range("xrange"),
    xrevRange: range("xrevRange"),
    xread: (after, options) => {
      const args = readArgs("xread", after, countArgs("xread", options?.count))
      return pairs(after).length === 0 ? Effect.succeed([]) : read("XREAD", args, streams)
    },
    xdel: (name, ...ids) =>
      write("XDEL", checkKey("xdel", name) ?? checkSome("xdel", "ids", ids) ?? [key(name), ...ids], Decode.integer),
    xtrim: (name, trim) => {
      const args = trimArgs("xtrim", trim)
      return write("XTRIM", checkKey("xtrim", name) ?? (isBad(args) ? args : [key(name), ...args]), Decode.integer)
    },
    xgroupCreate: (name, group, { mkStream, start }) =>
      write(
        "XGROUP",
        checkNames("xgroupCreate", name, group) ??
          ["CREATE", key(name), group, start, ...(mkStream === true ? ["MKSTREAM"] : [])],
        Decode.ok
      ),
    xgroupSetId: (name, group, id) =>
      write("XGROUP", checkNames("xgroupSetId", name, group) ?? ["SETID", key(name), group, id], Decode.ok),
    xgroupDestroy: (name, group) =>
      write("XGROUP", checkNames("xgroupDestroy", name, group) ?? ["DESTROY", key(name), group], Decode.boolean),
    xgroupCreateConsumer: (name, group, consumer) =>
      write(
        "XGROUP",
        checkNames("xgroupCreateConsumer", name, group, consumer) ?? ["CREATECONSUMER", key(name), group, consumer],
        Decode.boolean
      ),
    xgroupDelConsumer: (name, group, consumer) =>
      write(
        "XGROUP",
        checkNames("xgroupDelConsumer", name, group, consumer) ?? ["DELCONSUMER", key(name), group, consumer],
        Decode.integer
      ),
    xreadGroup: ({ consumer, group }, after, options) => {
      const count = countArgs("xreadGroup", options?.count)
      const bad = checkKey("xreadGroup", group, "group") ?? checkKey("xreadGroup", consumer, "consumer")
      const noAck = options?.noAck === true ? ["NOACK"] : []
      const head = bad ?? (isBad(count) ? count : ["GROUP", group, consumer, ...count, ...noAck])
      const args = readArgs("xreadGroup", after, head)
      return pairs(after).length === 0 ? Effect.succeed([]) : write("XREADGROUP", args, streams)
    },
    xack: (name, group, ...ids) =>
      write(
        "XACK",
        checkNames("xack", name, group) ?? checkSome("xack", "ids", ids) ?? [key(name), group, ...ids],
        Decode.integer
      ),
    xpending: (name, group) => read("XPENDING", checkNames("xpending", name, group) ?? [key(name), group], summary),
    xpendingRange: (name, group, options) => read("XPENDING", pendingArgs(name, group, options), pending),
    xclaim: (name, claim, ...ids) => write("XCLAIM", claimArgs("xclaim", name, claim, ids), entries),
    xclaimJustId: (name, claim, ...ids) => {
      const args = claimArgs("xclaimJustId", name, claim, ids)
      return write("XCLAIM", isBad(args) ? args : [...args, "JUSTID"], Decode.texts)
    },
    xautoClaim: (name, claim, options) =>
      Effect.map(
        write("XAUTOCLAIM", autoClaimArgs("xautoClaim", name, claim, options), claimedEntries),
        ([next, entries, deleted]) => ({ next, entries, deleted })
      ),
    xautoClaimJustId: (name, claim, options) =>
      Effect.map(
        write("XAUTOCLAIM", autoClaimArgs("xautoClaimJustId", name, claim, options, "JUSTID"), claimedIds),
        ([next, ids, deleted]) => ({ next, ids, deleted })
      ),
    xinfoStream: (name) => read("XINFO", checkKey("xinfoStream", name) ?? ["STREAM", key(name)], streamInfo),
    xinfoGroups: (name) => read("XINFO", checkKey("xinfoGroups", name) ?? ["GROUPS", key(name)], groupInfo),
    xinfoConsumers: (name, group) =>
      read("XINFO", checkNames("xinfoConsumers", name, group) ?? ["CONSUMERS", key(name), group], consumerInfo)
  }
}
