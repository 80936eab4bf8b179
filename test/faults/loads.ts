/**
 * All that is under load at the same time.
 */
import * as Cache from "./cache.js"
import * as Counts from "./counts.js"
import * as Events from "./events.js"
import * as Limits from "./limits.js"
import * as Locks from "./locks.js"
import * as Messages from "./messages.js"
import * as Queue from "./queue.js"
import * as Rooms from "./rooms.js"
import * as Sessions from "./sessions.js"
import * as Streams from "./streams.js"
import type { Load } from "./work.js"

export const loads: ReadonlyArray<Load> = [
  Locks,
  Limits,
  Cache,
  Sessions,
  Messages,
  Streams,
  Events,
  Queue,
  Counts,
  Rooms
].map(({ load }) => load)
