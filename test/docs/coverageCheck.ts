/**
 * `npm run coverage:check -- [report.json ...]`: whether the tests that `docs/coverage.md` names are there; with reports of
 * `vitest run --reporter=json --outputFile=report.json` also whether they ran.
 */
import { readFileSync } from "node:fs"
import { join } from "node:path"
import { check, project, type Report } from "./coverage.js"

const paths = process.argv.slice(2)
const text = readFileSync(join(project, "docs/coverage.md"), "utf8")
const reports = paths.map((path): Report => JSON.parse(readFileSync(path, "utf8")))
const report = { testResults: reports.flatMap(({ testResults }) => testResults) }
const problems = check(reports.length === 0 ? { text } : { text, report })
for (const problem of problems) process.stderr.write(`${problem}\n`)
process.stdout.write(problems.length === 0 ? "Every row has its tests.\n" : `${problems.length} problems\n`)
process.exitCode = problems.length === 0 ? 0 : 1
