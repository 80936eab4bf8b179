/**
 * All suites, in the order in which they run.
 */
import type { Case } from "../harness.js"
import * as Cache from "./cache.js"
import * as Client from "./client.js"
import * as EventStore from "./eventStore.js"
import * as Geo from "./geo.js"
import * as Leaderboard from "./leaderboard.js"
import * as Lock from "./lock.js"
import * as Memory from "./memory.js"
import * as PubSub from "./pubsub.js"
import * as Queue from "./queue.js"
import * as RateLimiter from "./ratelimiter.js"
import * as Session from "./session.js"
import * as Stream from "./stream.js"

const suites: Record<string, ReadonlyArray<Case>> = {
  client: Client.cases,
  memory: Memory.cases,
  lock: Lock.cases,
  cache: Cache.cases,
  pubsub: PubSub.cases,
  ratelimiter: RateLimiter.cases,
  session: Session.cases,
  queue: Queue.cases,
  leaderboard: Leaderboard.cases,
  geo: Geo.cases,
  eventStore: EventStore.cases,
  stream: Stream.cases
}

export const names: ReadonlyArray<string> = Object.keys(suites)

const cases: ReadonlyArray<Case> = Object.values(suites).flat()

/** The name of a case is that of its first measure. */
export const caseNames: ReadonlyArray<string> = cases.map(({ measures: [{ name }] }) => name)

export const caseOf = (name: string): Case | undefined => cases.find(({ measures: [first] }) => first.name === name)
