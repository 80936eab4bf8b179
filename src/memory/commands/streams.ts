/**
 * Streams, their groups of consumers, and the commands that wait for entries.
 */
import {
  type Argv,
  bigint,
  fail,
  firstKey,
  integer,
  is,
  type Keys,
  ranged,
  type Run,
  type Table,
  wrongArguments,
  wrongSubcommand
} from "../command.js"
import type { Engine } from "../Engine.js"
import { parseInt64, parseInteger } from "../numbers.js"
import { type EngineReply, ErrorReply, OK } from "../reply.js"
import {
  type Consumer,
  formatId,
  Group,
  type Id,
  makeId,
  MAX_ID,
  MAX_SEQUENCE,
  type Pending,
  Stream,
  type StreamEntry,
  timeOf,
  type Trim
} from "../streams.js"
import { NO_KEY, SYNTAX } from "../values.js"
import { container } from "./container.js"

const INVALID_ID = new ErrorReply("ERR Invalid stream ID specified as stream command argument")

/** How many entries an approximate trim removes at most, when it is not told. */
const TRIM_LIMIT = 10_000
/** How many entries a reader gets that had to wait, when it does not say. */
const COUNT_AFTER_WAIT = 1000
/** How many entries `XAUTOCLAIM` looks at for each one that it may return. */
const ATTEMPTS = 10
/** From here on the server has not the memory to note that many ids. */
const TOO_MANY_IDS = 2 ** 43

// ---------------------------------------------------------------------------------------------------------------------
// Arguments
// ---------------------------------------------------------------------------------------------------------------------

/** As C reads text: up to its first zero byte. */
const untilZero = (text: string): string => {
  const end = text.indexOf("\0")
  return end === -1 ? text : text.slice(0, end)
}

/** A name inside of an error, which is one line. */
const inError = (name: string): string => untilZero(name).replace(/[\r\n]/g, " ")

/** An unsigned integer of 64 bits, with what C's `strtoull` allows beyond the only right spelling. */
const half = (text: string): bigint | undefined => {
  const value = parseInt64(text)
  if (value !== undefined) return value < 0n ? undefined : value
  const [, sign, digits] = /^[\t-\r ]*([+-]?)([0-9]+)$/.exec(text) ?? []
  if (digits === undefined) return undefined
  const size = BigInt(digits)
  return size > MAX_SEQUENCE ? undefined : sign === "-" ? BigInt.asUintN(64, -size) : size
}

/** An id; one without a sequence number gets that of `missing`. */
const parseId = (text: string, missing: bigint): Id | undefined => {
  if (text.length > 127) return undefined
  const id = untilZero(text)
  const dash = id.indexOf("-")
  const time = half(dash === -1 ? id : id.slice(0, dash))
  const sequence = dash === -1 ? missing : half(id.slice(dash + 1))
  return time === undefined || sequence === undefined ? undefined : makeId(time, sequence)
}

const strictId = (text: string, missing = 0n): Id => {
  const id = parseId(text, missing)
  if (id === undefined) throw INVALID_ID
  return id
}

/** As `strictId`, and `-` and `+` for the least and the greatest. */
const anyId = (text: string, missing = 0n): Id => {
  const id = untilZero(text)
  return id === "-" ? 0n : id === "+" ? MAX_ID : strictId(text, missing)
}

const isExclusive = (text: string): boolean => text.length > 1 && text.startsWith("(")

const rangeStart = (text: string): Id => {
  if (!isExclusive(text)) return anyId(text)
  const id = strictId(text.slice(1))
  return id === MAX_ID ? fail("ERR invalid start ID for the interval") : id + 1n
}

const rangeEnd = (text: string): Id => {
  if (!isExclusive(text)) return anyId(text, MAX_SEQUENCE)
  const id = strictId(text.slice(1), MAX_SEQUENCE)
  return id === 0n ? fail("ERR invalid end ID for the interval") : id - 1n
}

const integerOr = (text: string, error: string): number => parseInteger(text) ?? fail(error)

/** A counter of 64 bits as the server prints it. */
const counter = (value: bigint | undefined): EngineReply =>
  value === undefined ? null : Number(BigInt.asIntN(64, value))

/** The id of a new entry: a whole one, one that needs a sequence number, or none. */
type NewId = { readonly id: Id } | { readonly time: bigint } | undefined

interface TrimArguments {
  readonly trim: Trim | undefined
  readonly create: boolean
  readonly id: NewId
  /** Where the id stands, in `XADD`. */
  readonly at: number
}

const trimArguments = (argv: Argv, adding: boolean): TrimArguments => {
  let to: Trim["to"] | undefined
  let approximate = false
  let limit: number | undefined
  let create = true
  let id: NewId
  let at = 2
  for (; at < argv.length; at++) {
    const option = argv[at]!
    const more = argv.length - 1 - at
    if (adding && untilZero(option) === "*") break
    const byId = is(option, "MINID")
    if ((byId || is(option, "MAXLEN")) && more > 0) {
      if (to !== undefined) {
        return fail("ERR syntax error, MAXLEN and MINID options at the same time are not compatible")
      }
      const how = argv[at + 1]
      approximate = more > 1 && how === "~"
      if (approximate || (more > 1 && how === "=")) at++
      const value = argv[++at]!
      if (byId) to = { id: strictId(value) }
      else {
        const length = integer(value)
        if (length < 0) return fail("ERR The MAXLEN argument must be >= 0.")
        to = { length }
      }
    } else if (is(option, "LIMIT") && more > 0) {
      limit = integer(argv[++at]!)
      if (limit < 0) return fail("ERR The LIMIT argument must be >= 0.")
    } else if (adding && is(option, "NOMKSTREAM")) create = false
    else if (adding) {
      id = newId(option)
      break
    } else throw SYNTAX
  }
  if (to === undefined && limit !== undefined && limit !== 0) {
    return fail("ERR syntax error, LIMIT cannot be used without specifying a trimming strategy")
  }
  if (to === undefined && !adding) {
    return fail("ERR syntax error, XTRIM must be called with a trimming strategy")
  }
  if (limit !== undefined && !approximate) {
    return fail("ERR syntax error, LIMIT cannot be used without the special ~ option")
  }
  return {
    trim: to === undefined ? undefined : { to, approximate, limit: approximate ? limit ?? TRIM_LIMIT : 0 },
    create,
    id,
    at
  }
}

const newId = (text: string): NewId => {
  const [, time] = text.length > 127 ? [] : /^([^-]*)-\*$/.exec(untilZero(text)) ?? []
  if (time === undefined) return { id: strictId(text) }
  const value = half(time)
  if (value === undefined) throw INVALID_ID
  return { time: value }
}

// ---------------------------------------------------------------------------------------------------------------------
// Entries
// ---------------------------------------------------------------------------------------------------------------------

const show = ({ fields, name }: StreamEntry): EngineReply => [name, fields]

const nextId = (stream: Stream, now: number): Id => {
  const time = BigInt(now)
  return time > timeOf(stream.lastId) ? makeId(time, 0n) : stream.lastId + 1n
}

const add: Run = (engine, argv) => {
  const [, key] = argv as [string, string]
  const { at, create, id: given, trim } = trimArguments(argv, true)
  const fields = argv.slice(at + 1)
  if (fields.length < 2 || fields.length % 2 === 1) return wrongArguments("xadd")
  if (given !== undefined && "id" in given && given.id === 0n) {
    return fail("ERR The ID specified in XADD must be greater than 0-0")
  }
  const known = engine.stream(key)
  if (known === undefined && !create) return null
  const stream = known ?? engine.add(key, new Stream())
  const { lastId } = stream
  if (lastId === MAX_ID) {
    return fail("ERR The stream has exhausted the last possible ID, unable to add more items")
  }
  let id: Id
  if (given === undefined) id = nextId(stream, engine.now)
  else if ("id" in given) id = given.id
  else id = given.time === timeOf(lastId) ? lastId + 1n : makeId(given.time, 0n)
  // After the last sequence number of a time comes another time, which was not asked for.
  if (id <= lastId || (given !== undefined && "time" in given && timeOf(id) !== given.time)) {
    return fail("ERR The ID specified in XADD is equal or smaller than the target stream top item")
  }
  const { name } = stream.append(id, fields)
  if (trim !== undefined) stream.trim(trim)
  engine.modified(key)
  engine.signal(key)
  return name
}

const range = (reverse: boolean): Run => (engine, argv) => {
  const from = rangeStart(argv[reverse ? 3 : 2]!)
  const to = rangeEnd(argv[reverse ? 2 : 3]!)
  let limit = Infinity
  for (let i = 4; i < argv.length; i += 2) {
    if (!is(argv[i], "COUNT") || i + 1 >= argv.length) throw SYNTAX
    limit = Math.max(0, integer(argv[i + 1]!))
  }
  const stream = engine.stream(argv[1]!)
  if (stream === undefined) return []
  if (limit === 0) return null
  return (reverse ? stream.reversed(from, to, limit) : stream.range(from, to, limit)).map(show)
}

const setId: Run = (engine, argv) => {
  const id = strictId(argv[2]!)
  let added: bigint | undefined
  let deleted = 0n
  for (let i = 3; i < argv.length; i += 2) {
    const value = argv[i + 1]
    if (value === undefined) throw SYNTAX
    if (is(argv[i], "ENTRIESADDED")) {
      added = bigint(value)
      if (added < 0n) return fail("ERR entries_added must be positive")
    } else if (is(argv[i], "MAXDELETEDID")) {
      deleted = strictId(value)
      if (id < deleted) {
        return fail("ERR The ID specified in XSETID is smaller than the provided max_deleted_entry_id")
      }
    } else throw SYNTAX
  }
  const stream = engine.stream(argv[1]!)
  if (stream === undefined) throw NO_KEY
  const { last } = stream
  if (last !== undefined) {
    if (id < last.id) return fail("ERR The ID specified in XSETID is smaller than the target stream top item")
    if (added !== undefined && added < BigInt(stream.size)) {
      return fail("ERR The entries_added specified in XSETID is smaller than the target stream length")
    }
  }
  stream.lastId = id
  if (added !== undefined) stream.entriesAdded = added
  if (deleted !== 0n) stream.maxDeletedId = deleted
  return OK
}

// ---------------------------------------------------------------------------------------------------------------------
// Reading
// ---------------------------------------------------------------------------------------------------------------------

/** Where the keys of `XREAD` are; each has an id after all of them. */
const streamKeys: Keys = (argv) => {
  for (let i = 1; i < argv.length; i++) {
    if (is(argv[i], "BLOCK") || is(argv[i], "COUNT")) i++
    else if (is(argv[i], "GROUP")) i += 2
    else if (is(argv[i], "STREAMS")) {
      const count = (argv.length - 1 - i) / 2
      return Number.isInteger(count) ? argv.slice(i + 1, i + 1 + count) : []
    } else if (!is(argv[i], "NOACK")) break
  }
  return []
}

interface Reading {
  readonly keys: ReadonlyArray<string>
  readonly ids: ReadonlyArray<string>
  /** Infinity for all. */
  readonly count: number
  /** In milliseconds, 0 for ever. */
  readonly timeout: number | undefined
  readonly reader: Reader | undefined
}

interface Reader {
  readonly group: string
  readonly consumer: string
  readonly noAck: boolean
}

const parseReading = (engine: Engine, argv: Argv, grouped: boolean): Reading => {
  let timeout: number | undefined
  let count = 0
  let streamsAt = 0
  let names: readonly [group: string, consumer: string] | undefined
  let noAck = false
  const onlyGrouped = (option: string): never =>
    fail(`ERR The ${option} option is only supported by XREADGROUP. You called XREAD instead.`)
  for (let i = 1; i < argv.length && streamsAt === 0; i++) {
    const option = argv[i]!
    const more = argv.length - 1 - i
    if (is(option, "BLOCK") && more > 0) {
      if (engine.scripts.isRunning) fail(`ERR ${argv[0]!} command is not allowed with BLOCK option from scripts`)
      timeout = integerOr(argv[++i]!, "ERR timeout is not an integer or out of range")
      if (timeout < 0) fail("ERR timeout is negative")
    } else if (is(option, "COUNT") && more > 0) count = Math.max(0, integer(argv[++i]!))
    else if (is(option, "STREAMS") && more > 0) {
      if (more % 2 === 1) {
        fail("ERR Unbalanced XREAD list of streams: for each stream key an ID or '$' must be specified.")
      }
      streamsAt = i + 1
    } else if (is(option, "GROUP") && more > 1) {
      if (!grouped) onlyGrouped("GROUP")
      names = [argv[i + 1]!, argv[i + 2]!]
      i += 2
    } else if (is(option, "NOACK")) {
      if (!grouped) onlyGrouped("NOACK")
      noAck = true
    } else throw SYNTAX
  }
  if (streamsAt === 0) throw SYNTAX
  if (grouped && names === undefined) fail("ERR Missing GROUP option for XREADGROUP")
  const idsAt = (streamsAt + argv.length) / 2
  return {
    keys: argv.slice(streamsAt, idsAt),
    ids: argv.slice(idsAt),
    count: count === 0 ? Infinity : count,
    timeout,
    reader: names && { group: names[0], consumer: names[1], noAck }
  }
}

const noGroup = (key: string, group: string, where = ""): never =>
  fail(`NOGROUP No such key '${inError(key)}' or consumer group '${inError(group)}'${where}`)

/** The id of `>`: what was not delivered to the group yet. */
const UNDELIVERED = MAX_ID

/** After which id a stream is to be read. */
const resolveId = (engine: Engine, key: string, id: string, reader: Reader | undefined): Id => {
  const stream = engine.stream(key)
  if (reader !== undefined && stream?.groups.has(reader.group) !== true) {
    return noGroup(key, reader.group, " in XREADGROUP with GROUP option")
  }
  if (untilZero(id) === "$") {
    return reader === undefined ? stream?.lastId ?? 0n : fail(
      "ERR The $ ID is meaningless in the context of XREADGROUP: you want to read the history of this consumer by " +
        "specifying a proper ID, or use the > ID to get new messages. The $ ID would just return an empty result set."
    )
  }
  if (untilZero(id) === ">") {
    return reader === undefined
      ? fail("ERR The > ID can be specified only when calling XREADGROUP using the GROUP <group> <consumer> option.")
      : UNDELIVERED
  }
  return strictId(id)
}

/** New entries for a consumer, which it has to acknowledge. */
const deliver = (
  engine: Engine,
  stream: Stream,
  group: Group,
  { consumer: name, noAck }: Reader,
  count: number
): EngineReply => {
  const consumer = group.consumer(name, engine.now)
  return stream.range(group.lastId + 1n, MAX_ID, count).map((entry) => {
    stream.advance(group, entry.id)
    if (!noAck) group.assign(entry.id, consumer, engine.now).deliveries = 1n
    return show(entry)
  })
}

/** What a consumer has not acknowledged. */
const history = (engine: Engine, stream: Stream, consumer: Consumer, after: Id, count: number): EngineReply => {
  const out: Array<EngineReply> = []
  let pending = consumer.pending.atLeast(after + 1n)
  for (; pending !== undefined && out.length < count; pending = consumer.pending.atLeast(pending.id + 1n)) {
    const entry = stream.get(pending.id)
    if (entry === undefined) out.push([formatId(pending.id), null])
    else {
      pending.deliveredAt = engine.now
      pending.deliveries++
      out.push(show(entry))
    }
  }
  return out
}

const read = (grouped: boolean): Run => (engine, argv, session) => {
  const { count, ids, keys, reader, timeout } = parseReading(engine, argv, grouped)
  const after = keys.map((key, i) => resolveId(engine, key, ids[i]!, reader))
  const replies: Array<EngineReply> = []
  keys.forEach((key, i) => {
    const stream = engine.stream(key)
    if (stream === undefined) return
    const from = after[i]!
    const last = stream.last?.id
    if (reader === undefined) {
      if (last !== undefined && last > from) replies.push([key, stream.range(from + 1n, MAX_ID, count).map(show)])
      return
    }
    const group = stream.groups.get(reader.group)!
    if (from !== UNDELIVERED) {
      replies.push([key, history(engine, stream, group.consumer(reader.consumer, engine.now), from, count)])
    } else if (last !== undefined && last > group.lastId) {
      replies.push([key, deliver(engine, stream, group, reader, count)])
    }
  })
  if (replies.length > 0) return replies
  if (timeout === undefined) return null
  const most = count === Infinity ? COUNT_AFTER_WAIT : count
  const serve = (key: string): EngineReply | undefined => {
    const stream = engine.stream(key)!
    if (reader === undefined) {
      const from = after[keys.indexOf(key)]!
      return stream.lastId > from ? [[key, stream.range(from + 1n, MAX_ID, most).map(show)]] : undefined
    }
    const group = stream.groups.get(reader.group)
    if (group === undefined) return fail("NOGROUP the consumer group this client was blocked on no longer exists")
    return stream.lastId > group.lastId ? [[key, deliver(engine, stream, group, reader, most)]] : undefined
  }
  return engine.block(session, {
    keys,
    type: "stream",
    deadline: timeout === 0 ? Infinity : engine.now + timeout,
    serve,
    timeoutReply: null,
    goneReply: reader && new ErrorReply("UNBLOCKED the stream key no longer exists")
  })
}

// ---------------------------------------------------------------------------------------------------------------------
// Groups
// ---------------------------------------------------------------------------------------------------------------------

const NO_STREAM = new ErrorReply(
  "ERR The XGROUP subcommand requires the key to exist. Note that for CREATE you may want to use the MKSTREAM option " +
    "to create an empty stream automatically."
)

const noSuchGroup = (group: string, key: string): never =>
  fail(`NOGROUP No such consumer group '${inError(group)}' for key name '${inError(key)}'`)

const groupOf = (engine: Engine, argv: Argv): Group => {
  const stream = engine.stream(argv[2]!)
  if (stream === undefined) throw NO_STREAM
  return stream.groups.get(argv[3]!) ?? noSuchGroup(argv[3]!, argv[2]!)
}

interface GroupOptions {
  readonly create: boolean
  readonly entriesRead: bigint | undefined
}

const groupOptions = (argv: Argv, creating: boolean): GroupOptions => {
  let create = false
  let entriesRead: bigint | undefined
  for (let i = 5; i < argv.length; i++) {
    if (creating && is(argv[i], "MKSTREAM")) create = true
    else if (is(argv[i], "ENTRIESREAD") && i + 1 < argv.length) {
      const value = bigint(argv[++i]!)
      if (value < -1n) return fail("ERR value for ENTRIESREAD must be positive or -1")
      entriesRead = value === -1n ? undefined : value
    } else throw wrongSubcommand("XGROUP", argv[1]!)
  }
  return { create, entriesRead }
}

const createGroup: Run = (engine, argv) => {
  const [, , key, name, from] = argv as [string, string, string, string, string]
  const { create, entriesRead } = groupOptions(argv, true)
  const known = engine.stream(key)
  if (known === undefined && !create) throw NO_STREAM
  if (argv.length > 8) return wrongSubcommand("XGROUP", argv[1]!)
  const id = untilZero(from) === "$" ? known?.lastId ?? 0n : strictId(from)
  const stream = known ?? engine.add(key, new Stream())
  if (known === undefined) engine.modified(key)
  if (stream.groups.has(name)) return fail("BUSYGROUP Consumer Group name already exists")
  stream.groups.set(name, new Group(id, entriesRead))
  return OK
}

const setGroupId: Run = (engine, argv) => {
  const { entriesRead } = groupOptions(argv, false)
  const group = groupOf(engine, argv)
  if (argv.length !== 5 && argv.length !== 7) return wrongSubcommand("XGROUP", argv[1]!)
  group.lastId = untilZero(argv[4]!) === "$" ? engine.stream(argv[2]!)!.lastId : anyId(argv[4]!)
  group.entriesRead = entriesRead
  return OK
}

const destroyGroup: Run = (engine, argv) => {
  const stream = engine.stream(argv[2]!)
  if (stream === undefined) throw NO_STREAM
  if (!stream.groups.delete(argv[3]!)) return 0
  engine.signal(argv[2]!)
  return 1
}

const createConsumer: Run = (engine, argv) => {
  const group = groupOf(engine, argv)
  if (group.consumers.has(argv[4]!)) return 0
  group.addConsumer(argv[4]!, engine.now)
  return 1
}

const deleteConsumer: Run = (engine, argv) => {
  const group = groupOf(engine, argv)
  const consumer = group.consumers.get(argv[4]!)
  if (consumer === undefined) return 0
  group.removeConsumer(consumer)
  return consumer.pending.size
}

/** By name, in the order of bytes. */
const sorted = <A>(named: ReadonlyMap<string, A>): Array<readonly [name: string, value: A]> =>
  [...named].sort(([a], [b]) => a < b ? -1 : 1)

// ---------------------------------------------------------------------------------------------------------------------
// Pending entries
// ---------------------------------------------------------------------------------------------------------------------

const acknowledge: Run = (engine, argv) => {
  const group = engine.stream(argv[1]!)?.groups.get(argv[2]!)
  if (group === undefined) return 0
  let acknowledged = 0
  for (const id of argv.slice(3).map((text) => strictId(text))) {
    const pending = group.pending.get(id)
    if (pending === undefined) continue
    group.forget(pending)
    acknowledged++
  }
  return acknowledged
}

const pendingSummary = ({ consumers, pending }: Group): EngineReply => {
  const { last, size } = pending
  if (last === undefined) return [0, null, null, null]
  return [
    size,
    formatId(pending.atLeast(0n)!.id),
    formatId(last.id),
    sorted(consumers)
      .filter(([, consumer]) => consumer.pending.size > 0)
      .map(([name, consumer]) => [name, String(consumer.pending.size)])
  ]
}

const pending: Run = (engine, argv) => {
  if (argv.length !== 3 && (argv.length < 6 || argv.length > 9)) throw SYNTAX
  let minIdle = 0
  let at = 3
  let limit = 0
  let from = 0n
  let to = 0n
  if (argv.length > 3) {
    if (is(argv[3], "IDLE")) {
      minIdle = integer(argv[4]!)
      if (argv.length < 8) throw SYNTAX
      at = 5
    }
    limit = integer(argv[at + 2]!)
    from = rangeStart(argv[at]!)
    to = rangeEnd(argv[at + 1]!)
  }
  const group = engine.stream(argv[1]!)?.groups.get(argv[2]!) ?? noGroup(argv[1]!, argv[2]!)
  if (argv.length === 3) return pendingSummary(group)
  const name = argv[at + 3]
  const list = name === undefined ? group.pending : group.consumers.get(name)?.pending
  const out: Array<EngineReply> = []
  let item = list?.atLeast(from)
  for (; item !== undefined && item.id <= to && out.length < limit; item = list?.atLeast(item.id + 1n)) {
    const idle = engine.now - item.deliveredAt
    if (minIdle !== 0 && idle < minIdle) continue
    out.push([formatId(item.id), item.consumer.name, Math.max(0, idle), counter(item.deliveries)])
  }
  return out
}

interface Claim {
  readonly deliveredAt: number
  readonly retries: bigint
  readonly force: boolean
  readonly justId: boolean
  readonly lastId: Id
}

const claimOptions = (engine: Engine, argv: Argv, from: number): Claim => {
  let deliveredAt = engine.now
  let retries = -1n
  let force = false
  let justId = false
  let lastId = 0n
  const bad = (option: string) => `ERR Invalid ${option} option argument for XCLAIM`
  for (let i = from; i < argv.length; i++) {
    const option = argv[i]!
    const more = i + 1 < argv.length
    if (is(option, "FORCE")) force = true
    else if (is(option, "JUSTID")) justId = true
    else if (is(option, "IDLE") && more) deliveredAt = engine.now - integerOr(argv[++i]!, bad("IDLE"))
    else if (is(option, "TIME") && more) deliveredAt = integerOr(argv[++i]!, bad("TIME"))
    else if (is(option, "RETRYCOUNT") && more) retries = parseInt64(argv[++i]!) ?? fail(bad("RETRYCOUNT"))
    else if (is(option, "LASTID") && more) lastId = strictId(argv[++i]!)
    else return fail(`ERR Unrecognized XCLAIM option '${inError(option)}'`)
  }
  // An instant that makes no sense is taken for the present one.
  if (deliveredAt < 0 || deliveredAt > engine.now) deliveredAt = engine.now
  return { deliveredAt, retries, force, justId, lastId }
}

const claim: Run = (engine, argv) => {
  const [, key, name, consumerName] = argv as [string, string, string, string]
  const stream = engine.stream(key)
  const group = stream?.groups.get(name)
  if (stream === undefined || group === undefined) return noGroup(key, name)
  const minIdle = Math.max(0, integerOr(argv[4]!, "ERR Invalid min-idle-time argument for XCLAIM"))
  const ids: Array<Id> = []
  for (const text of argv.slice(5)) {
    const id = parseId(text, 0n)
    if (id === undefined) break
    ids.push(id)
  }
  const { deliveredAt, force, justId, lastId, retries } = claimOptions(engine, argv, 5 + ids.length)
  if (lastId > group.lastId) group.lastId = lastId
  const out: Array<EngineReply> = []
  for (const id of ids) {
    const held = group.pending.get(id)
    const entry = stream.get(id)
    if (entry === undefined) {
      if (held !== undefined) group.forget(held)
      continue
    }
    if (held === undefined ? !force : minIdle > 0 && engine.now - held.deliveredAt < minIdle) continue
    const claimed = group.assign(id, group.consumer(consumerName, engine.now), deliveredAt)
    if (retries >= 0n) claimed.deliveries = retries
    else if (!justId) claimed.deliveries++
    out.push(justId ? entry.name : show(entry))
  }
  return out
}

const claimAny: Run = (engine, argv) => {
  const [, key, name, consumerName] = argv as [string, string, string, string]
  const minIdle = Math.max(0, integerOr(argv[4]!, "ERR Invalid min-idle-time argument for XAUTOCLAIM"))
  const from = rangeStart(argv[5]!)
  let count = 100
  let justId = false
  for (let i = 6; i < argv.length; i++) {
    if (is(argv[i], "COUNT") && i + 1 < argv.length) {
      count = ranged(argv[++i]!, 1, 2 ** 59, "ERR COUNT must be > 0")
    } else if (is(argv[i], "JUSTID")) justId = true
    else throw SYNTAX
  }
  const stream = engine.stream(key)
  const group = stream?.groups.get(name)
  if (stream === undefined || group === undefined) return noGroup(key, name)
  if (count > TOO_MANY_IDS) {
    return fail("ERR Insufficient memory, failed allocating transient memory, COUNT too high.")
  }
  const claimed: Array<EngineReply> = []
  const deleted: Array<EngineReply> = []
  let attempts = count * ATTEMPTS
  let held = group.pending.atLeast(from)
  for (; held !== undefined && attempts > 0 && claimed.length + deleted.length < count; attempts--) {
    const entry = stream.get(held.id)
    if (entry === undefined) {
      group.forget(held)
      deleted.push(formatId(held.id))
    } else if (minIdle === 0 || engine.now - held.deliveredAt >= minIdle) {
      group.assign(held.id, group.consumer(consumerName, engine.now), engine.now)
      if (!justId) held.deliveries++
      claimed.push(justId ? entry.name : show(entry))
    }
    held = group.pending.atLeast(held.id + 1n)
  }
  return [formatId(held?.id ?? 0n), claimed, deleted]
}

// ---------------------------------------------------------------------------------------------------------------------
// Inspection
// ---------------------------------------------------------------------------------------------------------------------

const streamOf = (engine: Engine, argv: Argv): Stream => {
  const stream = engine.stream(argv[2]!)
  if (stream === undefined) throw NO_KEY
  return stream
}

const infoStream: Run = (engine, argv) => {
  const stream = streamOf(engine, argv)
  const full = argv.length > 3
  let limit = 10
  if (full) {
    if ((argv.length !== 4 && argv.length !== 6) || !is(argv[3], "FULL")) return wrongSubcommand("XINFO", argv[1]!)
    if (argv.length === 6) {
      if (!is(argv[4], "COUNT")) return wrongSubcommand("XINFO", argv[1]!)
      const count = integer(argv[5]!)
      if (count >= 0) limit = count === 0 ? Infinity : count
    }
  }
  const { first, last, tree } = stream
  const common = [
    "length",
    stream.size,
    "radix-tree-keys",
    tree.keys,
    "radix-tree-nodes",
    tree.nodes,
    "last-generated-id",
    formatId(stream.lastId),
    "max-deleted-entry-id",
    formatId(stream.maxDeletedId),
    "entries-added",
    counter(stream.entriesAdded),
    "recorded-first-entry-id",
    first?.name ?? formatId(0n)
  ]
  return full
    ? [
      ...common,
      "entries",
      stream.range(0n, MAX_ID, limit).map(show),
      "groups",
      sorted(stream.groups).map(([name, group]) => infoFullGroup(stream, name, group, limit))
    ]
    : [
      ...common,
      "groups",
      stream.groups.size,
      "first-entry",
      first === undefined ? null : show(first),
      "last-entry",
      last === undefined ? null : show(last)
    ]
}

const take = (all: Iterable<Pending>, limit: number, show: (pending: Pending) => EngineReply): Array<EngineReply> => {
  const out: Array<EngineReply> = []
  for (const pending of all) {
    if (out.length >= limit) break
    out.push(show(pending))
  }
  return out
}

const infoFullGroup = (stream: Stream, name: string, group: Group, limit: number): EngineReply => [
  "name",
  name,
  "last-delivered-id",
  formatId(group.lastId),
  "entries-read",
  counter(group.entriesRead),
  "lag",
  counter(stream.lag(group)),
  "pel-count",
  group.pending.size,
  "pending",
  take(group.pending, limit, ({ consumer, deliveredAt, deliveries, id }) => [
    formatId(id),
    consumer.name,
    deliveredAt,
    counter(deliveries)
  ]),
  "consumers",
  sorted(group.consumers).map(([name, { pending, seenAt }]) => [
    "name",
    name,
    "seen-time",
    seenAt,
    "pel-count",
    pending.size,
    "pending",
    take(pending, limit, ({ deliveredAt, deliveries, id }) => [formatId(id), deliveredAt, counter(deliveries)])
  ])
]

const infoGroups: Run = (engine, argv) => {
  const stream = streamOf(engine, argv)
  return sorted(stream.groups).map(([name, group]) => [
    "name",
    name,
    "consumers",
    group.consumers.size,
    "pending",
    group.pending.size,
    "last-delivered-id",
    formatId(group.lastId),
    "entries-read",
    counter(group.entriesRead),
    "lag",
    counter(stream.lag(group))
  ])
}

const infoConsumers: Run = (engine, argv) => {
  const group = streamOf(engine, argv).groups.get(argv[3]!) ?? noSuchGroup(argv[3]!, argv[2]!)
  return sorted(group.consumers).map(([name, { pending, seenAt }]) => [
    "name",
    name,
    "pending",
    pending.size,
    "idle",
    Math.max(0, engine.now - seenAt)
  ])
}

const secondKey: Keys = [2, 2, 1]

export const streams: Table = {
  XADD: { arity: -5, flags: ["write"], keys: firstKey, run: add },
  XLEN: { arity: 2, flags: ["readonly"], keys: firstKey, run: (engine, argv) => engine.stream(argv[1]!)?.size ?? 0 },
  XRANGE: { arity: -4, flags: ["readonly"], keys: firstKey, run: range(false) },
  XREVRANGE: { arity: -4, flags: ["readonly"], keys: firstKey, run: range(true) },
  XDEL: {
    arity: -3,
    flags: ["write"],
    keys: firstKey,
    run(engine, argv) {
      const stream = engine.stream(argv[1]!)
      if (stream === undefined) return 0
      const deleted = argv.slice(2).map((text) => strictId(text)).filter((id) => stream.delete(id)).length
      if (deleted > 0) engine.modified(argv[1]!)
      return deleted
    }
  },
  XTRIM: {
    arity: -4,
    flags: ["write"],
    keys: firstKey,
    run(engine, argv) {
      const { trim } = trimArguments(argv, false)
      const stream = engine.stream(argv[1]!)
      if (stream === undefined || trim === undefined) return 0
      const removed = stream.trim(trim)
      if (removed > 0) engine.modified(argv[1]!)
      return removed
    }
  },
  XSETID: { arity: -3, flags: ["write"], keys: firstKey, run: setId },
  XREAD: { arity: -4, flags: ["readonly", "blocking"], keys: streamKeys, run: read(false) },
  XREADGROUP: { arity: -7, flags: ["write", "blocking"], keys: streamKeys, run: read(true) },
  ...container("XGROUP", {
    CREATE: { arity: -5, flags: ["write"], keys: secondKey, run: createGroup },
    SETID: { arity: -5, flags: ["write"], keys: secondKey, run: setGroupId },
    DESTROY: { arity: 4, flags: ["write"], keys: secondKey, run: destroyGroup },
    CREATECONSUMER: { arity: 5, flags: ["write"], keys: secondKey, run: createConsumer },
    DELCONSUMER: { arity: 5, flags: ["write"], keys: secondKey, run: deleteConsumer }
  }),
  XACK: { arity: -4, flags: ["write"], keys: firstKey, run: acknowledge },
  XPENDING: { arity: -3, flags: ["readonly"], keys: firstKey, run: pending },
  XCLAIM: { arity: -6, flags: ["write"], keys: firstKey, run: claim },
  XAUTOCLAIM: { arity: -6, flags: ["write"], keys: firstKey, run: claimAny },
  ...container("XINFO", {
    STREAM: { arity: -3, flags: ["readonly"], keys: secondKey, run: infoStream },
    GROUPS: { arity: 3, flags: ["readonly"], keys: secondKey, run: infoGroups },
    CONSUMERS: { arity: 4, flags: ["readonly"], keys: secondKey, run: infoConsumers }
  })
}
