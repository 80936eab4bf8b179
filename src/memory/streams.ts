/**
 * Streams: entries in the order of their ids, and the groups that read them.
 *
 * An id is one integer of 128 bits, the time in its upper half and the sequence number in its lower: so ids compare and
 * count like numbers.
 */
import { parseInt64 } from "./numbers.js"

export type Id = bigint

const HALF = 0xffff_ffff_ffff_ffffn
export const MAX_SEQUENCE = HALF
export const MAX_ID: Id = HALF << 64n | HALF

export const makeId = (time: bigint, sequence: bigint): Id => time << 64n | sequence
export const timeOf = (id: Id): bigint => id >> 64n
export const formatId = (id: Id): string => `${id >> 64n}-${id & HALF}`

interface Identified {
  readonly id: Id
}

/** The first place whose id is not lower. */
const placeOf = (items: ReadonlyArray<Identified>, id: Id): number => {
  let low = 0
  let high = items.length
  while (low < high) {
    const middle = (low + high) >> 1
    if (items[middle]!.id < id) low = middle + 1
    else high = middle
  }
  return low
}

const CHUNK = 512

/** Things in the order of their ids: arrays of at most 512, so that an insertion moves few. */
export class Ordered<A extends Identified> {
  private readonly chunks: Array<Array<A>> = []
  size = 0

  get(id: Id): A | undefined {
    const found = this.atLeast(id)
    return found?.id === id ? found : undefined
  }

  /** The first whose id is not lower. */
  atLeast(id: Id): A | undefined {
    const chunk = this.chunks[this.chunkOf(id)]
    return chunk?.[placeOf(chunk, id)]
  }

  get last(): A | undefined {
    return this.chunks.at(-1)?.at(-1)
  }

  /** Adds what is not there yet. */
  add(item: A): void {
    this.size++
    if (this.chunks.length === 0) {
      this.chunks.push([item])
      return
    }
    const c = Math.min(this.chunkOf(item.id), this.chunks.length - 1)
    const chunk = this.chunks[c]!
    const at = placeOf(chunk, item.id)
    if (at === chunk.length) chunk.push(item)
    else chunk.splice(at, 0, item)
    if (chunk.length > CHUNK) {
      // What arrives in order leaves full arrays behind.
      const half = at === chunk.length - 1 && c === this.chunks.length - 1 ? CHUNK : CHUNK >> 1
      this.chunks.splice(c + 1, 0, chunk.splice(half))
    }
  }

  delete(id: Id): void {
    const c = this.chunkOf(id)
    const chunk = this.chunks[c]
    if (chunk === undefined) return
    const at = placeOf(chunk, id)
    if (chunk[at]?.id !== id) return
    chunk.splice(at, 1)
    this.size--
    if (chunk.length === 0) this.chunks.splice(c, 1)
  }

  *[Symbol.iterator](): IterableIterator<A> {
    for (const chunk of this.chunks) yield* chunk
  }

  /** The first array whose last id is not lower. */
  private chunkOf(id: Id): number {
    let low = 0
    let high = this.chunks.length
    while (low < high) {
      const middle = (low + high) >> 1
      if (this.chunks[middle]!.at(-1)!.id < id) low = middle + 1
      else high = middle
    }
    return low
  }
}

/** An entry that was delivered to a consumer and is not acknowledged. */
export class Pending {
  constructor(readonly id: Id, public consumer: Consumer, public deliveredAt: number, public deliveries: bigint) {}
}

export class Consumer {
  readonly pending = new Ordered<Pending>()
  constructor(readonly name: string, public seenAt: number) {}
}

export class Group {
  readonly pending = new Ordered<Pending>()
  readonly consumers = new Map<string, Consumer>()
  constructor(
    public lastId: Id,
    /** How many entries it has read of all that there ever were, if that is known. */
    public entriesRead: bigint | undefined
  ) {}

  /** The consumer of this name, seen now; made when there is none. */
  consumer(name: string, now: number): Consumer {
    const known = this.consumers.get(name)
    if (known === undefined) return this.addConsumer(name, now)
    known.seenAt = now
    return known
  }

  addConsumer(name: string, now: number): Consumer {
    const consumer = new Consumer(name, now)
    this.consumers.set(name, consumer)
    return consumer
  }

  removeConsumer(consumer: Consumer): void {
    for (const { id } of consumer.pending) this.pending.delete(id)
    this.consumers.delete(consumer.name)
  }

  /** Makes a consumer the owner of an entry, whoever had it before. */
  assign(id: Id, consumer: Consumer, deliveredAt: number): Pending {
    let pending = this.pending.get(id)
    if (pending === undefined) {
      pending = new Pending(id, consumer, deliveredAt, 1n)
      this.pending.add(pending)
      consumer.pending.add(pending)
    } else {
      if (pending.consumer !== consumer) {
        pending.consumer.pending.delete(id)
        pending.consumer = consumer
        consumer.pending.add(pending)
      }
      pending.deliveredAt = deliveredAt
    }
    return pending
  }

  forget(pending: Pending): void {
    this.pending.delete(pending.id)
    pending.consumer.pending.delete(pending.id)
  }
}

export interface StreamEntry {
  readonly id: Id
  /** The id as text. */
  readonly name: string
  /** Fields and values in turn. */
  readonly fields: ReadonlyArray<string>
}

/** `stream-node-max-entries`; those that were deleted count. */
const NODE_ENTRIES = 100
/** `stream-node-max-bytes` */
const NODE_BYTES = 4096
/** What a listpack takes when it is empty. */
const LISTPACK_BYTES = 7

const withBackLength = (size: number): number =>
  size + (size <= 127 ? 1 : size < 16_383 ? 2 : size < 2_097_151 ? 3 : size < 268_435_455 ? 4 : 5)

/** What an integer takes in a listpack. */
const integerBytes = (value: bigint): number =>
  withBackLength(
    value >= 0n && value <= 127n
      ? 1
      : value >= -4096n && value <= 4095n
      ? 2
      : value >= -32_768n && value <= 32_767n
      ? 3
      : value >= -8_388_608n && value <= 8_388_607n
      ? 4
      : value >= -2_147_483_648n && value <= 2_147_483_647n
      ? 5
      : 9
  )

const textBytes = (text: string): number => {
  const value = parseInt64(text)
  if (value !== undefined) return integerBytes(value)
  const { length } = text
  return withBackLength(length + (length < 64 ? 1 : length < 4096 ? 2 : 5))
}

/**
 * Entries that Redis keeps together in one listpack. Approximate trimming removes whole ones, so where they end, by
 * their number or by their size in Redis' encoding, decides what it removes.
 */
class StreamNode {
  readonly entries: Array<StreamEntry> = []
  /** Of the last entry that was added, also when it is deleted. */
  lastId: Id
  private count = 0
  private bytes = LISTPACK_BYTES
  constructor(readonly id: Id, private readonly fields: ReadonlyArray<string>) {
    this.lastId = id
    this.bytes += 3 * integerBytes(0n) + integerBytes(BigInt(fields.length))
    for (const field of fields) this.bytes += textBytes(field)
  }

  hasRoomFor(size: number): boolean {
    return this.bytes + size < NODE_BYTES && this.count < NODE_ENTRIES
  }

  push(entry: StreamEntry): void {
    const { fields, id } = entry
    this.entries.push(entry)
    this.lastId = id
    this.count++
    const pairs = fields.length / 2
    const same = pairs === this.fields.length && this.fields.every((field, i) => field === fields[2 * i])
    this.bytes += integerBytes(0n) +
      integerBytes(BigInt.asIntN(64, timeOf(id) - timeOf(this.id))) +
      integerBytes(BigInt.asIntN(64, (id & HALF) - (this.id & HALF))) +
      integerBytes(BigInt(same ? pairs + 3 : 2 * pairs + 4))
    if (!same) this.bytes += integerBytes(BigInt(pairs))
    for (let i = same ? 1 : 0; i < fields.length; i += same ? 2 : 1) this.bytes += textBytes(fields[i]!)
  }

  copy(): StreamNode {
    const copy = new StreamNode(this.id, this.fields)
    copy.entries.push(...this.entries)
    copy.lastId = this.lastId
    copy.count = this.count
    copy.bytes = this.bytes
    return copy
  }
}

export interface Trim {
  readonly limit: number
  readonly approximate: boolean
  readonly to: { readonly length: number } | { readonly id: Id }
}

export class Stream {
  private nodes: Array<StreamNode> = []
  size = 0
  lastId: Id = 0n
  maxDeletedId: Id = 0n
  entriesAdded = 0n
  readonly groups = new Map<string, Group>()

  /** Adds an entry whose id must be greater than the last one. */
  append(id: Id, fields: ReadonlyArray<string>): StreamEntry {
    let size = 0
    for (const text of fields) size += text.length
    let node = this.nodes.at(-1)
    if (node === undefined || !node.hasRoomFor(size)) {
      node = new StreamNode(id, fields.filter((_, i) => i % 2 === 0))
      this.nodes.push(node)
    }
    const entry = { id, name: formatId(id), fields }
    node.push(entry)
    this.size++
    this.entriesAdded++
    this.lastId = id
    return entry
  }

  get(id: Id): StreamEntry | undefined {
    const entries = this.nodes[this.nodeOf(id)]?.entries
    const entry = entries?.[placeOf(entries, id)]
    return entry?.id === id ? entry : undefined
  }

  get first(): StreamEntry | undefined {
    // A node can be left with deleted entries alone.
    return this.nodes.find(({ entries }) => entries.length > 0)?.entries[0]
  }

  get last(): StreamEntry | undefined {
    for (let n = this.nodes.length - 1; n >= 0; n--) {
      const entry = this.nodes[n]!.entries.at(-1)
      if (entry !== undefined) return entry
    }
    return undefined
  }

  /** At most `limit` entries from one id to another, both included. */
  range(from: Id, to: Id, limit: number): Array<StreamEntry> {
    const out: Array<StreamEntry> = []
    for (let n = Math.max(0, this.nodeOf(from)); n < this.nodes.length; n++) {
      const { entries } = this.nodes[n]!
      for (let i = placeOf(entries, from); i < entries.length; i++) {
        if (out.length >= limit || entries[i]!.id > to) return out
        out.push(entries[i]!)
      }
    }
    return out
  }

  /** As `range`, from the greatest id to the least. */
  reversed(from: Id, to: Id, limit: number): Array<StreamEntry> {
    const out: Array<StreamEntry> = []
    for (let n = this.nodeOf(to); n >= 0; n--) {
      const { entries } = this.nodes[n]!
      for (let i = placeOf(entries, to + 1n) - 1; i >= 0; i--) {
        if (out.length >= limit || entries[i]!.id < from) return out
        out.push(entries[i]!)
      }
    }
    return out
  }

  delete(id: Id): boolean {
    const n = this.nodeOf(id)
    const entries = this.nodes[n]?.entries
    if (entries === undefined) return false
    const at = placeOf(entries, id)
    if (entries[at]?.id !== id) return false
    entries.splice(at, 1)
    if (entries.length === 0) this.nodes.splice(n, 1)
    this.size--
    if (id > this.maxDeletedId) this.maxDeletedId = id
    return true
  }

  /** Removes the oldest entries, and returns how many. */
  trim({ approximate, limit, to }: Trim): number {
    let removed = 0
    let node: StreamNode | undefined
    while ((node = this.nodes[0]) !== undefined) {
      const { entries, lastId } = node
      if ("length" in to && this.size <= to.length) break
      if (limit !== 0 && removed + entries.length > limit) break
      if ("length" in to ? this.size - entries.length >= to.length : lastId < to.id) {
        this.nodes.shift()
        this.size -= entries.length
        removed += entries.length
        continue
      }
      if (approximate) break
      const some = "length" in to ? this.size - to.length : placeOf(entries, to.id)
      entries.splice(0, some)
      this.size -= some
      removed += some
      break
    }
    return removed
  }

  /** Whether an entry was deleted at this id or after it, as far as the server remembers. */
  hasDeletedFrom(id: Id): boolean {
    const { first } = this
    return first !== undefined && this.maxDeletedId !== 0n && first.id <= this.maxDeletedId && id <= this.maxDeletedId
  }

  /** How many entries there ever were up to this id, where that can be told. */
  countUpTo(id: Id): bigint | undefined {
    if (this.entriesAdded === 0n) return 0n
    if (id === this.lastId || (this.size === 0 && id < this.lastId)) return this.entriesAdded
    if (id > this.lastId) return undefined
    const first = this.first?.id ?? 0n
    if (this.maxDeletedId !== 0n && this.maxDeletedId >= first) return undefined
    const before = this.entriesAdded - BigInt(this.size)
    return id < first ? before : id === first ? before + 1n : undefined
  }

  /** How many entries a group has not read yet, where that can be told. */
  lag({ entriesRead, lastId }: Group): bigint | undefined {
    if (this.entriesAdded === 0n) return 0n
    const read = entriesRead !== undefined && !this.hasDeletedFrom(lastId) ? entriesRead : this.countUpTo(lastId)
    return read === undefined ? undefined : this.entriesAdded - read
  }

  /** What a group knows of itself once it has read an entry that it had not seen. */
  advance(group: Group, id: Id): void {
    if (group.entriesRead !== undefined && !this.hasDeletedFrom(id)) group.entriesRead++
    else if (this.entriesAdded !== 0n) group.entriesRead = this.countUpTo(id)
    group.lastId = id
  }

  /** As Redis would have it: how many listpacks, and the nodes of the radix tree that holds them. */
  get tree(): { readonly keys: number; readonly nodes: number } {
    return { keys: this.nodes.length, nodes: treeNodes(this.nodes.map(({ id }) => id.toString(16).padStart(32, "0"))) }
  }

  copy(): Stream {
    const copy = new Stream()
    copy.nodes = this.nodes.map((node) => node.copy())
    copy.size = this.size
    copy.lastId = this.lastId
    copy.maxDeletedId = this.maxDeletedId
    copy.entriesAdded = this.entriesAdded
    for (const [name, group] of this.groups) {
      const other = new Group(group.lastId, group.entriesRead)
      copy.groups.set(name, other)
      for (const { name, seenAt } of group.consumers.values()) other.addConsumer(name, seenAt)
      for (const { consumer, deliveredAt, deliveries, id } of group.pending) {
        other.assign(id, other.consumers.get(consumer.name)!, deliveredAt).deliveries = deliveries
      }
    }
    return copy
  }

  /** The last node whose first id is not greater, or -1. */
  private nodeOf(id: Id): number {
    const at = placeOf(this.nodes, id)
    return this.nodes[at]?.id === id ? at : at - 1
  }
}

const KEY_DIGITS = 32

/** The nodes of a compressed tree over these keys: in hexadecimal, all of one length, in order. */
const treeNodes = (keys: ReadonlyArray<string>): number => {
  const count = (from: number, to: number, depth: number): number => {
    if (depth === KEY_DIGITS) return 1
    const first = keys[from]!
    const last = keys[to - 1]!
    let common = depth
    while (common < KEY_DIGITS && first.startsWith(last.slice(common, common + 2), common)) common += 2
    if (common > depth) return 1 + count(from, to, common)
    let nodes = 1
    for (let start = from; start < to;) {
      const byte = keys[start]!.slice(depth, depth + 2)
      let end = start + 1
      while (end < to && keys[end]!.startsWith(byte, depth)) end++
      nodes += count(start, end, depth + 2)
      start = end
    }
    return nodes
  }
  return keys.length === 0 ? 1 : count(0, keys.length, 0)
}
