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
  --pace N        how many buyers come in a second (default: 20 where the page is served from a terminal, else all at
                  once)
  --port N        where the page is served while seats are sold, 0 for any free port (default 3000, or any free port if
                  that is taken). On a terminal it stays until Ctrl-C
  --no-page       serves none
  --seed TEXT     the same seed makes the same crowd (default: another one each time)
  --sale ID       takes part in this sale, or opens it; all who do must agree on venues and seats. Its records stay for
                  an hour. (Default: a sale of its own, whose records are removed at the end)
  --check         no progress and, without --port, no page
  --help

It ends with 0 when the audit finds everything right, and with 1 when it does not.
`

export interface Options {
  readonly venues: number
  readonly seats: number
  readonly buyers: number
  readonly processes: number
  readonly pace: number | undefined
  /** Where the page is; `undefined` for none. */
  readonly port: Port | undefined
  readonly seed: string | undefined
  readonly sale: string | undefined
  readonly check: boolean
  readonly help: boolean
  /** Only sells: how `--processes` starts the others. */
  readonly worker: boolean
}

export interface Port {
  readonly number: number
  /** Whether another one will do when this one is taken. */
  readonly exact: boolean
}

const PORT = 3000

const limits = { venues: MAX_VENUES, seats: 100_000, buyers: 1_000_000, processes: 64, pace: 1_000_000 }

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
            pace: { type: "string" },
            port: { type: "string" },
            "no-page": { type: "boolean", default: false },
            seed: { type: "string" },
            sale: { type: "string" },
            check: { type: "boolean", default: false },
            help: { type: "boolean", default: false },
            worker: { type: "boolean", default: false }
          }
        }),
      catch: (error) => error instanceof Error ? error.message : String(error)
    })
    const number = (name: keyof typeof limits | "port", text: string, min: number, max: number) => {
      const n = Number(text)
      return /^\d+$/.test(text) && n >= min && n <= max
        ? Either.right(n)
        : Either.left(`--${name} must be a whole number from ${min} to ${max}, but it is "${text}"`)
    }
    const whole = (name: keyof typeof defaults): Either.Either<number, string> => {
      const text = values[name]
      return text === undefined ? Either.right(defaults[name]) : number(name, text, 1, limits[name])
    }
    const { check, help, "no-page": noPage, pace, port, sale, seed, worker } = values
    const given: Port | undefined = port === undefined
      ? undefined
      : { number: yield* number("port", port, 0, 65_535), exact: true }
    if (sale !== undefined && !/^[\w-]{1,64}$/.test(sale)) {
      return yield* Either.left(`--sale must be 1 to 64 letters, digits, "-" or "_", but it is "${sale}"`)
    }
    return {
      venues: yield* whole("venues"),
      seats: yield* whole("seats"),
      buyers: yield* whole("buyers"),
      processes: yield* whole("processes"),
      pace: pace === undefined ? undefined : yield* number("pace", pace, 1, limits.pace),
      port: noPage ? undefined : given ?? (check || worker ? undefined : { number: PORT, exact: false }),
      seed,
      sale,
      check,
      help,
      worker
    }
  })
