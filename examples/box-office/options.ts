/**
 * The command line.
 */
import { Either } from "effect"
import { parseArgs } from "node:util"
import { MAX_VENUES } from "./venues.js"

export const HELP = `Box office: buyers fight for seats in the largest cities of the world, and no seat is sold twice.

  npm start                           on a server in memory
  REDIS_URL=redis://host npm start    on a server of yours
  npm start -- --processes 4          four processes sell the same seats (needs a server of yours)

  --venues N      cities with a venue (default 20)
  --seats N       seats of all venues together (default 2400)
  --buyers N      buyers of all processes together (default 3000)
  --processes N   processes that sell (default 1)
  --seed TEXT     the same seed makes the same crowd (default: another one each time)
  --sale ID       takes part in this sale, or opens it; all who do must agree on venues and seats. Its records stay for
                  an hour. (Default: a sale of its own, whose records are removed at the end)
  --check         no progress, every check on a line of its own
  --help

It ends with 0 when the audit finds everything right, and with 1 when it does not.
`

export interface Options {
  readonly venues: number
  readonly seats: number
  readonly buyers: number
  readonly processes: number
  readonly seed: string | undefined
  readonly sale: string | undefined
  readonly check: boolean
  readonly help: boolean
  /** Only sells: how `--processes` starts the others. */
  readonly worker: boolean
}

const limits = { venues: MAX_VENUES, seats: 100_000, buyers: 1_000_000, processes: 64 }

const defaults = { venues: 20, seats: 2400, buyers: 3000, processes: 1 }

/** `Left` says what is wrong and what was expected. */
export const parse = (args: ReadonlyArray<string>): Either.Either<Options, string> =>
  Either.gen(function*() {
    const { values } = yield* Either.try({
      try: () =>
        parseArgs({
          args: [...args],
          options: {
            venues: { type: "string" },
            seats: { type: "string" },
            buyers: { type: "string" },
            processes: { type: "string" },
            seed: { type: "string" },
            sale: { type: "string" },
            check: { type: "boolean", default: false },
            help: { type: "boolean", default: false },
            worker: { type: "boolean", default: false }
          }
        }),
      catch: (error) => error instanceof Error ? error.message : String(error)
    })
    const whole = (name: keyof typeof limits): Either.Either<number, string> => {
      const text = values[name]
      if (text === undefined) return Either.right(defaults[name])
      const n = Number(text)
      return /^\d+$/.test(text) && n >= 1 && n <= limits[name]
        ? Either.right(n)
        : Either.left(`--${name} must be a whole number from 1 to ${limits[name]}, but it is "${text}"`)
    }
    const { check, help, sale, seed, worker } = values
    if (sale !== undefined && !/^[\w-]{1,64}$/.test(sale)) {
      return yield* Either.left(`--sale must be 1 to 64 letters, digits, "-" or "_", but it is "${sale}"`)
    }
    return {
      venues: yield* whole("venues"),
      seats: yield* whole("seats"),
      buyers: yield* whole("buyers"),
      processes: yield* whole("processes"),
      seed,
      sale,
      check,
      help,
      worker
    }
  })
