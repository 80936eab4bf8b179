/**
 * Whether the tests that `docs/coverage.md` names are there, and whether they ran.
 *
 * The last cell of a row names them, with `;` between: a suite by the name that the text before the table gives it, or a
 * file by its path. A bare file name is beside what was named before it, or beside the suites of its section. A title in
 * quotes is a test of the file or suite before it; what is in parentheses is a remark.
 */
import { existsSync, readdirSync, readFileSync, statSync } from "node:fs"
import { basename, dirname, join, relative } from "node:path"
import { fileURLToPath } from "node:url"

/** What is needed of a report that `vitest run --reporter=json` writes. */
export interface Report {
  readonly testResults: ReadonlyArray<{
    readonly name: string
    readonly assertionResults: ReadonlyArray<{ readonly title: string; readonly status: string }>
  }>
}

export interface Options {
  /** The text of `docs/coverage.md`. */
  readonly text: string
  /** The folder that paths begin in; that of the project by default. */
  readonly root?: string
  readonly report?: Report
}

export const project = fileURLToPath(new URL("../../", import.meta.url))

/** Files or folders, and the titles that are asked for. */
interface Reference {
  readonly paths: ReadonlyArray<string>
  readonly titles: Array<string>
}

const isFile = (path: string): boolean => existsSync(path) && statSync(path).isFile()

const isFolder = (path: string): boolean => existsSync(path) && statSync(path).isDirectory()

const filesIn = (folder: string): ReadonlyArray<string> =>
  readdirSync(folder, { recursive: true, encoding: "utf8" })
    .map((name) => join(folder, name))
    .filter((path) => path.endsWith(".ts") && !path.includes("node_modules"))

/** A module of the tests with everything of the tests that it imports. */
const closure = (path: string, seen = new Set<string>()): ReadonlySet<string> => {
  if (seen.has(path) || !isFile(path)) return seen
  seen.add(path)
  for (const [, name = ""] of readFileSync(path, "utf8").matchAll(/from "(\.[^"]+)\.js"/g)) {
    const imported = join(dirname(path), `${name}.ts`)
    if (imported.includes("/test/")) closure(imported, seen)
  }
  return seen
}

const known = new Map<string, ReadonlyMap<string, ReadonlySet<string>>>()

/** Every test file with what it runs; they are read once. */
const closuresOf = (root: string): ReadonlyMap<string, ReadonlySet<string>> => {
  let closures = known.get(root)
  if (closures === undefined) {
    const tests = filesIn(join(root, "test")).filter((path) => path.endsWith(".test.ts"))
    known.set(root, closures = new Map(tests.map((path) => [path, closure(path)])))
  }
  return closures
}

const cellsOf = (line: string): ReadonlyArray<string> => line.split("|").slice(1, -1).map((cell) => cell.trim())

const NAMED = /\*([^*]+)\*\s+is\s+`([^`]+)`/g

const GLOB = /`(test\/[^`*]*)\*([^`]*)`/g

const TOKEN = /\[[^\]]*\]\(([^)]+)\)|\([^)]*\)|`([^`]+)`|"([^"]+)"|([^`"([;]+)/g

/** Everything that is wrong, as one sentence for each. */
export const check = ({ report, root = project, text }: Options): ReadonlyArray<string> => {
  const problems: Array<string> = []
  const suites = new Map<string, ReadonlyArray<string>>()
  const closures = closuresOf(root)

  /** The test files that run a file, or those of a folder. */
  const runnersOf = (path: string) =>
    Array.from(closures).filter(([test, modules]) =>
      isFolder(path) ? test.startsWith(join(path, "/")) : modules.has(path)
    ).map(([test]) => test)

  const hasTitle = (path: string, title: string): boolean =>
    (isFolder(path) ? filesIn(path) : Array.from(closure(path))).some((file) =>
      // A quotation mark has a backslash before it where the title is written.
      [JSON.stringify(title), `'${title}'`, `\`${title}\``].some((quoted) =>
        readFileSync(file, "utf8").includes(quoted)
      )
    )

  const verify = (row: string, { paths, titles }: Reference) => {
    const problem = (what: string) => void problems.push(`"${row}": ${what}`)
    const names = paths.map((path) => relative(root, path)).join(", ")
    const runners = paths.flatMap(runnersOf)
    if (runners.length === 0) return problem(`no test runs ${names}`)
    for (const title of titles) {
      if (!paths.some((path) => hasTitle(path, title))) problem(`there is no "${title}" in ${names}`)
    }
    if (report === undefined) return
    const results = report.testResults.filter(({ name }) => runners.includes(name))
      .flatMap(({ assertionResults }) => assertionResults)
    const ran = (what: string, results: ReadonlyArray<{ readonly status: string }>) => {
      if (!results.some(({ status }) => status === "passed")) problem(`${what} did not run`)
      else if (results.some(({ status }) => status === "failed")) problem(`${what} failed`)
    }
    if (titles.length === 0) return ran(names, results)
    for (const title of titles) ran(`"${title}" in ${names}`, results.filter((result) => result.title === title))
  }

  const referencesOf = (row: string, part: string, beside: ReadonlyArray<string>): ReadonlyArray<Reference> => {
    const references: Array<Reference> = []
    // Where a bare file name is looked for.
    let folders = beside
    let folder: Reference | undefined
    const add = (paths: ReadonlyArray<string>) => {
      const reference: Reference = { paths, titles: [] }
      references.push(reference)
      folders = paths.map((path) => isFolder(path) ? path : dirname(path))
      return reference
    }
    for (const [, link, code, title, prose = ""] of part.matchAll(TOKEN)) {
      if (link !== undefined) {
        if (!isFile(join(root, "docs", link))) problems.push(`"${row}": there is no ${link}`)
        references.push({ paths: [], titles: [] })
      } else if (title !== undefined) {
        const last = references.at(-1)
        if (last === undefined) problems.push(`"${row}": "${title}" is of no file`)
        else last.titles.push(title)
      } else if (code !== undefined) {
        const found = (code.includes("/") ? [join(root, code)] : folders.map((folder) => join(folder, code))).filter(
          existsSync
        )
        // A folder was named to say where the file is.
        if (folder !== undefined) references.splice(references.indexOf(folder), 1)
        folder = undefined
        if (found.length === 0) problems.push(`"${row}": there is no ${code}`)
        else if (code.includes("/")) add(found)
        else references.push({ paths: found, titles: [] })
      } else {
        for (const words of prose.split(",").map((words) => words.trim()).filter((words) => words !== "")) {
          const name = Array.from(suites.keys())
            .filter((name) => words === name || words.startsWith(`${name} `))
            .sort((a, b) => b.length - a.length)[0]
          const reference = name === undefined ? undefined : add(suites.get(name)!)
          folder = reference?.paths.some(isFolder) ? reference : undefined
          // Several words in the middle are a remark.
          if (name === undefined && (references.length === 0 || !words.includes(" ")) && words !== "and") {
            problems.push(`"${row}": there is no suite "${words}"`)
          }
        }
      }
    }
    return references
  }

  let rows = 0
  for (const section of text.split(/^## /m)) {
    const lines = section.split("\n")
    const prose = lines.filter((line) => !line.startsWith("|")).join("\n")
    const beside: Array<string> = []
    for (const [, start = "", end = ""] of prose.matchAll(GLOB)) {
      for (const path of filesIn(join(root, dirname(`${start}x`)))) {
        if (!relative(root, path).startsWith(start) || !path.endsWith(end)) continue
        suites.set(basename(path, ".ts"), [path])
      }
    }
    for (const [, name = "", path = ""] of prose.matchAll(NAMED)) {
      const found = (path.includes("/") ? [join(root, path)] : beside.map((folder) => join(folder, path))).filter(
        existsSync
      )
      if (found.length === 0) problems.push(`"${name}": there is no ${path}`)
      suites.set(name, found)
      if (path.includes("/")) beside.push(...found.map((path) => isFolder(path) ? path : dirname(path)))
    }
    for (const line of lines.filter((line) => line.startsWith("|"))) {
      const [row = "", here = "", shown = ""] = cellsOf(line)
      if (row === "" || shown === "shown by" || /^-+$/.test(row)) continue
      rows++
      if (shown === "") {
        if (!here.startsWith("not yet")) problems.push(`"${row}": no test is named`)
        continue
      }
      // A `;` between parentheses or quotes is of a remark or a title.
      for (const part of shown.split(/;(?![^("]*[)"])/)) {
        for (const reference of referencesOf(row, part.trim(), beside)) {
          if (reference.paths.length > 0) verify(row, reference)
        }
      }
    }
  }
  return rows === 0 ? ["there are no rows"] : problems
}
