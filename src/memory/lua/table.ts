/**
 * Lua's table: an array part and a hash part.
 *
 * Look-ups go through a JavaScript `Map`. Beside it the table keeps the layout that Lua's own hash would have (main
 * positions, collisions, sizes after a rehash), because scripts can see it: `pairs` and `cjson.encode` walk in that
 * order, and `#` of an array with holes depends on the size of the array part.
 */
import { Userdata } from "./value.js"
import type { LuaValue } from "./value.js"

const noValues: Array<LuaValue> = []
const noLinks: Array<number> = []

const float = new Float64Array(1)
const words = new Uint32Array(float.buffer)

/** Of every character: the server's Lua skips none, so that nobody can make strings that collide. */
const hashString = (text: string): number => {
  let hash = text.length
  for (let i = text.length - 1; i >= 0; i--) hash ^= (hash << 5) + (hash >>> 2) + text.charCodeAt(i)
  return hash
}

const ceilLog2 = (n: number): number => n <= 1 ? 0 : 32 - Math.clz32(n - 1)

let lastId = 0

export class LuaTable {
  /** Values of the keys 1 to `arraySize`; shorter when the last ones are nil. */
  private array: Array<LuaValue> = noValues
  private arraySize = 0
  /** Key to node. Keys whose value became nil stay until a rehash, as in Lua. */
  private nodes: Map<LuaValue, number> | undefined = undefined
  private nodeKeys: Array<LuaValue> = noValues
  private nodeValues: Array<LuaValue> = noValues
  private nodeNext: Array<number> = noLinks
  private nodeCount = 0
  private lastFree = 0
  metatable: LuaTable | undefined = undefined
  readonly = false
  /** Stands in for the address. */
  readonly id = ++lastId

  constructor(arraySize = 0, hashSize = 0) {
    if (arraySize > 0) {
      this.array = []
      this.arraySize = arraySize
    }
    if (hashSize > 0) this.allocateNodes(hashSize)
  }

  /** The table with these values at 1, 2, …; the array becomes the table's own. None may be nil. */
  static of(values: Array<LuaValue>): LuaTable {
    const table = new LuaTable()
    if (values.length > 0) {
      table.array = values
      table.arraySize = 2 ** ceilLog2(values.length)
    }
    return table
  }

  static record(fields: Iterable<readonly [string, LuaValue]>): LuaTable {
    const table = new LuaTable()
    for (const [key, value] of fields) table.set(key, value)
    return table
  }

  get(key: LuaValue): LuaValue {
    if (typeof key === "number" && key > 0 && key <= this.arraySize && (key | 0) === key) return this.array[key - 1]
    if (this.nodes === undefined) return undefined
    const node = this.nodes.get(key)
    return node === undefined ? undefined : this.nodeValues[node]
  }

  /** Sets without metamethods; the key is neither nil nor NaN. */
  set(key: LuaValue, value: LuaValue): void {
    if (typeof key === "number" && key > 0 && key <= this.arraySize && (key | 0) === key) {
      this.array[key - 1] = value
      return
    }
    if (this.nodes !== undefined) {
      const node = this.nodes.get(key)
      if (node !== undefined) {
        this.nodeValues[node] = value
        return
      }
    }
    this.insert(key, value)
  }

  /** The values of a constructor's list, at 1, 2, …. */
  setList(values: Array<LuaValue>): this {
    if (values.length === 0) return this
    if (values.length > this.arraySize) this.resize(values.length, this.nodeCount)
    for (let i = 0; i < values.length; i++) this.array[i] = values[i]
    return this
  }

  /** A border: `t[n]` is not nil and `t[n + 1]` is. */
  length(): number {
    const size = this.arraySize
    if (size > 0 && this.array[size - 1] === undefined) {
      let low = 0
      let high = size
      while (high - low > 1) {
        const middle = (low + high) >> 1
        if (this.array[middle - 1] === undefined) high = middle
        else low = middle
      }
      return low
    }
    if (this.nodeCount === 0) return size
    let low = size
    let high = size + 1
    while (this.get(high) !== undefined) {
      low = high
      high *= 2
    }
    while (high - low > 1) {
      const middle = Math.floor((low + high) / 2)
      if (this.get(middle) === undefined) high = middle
      else low = middle
    }
    return low
  }

  /** The first entry at or after a place, or -1; the first place is 0. */
  seek(place: number): number {
    let i = place
    for (; i < this.arraySize; i++) {
      if (i >= this.array.length) i = this.arraySize - 1
      else if (this.array[i] !== undefined) return i
    }
    for (; i < this.arraySize + this.nodeCount; i++) {
      if (this.nodeValues[i - this.arraySize] !== undefined) return i
    }
    return -1
  }

  keyAt(place: number): LuaValue {
    return place < this.arraySize ? place + 1 : this.nodeKeys[place - this.arraySize]
  }

  valueAt(place: number): LuaValue {
    return place < this.arraySize ? this.array[place] : this.nodeValues[place - this.arraySize]
  }

  /** The place after a key, or -1 when the table never had it. */
  placeAfter(key: LuaValue): number {
    if (key === undefined) return 0
    if (typeof key === "number" && key > 0 && key <= this.arraySize && (key | 0) === key) return key
    const node = this.nodes?.get(key)
    return node === undefined ? -1 : this.arraySize + node + 1
  }

  /** All entries in traversal order. */
  *entries(): IterableIterator<[LuaValue, LuaValue]> {
    for (let place = this.seek(0); place >= 0; place = this.seek(place + 1)) {
      yield [this.keyAt(place), this.valueAt(place)]
    }
  }

  private allocateNodes(size: number): void {
    if (size === 0) {
      this.nodes = undefined
      this.nodeKeys = noValues
      this.nodeValues = noValues
      this.nodeNext = noLinks
      this.nodeCount = 0
      this.lastFree = 0
      return
    }
    const count = 2 ** ceilLog2(size)
    this.nodes = new Map()
    this.nodeKeys = new Array<LuaValue>(count).fill(undefined)
    this.nodeValues = new Array<LuaValue>(count).fill(undefined)
    this.nodeNext = new Array<number>(count).fill(-1)
    this.nodeCount = count
    this.lastFree = count
  }

  private mainPosition(key: LuaValue): number {
    const size = this.nodeCount
    switch (typeof key) {
      case "string":
        return hashString(key) & (size - 1)
      case "number":
        if (key === 0) return 0
        float[0] = key
        return ((words[0]! + words[1]!) >>> 0) % ((size - 1) | 1)
      case "boolean":
        return (key ? 1 : 0) & (size - 1)
      default: {
        const address = key instanceof LuaTable ? key.id * 64 : key instanceof Userdata ? 0 : 32
        return address % ((size - 1) | 1)
      }
    }
  }

  private insert(key: LuaValue, value: LuaValue): void {
    const nodes = this.nodes
    if (nodes === undefined) return this.rehash(key, value)
    let position = this.mainPosition(key)
    if (this.nodeValues[position] !== undefined) {
      const free = this.takeFree()
      if (free < 0) return this.rehash(key, value)
      const tenant = this.nodeKeys[position]
      let other = this.mainPosition(tenant)
      if (other !== position) {
        while (this.nodeNext[other] !== position) other = this.nodeNext[other]!
        this.nodeNext[other] = free
        this.nodeKeys[free] = tenant
        this.nodeValues[free] = this.nodeValues[position]
        this.nodeNext[free] = this.nodeNext[position]!
        nodes.set(tenant, free)
        this.nodeNext[position] = -1
        this.nodeValues[position] = undefined
      } else {
        this.nodeNext[free] = this.nodeNext[position]!
        this.nodeNext[position] = free
        position = free
      }
    } else {
      const dead = this.nodeKeys[position]
      if (dead !== undefined && nodes.get(dead) === position) nodes.delete(dead)
    }
    this.nodeKeys[position] = key
    this.nodeValues[position] = value
    nodes.set(key, position)
  }

  private takeFree(): number {
    while (this.lastFree > 0) {
      this.lastFree--
      if (this.nodeKeys[this.lastFree] === undefined) return this.lastFree
    }
    return -1
  }

  /** Chooses new sizes, counting the key to come, so that more than half of the array part is in use. */
  private rehash(key: LuaValue, value: LuaValue): void {
    const counts = new Array<number>(32).fill(0)
    let total = 0
    let integers = 0
    const count = (candidate: LuaValue): void => {
      total++
      if (typeof candidate === "number" && candidate > 0 && candidate <= 2 ** 26 && (candidate | 0) === candidate) {
        counts[ceilLog2(candidate)]!++
        integers++
      }
    }
    for (let i = 0; i < this.array.length; i++) if (this.array[i] !== undefined) count(i + 1)
    for (let i = 0; i < this.nodeCount; i++) if (this.nodeValues[i] !== undefined) count(this.nodeKeys[i])
    count(key)
    let arraySize = 0
    let inArray = 0
    let seen = 0
    for (let i = 0, power = 1; Math.floor(power / 2) < integers; i++, power *= 2) {
      if (counts[i]! > 0) {
        seen += counts[i]!
        if (seen > Math.floor(power / 2)) {
          arraySize = power
          inArray = seen
        }
      }
      if (seen === integers) break
    }
    this.resize(arraySize, total - inArray)
    this.set(key, value)
  }

  private resize(arraySize: number, hashSize: number): void {
    const oldArraySize = this.arraySize
    const oldKeys = this.nodeKeys
    const oldValues = this.nodeValues
    if (arraySize > oldArraySize) {
      this.arraySize = arraySize
      if (this.array === noValues) this.array = []
    }
    this.allocateNodes(hashSize)
    if (arraySize < oldArraySize) {
      this.arraySize = arraySize
      const vanishing = this.array.splice(arraySize)
      for (let i = 0; i < vanishing.length; i++) {
        if (vanishing[i] !== undefined) this.set(arraySize + i + 1, vanishing[i])
      }
    }
    for (let i = oldKeys.length - 1; i >= 0; i--) {
      if (oldValues[i] !== undefined) this.set(oldKeys[i], oldValues[i])
    }
  }
}
