import { assert, describe, it } from "@effect/vitest"
import { readFileSync } from "node:fs"
import { join } from "node:path"
import { check, project, type Report } from "./coverage.js"

const page = (
  row: string,
  text = "*lock* is `test/Lock/suite.ts`; *live* is `test/IoRedis/`; *faults* is `faults.test.ts` beside."
) => `${text}\n\n| promised | here | shown by |\n|---|---|---|\n${row}\n`

const problemsOf = (shown: string, report?: Report) => {
  const text = page(`| row | api | ${shown} |`)
  return check(report === undefined ? { text } : { text, report })
}

const report = (
  name: string,
  ...results: ReadonlyArray<readonly [title: string, status: "passed" | "failed" | "pending"]>
): Report => ({
  testResults: [{
    name: join(project, name),
    assertionResults: results.map(([title, status]) => ({ title, status }))
  }]
})

describe("docs/coverage.md", () => {
  it("every row names tests that are there", () => {
    assert.deepStrictEqual(check({ text: readFileSync(join(project, "docs/coverage.md"), "utf8") }), [])
  })
})

describe("what the check of the coverage finds", () => {
  it("nothing where all is there", () => {
    for (
      const shown of [
        "lock",
        "lock, live",
        "lock (never touches the lock of a successor); live `connect.test.ts`, `state.test.ts` (stalled; socket)",
        "`test/Lock/suite.ts` \"lets one in at a time\" on every kind of server; `memory.test.ts` beside it",
        "`test/Lock/failover.test.ts`, on Cluster and Sentinel",
        "[locks](locks.md)"
      ]
    ) {
      assert.deepStrictEqual(problemsOf(shown), [], shown)
    }
  })

  it("suites, files, titles and guides that are not there", () => {
    const problems = {
      "lokc": [`"row": there is no suite "lokc"`],
      "lock, lokc": [`"row": there is no suite "lokc"`],
      "`test/Lock/none.test.ts`": [`"row": there is no test/Lock/none.test.ts`],
      "live `none.test.ts`": [`"row": there is no none.test.ts`],
      "lock \"a title that nobody has given to a test\"": [
        `"row": there is no "a title that nobody has given to a test" in test/Lock/suite.ts`
      ],
      "[locks](none.md)": [`"row": there is no none.md`],
      "`test/kit/nobody.ts`": [`"row": there is no test/kit/nobody.ts`],
      "": [`"row": no test is named`]
    }
    for (const [shown, expected] of Object.entries(problems)) assert.deepStrictEqual(problemsOf(shown), expected, shown)
    assert.deepStrictEqual(check({ text: page("| row | not yet | |") }), [])
    assert.deepStrictEqual(check({ text: "# Nothing" }), ["there are no rows"])
    assert.deepStrictEqual(check({ text: page("| row | api | none |", "*none* is `test/None/suite.ts`") }), [
      `"none": there is no test/None/suite.ts`
    ])
  })

  it("a file that no test runs", () => {
    assert.deepStrictEqual(problemsOf("`test/docs/coverageCheck.ts`"), [
      `"row": no test runs test/docs/coverageCheck.ts`
    ])
  })

  it("by a report, what did not run or failed", () => {
    const title = "by a report, what did not run or failed"
    const here = `\`test/docs/coverage.test.ts\` "${title}"`
    const file = "test/docs/coverage.test.ts"
    assert.deepStrictEqual(problemsOf(here, report(file, [title, "passed"])), [])
    assert.deepStrictEqual(problemsOf(here, report(file, [title, "pending"], ["another", "passed"])), [
      `"row": "${title}" in ${file} did not run`
    ])
    assert.deepStrictEqual(problemsOf(here, report(file, [title, "passed"], [title, "failed"])), [
      `"row": "${title}" in ${file} failed`
    ])
    // A suite ran where the test file that imports it did.
    assert.deepStrictEqual(problemsOf("lock", report("test/Lock/contract.test.ts", ["any", "passed"])), [])
    assert.deepStrictEqual(problemsOf("lock", report("test/Session/contract.test.ts", ["any", "passed"])), [
      `"row": test/Lock/suite.ts did not run`
    ])
    assert.deepStrictEqual(problemsOf("lock", report("test/Lock/contract.test.ts", ["any", "pending"])), [
      `"row": test/Lock/suite.ts did not run`
    ])
  })
})
