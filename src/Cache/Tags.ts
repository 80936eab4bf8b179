/**
 * What one process knows of the tags of a cache, and of the server's clock.
 *
 * It knows each tag that was invalidated after `base`, as long as the server tells when the set of tags changes. Where it
 * does not tell, the set is asked with each read.
 */
import type * as Clock from "effect/Clock"
import * as Effect from "effect/Effect"
import * as Option from "effect/Option"
import type * as RedisClient from "../RedisClient.js"
import type { RedisError } from "../RedisError.js"
import * as scripts from "./scripts.js"
import type { SingleFlight } from "./SingleFlight.js"

export interface Tags {
  /** Nothing needs to be asked. */
  readonly isCurrent: () => boolean
  /** Whether the server tells of changes. Whatever changed before is asked for. */
  readonly listen: (listening: boolean) => void
  /** The set has changed. */
  readonly changed: () => void
  /** Counts what was learnt, so that an entry needs to be looked at once only after each time. */
  readonly version: () => number
  /** The last epoch that is known. */
  readonly epoch: () => number
  /** Whether an entry is valid; `undefined` when the server must be asked for its tags. */
  readonly isValid: (tags: ReadonlyArray<string>, epoch: number) => boolean | undefined
  /** Asks what has changed. */
  readonly sync: Effect.Effect<void, RedisError>
  /** Asks for tags; after that it is known for them whether an entry is valid. */
  readonly ask: (tags: ReadonlyArray<string>) => Effect.Effect<void, RedisError>
  /** Invalidates tags, of entries that live for so many milliseconds. */
  readonly invalidate: (
    tags: ReadonlyArray<string>,
    life: number,
    notice: scripts.Notice
  ) => Effect.Effect<void, RedisError>
  /** Invalidates everything; gives the moment. */
  readonly clear: (notice: scripts.Notice) => Effect.Effect<number, RedisError>
  /** Milliseconds by the clock of the server. */
  readonly now: () => number
  /** The same, or up to a millisecond ago: for what is asked with every hit. */
  readonly lately: () => number
  /** The server's time was this at some moment between then, by our own clock, and now. */
  readonly clockWas: (time: number, sent: number) => void
  /** Milliseconds by our own clock, which never goes back. */
  readonly own: () => number
}

/** How many tags are known here. Entries that are older than the rest ask for theirs. */
const KNOWN = 20_000

export const make = (
  client: RedisClient.Service,
  clock: Clock.Clock,
  key: string,
  flights: SingleFlight<string>
): Tags => {
  let listening = false
  /** Counts what may have changed. */
  let changes = 1
  /** What it was when the last answer was asked for. */
  let answered = 0
  let seen = 0
  let last = 0
  let floor = 0
  let base = 0
  let version = 0
  const versions = new Map<string, number>()
  const own = () => Number(clock.unsafeCurrentTimeNanos()) / 1e6
  let offset = clock.unsafeCurrentTimeMillis() - own()

  let tick = NaN
  let ticked = 0
  /** To read the clock that never goes back costs more than to see whether it moved on. */
  const recently = () => {
    const millis = clock.unsafeCurrentTimeMillis()
    if (millis !== tick) {
      tick = millis
      ticked = own()
    }
    return ticked
  }

  const clockWas = (time: number, sent: number) => {
    // The server counts whole milliseconds.
    offset = Math.min(Math.max(offset, time - own()), time + 1 - sent)
  }

  const know = (tag: string, at: number) => {
    if ((versions.get(tag) ?? -1) >= at) return
    versions.delete(tag)
    versions.set(tag, at)
  }

  const bound = () => {
    if (versions.size <= KNOWN) return
    let over = versions.size - KNOWN / 2
    for (const [tag, at] of versions) {
      if (over-- <= 0) break
      versions.delete(tag)
      base = Math.max(base, at)
    }
  }

  const learn = (asked: number, sent: number, state: scripts.State) => {
    version++
    clockWas(state.time, sent)
    for (const [tag, at] of state.tags) know(tag, at)
    base = Math.max(base, state.base)
    floor = Math.max(floor, state.floor)
    last = Math.max(last, state.last)
    seen = Math.max(seen, state.last)
    answered = Math.max(answered, asked)
    bound()
  }

  const fetch: Effect.Effect<void, RedisError> = Effect.suspend(() => {
    const asked = changes
    const sent = own()
    return Effect.map(client.eval(scripts.changes, key, seen), (state) => learn(asked, sent, state))
  })

  const changed = () => {
    changes++
    flights.invalidate(key)
  }

  return {
    isCurrent: () => listening && answered === changes,
    listen: (now) => {
      listening = now
      changed()
    },
    changed,
    version: () => version,
    epoch: () => last,
    isValid: (tags, epoch) => {
      if (epoch >= last) return epoch >= floor
      if (epoch < floor) return false
      let unknown = false
      for (const tag of tags) {
        const at = versions.get(tag)
        if (at === undefined) unknown = true
        else if (at > epoch) return false
      }
      return unknown && epoch < base ? undefined : true
    },
    // Who is not told of changes needs an answer that is newer than the own question.
    sync: Effect.suspend(() => listening ? flights.run(key, fetch) : fetch),
    ask: (tags) =>
      Effect.map(client.zmscore(key, scripts.members(tags)), (found) => {
        tags.forEach((tag, i) => know(tag, Option.getOrElse(found[i]!, () => 0)))
        version++
        bound()
      }),
    invalidate: (tags, life, notice) =>
      Effect.map(client.eval(scripts.invalidate, key, seen, notice, life * 1000, tags), (at) => {
        // What others have invalidated before is not known by this.
        changed()
        version++
        for (const tag of tags) know(tag, at)
        last = Math.max(last, at)
        bound()
      }),
    clear: (notice) =>
      Effect.map(client.eval(scripts.clear, key, seen, notice), (at) => {
        changed()
        version++
        floor = Math.max(floor, at)
        last = Math.max(last, at)
        return at
      }),
    now: () => own() + offset,
    lately: () => recently() + offset,
    clockWas,
    own
  }
}
