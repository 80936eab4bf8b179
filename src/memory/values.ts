/**
 * What a key can hold.
 */
import { Deque, Indexed, Node, Ranking, Scored } from "./collections.js"
import { ErrorReply } from "./reply.js"
import { Stream } from "./streams.js"

export class Field extends Node {
  constructor(key: string, public value: string) {
    super(key)
  }
}

export class Hash extends Indexed<Field> {}

export class Members extends Indexed<Node> {}

export class SortedSet {
  readonly members = new Indexed<Scored>()
  readonly ranking = new Ranking()

  get size(): number {
    return this.members.size
  }

  /** Adds a member, or moves it; says whether that changed anything. */
  put(key: string, given: number): boolean {
    // There is no negative zero here, as in Redis' compact encoding.
    const score = given + 0
    const node = this.members.get(key)
    if (node === undefined) {
      const added = new Scored(key, score)
      this.members.add(added)
      this.ranking.insert(added)
      return true
    }
    if (node.score === score) return false
    this.ranking.delete(node)
    node.score = score
    this.ranking.insert(node)
    return true
  }

  delete(key: string): boolean {
    const node = this.members.delete(key)
    if (node === undefined) return false
    this.ranking.delete(node)
    return true
  }
}

export type Value = string | Hash | Deque | Members | SortedSet | Stream

export class Entry extends Node {
  /** In milliseconds; `Infinity` when the key stays. Zero is an instant like others. */
  expireAt = Infinity
  constructor(key: string, public value: Value) {
    super(key)
  }
}

export const typeOf = (value: Value): "string" | "hash" | "list" | "set" | "zset" | "stream" =>
  typeof value === "string"
    ? "string"
    : value instanceof Hash
    ? "hash"
    : value instanceof Deque
    ? "list"
    : value instanceof Members
    ? "set"
    : value instanceof SortedSet
    ? "zset"
    : "stream"

export const sizeOf = (value: Value): number =>
  typeof value === "string" || value instanceof Deque ? value.length : value.size

export const copyOf = (value: Value): Value => {
  if (typeof value === "string") return value
  if (value instanceof Deque) return Deque.from(value.slice(0, value.length))
  if (value instanceof Hash) {
    const copy = new Hash()
    for (const { key, value: text } of value.values()) copy.add(new Field(key, text))
    return copy
  }
  if (value instanceof Members) {
    const copy = new Members()
    for (const key of value.keys()) copy.add(new Node(key))
    return copy
  }
  if (value instanceof Stream) return value.copy()
  const copy = new SortedSet()
  for (const { key, score } of value.members.values()) copy.put(key, score)
  return copy
}

// Errors are values that are thrown: commands read like Redis' own, and there is no stack trace to pay for.

export const WRONG_TYPE = new ErrorReply("WRONGTYPE Operation against a key holding the wrong kind of value")
export const SYNTAX = new ErrorReply("ERR syntax error")
export const NOT_INTEGER = new ErrorReply("ERR value is not an integer or out of range")
export const NOT_FLOAT = new ErrorReply("ERR value is not a valid float")
export const NO_KEY = new ErrorReply("ERR no such key")
export const OUT_OF_RANGE = new ErrorReply("ERR index out of range")
export const OVERFLOW = new ErrorReply("ERR increment or decrement would overflow")
export const CROSS_SLOT = new ErrorReply("CROSSSLOT Keys in request don't hash to the same slot")
