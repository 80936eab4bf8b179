/**
 * Windows of time that begin at the same instant for everybody: minutes, hours and days of UTC.
 */
import type * as Clock from "effect/Clock"
import * as DateTime from "effect/DateTime"
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Either from "effect/Either"
import * as Option from "effect/Option"
import type { Reply } from "../RedisClient.js"
import type { RedisError, RedisInputError } from "../RedisError.js"
import { inputError, positiveMillis } from "./input.js"

/** In milliseconds. UTC of a computer has no leap seconds and no summer, so that all are of the same length. */
const SIZES = { minute: 60_000, hour: 3_600_000, day: 86_400_000 } as const

/** @internal */
export type Unit = keyof typeof SIZES

/** @internal */
export interface Window {
  readonly unit: Unit
  /** In milliseconds. */
  readonly size: number
  /** How many are kept, the present one among them. */
  readonly keep: number
}

/** A week of minutes has 10,080. */
const MOST_WINDOWS = 20_000

const isUnit = (unit: string): unit is Unit => Object.hasOwn(SIZES, unit)

/**
 * The windows of a definition. One is kept until it has been over for as long as was asked for.
 *
 * @internal
 */
export const windowsOf = (
  operation: string,
  windows: Readonly<Partial<Record<Unit, Duration.DurationInput | undefined>>>,
  most = MOST_WINDOWS
): Either.Either<ReadonlyArray<Window>, RedisInputError> =>
  Either.gen(function*() {
    const all: Array<Window> = []
    for (const [unit, retention] of Object.entries(windows)) {
      if (retention === undefined) continue
      const field = `windows.${unit}`
      if (!isUnit(unit)) return yield* Either.left(inputError(operation, field, "minute, hour or day", unit))
      const size = SIZES[unit]
      const keep = Math.ceil((yield* positiveMillis(operation, field, retention)) / size) + 1
      if (keep > most) return yield* Either.left(inputError(operation, field, `at most ${most - 1} windows`, keep - 1))
      all.push({ unit, size, keep })
    }
    return all
  })

/**
 * Of each kind the number of the window with this instant in it.
 *
 * @internal
 */
export const presentOf = (windows: ReadonlyArray<Window>, now: number): ReadonlyArray<number> =>
  windows.map(({ size }) => Math.floor(now / size))

/**
 * How long something is kept, in whole milliseconds; 0 when it has no end.
 *
 * @internal
 */
export const lifeOf = (
  operation: string,
  field: string,
  input: Duration.DurationInput
): Either.Either<number, RedisInputError> => {
  const decoded = Duration.decodeUnknown(input)
  return Option.isSome(decoded) && !Duration.isFinite(decoded.value)
    ? Either.right(0)
    : positiveMillis(operation, field, input)
}

/** @internal */
export const indexOf = ({ size }: Window, instant: DateTime.DateTime): number =>
  Math.floor(DateTime.toEpochMillis(instant) / size)

/** @internal */
export const startOf = ({ size }: Window, index: number): DateTime.Utc => DateTime.unsafeMake(index * size)

/**
 * The server's clock says that it is another window than the one that the script was called for. Nothing was done.
 *
 * @internal
 */
export class OtherTime {
  constructor(
    /** What the server's clock says, in milliseconds. */
    readonly now: number
  ) {}
}

/**
 * How a script begins that is called for a certain time.
 *
 * @internal
 */
export const clockLua = `
local clock = redis.call('TIME')
local now = clock[1] * 1000 + math.floor(clock[2] / 1000)`

/**
 * What a script returns that finds that it is another time: `{ 'time', now }`.
 *
 * @internal
 */
export const otherTimeOf = (reply: Reply): OtherTime | undefined =>
  Array.isArray(reply) && reply.length === 2 && reply[0] === "time" && typeof reply[1] === "number"
    ? new OtherTime(reply[1])
    : undefined

/**
 * Keys must be named before a script runs, and the time is the server's. So a key with a window in its name is a guess,
 * which the script checks before it does anything: where it is wrong, it says what time it is, and is called again. What
 * was learnt of the server's clock is remembered, so that this happens where a window ends and nowhere else.
 *
 * @internal
 */
export const makeGuess: Effect.Effect<
  <A>(ask: (now: number) => Effect.Effect<A | OtherTime, RedisError>) => Effect.Effect<A, RedisError>
> = Effect.map(Effect.clock, (clock: Clock.Clock) => {
  let offset = 0
  return <A>(ask: (now: number) => Effect.Effect<A | OtherTime, RedisError>) => {
    const attempt = (now: number): Effect.Effect<A, RedisError> =>
      Effect.flatMap(ask(now), (answer) => {
        if (!(answer instanceof OtherTime)) return Effect.succeed(answer)
        offset = answer.now - clock.unsafeCurrentTimeMillis()
        return attempt(answer.now)
      })
    return Effect.suspend(() => attempt(clock.unsafeCurrentTimeMillis() + offset))
  }
})
