/**
 * Reads events: of an aggregate, and of a partition in the order of their positions, also those that are still to come.
 */
import * as DateTime from "effect/DateTime"
import * as Effect from "effect/Effect"
import * as Either from "effect/Either"
import * as Stream from "effect/Stream"
import { reading, untilItWorks } from "../internal/retries.js"
import { type Command, Listen, type Reply, type Service as Client } from "../RedisClient.js"
import { RedisDecodeError, type RedisError } from "../RedisError.js"
import type { Codec, Tagged } from "./codec.js"
import type { Recorded } from "./EventStore.js"
import { type Aggregate, EventDecodeError } from "./EventStoreError.js"
import * as scripts from "./scripts.js"

/** Before all events. */
export const START = "0-0"

export const isPosition = (text: unknown): text is string =>
  typeof text === "string" && /^\d{1,20}-\d{1,20}$/.test(text)

/** How many entries are looked through at a time for those of one category. */
const SCAN = 1000

/** How long an event can go unnoticed when nobody is told of it, as when a Cluster loses a message between its nodes. */
const POLL = "5 seconds"

type One<A, M> = Either.Either<Recorded<A, M>, EventDecodeError>

/** A part of a partition. */
export interface Part<A, M> {
  readonly events: ReadonlyArray<One<A, M>>
  /** For each event, how many entries were passed up to it, with itself. */
  readonly passed: ReadonlyArray<number>
  /** Of the last entry that was passed. */
  readonly position: string
  readonly scanned: number
  readonly end: boolean
}

export interface Reader<A, M> {
  /** At most so many events of an aggregate. */
  readonly aggregate: (
    place: scripts.Place,
    aggregate: Aggregate,
    from: number,
    to: number,
    count: number
  ) => Effect.Effect<ReadonlyArray<One<A, M>>, RedisError>
  readonly version: (place: scripts.Place, aggregate: Aggregate) => Effect.Effect<number, RedisError>
  /** Some events behind a position. Of one category there may be none, although it is not the end. */
  readonly part: (
    place: scripts.Place,
    after: string,
    category: string | undefined,
    limit: number
  ) => Effect.Effect<Part<A, M>, RedisError>
  /** Part after part, and never an end. */
  readonly follow: (
    place: scripts.Place,
    after: string | undefined,
    category: string | undefined,
    limit: number
  ) => Stream.Stream<Part<A, M>, RedisError>
}

interface Entry {
  readonly id: string
  readonly fields: ReadonlyArray<Reply>
}

const entriesOf = (command: string, reply: Reply): Effect.Effect<ReadonlyArray<Entry>, RedisDecodeError> => {
  const entries: Array<Entry> = []
  for (const one of Array.isArray(reply) ? reply : [undefined]) {
    const [id, fields] = Array.isArray(one) ? one : []
    if (typeof id !== "string" || !Array.isArray(fields)) {
      return Effect.fail(new RedisDecodeError({ command, detail: "expected entries of a stream" }))
    }
    entries.push({ id, fields })
  }
  return Effect.succeed(entries)
}

const versionOf = (id: string): number => Number(id.slice(0, id.indexOf("-")))

/** Where an event is, by the stream of all events. */
interface Reference {
  readonly position: string
  readonly aggregate: Aggregate
  readonly version: number
}

const referenceOf = ({ fields, id: position }: Entry): Reference | undefined => {
  const [, type, , id, , version] = fields
  return typeof type === "string" && typeof id === "string" && Number.isSafeInteger(Number(version))
    ? { position, aggregate: { type, id }, version: Number(version) }
    : undefined
}

/** The events of one aggregate that a part is to have. Their versions follow each other. */
interface Run {
  readonly aggregate: Aggregate
  readonly first: number
  last: number
}

export const make = <A extends Tagged, M>(
  client: Client,
  store: string,
  decode: Codec<A, M>["decode"]
): Reader<A, M> => {
  const range = (key: string, from: string, to: string, count: number) =>
    reading(Effect.flatMap(
      client.send("XRANGE", client.key(key), from, to, "COUNT", count),
      (reply) => entriesOf("XRANGE", reply)
    ))

  const failure = (
    { partition }: scripts.Place,
    aggregate: Aggregate,
    version: number,
    position: string,
    type: string,
    detail: string
  ) => new EventDecodeError({ store, aggregate, version, partition, position, type, detail })

  const recorded = (place: scripts.Place, aggregate: Aggregate, entry: Entry): One<A, M> => {
    const [, id, , position, , body] = entry.fields
    const version = versionOf(entry.id)
    if (typeof id !== "string" || !isPosition(position) || typeof body !== "string") {
      return Either.left(failure(place, aggregate, version, "", "", "it is no event of this library"))
    }
    const decoded = decode(body)
    if (Either.isLeft(decoded)) {
      const { detail, type } = decoded.left
      return Either.left(failure(place, aggregate, version, position, type, detail))
    }
    const { data, metadata, type } = decoded.right
    return Either.right({
      id,
      type,
      aggregate,
      version,
      partition: place.partition,
      position,
      // An id has the time in its first half, which never goes back.
      timestamp: DateTime.unsafeMake(versionOf(position)),
      metadata,
      data
    })
  }

  const aggregate: Reader<A, M>["aggregate"] = (place, aggregate, from, to, count) =>
    Effect.map(
      range(scripts.aggregateKey(place.base, aggregate), `${from}-0`, to === Infinity ? "+" : `${to}-0`, count),
      (entries) => entries.map((entry) => recorded(place, aggregate, entry))
    )

  /** The last entry there is. */
  const last = (key: string): Effect.Effect<string | undefined, RedisError> =>
    reading(Effect.flatMap(
      client.send("XREVRANGE", client.key(key), "+", "-", "COUNT", 1),
      (reply) => Effect.map(entriesOf("XREVRANGE", reply), ([entry]) => entry?.id)
    ))

  /** The events themselves: one command for each aggregate, all in one write. */
  const fetch = (place: scripts.Place, references: ReadonlyArray<Reference>) => {
    const runs = new Map<string, Run>()
    for (const { aggregate, version } of references) {
      const key = scripts.aggregateKey(place.base, aggregate)
      const run = runs.get(key)
      if (run === undefined) runs.set(key, { aggregate, first: version, last: version })
      else run.last = version
    }
    if (runs.size === 0) return Effect.succeed(new Map<string, Map<number, Entry>>())
    const commands: Array<Command> = Array.from(
      runs,
      ([key, { first, last }]) => ["XRANGE", client.key(key), `${first}-0`, `${last}-0`]
    )
    return reading(Effect.flatMap(client.pipeline(commands), (replies) =>
      Effect.gen(function*() {
        const found = new Map<string, Map<number, Entry>>()
        let i = 0
        for (const key of runs.keys()) {
          const entries = yield* entriesOf("XRANGE", yield* replies[i++]!)
          found.set(key, new Map(entries.map((entry) => [versionOf(entry.id), entry])))
        }
        return found
      })))
  }

  /** A part, and whether each event stands where the stream of all events says. */
  const look = (
    place: scripts.Place,
    after: string,
    category: string | undefined,
    limit: number
  ): Effect.Effect<readonly [part: Part<A, M>, whole: boolean], RedisError> =>
    Effect.gen(function*() {
      const count = category === undefined ? limit : SCAN
      const entries = yield* range(scripts.allKey(place.base), `(${after}`, "+", count)
      const references: Array<Reference> = []
      const passed: Array<number> = []
      let scanned = 0
      for (const entry of entries) {
        const reference = referenceOf(entry)
        if (reference === undefined) {
          return yield* new RedisDecodeError({ command: "XRANGE", detail: `entry ${entry.id} names no event` })
        }
        scanned++
        if (category !== undefined && reference.aggregate.type !== category) continue
        references.push(reference)
        passed.push(scanned)
        if (references.length === limit) break
      }
      const found = yield* fetch(place, references)
      let whole = true
      const events = references.map(({ aggregate, position, version }) => {
        const entry = found.get(scripts.aggregateKey(place.base, aggregate))?.get(version)
        if (entry === undefined || entry.fields[3] !== position) whole = false
        if (entry === undefined) {
          return Either.left(failure(place, aggregate, version, position, "", "it is not there any more"))
        }
        return Either.mapLeft(
          recorded(place, aggregate, entry),
          (error) => error.position === position ? error : new EventDecodeError({ ...error, position })
        )
      })
      const part: Part<A, M> = {
        events,
        passed,
        position: entries[scanned - 1]?.id ?? after,
        scanned,
        end: scanned === entries.length && entries.length < count
      }
      return [part, whole]
    })

  /**
   * A failover may come between the two steps, and take back what the first one has found. Then the second one finds
   * nothing, or what was written in its place, which comes later. From the new master both steps see the same.
   */
  const part: Reader<A, M>["part"] = (place, after, category, limit) =>
    Effect.flatMap(
      look(place, after, category, limit),
      ([part, whole]) =>
        whole ? Effect.succeed(part) : Effect.map(look(place, after, category, limit), ([part]) => part)
    )

  return {
    aggregate,
    version: (place, aggregate) =>
      Effect.map(
        last(scripts.aggregateKey(place.base, aggregate)),
        (id) => id === undefined ? 0 : versionOf(id)
      ),
    part,
    follow: (place, after = START, category, limit) =>
      Stream.unwrapScoped(Effect.gen(function*() {
        const news = Effect.unsafeMakeLatch()
        const wake = () => {
          news.unsafeOpen()
        }
        yield* client[Listen]({ channels: [scripts.channelOf(place.base)] }, { onMessage: wake, onGap: wake })
        let position = after === "now" ? (yield* last(scripts.allKey(place.base))) ?? START : after
        return Stream.repeatEffect(Effect.gen(function*() {
          while (true) {
            // Whatever is told from here on is either read now or wakes it up again.
            news.unsafeClose()
            const next = yield* untilItWorks(part(place, position, category, limit))
            if (next.scanned > 0) {
              position = next.position
              return next
            }
            yield* Effect.timeoutOption(news.await, POLL)
          }
        }))
      }))
  }
}
