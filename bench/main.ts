/**
 * `npm run bench -- [suite or case ...] [--json] [--rounds N] [--seconds S]`
 */
import { Cause, Effect } from "effect"
import * as Os from "node:os"
import { parseArgs } from "node:util"
import * as Harness from "./harness.js"
import * as Peers from "./peers.js"
import * as Server from "./server.js"
import * as Cache from "./suites/cache.js"
import * as Client from "./suites/client.js"
import * as EventStore from "./suites/eventStore.js"
import * as Geo from "./suites/geo.js"
import * as Leaderboard from "./suites/leaderboard.js"
import * as Lock from "./suites/lock.js"
import * as Memory from "./suites/memory.js"
import * as PubSub from "./suites/pubsub.js"
import * as Queue from "./suites/queue.js"
import * as RateLimiter from "./suites/ratelimiter.js"
import * as Session from "./suites/session.js"
import * as Stream from "./suites/stream.js"

const suites: Record<string, ReadonlyArray<Harness.Case>> = {
  client: Client.cases,
  memory: Memory.cases,
  lock: Lock.cases,
  cache: Cache.cases,
  pubsub: PubSub.cases,
  ratelimiter: RateLimiter.cases,
  session: Session.cases,
  queue: Queue.cases,
  leaderboard: Leaderboard.cases,
  geo: Geo.cases,
  eventStore: EventStore.cases,
  stream: Stream.cases
}

const HELP = `npm run bench -- [suite or case ...] [--json] [--rounds N] [--seconds S]

  suites       ${Object.keys(suites).join(", ")}; a case is chosen by its name or the start of it
  --json       the JSON lines alone
  --rounds N   how often everybody has a turn (9)
  --seconds S  how long a turn is (0.5)
`

const { positionals, values } = parseArgs({
  allowPositionals: true,
  options: {
    json: { type: "boolean", default: false },
    rounds: { type: "string", default: "9" },
    seconds: { type: "string", default: "0.5" },
    help: { type: "boolean", default: false }
  }
})

const all = Object.values(suites).flat()
const isChosen = (case_: Harness.Case, by: string) =>
  case_.measures[0].name === by || case_.measures[0].name.startsWith(`${by}.`)
const unknown = positionals.filter((by) => !all.some((case_) => isChosen(case_, by)))
const options: Harness.Options = { json: values.json, rounds: Number(values.rounds), seconds: Number(values.seconds) }

const program = Effect.gen(function*() {
  const { version } = yield* Server.Server
  if (!options.json) {
    const machine = `Node ${process.versions.node}, ${version}, ${Os.availableParallelism()} cores`
    Harness.print(`${machine}, ${options.rounds} rounds of ${options.seconds} s\n`)
    Harness.print(Harness.header)
  }
  for (const case_ of all) {
    if (positionals.length === 0 || positionals.some((by) => isChosen(case_, by))) yield* Harness.run(case_, options)
  }
})

if (values.help) {
  Harness.print(HELP)
} else if (unknown.length > 0 || !(options.rounds >= 1) || !(options.seconds > 0)) {
  process.stderr.write(unknown.length > 0 ? `There is no ${unknown.join(", ")}.\n\n${HELP}` : HELP)
  process.exitCode = 1
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
