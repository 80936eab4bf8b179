/**
 * One reader of a room: what is stored and what is published as one sequence, without a hole or a double.
 *
 * The channel is subscribed to first, and then the history is read from the position of the reader. From there on a
 * message is delivered when it is the next one; what comes again is skipped, and when one is missing, whatever the
 * reason, the history is read again from the position.
 */
import * as Chunk from "effect/Chunk"
import * as DateTime from "effect/DateTime"
import * as Effect from "effect/Effect"
import * as Metric from "effect/Metric"
import * as Option from "effect/Option"
import * as Queue from "effect/Queue"
import type * as Scope from "effect/Scope"
import * as Stream from "effect/Stream"
import { untilItWorks } from "../internal/retries.js"
import type { Gap, Message as Published, Service as Client } from "../RedisClient.js"
import type { RedisError } from "../RedisError.js"
import {
  type Element,
  HistoryLost,
  MemberJoined,
  MemberLeft,
  type Position,
  Recovered,
  type Stored,
  Typing
} from "./Element.js"
import * as scripts from "./scripts.js"

const recoveries = Metric.counter("effect_redis_chat_recoveries_total", {
  description: "Subscriptions to chat rooms that read from the history what they had missed",
  incremental: true
})

const losses = Metric.counter("effect_redis_chat_history_lost_total", {
  description: "Subscriptions to chat rooms that were told that messages can't be recovered",
  incremental: true
})

/** Before the first message of a room. */
export const BEGINNING: Position = { epoch: "", offset: 0 }

/** How many messages are read from the history at once. */
const PAGE = 200

/** How many elements of the channel are looked at together. */
const CHUNK = 256

/** How often an answer that knows less than was told is asked for again, 200 ms apart. */
const PATIENCE = 25

export const make = <A>(
  client: Client,
  room: scripts.Room,
  decode: (position: Position, millis: number, body: string) => Stored<A>,
  from: Position | "start" | "now",
  capacity: number | undefined
): Effect.Effect<Stream.Stream<Element<A>, RedisError>, RedisError, Scope.Scope> =>
  Effect.gen(function*() {
    const published = yield* client.subscribe({ channels: [scripts.channelOf(room.key)], capacity })
    let position = typeof from === "string" ? BEGINNING : from
    /** When the message at the position was sent, by which it is told from another with its number. */
    let sentAt: number | undefined
    /** The history has to be read before anything else. */
    let behind = from !== "now"
    /** Whoever asks for all that there is has not missed what was there before. */
    let fromStart = from === "start"
    /** An outage is over when the history was read to its end. */
    let outage = false
    let recovered = 0

    if (from === "now") {
      const { epoch, offset } = yield* client.eval(scripts.before, room, 0, 1)
      if (epoch !== "") position = { epoch, offset }
    }

    /** The last message that was told of and not taken, and whether the last answer did not know it. */
    let told: Position = { epoch: "", offset: 0 }
    let stale = false
    let patience = 0

    const lost = (elements: Array<Element<A>>, reason: HistoryLost["reason"], missed: Option.Option<number>) => {
      losses.unsafeUpdate(1, [])
      elements.push(new HistoryLost({ reason, position, missed }))
    }

    /** What a part of the history says beyond the position. */
    const advance = ({ entries, epoch, offset, replaced }: scripts.Part): ReadonlyArray<Element<A>> => {
      const elements: Array<Element<A>> = []
      const started = position.epoch !== ""
      const first = entries[0]?.offset ?? offset + 1
      if (started && (epoch !== position.epoch || offset < position.offset || replaced)) {
        // Also when the count went back: the server has lost its end.
        lost(elements, "epoch", Option.none())
        position = { epoch, offset: first - 1 }
        sentAt = undefined
      } else if (epoch !== "") {
        if (first > position.offset + 1 && !fromStart) {
          lost(elements, "trimmed", Option.some(first - 1 - position.offset))
        }
        if (first - 1 > position.offset) {
          position = { epoch, offset: first - 1 }
          sentAt = undefined
        }
        position = { ...position, epoch }
      }
      fromStart = false
      for (const { at, body, offset } of entries) {
        position = { epoch, offset }
        sentAt = at
        elements.push(decode(position, at, body))
      }
      // Who knows less than what was told already may be an old master, which does not know yet that it is none any more.
      stale = position.epoch === told.epoch && offset < told.offset && patience-- > 0
      if (stale) {
        recovered += entries.length
      } else if (position.offset >= offset) {
        behind = false
        if (outage) {
          outage = false
          elements.push(new Recovered({ messages: recovered + entries.length }))
          recovered = 0
        }
      } else {
        recovered += entries.length
      }
      return elements
    }

    const read = Effect.suspend(() => client.eval(scripts.since, room, position.epoch, position.offset, PAGE, sentAt))
      .pipe(
        Effect.map((part) => Chunk.unsafeFromArray(advance(part)))
      )

    const miss = () => {
      behind = true
      patience = PATIENCE
      outage = true
      recoveries.unsafeUpdate(1, [])
    }

    /** What the channel brought, as far as it is the next. */
    const take = (all: Iterable<Published | Gap>): Chunk.Chunk<Element<A>> => {
      const elements: Array<Element<A>> = []
      for (const one of all) {
        if (one._tag === "Gap") {
          if (!behind) miss()
          continue
        }
        const { payload } = one
        const stored = /^message (\S+) (\d{1,15}) (\d{1,15}) (\d{1,15}) ([^]*)$/.exec(payload)
        if (stored !== null) {
          // What comes behind a hole is in the history as well.
          if (behind) continue
          const [, epoch = "", number, before, millis, body = ""] = stored
          const offset = Number(number)
          const next = position.offset + 1
          // An old master that was asked after an outage may have known nothing of the message that now stands before it.
          const follows = offset === next && (sentAt === undefined || Number(before) === sentAt)
          if (position.epoch === epoch ? follows : position.epoch === "" && offset === 1) {
            position = { epoch, offset }
            sentAt = Number(millis)
            elements.push(decode(position, sentAt, body))
          } else if (position.epoch !== epoch || offset >= next || Number(millis) > (sentAt ?? Infinity)) {
            // The last: what has a number that was there before and is newer is not the same message.
            told = { epoch, offset }
            miss()
          }
          continue
        }
        const fleeting = fleetingOf(payload)
        if (fleeting !== undefined) elements.push(fleeting)
      }
      return Chunk.unsafeFromArray(elements)
    }

    return Stream.repeatEffectChunk(
      Effect.suspend(() =>
        !behind
          ? Effect.map(Queue.takeBetween(published, 1, CHUNK), take)
          : stale
          ? Effect.zipRight(Effect.sleep("200 millis"), untilItWorks(read))
          : untilItWorks(read)
      )
    )
  })

/** What is told and not stored; whatever else comes on the channel is not ours. */
const fleetingOf = (payload: string): MemberJoined | MemberLeft | Typing | undefined => {
  const [, kind, number = "", user = ""] = /^(joined|left|typing) (\d{1,15}) ([^]+)$/.exec(payload) ?? []
  switch (kind) {
    case "joined":
      return new MemberJoined({ user, at: DateTime.unsafeMake(Number(number)) })
    case "left":
      return new MemberLeft({ user, at: DateTime.unsafeMake(Number(number)) })
    case "typing":
      return new Typing({ user, typing: number === "1" })
    default:
      return undefined
  }
}
