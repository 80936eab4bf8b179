/**
 * What a module loads: the sources compiled as they are published, and imported by a process of its own.
 */
import { execFile } from "node:child_process"
import { mkdtemp, readdir, readFile, rm } from "node:fs/promises"
import { join } from "node:path"
import { fileURLToPath, pathToFileURL } from "node:url"
import { promisify } from "node:util"

const root = fileURLToPath(new URL("../..", import.meta.url))

const run = promisify(execFile)

/** Beside node_modules, so that the modules find theirs; each suite has its own, because files run at the same time. */
const folderOf = (suite: string) => join(root, "build", "imports", suite)

/** Compiles the sources; returns what removes the result. */
export const compileModules = async (suite: string): Promise<() => Promise<void>> => {
  const folder = folderOf(suite)
  await rm(folder, { recursive: true, force: true })
  const compiler = join(root, "node_modules", "@typescript", "native", "bin", "tsc")
  const off = ["--composite", "--incremental", "--declaration", "--declarationMap"].flatMap((flag) => [flag, "false"])
  await run(process.execPath, [compiler, "-p", join(root, "src"), "--outDir", folder, "--noCheck", ...off])
  return () => rm(folder, { recursive: true, force: true })
}

/** The modules that a process has loaded after it ran this text. */
export const loadedBy = async (
  suite: string,
  text: (module: (name: string) => string) => string
): Promise<ReadonlyArray<string>> => {
  const folder = folderOf(suite)
  const coverage = await mkdtemp(join(folder, "coverage-"))
  const module = (name: string) => JSON.stringify(pathToFileURL(join(folder, name)).href)
  await run(process.execPath, ["--input-type=module", "--eval", text(module)], {
    env: { ...process.env, NODE_V8_COVERAGE: coverage },
    cwd: root
  })
  const urls: Array<string> = []
  for (const file of await readdir(coverage)) {
    const report: { readonly result: ReadonlyArray<{ readonly url: string }> } = JSON.parse(
      await readFile(join(coverage, file), "utf8")
    )
    urls.push(...report.result.map(({ url }) => url))
  }
  return urls
}

/** Which of the parts that not everybody needs are among them. */
export const heavy = (urls: ReadonlyArray<string>): ReadonlyArray<string> =>
  ["/node_modules/ioredis/", "/node_modules/luaparse/", "/memory/"].filter((part) =>
    urls.some((url) => url.includes(part))
  )
