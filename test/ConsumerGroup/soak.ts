/**
 * `vite-node test/ConsumerGroup/soak.ts --entries 100000`: four processes handle so many entries, while one of them is
 * killed every two seconds and the server is restarted twice. It ends with a line of JSON, and with an error when
 * anything was lost, was a dead letter that should not be, or is pending still.
 */
import { Effect } from "effect"
import { parseArgs } from "node:util"
import { soak } from "./crowd.js"

const { values } = parseArgs({ options: { entries: { type: "string", default: "100000" } } })

const report = await Effect.runPromise(
  soak({ entries: Number(values.entries), processes: 4, killEvery: 2000, work: 1, appendFor: 20_000, restarts: 2 })
)
process.stdout.write(`${JSON.stringify(report)}\n`)
const fine = report.lost === 0 && report.pending === 0 && report.wrongDeadLetters === 0 &&
  report.deadLetters === report.poison && report.duplicates <= report.mostDuplicates
process.exit(fine ? 0 : 1)
