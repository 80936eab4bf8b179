/**
 * Which keys of a cache others change: told by the server, or where it refuses that, by those who change them.
 */
import * as Deferred from "effect/Deferred"
import * as Effect from "effect/Effect"
import * as FiberId from "effect/FiberId"
import * as Option from "effect/Option"
import * as Queue from "effect/Queue"
import * as Schedule from "effect/Schedule"
import * as Stream from "effect/Stream"
import type * as RedisClient from "../RedisClient.js"
import type { RedisError } from "../RedisError.js"
import type { Notice } from "./scripts.js"

export interface Listener {
  /** From here on every change is told. */
  readonly up: () => void
  /** From here on nothing is promised. */
  readonly down: () => void
  /** A key has changed. */
  readonly changed: (key: string) => void
  /** Everything may have changed. */
  readonly all: () => void
}

export interface Watch {
  /** What a write of this key has to tell; nothing as long as the server does. */
  readonly notice: (key: string) => Notice
  /** The same for everything. */
  readonly noticeAll: () => Notice
  /** Listens for as long as it runs. */
  readonly run: Effect.Effect<void>
}

const SILENT: Notice = { channel: "", message: "" }

/** A message that means every key. No key is empty. */
const ALL = ""

/** How many messages may wait for the one fiber that reads them; it never waits itself. */
const CAPACITY = 65_536

/** How often it is proved that messages arrive, and how long one may take. */
const HEARTBEAT = "1 second"
const PATIENCE = "2 seconds"

export const make = (
  client: RedisClient.Service,
  options: {
    /** What the keys begin with. */
    readonly prefixes: ReadonlyArray<string>
    /** Names this process. */
    readonly process: string
    readonly channel: string
    readonly listener: Listener
  }
): Watch => {
  const { channel, listener, prefixes, process } = options
  const pulse = `${channel}:pulse:${process}`
  let told = false

  const onInvalidation = (change: RedisClient.Invalidation): void => {
    switch (change._tag) {
      case "Armed":
        told = true
        return listener.up()
      case "Down":
        told = false
        return listener.down()
      case "InvalidatedAll":
        return listener.all()
      case "Invalidated":
        return change.keys.forEach(listener.changed)
    }
  }

  const tracked = Stream.runForEach(
    client.invalidations(prefixes),
    (change) => Effect.sync(() => onInvalidation(change))
  )

  const published: Effect.Effect<never, RedisError> = Effect.scoped(Effect.gen(function*() {
    let proof: Deferred.Deferred<void> | undefined
    const messages = yield* client.subscribe({ channels: [channel, pulse], capacity: CAPACITY })
    yield* Effect.addFinalizer(() => Effect.sync(listener.down))
    yield* Effect.forkScoped(Effect.interruptible(Effect.forever(Effect.map(Queue.take(messages), (message) => {
      if (message._tag === "Gap") return listener.all()
      if (message.channel === pulse) {
        if (proof !== undefined) Deferred.unsafeDone(proof, Effect.void)
        return
      }
      const key = message.payload
      return key === ALL ? listener.all() : listener.changed(key)
    }))))
    let up = false
    const beat = Effect.suspend(() => {
      const heard = proof = Deferred.unsafeMake<void>(FiberId.none)
      return Effect.zipRight(client.publish(pulse, ""), Deferred.await(heard)).pipe(
        Effect.timeoutOption(PATIENCE),
        Effect.option,
        Effect.map(Option.flatten),
        Effect.map((heard) => {
          const alive = Option.isSome(heard)
          if (alive === up) return
          up = alive
          return alive ? listener.up() : listener.down()
        })
      )
    })
    return yield* Effect.forever(Effect.zipRight(beat, Effect.sleep(HEARTBEAT)))
  }))

  const stopped = Effect.sync(() => {
    told = false
  })

  return {
    notice: (key) => told ? SILENT : { channel: client.key(channel), message: key },
    noticeAll: () => told ? SILENT : { channel: client.key(channel), message: ALL },
    run: tracked.pipe(
      Effect.catchTag("RedisReplyError", () => published),
      Effect.retry({
        schedule: Schedule.spaced("1 second"),
        while: (error) => error._tag !== "RedisConnectionError" || error.reason !== "closed"
      }),
      Effect.ignore,
      Effect.ensuring(stopped)
    )
  }
}
