/**
 * The servers behind a client that take writes: one, or every master of a Cluster.
 */
import type { Link, Role } from "./Link.js"

export interface Node {
  /** Stays the same as long as it is the same server, as in `127.0.0.1:7001`. */
  readonly id: string
  /** A new connection of it, which belongs to the caller. */
  readonly open: (role: Role) => Link
}

export interface Topology {
  /** Those that are known at this moment. */
  readonly masters: () => ReadonlyArray<Node>
  /** Calls back when `masters` has become others; returns how to stop that. */
  readonly onChange: (listener: () => void) => () => void
}
