/**
 * The collections that values are made of.
 */
import type { Random } from "./random.js"

/** An element of `Indexed`. */
export class Node {
  /** Where it stands in the list of all nodes. */
  index = 0
  /** Its number in order of arrival, never used twice. */
  sequence = 0
  constructor(readonly key: string) {}
}

/**
 * A dictionary that can also choose at random and be scanned step by step.
 *
 * A scan runs from the newest element to the oldest, and its cursor is the sequence number of the element it has
 * reached. So whatever is there from the beginning to the end of a scan is returned once, and it ends although others
 * add.
 */
export class Indexed<N extends Node> {
  private readonly byKey = new Map<string, N>()
  private order: Array<N | undefined> = []
  private next = 1

  get size(): number {
    return this.byKey.size
  }

  get(key: string): N | undefined {
    return this.byKey.get(key)
  }

  has(key: string): boolean {
    return this.byKey.has(key)
  }

  add(node: N): void {
    this.byKey.set(node.key, node)
    node.sequence = this.next++
    node.index = this.order.length
    this.order.push(node)
  }

  delete(key: string): N | undefined {
    const node = this.byKey.get(key)
    if (node === undefined) return undefined
    this.byKey.delete(key)
    this.order[node.index] = undefined
    if (node.index === this.order.length - 1) this.order.pop()
    if (this.order.length > 32 && this.order.length > 2 * this.byKey.size) this.compact()
    return node
  }

  values(): IterableIterator<N> {
    return this.byKey.values()
  }

  keys(): IterableIterator<string> {
    return this.byKey.keys()
  }

  random(random: Random): N | undefined {
    if (this.byKey.size === 0) return undefined
    while (true) {
      const node = this.order[random.below(this.order.length)]
      if (node !== undefined) return node
    }
  }

  /** Visits up to `count` elements and returns the next cursor, 0 at the end. */
  scan(cursor: number, count: number, visit: (node: N) => void): number {
    let i = cursor === 0 ? this.order.length - 1 : this.before(cursor)
    let visited = 0
    let last = 0
    for (; i >= 0; i--) {
      const node = this.order[i]
      if (node === undefined) continue
      if (visited === count) return last
      visit(node)
      last = node.sequence
      visited++
    }
    return 0
  }

  /** The last place whose sequence number is lower. */
  private before(sequence: number): number {
    let low = 0
    let high = this.order.length
    while (low < high) {
      let middle = (low + high) >> 1
      const start = middle
      while (middle < high && this.order[middle] === undefined) middle++
      if (middle === high) high = start
      else if (this.order[middle]!.sequence < sequence) low = middle + 1
      else high = start
    }
    return low - 1
  }

  private compact(): void {
    const order = new Array<N | undefined>(this.byKey.size)
    let i = 0
    for (const node of this.order) {
      if (node === undefined) continue
      node.index = i
      order[i++] = node
    }
    this.order = order
  }
}

/** A list that grows at both ends: a ring whose size is a power of two. */
export class Deque {
  private ring: Array<string> = new Array<string>(8).fill("")
  private head = 0
  length = 0

  static from(values: ReadonlyArray<string>): Deque {
    const deque = new Deque()
    for (const value of values) deque.push(value)
    return deque
  }

  at(index: number): string {
    return this.ring[(this.head + index) & (this.ring.length - 1)]!
  }

  set(index: number, value: string): void {
    this.ring[(this.head + index) & (this.ring.length - 1)] = value
  }

  push(value: string): void {
    if (this.length === this.ring.length) this.grow()
    this.ring[(this.head + this.length) & (this.ring.length - 1)] = value
    this.length++
  }

  unshift(value: string): void {
    if (this.length === this.ring.length) this.grow()
    this.head = (this.head - 1) & (this.ring.length - 1)
    this.ring[this.head] = value
    this.length++
  }

  shift(): string {
    const value = this.ring[this.head]!
    this.ring[this.head] = ""
    this.head = (this.head + 1) & (this.ring.length - 1)
    this.length--
    return value
  }

  pop(): string {
    this.length--
    const at = (this.head + this.length) & (this.ring.length - 1)
    const value = this.ring[at]!
    this.ring[at] = ""
    return value
  }

  slice(from: number, to: number): Array<string> {
    const out = new Array<string>(Math.max(0, to - from))
    for (let i = from; i < to; i++) out[i - from] = this.at(i)
    return out
  }

  /** Replaces the whole content. */
  reset(values: ReadonlyArray<string>): void {
    const other = Deque.from(values)
    this.ring = other.ring
    this.head = other.head
    this.length = other.length
  }

  private grow(): void {
    const values = this.slice(0, this.length)
    const ring = new Array<string>(this.ring.length * 2).fill("")
    for (let i = 0; i < values.length; i++) ring[i] = values[i]!
    this.ring = ring
    this.head = 0
  }
}

/** A member of a sorted set. */
export class Scored extends Node {
  constructor(key: string, public score: number) {
    super(key)
  }
}

const CHUNK = 512

const precedes = (a: Scored, score: number, key: string): boolean =>
  a.score < score || (a.score === score && a.key < key)

/**
 * Members in order of score, then bytes: arrays of at most 512, so that an insertion moves few members, and finding the
 * array is a binary search. A rank adds up the lengths of the arrays before it, a few thousand for a million members.
 */
export class Ranking {
  private chunks: Array<Array<Scored>> = []
  length = 0

  insert(node: Scored): void {
    this.length++
    if (this.chunks.length === 0) {
      this.chunks.push([node])
      return
    }
    const c = Math.min(this.chunkOf(node.score, node.key), this.chunks.length - 1)
    const chunk = this.chunks[c]!
    const at = position(chunk, node.score, node.key)
    if (at === chunk.length) chunk.push(node)
    else chunk.splice(at, 0, node)
    if (chunk.length > CHUNK) {
      // Members that arrive in order only ever need the last array, so that it may leave the others full.
      const half = at === chunk.length - 1 && c === this.chunks.length - 1 ? CHUNK : CHUNK >> 1
      this.chunks.splice(c + 1, 0, chunk.splice(half))
    }
  }

  delete(node: Scored): void {
    const c = this.chunkOf(node.score, node.key)
    const chunk = this.chunks[c]!
    chunk.splice(position(chunk, node.score, node.key), 1)
    this.length--
    if (chunk.length === 0) this.chunks.splice(c, 1)
  }

  rank(node: Scored): number {
    const c = this.chunkOf(node.score, node.key)
    return this.lengthBefore(c) + position(this.chunks[c]!, node.score, node.key)
  }

  at(rank: number): Scored {
    let c = 0
    let rest = rank
    while (rest >= this.chunks[c]!.length) rest -= this.chunks[c++]!.length
    return this.chunks[c]![rest]!
  }

  /** How many members come before the first for which this holds; it must hold for all that follow. */
  countBefore(holds: (node: Scored) => boolean): number {
    let low = 0
    let high = this.chunks.length
    while (low < high) {
      const middle = (low + high) >> 1
      const chunk = this.chunks[middle]!
      if (holds(chunk[chunk.length - 1]!)) high = middle
      else low = middle + 1
    }
    if (low === this.chunks.length) return this.length
    const chunk = this.chunks[low]!
    let from = 0
    let to = chunk.length
    while (from < to) {
      const middle = (from + to) >> 1
      if (holds(chunk[middle]!)) to = middle
      else from = middle + 1
    }
    return this.lengthBefore(low) + from
  }

  /** The members from one rank up to another, without that one. */
  slice(from: number, to: number): Array<Scored> {
    const out: Array<Scored> = []
    let start = 0
    for (const chunk of this.chunks) {
      if (start >= to) break
      const end = start + chunk.length
      if (end > from) {
        const last = Math.min(to, end)
        for (let i = Math.max(from, start); i < last; i++) out.push(chunk[i - start]!)
      }
      start = end
    }
    return out
  }

  private lengthBefore(c: number): number {
    let count = 0
    for (let i = 0; i < c; i++) count += this.chunks[i]!.length
    return count
  }

  /** The first array whose last member does not come before this place. */
  private chunkOf(score: number, key: string): number {
    let low = 0
    let high = this.chunks.length
    while (low < high) {
      const middle = (low + high) >> 1
      const chunk = this.chunks[middle]!
      if (precedes(chunk[chunk.length - 1]!, score, key)) low = middle + 1
      else high = middle
    }
    return low
  }
}

const position = (chunk: ReadonlyArray<Scored>, score: number, key: string): number => {
  let low = 0
  let high = chunk.length
  while (low < high) {
    const middle = (low + high) >> 1
    if (precedes(chunk[middle]!, score, key)) low = middle + 1
    else high = middle
  }
  return low
}

/** Things by the instant at which they are due; what is no longer wanted is skipped by whoever takes it. */
export class Heap<A> {
  private readonly items: Array<{ readonly at: number; readonly value: A }> = []

  get length(): number {
    return this.items.length
  }

  /** The next instant, `Infinity` when there is nothing. */
  get next(): number {
    return this.items.length === 0 ? Infinity : this.items[0]!.at
  }

  push(at: number, value: A): void {
    const { items } = this
    const item = { at, value }
    let i = items.length
    items.push(item)
    while (i > 0) {
      const parent = (i - 1) >> 1
      if (items[parent]!.at <= at) break
      items[i] = items[parent]!
      i = parent
    }
    items[i] = item
  }

  pop(): A {
    const { items } = this
    const top = items[0]!
    const last = items.pop()!
    if (items.length > 0) {
      let i = 0
      while (true) {
        let child = 2 * i + 1
        if (child >= items.length) break
        if (child + 1 < items.length && items[child + 1]!.at < items[child]!.at) child++
        if (items[child]!.at >= last.at) break
        items[i] = items[child]!
        i = child
      }
      items[i] = last
    }
    return top.value
  }

  clear(): void {
    this.items.length = 0
  }
}
