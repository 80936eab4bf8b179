/**
 * Who fires schedules: one runner for each queue in every process that has a worker of it, or a scheduler.
 *
 * It sleeps until the next slot, as the server's time says, and then asks the server to fire it. All runners do, and the
 * server hears the first one. It looks again when it is told that a schedule was changed, after an outage, and after a
 * while in any case.
 */
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Either from "effect/Either"
import * as Fiber from "effect/Fiber"
import * as Option from "effect/Option"
import * as Schedule from "effect/Schedule"
import * as Schema from "effect/Schema"
import type * as Scope from "effect/Scope"
import { makeFork } from "../internal/background.js"
import type { Service as Client } from "../RedisClient.js"
import type { RedisError } from "../RedisError.js"
import type { Target } from "./controlScripts.js"
import { type Definition, settingsOf } from "./Definition.js"
import { keysOf } from "./keys.js"
import * as metrics from "./metrics.js"
import * as scripts from "./scheduleScripts.js"
import * as slots from "./slots.js"
import type { Pace, Wakeups } from "./Wakeups.js"

/** A message may be lost, so it looks again after so many times the pace of an idle worker. */
const RARELY = 12

/** How long a slot waits that a full queue did not take, in milliseconds, before it is tried again. */
const FULL = 500

/** How many slots of one schedule are fired in one call. */
const TOGETHER = 100

/** How many moves are sent in one call. */
const MOST_MOVES = 500

/** How many schedules a runner remembers in the form in which it can count with them. */
const REMEMBERED = 1000

const SOON = "1 second"

/** While the server can't be reached. */
const FIRST_PAUSE = "50 millis"
const again = Schedule.exponential("100 millis").pipe(
  Schedule.delayed((delay) => Duration.min(delay, Duration.seconds(2)))
)

interface Timing {
  readonly following: slots.Following
  readonly limits: slots.Limits
}

const decodeWhen = Schema.decodeUnknownOption(slots.When)
const decodeLimits = Schema.decodeUnknownOption(slots.Limits)

/** What a row says about its slots. */
export const timingOf = (text: string): Option.Option<{ readonly when: slots.When; readonly limits: slots.Limits }> => {
  const [when, limits] = text.split("\0", 2)
  return Option.all({ when: decodeWhen(when), limits: decodeLimits(limits) })
}

const compile = (text: string): Timing | undefined =>
  Option.getOrUndefined(
    Option.flatMap(timingOf(text), ({ limits, when }) =>
      Option.map(Either.getRight(slots.following(when)), (following) => ({ following, limits })))
  )

/** What is to be done at this time of the server with the schedules at the head. */
const plan = (rows: ReadonlyArray<scripts.Row>, now: number, timing: (row: scripts.Row) => Timing | undefined) => {
  const moves: Array<scripts.Move> = []
  for (const row of rows) {
    if (row.slot > now) continue
    const known = timing(row)
    if (known === undefined) continue
    let place: slots.Place = { slot: row.slot, known: row.flag !== "n", fired: row.fired }
    for (let n = 0; n < TOGETHER && place.slot <= now && moves.length < MOST_MOVES; n++) {
      const { fire, next } = slots.step(known.following, known.limits, place, now)
      const late = now - place.slot > known.limits.grace
      moves.push({
        id: row.id,
        revision: row.revision,
        slot: place.slot,
        next,
        patience: fire ? late ? Infinity : known.limits.grace : undefined
      })
      if (next === undefined) break
      place = { slot: next, known: true, fired: place.fired + (fire ? 1 : 0) }
    }
  }
  return moves
}

/** Fires the schedules of a queue until it is interrupted. */
const run = (
  client: Client,
  wakeups: Wakeups,
  pace: Pace,
  definition: Definition<any, any>
): Effect.Effect<never, never, Scope.Scope> =>
  Effect.gen(function*() {
    const { maxSize = 0, name } = definition
    const uses = Either.getOrUndefined(settingsOf(definition))?.uses
    const keys = keysOf(name)
    const target: Target = { keys, cluster: client.mode === "cluster", uses, wake: client.key(keys.wake) }
    const clock = yield* Effect.clock
    const count = metrics.firedBy(name)
    const woken = yield* Effect.makeLatch()
    const wake = () => woken.unsafeOpen()
    yield* wakeups.listen(keys.control, ({ payload }) => payload === scripts.CHANGED && wake(), wake)

    const localNow = () => Number(clock.unsafeCurrentTimeNanos()) / 1e6
    const known = new Map<string, Timing | undefined>()
    const timing = ({ text }: scripts.Row): Timing | undefined => {
      if (known.has(text)) return known.get(text)
      if (known.size >= REMEMBERED) known.clear()
      const made = compile(text)
      known.set(text, made)
      return made
    }
    /** Those about which it has been said. */
    const unreadable = new Set<string>()
    const report = Effect.forEach<scripts.Row, void, never, never>(({ id, revision, text }) => {
      const which = `${id} ${revision}`
      if (known.get(text) !== undefined || unreadable.has(which)) return Effect.void
      if (unreadable.size >= REMEMBERED) unreadable.clear()
      unreadable.add(which)
      return Effect.annotateLogs(
        Effect.logError(`a schedule of the queue "${name}" can't be read, and is left to others`),
        { id }
      )
    }, { discard: true })

    const ask = (moves: ReadonlyArray<scripts.Move>): Effect.Effect<scripts.Looked> => {
      const once: Effect.Effect<scripts.Looked, RedisError> = client.eval(scripts.tick, target, maxSize, moves)
      return Effect.catchAll(once, (error) =>
        Effect.logWarning(`a scheduler of the queue "${name}" waits for Redis`).pipe(
          Effect.annotateLogs({ error }),
          // What has been done already is not done again.
          Effect.zipRight(Effect.delay(Effect.orDie(Effect.retry(once, again)), FIRST_PAUSE))
        ))
    }

    // What is changed from then on it is told. It looks soon in any case.
    yield* Effect.timeoutOption(woken.await, SOON)
    let moves: ReadonlyArray<scripts.Move> = []
    let looks = 0
    let wasFull = false
    return yield* Effect.forever(Effect.gen(function*() {
      yield* woken.close
      const { now, outcomes, rows } = yield* ask(moves)
      const at = localNow()
      const fired = outcomes.length - (outcomes.match(/[-mf]/g)?.length ?? 0)
      if (fired > 0) {
        count.unsafeUpdate(fired, [])
      }
      const full = outcomes.includes("f")
      if (full && !wasFull) {
        yield* Effect.logWarning(`the queue "${name}" is full, so its schedules wait`)
      }
      if (moves.length > 0) {
        wasFull = full
      }
      looks = moves.length > 0 ? 0 : looks + 1
      moves = full ? [] : plan(rows, now, timing)
      if (moves.length > 0) {
        return
      }
      yield* report(rows.filter((row) =>
        row.slot <= now && known.has(row.text)
      ))
      // Of what is due and has no move, nothing can be made before there is room, or another schedule.
      const next = rows.reduce((least, { slot }) => slot > now && slot < least ? slot : least, Infinity)
      const millis = Math.min(next - now, full ? FULL : pace.poll(looks) * RARELY)
      yield* Effect.timeoutOption(woken.await, Duration.millis(Math.max(1, Math.ceil(millis))))
      if (!full) moves = plan(rows, Math.floor(now + localNow() - at), timing)
    }))
  })

/**
 * Gives every queue one runner, as long as somebody wants it.
 *
 * @internal
 */
export const make = (client: Client, wakeups: Wakeups, pace: Pace) =>
  Effect.gen(function*() {
    const fork = yield* makeFork
    const runners = new Map<string, { readonly fiber: Fiber.RuntimeFiber<never>; users: number }>()
    return (definition: Definition<any, any>): Effect.Effect<void, never, Scope.Scope> =>
      Effect.asVoid(Effect.acquireRelease(
        Effect.sync(() => {
          let runner = runners.get(definition.name)
          if (runner === undefined) {
            runner = {
              // It may be called where nothing can be interrupted.
              fiber: fork(Effect.scoped(run(client, wakeups, pace, definition))),
              users: 0
            }
            runners.set(definition.name, runner)
          }
          runner.users++
          return runner
        }),
        (runner) =>
          Effect.suspend(() => {
            if (--runner.users > 0) return Effect.void
            runners.delete(definition.name)
            return Effect.asVoid(Fiber.interrupt(runner.fiber))
          })
      ))
  })
