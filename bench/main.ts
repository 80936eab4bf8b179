/**
 * `npm run bench -- [suite or case ...] [--quick] [--json] [--rounds N] [--seconds S]`, `npm run bench -- --report [file ...]`
 */
import { Cause, Effect } from "effect"
import * as Os from "node:os"
import { parseArgs } from "node:util"
import type { Task } from "./case-worker.js"
import * as Harness from "./harness.js"
import * as Peers from "./peers.js"
import * as Report from "./report.js"
import * as Server from "./server.js"
import * as Suites from "./suites/index.js"
import { ask, worker } from "./worker.js"

const USUAL = { rounds: 9, seconds: 0.5 }
const QUICK = { rounds: 3, seconds: 0.1 }

const HELP = `npm run bench -- [suite or case ...] [--quick] [--json] [--rounds N] [--seconds S]
npm run bench -- --report [file ...]

  suites       ${Suites.names.join(", ")}; a case is chosen by its name or the start of it
  --json       the JSON lines alone
  --rounds N   how often everybody has a turn (${USUAL.rounds})
  --seconds S  how long a turn is (${USUAL.seconds})
  --quick      few and short rounds (${QUICK.rounds} of ${QUICK.seconds} s), for a look at all of it
  --report     measures nothing: takes what runs have printed into files, and writes docs/benchmarks.md and its charts
`

const { positionals, values } = parseArgs({
  allowPositionals: true,
  options: {
    json: { type: "boolean", default: false },
    quick: { type: "boolean", default: false },
    report: { type: "boolean", default: false },
    rounds: { type: "string" },
    seconds: { type: "string" },
    help: { type: "boolean", default: false }
  }
})

const isChosen = (name: string, by: string) => name === by || name.startsWith(`${by}.`)
const unknown = positionals.filter((by) => !values.report && !Suites.caseNames.some((name) => isChosen(name, by)))
const preset = values.quick ? QUICK : USUAL
const rounds = Number(values.rounds ?? preset.rounds)
const seconds = Number(values.seconds ?? preset.seconds)

const program = Effect.gen(function*() {
  const { version } = yield* Server.Server
  const machine = `Node ${process.versions.node}, ${version}, ${Os.availableParallelism()} cores`
  const run = `${new Date().toISOString().slice(0, 10)}, ${machine}, ${rounds} rounds of ${seconds} s`
  if (!values.json) {
    Harness.print(`${run}\n`)
    Harness.print(Harness.header)
  }
  const outcomes: Array<Harness.Outcome> = []
  for (const name of Suites.caseNames) {
    if (positionals.length === 0 || positionals.some((by) => isChosen(name, by))) {
      const task: Task = { name, version, options: { json: values.json, rounds, seconds, run } }
      outcomes.push(
        ...yield* Effect.scoped(Effect.flatMap(
          worker("./case-worker.js"),
          (child) => ask<ReadonlyArray<Harness.Outcome>>(child, task)
        ))
      )
      // The next one counts its names from the beginning again.
      yield* Server.clean
    }
  }
  if (!values.json) {
    const missed = outcomes.filter(({ met }) => !met).map(({ name }) => name)
    Harness.print(`\n${outcomes.length} figures, ${outcomes.length - missed.length} meet their target.`)
    if (missed.length > 0) Harness.print(`Not met: ${missed.join(", ")}`)
  }
})

if (values.help) {
  Harness.print(HELP)
} else if (unknown.length > 0 || !(rounds >= 1) || !(seconds > 0)) {
  process.stderr.write(unknown.length > 0 ? `There is no ${unknown.join(", ")}.\n\n${HELP}` : HELP)
  process.exitCode = 1
} else if (values.report) {
  Harness.print(Report.write(positionals))
} else {
  Peers.install()
  const fiber = Effect.runFork(program.pipe(
    Effect.provide(Server.layer),
    Effect.catchAllCause((cause) =>
      Effect.sync(() => {
        if (Cause.isInterruptedOnly(cause)) return
        const error = Cause.squash(cause)
        process.stderr.write(`${error instanceof Server.ServerError ? error.message : Cause.pretty(cause)}\n`)
        process.exitCode = 1
      })
    ),
    // A peer may keep a timer or a connection of its own.
    Effect.ensuring(Effect.sync(() => setTimeout(() => process.exit(), 100)))
  ))
  for (const signal of ["SIGINT", "SIGTERM"] as const) {
    process.once(signal, () => {
      process.exitCode = 1
      fiber.unsafeInterruptAsFork(fiber.id())
    })
  }
}
