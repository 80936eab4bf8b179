/**
 * `npm run test:mutations`: plants bugs in a copy of the engine, one at a time, and fails when a bug is not found by the
 * comparison with a real server.
 */
import * as ChildProcess from "node:child_process"
import * as Fs from "node:fs"
import * as Os from "node:os"
import * as Path from "node:path"
import { fileURLToPath } from "node:url"
import { parseArgs } from "node:util"
import { mutations, plant } from "./mutations.js"

const TESTS = ["test/memory/differential.test.ts", "test/memory/lua/lua.test.ts"]
/** So that every run finds the same; `FC_SEED` is another. */
const SEED = "1"

/** As far as vitest's report is read. */
interface Report {
  readonly testResults: ReadonlyArray<{
    readonly assertionResults: ReadonlyArray<{
      readonly status: string
      readonly ancestorTitles: ReadonlyArray<string>
      readonly title: string
      readonly failureMessages: ReadonlyArray<string>
    }>
  }>
}

interface Outcome {
  readonly tests: number
  /** The tests that found a difference. */
  readonly found: ReadonlyArray<string>
  readonly output: string
}

const print = (text: string): void => void process.stdout.write(`${text}\n`)

const root = fileURLToPath(new URL("../../..", import.meta.url))

/** The tests of the copy, in a process of its own. */
const run = async (copy: string): Promise<Outcome> => {
  const report = Path.join(copy, "report.json")
  Fs.rmSync(report, { force: true })
  const child = ChildProcess.spawn(
    process.execPath,
    [
      Path.join(root, "node_modules/vitest/vitest.mjs"),
      "run",
      ...TESTS,
      "--project",
      "ioredis 5",
      "--reporter",
      "json",
      "--outputFile",
      report
    ],
    { cwd: copy, env: { FC_SEED: SEED, ...process.env }, stdio: ["ignore", "pipe", "pipe"] }
  )
  let output = ""
  child.stdout.on("data", (chunk) => output += String(chunk))
  child.stderr.on("data", (chunk) => output += String(chunk))
  await new Promise((resolve, reject) => child.on("close", resolve).on("error", reject))
  if (!Fs.existsSync(report)) return { tests: 0, found: [], output }
  const { testResults }: Report = JSON.parse(Fs.readFileSync(report, "utf8"))
  const tests = testResults.flatMap(({ assertionResults }) => assertionResults)
  return {
    tests: tests.length,
    found: tests
      .filter(({ failureMessages, status }) =>
        status === "failed" && !failureMessages.some((message) => /timed out/.test(message))
      )
      .map(({ ancestorTitles, title }) =>
        `${ancestorTitles.join(" ").replace("the engine answers like a server", "differential")}: ${title}`
      ),
    output
  }
}

parseArgs({ options: {} })

const copy = Fs.mkdtempSync(Path.join(Os.tmpdir(), "mutations-"))
try {
  for (
    const name of [
      "src",
      "test",
      "examples",
      "docs/tsconfig.json",
      "package.json",
      "vitest.config.ts",
      "tsconfig.base.json"
    ]
  ) {
    Fs.cpSync(Path.join(root, name), Path.join(copy, name), { recursive: true })
  }
  // Links to the packages, not to the folder of all of them: vitest writes into it.
  Fs.mkdirSync(Path.join(copy, "node_modules"))
  for (const name of Fs.readdirSync(Path.join(root, "node_modules")).filter((name) => !name.startsWith("."))) {
    Fs.symlinkSync(Path.join(root, "node_modules", name), Path.join(copy, "node_modules", name))
  }
  const sources = mutations.map((mutation) => {
    const path = Path.join(copy, "src/memory", mutation.file)
    const source = Fs.readFileSync(path, "utf8")
    return { mutation, path, source, mutated: plant(mutation, source) }
  })
  const untouched = await run(copy)
  if (untouched.tests === 0 || untouched.found.length > 0) {
    throw new Error(`Without any mutation the tests must pass.\n${untouched.found.join("\n")}\n${untouched.output}`)
  }
  print("| mutation | found by |\n|---|---|")
  for (const { mutated, mutation, path, source } of sources) {
    Fs.writeFileSync(path, mutated)
    const { found, output, tests } = await run(copy)
    Fs.writeFileSync(path, source)
    if (tests !== untouched.tests) throw new Error(`"${mutation.name}" did not run all tests.\n${output}`)
    if (found.length === 0) process.exitCode = 1
    print(`| ${mutation.name} | ${found.length === 0 ? "NOTHING" : found.join("; ")} |`)
  }
} finally {
  Fs.rmSync(copy, { recursive: true, force: true })
}
