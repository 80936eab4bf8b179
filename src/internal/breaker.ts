/**
 * Keeps calls from a server that does not answer, so that they need not wait for a deadline one by one.
 */
import * as Cause from "effect/Cause"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import * as Option from "effect/Option"
import type * as Scope from "effect/Scope"
import { isRedisError } from "../RedisError.js"
import { breakersOpen } from "./metrics.js"

/**
 * - `"closed"`: calls go through
 * - `"open"`: none does
 * - `"half-open"`: the next one goes through, or is under way, and shows whether the others may
 *
 * @internal
 */
export type State = "closed" | "open" | "half-open"

/** @internal */
export interface Breaker {
  /** Runs the first effect, or the second one as long as no call may go through. */
  readonly run: <A, E, R, A2, E2, R2>(
    effect: Effect.Effect<A, E, R>,
    otherwise: Effect.Effect<A2, E2, R2>
  ) => Effect.Effect<A | A2, E | E2, R | R2>
  readonly state: () => State
}

/** @internal */
export interface Options {
  /** What it protects, for the metric. */
  readonly name: string
  /** It opens after so many failures in a row. */
  readonly failures: number
  /** For so many milliseconds it stays open. */
  readonly pause: number
  /** Which failures count. Any other one is an answer, and so is a success. */
  readonly counts: (error: unknown) => boolean
}

/**
 * The server could not be reached, or did not answer in time. A reply that is an error came from a server that is there.
 *
 * @internal
 */
export const isOutage = (error: unknown): boolean =>
  isRedisError(error) &&
  (error._tag === "RedisConnectionError" || error._tag === "RedisTimeoutError" ||
    error._tag === "RedisOutcomeUnknownError")

/** @internal */
export const make = ({ counts, failures, name, pause }: Options): Effect.Effect<Breaker, never, Scope.Scope> =>
  Effect.gen(function*() {
    const clock = yield* Effect.clock
    const now = () => Number(clock.unsafeCurrentTimeNanos()) / 1e6
    const gauge = breakersOpen(name)
    /** In a row. */
    let failed = 0
    /** Until when; `undefined` when it is closed. */
    let openUntil: number | undefined
    let probing = false
    /** Counts the changes: a call that ends after one says nothing about the time since. */
    let changes = 0
    let ended = false

    const changed = (by: number) => {
      changes++
      if (!ended) gauge.unsafeModify(by, [])
    }
    const open = () => {
      if (openUntil === undefined) changed(1)
      openUntil = now() + pause
    }
    const close = () => {
      if (openUntil !== undefined) changed(-1)
      openUntil = undefined
      failed = 0
    }
    const state = (): State => openUntil === undefined ? "closed" : probing || now() >= openUntil ? "half-open" : "open"
    /** `undefined` when it was interrupted, or died: that says nothing. */
    const isFailure = (cause: Cause.Cause<unknown>): boolean | undefined =>
      Option.getOrUndefined(Option.map(Cause.failureOption(cause), counts))

    const watched = <A, E, R>(effect: Effect.Effect<A, E, R>): Effect.Effect<A, E, R> => {
      const began = changes
      return Effect.matchCauseEffect(effect, {
        onFailure: (cause) => {
          const failure = isFailure(cause)
          if (began === changes && failure !== undefined) {
            failed = failure ? failed + 1 : 0
            if (failed >= failures) open()
          }
          return Effect.failCause(cause)
        },
        onSuccess: (a) => {
          if (began === changes) failed = 0
          return Effect.succeed(a)
        }
      })
    }

    const probe = <A, E, R>(effect: Effect.Effect<A, E, R>): Effect.Effect<A, E, R> =>
      Effect.onExit(effect, (exit) =>
        Effect.sync(() => {
          probing = false
          const failure = Exit.isSuccess(exit) ? false : isFailure(exit.cause)
          if (failure === true) open()
          else if (failure === false) close()
        }))

    const run: Breaker["run"] = (effect, otherwise) =>
      Effect.suspend(() => {
        if (openUntil === undefined) return watched(effect)
        if (probing || now() < openUntil) return otherwise
        // A probe that has begun ends, or else nothing would ever go through again.
        return Effect.uninterruptibleMask((restore) => {
          if (state() !== "half-open" || probing) return restore(run(effect, otherwise))
          probing = true
          return probe(restore(effect))
        })
      })

    yield* Effect.addFinalizer(() =>
      Effect.sync(() => {
        close()
        ended = true
      })
    )

    return { run, state }
  })
