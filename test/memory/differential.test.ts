/**
 * The same random commands to a real server and to the engine. `npm run test:differential` runs more of them.
 */
import { afterAll, assert, beforeAll, describe, it } from "@effect/vitest"
import { Effect, Exit, Scope } from "effect"
import { defaultReportMessage } from "effect/FastCheck"
import * as RealServer from "../kit/RealServer.js"
import { connect, type Differential } from "./differential/compare.js"
import { spread } from "./differential/spread.js"
import { suites } from "./differential/suites.js"

/** It is emptied all the time, which clients of other databases would be told too. */
const scope = Effect.runSync(Scope.make())

let differential: Differential
let started: number

beforeAll(async () => {
  const { url } = await Effect.runPromise(Scope.extend(RealServer.start(), scope))
  differential = await connect(url)
  started = performance.now()
})

afterAll(async () => {
  const { commands, sequences } = differential.count()
  const rate = Math.round(sequences * 1000 / (performance.now() - started))
  process.stdout.write(`Compared ${sequences} sequences of ${commands} commands, ${rate} sequences per second\n`)
  await differential.close()
  await Effect.runPromise(Scope.close(scope, Exit.void))
})

describe("the engine answers like a server", () => {
  for (const suite of suites) {
    it(suite.name, async () => {
      const details = await differential.check(suite, { sequences: suite.sequences })
      if (details.failed) assert.fail(defaultReportMessage(details))
    })
  }
})

describe("sequences are spread over the suites", () => {
  const shares = (...sequences: ReadonlyArray<number>) => (count: number) =>
    spread(sequences.map((sequences) => ({ sequences })), count).map(([{ sequences }, share]) => [sequences, share])

  it("in their proportion", () => {
    assert.deepStrictEqual(shares(300, 100)(20), [[300, 15], [100, 5]])
  })

  it("to the last one", () => {
    for (const count of [1, 7, 100, 2000, 20_000]) {
      assert.strictEqual(spread(suites, count).reduce((sum, [, share]) => sum + share, 0), count)
    }
  })

  it("and none of none", () => {
    assert.deepStrictEqual(shares(100, 300)(1), [[300, 1]])
  })

  it("at least 2,000 in each run of the tests", () => {
    assert.isAtLeast(suites.reduce((sum, { sequences }) => sum + sequences, 0), 2000)
  })
})
