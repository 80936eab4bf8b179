/**
 * `npm run test:versions -- [--server FOLDER ...] [--node PROGRAM ...] [file ...]`: runs the contract suites of all capabilities, with both
 * versions of ioredis, on each of these servers with each of these versions of Node, and writes what ran into the README.
 *
 * A folder has a `redis-server` or a `valkey-server`; without one it is the server that the tests find. A program is a `node`;
 * without one it is this one. Files that fail are run again, one after the other, because a machine that is busy with many at
 * once is slow enough to let short lives end. With files it runs these alone, and writes nothing.
 */
import * as ChildProcess from "node:child_process"
import * as Fs from "node:fs"
import * as Os from "node:os"
import * as Path from "node:path"
import { fileURLToPath } from "node:url"
import { parseArgs } from "node:util"

const BEGIN = "<!-- versions: written by `npm run test:versions` -->"
const END = "<!-- end of versions -->"

const root = fileURLToPath(new URL("../..", import.meta.url))
const readme = Path.join(root, "README.md")
const report = Path.join(root, "build", "versions.json")

/** As far as vitest's report is read. */
interface Report {
  readonly numTotalTests: number
  readonly testResults: ReadonlyArray<{ readonly name: string; readonly status: string }>
}

interface Run {
  readonly tests: number
  readonly failed: ReadonlyArray<string>
  /** As `redis 7.0.15`. */
  readonly server: string
}

const print = (line: string): void => void process.stdout.write(`${line}\n`)

/** A folder in which the program has the name that is looked for first. */
const pathOf = (folder: string): string => {
  const program = ["redis-server", "valkey-server"].map((name) => Path.resolve(folder, name)).find(Fs.existsSync)
  if (program === undefined) throw new Error(`${folder} has neither redis-server nor valkey-server.`)
  const made = Fs.mkdtempSync(Path.join(Os.tmpdir(), "effect-redis-kit-server-"))
  Fs.symlinkSync(program, Path.join(made, "redis-server"))
  return made
}

const vitest = (node: string, path: string | undefined, files: ReadonlyArray<string>, workers: number): Promise<Run> =>
  new Promise((resolve, reject) => {
    Fs.rmSync(report, { force: true })
    const { REDIS_URL, ...given } = process.env
    const env: NodeJS.ProcessEnv = { ...given, TEST_VERSIONS: "1" }
    const child = ChildProcess.spawn(
      node,
      [
        Path.join(root, "node_modules", "vitest", "vitest.mjs"),
        "run",
        "--project",
        "ioredis*",
        `--maxWorkers=${workers}`,
        "--reporter=dot",
        "--reporter=json",
        `--outputFile.json=${report}`,
        ...files
      ],
      {
        cwd: root,
        env: path === undefined
          ? { ...env, ...(REDIS_URL === undefined ? {} : { REDIS_URL }) }
          : { ...env, PATH: `${path}${Path.delimiter}${env.PATH ?? ""}` },
        stdio: ["ignore", "pipe", "inherit"]
      }
    )
    let text = ""
    child.stdout.on("data", (chunk: Buffer) => {
      text += chunk.toString()
      process.stdout.write(chunk)
    })
    child.on("error", reject)
    child.on("exit", () => {
      if (!Fs.existsSync(report)) return reject(new Error("vitest has left no report."))
      const { numTotalTests, testResults }: Report = JSON.parse(Fs.readFileSync(report, "utf8"))
      resolve({
        tests: numTotalTests,
        failed: [...new Set(testResults.filter(({ status }) => status !== "passed").map(({ name }) => name))],
        server: /Tests run against ([^,]+),/.exec(text)?.[1] ?? "an unknown server"
      })
    })
  })

const versionOf = (name: string): string =>
  JSON.parse(Fs.readFileSync(Path.join(root, "node_modules", name, "package.json"), "utf8")).version

/** Puts a row in the place of the one with the same server and Node. */
const write = (server: string, node: string, tests: number): void => {
  const text = Fs.readFileSync(readme, "utf8")
  const [begin, end] = [text.indexOf(BEGIN), text.indexOf(END)]
  if (begin < 0 || end < begin) throw new Error("README.md has no place for the versions.")
  const key = `| ${server} | ${node} |`
  const day = new Date().toISOString().slice(0, 10)
  const rows = text.slice(begin, end).split("\n").filter((row) => /^\| \w+ \d/.test(row) && !row.startsWith(key))
  rows.push(`${key} ${versionOf("ioredis")}, ${versionOf("ioredis-6")} | ${tests.toLocaleString("en")} | ${day} |`)
  const table = [BEGIN, "", "| server | Node | ioredis | contract tests, all passed | when |", "|---|---|---|---|---|"]
  Fs.writeFileSync(readme, text.slice(0, begin) + [...table, ...rows.sort(), "", ""].join("\n") + text.slice(end))
}

const capitalized = (text: string): string => text.slice(0, 1).toUpperCase() + text.slice(1)

const { positionals, values } = parseArgs({
  allowPositionals: true,
  options: {
    server: { type: "string", multiple: true, default: [] },
    node: { type: "string", multiple: true, default: [] }
  }
})
const servers = values.server.length === 0 ? [undefined] : values.server
const nodes = values.node.length === 0 ? [process.execPath] : values.node

for (const folder of servers) {
  const path = folder === undefined ? undefined : pathOf(folder)
  try {
    for (const node of nodes) {
      const version = ChildProcess.execFileSync(node, ["--version"], { encoding: "utf8" }).trim().slice(1)
      const { failed, server, tests } = await vitest(
        node,
        path,
        positionals.length === 0 ? ["contract.test.ts"] : positionals,
        2
      )
      const again: Array<string> = []
      for (const file of failed) again.push(...(await vitest(node, path, [file], 1)).failed)
      const what = `${capitalized(server)} with Node ${version}: ${tests} tests`
      if (again.length > 0) {
        print(`${what}; failed, also alone: ${again.join(", ")}`)
        process.exitCode = 1
      } else {
        print(failed.length === 0 ? what : `${what}; passed alone: ${failed.join(", ")}`)
        if (positionals.length === 0) write(capitalized(server), version, tests)
      }
    }
  } finally {
    if (path !== undefined) Fs.rmSync(path, { recursive: true })
  }
}
