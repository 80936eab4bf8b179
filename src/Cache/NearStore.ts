/**
 * The entries that a process keeps of a cache in its own memory: bounded, and never one that was read before it was
 * invalidated.
 */

/** How many of the last changes are told apart. Reads that are older than all of them are not kept. */
const CHANGES = 4096

/**
 * Keeps at least the last `capacity` keys, and at most twice as many. Two maps in place of one: the older one is dropped
 * as a whole, so no step depends on how many there are.
 */
class Recent<A> {
  private young = new Map<string, A>()
  private old = new Map<string, A>()

  constructor(readonly capacity: number, readonly onForget: () => void) {}

  get(key: string): A | undefined {
    return this.young.get(key) ?? this.old.get(key)
  }

  set(key: string, a: A): void {
    if (this.young.size >= this.capacity && !this.young.has(key)) {
      const forgets = this.old.size > 0
      this.old = this.young
      this.young = new Map()
      if (forgets) this.onForget()
    }
    this.young.set(key, a)
  }

  clear(): void {
    this.young.clear()
    this.old.clear()
  }
}

// ---------------------------------------------------------------------------------------------------------------------
// Entries
// ---------------------------------------------------------------------------------------------------------------------

/** @internal */
export interface Attributes {
  /** Milliseconds of the clock that `get` is given: from then on it is not there any more. */
  readonly expiresAt: number
  readonly bytes: number
}

/** @internal */
export interface Entry<out V> extends Attributes {
  readonly key: string
  readonly value: V
}

/**
 * A read of a key that is under way. It needs no end.
 *
 * @internal
 */
export interface Read<in V> {
  /** Keeps what was read, unless the key was invalidated since the read began; whether it is kept. */
  readonly store: (value: V, attributes: Attributes) => boolean
}

class Node<V> implements Entry<V> {
  newer: Node<V> | undefined = undefined
  older: Node<V> | undefined = undefined

  constructor(
    readonly key: string,
    readonly value: V,
    readonly expiresAt: number,
    readonly bytes: number
  ) {}
}

/**
 * Entries, bounded by their number and by their bytes. The least recently used one goes first. Each step is O(1).
 *
 * @internal
 */
export class NearStore<V> {
  private readonly entries = new Map<string, Node<V>>()
  private newest: Node<V> | undefined
  private oldest: Node<V> | undefined
  private total = 0
  private evicted = 0
  /** Counts invalidations. */
  private changes = 0
  /** Reads that began before are not kept. */
  private floor = 0
  /** For each key its last invalidation. */
  private readonly changed = new Recent<number>(CHANGES, () => {
    this.floor = ++this.changes
  })

  constructor(readonly limits: { readonly capacity: number; readonly bytes?: number | undefined }) {}

  get size(): number {
    return this.entries.size
  }

  get bytes(): number {
    return this.total
  }

  /** How many entries had to go because there was no room. */
  get evictions(): number {
    return this.evicted
  }

  get(key: string, now: number): Entry<V> | undefined {
    const node = this.entries.get(key)
    if (node === undefined) return undefined
    if (now >= node.expiresAt) {
      this.remove(node)
      return undefined
    }
    if (node !== this.newest) {
      this.unlink(node)
      this.link(node)
    }
    return node
  }

  /** A value that is newer than what any read under way can find; whether there is room for it. */
  set(key: string, value: V, attributes: Attributes): boolean {
    this.changed.set(key, ++this.changes)
    return this.put(key, value, attributes)
  }

  /** The key was invalidated; whether it was there. */
  delete(key: string): boolean {
    this.changed.set(key, ++this.changes)
    return this.drop(key)
  }

  /** Every key was invalidated. */
  clear(): void {
    this.floor = ++this.changes
    this.changed.clear()
    this.entries.clear()
    this.newest = undefined
    this.oldest = undefined
    this.total = 0
  }

  /** To be called before the read is sent. */
  beginRead(key: string): Read<V> {
    const began = this.changes
    return {
      store: (value, attributes) =>
        this.floor <= began && (this.changed.get(key) ?? 0) <= began && this.put(key, value, attributes)
    }
  }

  private put(key: string, value: V, { bytes, expiresAt }: Attributes): boolean {
    this.drop(key)
    const limit = this.limits.bytes ?? Infinity
    if (bytes > limit || this.limits.capacity < 1) return false
    while (this.oldest !== undefined && (this.entries.size >= this.limits.capacity || this.total + bytes > limit)) {
      this.remove(this.oldest)
      this.evicted++
    }
    const node = new Node(key, value, expiresAt, bytes)
    this.entries.set(key, node)
    this.total += bytes
    this.link(node)
    return true
  }

  private drop(key: string): boolean {
    const node = this.entries.get(key)
    if (node === undefined) return false
    this.remove(node)
    return true
  }

  private remove(node: Node<V>): void {
    this.entries.delete(node.key)
    this.total -= node.bytes
    this.unlink(node)
  }

  private link(node: Node<V>): void {
    node.older = this.newest
    if (this.newest !== undefined) this.newest.newer = node
    this.newest = node
    this.oldest ??= node
  }

  private unlink(node: Node<V>): void {
    if (node.newer === undefined) this.newest = node.older
    else node.newer.older = node.older
    if (node.older === undefined) this.oldest = node.newer
    else node.older.newer = node.newer
    node.newer = undefined
    node.older = undefined
  }
}
