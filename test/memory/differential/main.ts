/**
 * `npm run test:differential -- [--sequences N] [--seed N]`: more of the comparison than the tests have time for.
 */
import { Data, Effect } from "effect"
import { defaultReportMessage } from "effect/FastCheck"
import { randomInt } from "node:crypto"
import { parseArgs } from "node:util"
import * as RealServer from "../../kit/RealServer.js"
import { connect } from "./compare.js"
import { spread } from "./spread.js"
import { type Suite, suites } from "./suites.js"

const HELP = `npm run test:differential -- [--sequences N] [--seed N]

  --sequences N  how many sequences of commands, over all suites (20000)
  --seed N       that of an earlier run: the same seed makes the same sequences (random)
`

interface Options {
  readonly sequences: number
  readonly seed: number
}

const asError = (error: unknown): Error => error instanceof Error ? error : new Error(String(error))

/** What is wrong with the arguments, or what they ask for. */
const options = (): Options | "help" | Error => {
  const integer = (name: string, text: string, min: number, max: number): number => {
    const value = Number(text)
    if (!/^-?\d+$/.test(text) || value < min || value > max) {
      throw new Error(`--${name} must be an integer from ${min} to ${max}, not ${JSON.stringify(text)}`)
    }
    return value
  }
  try {
    const { values } = parseArgs({
      options: {
        sequences: { type: "string", default: "20000" },
        seed: { type: "string", default: String(randomInt(2 ** 31)) },
        help: { type: "boolean", default: false }
      }
    })
    if (values.help) return "help"
    return {
      sequences: integer("sequences", values.sequences, 1, 1e9),
      seed: integer("seed", values.seed, -(2 ** 31), 2 ** 31 - 1)
    }
  } catch (error) {
    return asError(error)
  }
}

/** The database is not empty, or the connection was lost. */
class NotCompared extends Data.TaggedError("NotCompared")<{ readonly message: string }> {}

const print = (text: string): void => void process.stdout.write(`${text}\n`)

/** Says how many of the suites differ. */
const compare = async (url: string, { seed, sequences }: Options): Promise<number> => {
  const differential = await connect(url)
  const started = performance.now()
  const different: Array<Suite> = []
  for (const [suite, share] of spread(suites, sequences)) {
    const details = await differential.check(suite, { sequences: share, seed })
    print(`${details.failed ? "x" : "✓"} ${suite.name} (${share})`)
    if (!details.failed) continue
    different.push(suite)
    print(defaultReportMessage(details) ?? "")
  }
  const seconds = (performance.now() - started) / 1000
  const total = differential.count()
  await differential.close()
  const rate = `${seconds.toFixed(1)} s, ${Math.round(total.sequences / seconds)} sequences per second`
  print(`${total.sequences} sequences, ${total.commands} commands, ${rate}`)
  print(
    different.length === 0
      ? "0 differences"
      : `${different.length} differences: ${
        different.map(({ name }) => name).join("; ")
      }. Again: npm run test:differential -- --sequences ${sequences} --seed ${seed}`
  )
  return different.length
}

const asked = options()
if (asked === "help") print(HELP)
else if (asked instanceof Error) {
  process.stderr.write(`${asked.message}\n\n${HELP}`)
  process.exitCode = 2
} else {
  await RealServer.find().pipe(
    Effect.flatMap((source) => RealServer.open(source)),
    Effect.tap((server) => print(`${server.version}, ${asked.sequences} sequences, seed ${asked.seed}`)),
    Effect.flatMap((server) =>
      Effect.tryPromise({
        try: () => compare(server.url, asked),
        catch: (error) => new NotCompared({ message: asError(error).message })
      })
    ),
    Effect.scoped,
    Effect.match({
      onFailure: ({ message }) => {
        process.stderr.write(`${message}\n`)
        process.exitCode = 2
      },
      onSuccess: (differences) => {
        if (differences > 0) process.exitCode = 1
      }
    }),
    Effect.runPromise
  )
}
