/**
 * The package as `npm pack` makes it, in a project that has nothing else but its peers.
 */
import { afterAll, assert, beforeAll, describe, it } from "@effect/vitest"
import { execFile } from "node:child_process"
import { cp, mkdir, readdir, readFile, rm, symlink, writeFile } from "node:fs/promises"
import { dirname, join } from "node:path"
import { fileURLToPath } from "node:url"
import { promisify } from "node:util"
import { entries } from "./bundle.js"

const root = fileURLToPath(new URL("../..", import.meta.url))
const work = join(root, "build", "pack")
/** What is packed: a copy, because `dist` of the repository may be old, or be written at this moment. */
const copy = join(work, "copy")
const project = join(work, "project")
const compiler = join(root, "node_modules", "@typescript", "native", "bin", "tsc")

const run = async (program: string, args: ReadonlyArray<string>, cwd: string): Promise<string> => {
  const { stderr, stdout } = await promisify(execFile)(program, args, { cwd })
  return `${stdout}${stderr}`
}

const node = (...args: ReadonlyArray<string>) => run(process.execPath, args, project)

interface Packed {
  readonly filename: string
  readonly files: ReadonlyArray<{ readonly path: string }>
}

let packed: Packed

beforeAll(async () => {
  await rm(work, { recursive: true, force: true })
  await mkdir(copy, { recursive: true })
  for (const name of ["package.json", "README.md", "LICENSE", "src"]) {
    await cp(join(root, name), join(copy, name), { recursive: true })
  }
  const flags = ["--noCheck", "--composite", "false", "--incremental", "false"]
  await run(process.execPath, [compiler, "-p", join(root, "src"), "--outDir", join(copy, "dist"), ...flags], root)
  const json = await promisify(execFile)("npm", ["pack", "--json", "--ignore-scripts"], { cwd: copy })
  packed = JSON.parse(json.stdout)[0]

  const modules = join(project, "node_modules")
  const ours = join(modules, "effect-redis-kit")
  await mkdir(ours, { recursive: true })
  await run("tar", ["-xzf", join(copy, packed.filename), "-C", ours, "--strip-components=1"], project)
  const manifest: {
    readonly dependencies: Record<string, string>
    readonly peerDependencies: Record<string, string>
  } = JSON.parse(await readFile(join(ours, "package.json"), "utf8"))
  const names = [...Object.keys(manifest.dependencies), ...Object.keys(manifest.peerDependencies), "@types/node"]
  for (const name of names) {
    await mkdir(dirname(join(modules, name)), { recursive: true })
    await symlink(join(root, "node_modules", name), join(modules, name), "dir")
  }
  await writeFile(join(project, "package.json"), JSON.stringify({ name: "project", private: true }))
}, 120_000)

afterAll(() => rm(work, { recursive: true, force: true }))

const PROGRAM = `
const program = Effect.gen(function*() {
  const redis = yield* RedisClient.RedisClient
  yield* redis.set("seat", "free")
  yield* redis.set("seat", "sold").pipe(withLock("seat", { lease: "5 seconds" }))
  return yield* redis.get("seat")
})
Effect.runPromise(Effect.provide(program, RedisTest)).then((seat) => console.log(JSON.stringify(seat)))
`

const RESULT = `{"_id":"Option","_tag":"Some","value":"sold"}`

describe("the package", () => {
  it("has the sources, what is made of them, and nothing else", async () => {
    const paths = packed.files.map(({ path }) => path)
    assert.deepStrictEqual(
      [...new Set(paths.map((path) => path.split("/")[0]))].sort(),
      ["LICENSE", "README.md", "dist", "package.json", "src"]
    )
    assert.deepStrictEqual(paths.filter((path) => path.includes("test/") || path.endsWith(".tsbuildinfo")), [])
    // Every source of a map is there.
    const maps = paths.filter((path) => path.endsWith(".map"))
    assert.isNotEmpty(maps)
    const sources = new Set(paths.filter((path) => path.startsWith("src/")))
    for (const map of maps) {
      const source = map.replace(/^dist\//, "src/").replace(/(\.d\.ts|\.js)\.map$/, ".ts")
      assert.isTrue(sources.has(source), map)
    }
  })

  it("can be imported at each of its entries, and nowhere else", async () => {
    const names = [...entries.keys()].map((entry) => `effect-redis-kit${entry.slice(1)}`)
    await writeFile(
      join(project, "entries.mjs"),
      `const names = ${JSON.stringify(names)}
for (const name of names) if (Object.keys(await import(name)).length === 0) throw new Error(name + " is empty")
for (const name of ["internal/input", "Lock/scripts", "memory/Engine", "dist/index.js"]) {
  const code = await import("effect-redis-kit/" + name).then(() => "loaded", (error) => error.code)
  if (code !== "ERR_PACKAGE_PATH_NOT_EXPORTED") throw new Error(name + ": " + code)
}
console.log("done")`
    )
    assert.strictEqual((await node("entries.mjs")).trim(), "done")
  })

  it("is used from JavaScript", async () => {
    await writeFile(
      join(project, "program.mjs"),
      `import { Effect } from "effect"\nimport { RedisClient, RedisTest, withLock } from "effect-redis-kit"\n${PROGRAM}`
    )
    assert.strictEqual((await node("program.mjs")).trim(), RESULT)
  })

  it("is used from CommonJS, by require and by import", async () => {
    await writeFile(
      join(project, "required.cjs"),
      `const { Effect } = require("effect")
const { RedisClient, RedisTest, withLock } = require("effect-redis-kit")
${PROGRAM}`
    )
    assert.strictEqual((await node("required.cjs")).trim(), RESULT)
    await writeFile(
      join(project, "imported.cjs"),
      `Promise.all([import("effect"), import("effect-redis-kit")]).then(([{ Effect }, kit]) => {
const { RedisClient, RedisTest, withLock } = kit
${PROGRAM}})`
    )
    assert.strictEqual((await node("imported.cjs")).trim(), RESULT)
  })

  for (
    const [name, module, resolution] of [["Node", "nodenext", "nodenext"], ["a bundler", "esnext", "bundler"]] as const
  ) {
    it(`is used from TypeScript, with modules found as by ${name}`, async () => {
      const folder = join(project, name === "Node" ? "typed" : "bundled")
      await mkdir(folder, { recursive: true })
      await writeFile(
        join(folder, "program.mts"),
        `import { Effect, Option } from "effect"
import { type RedisError, RedisClient, RedisTest, withLock, type Lock } from "effect-redis-kit"
import * as RateLimiter from "effect-redis-kit/RateLimiter"
${PROGRAM}
export const typed: Effect.Effect<
  Option.Option<string>,
  Lock.LockNotAcquired | Lock.LockLost | RedisError.RedisError,
  RedisClient.RedisClient | Lock.Lock
> = program
// @ts-expect-error it can fail
export const safe: Effect.Effect<Option.Option<string>, never, RedisClient.RedisClient | Lock.Lock> = program
// @ts-expect-error a limit is a number
RateLimiter.policy({ name: "sms", limit: "5", window: "1 minute" })
`
      )
      await writeFile(
        join(folder, "tsconfig.json"),
        JSON.stringify({
          compilerOptions: {
            target: "es2022",
            lib: ["es2023"],
            strict: true,
            exactOptionalPropertyTypes: true,
            skipLibCheck: true,
            types: ["node"],
            outDir: "out",
            rootDir: ".",
            module,
            moduleResolution: resolution
          },
          include: ["program.mts"]
        })
      )
      assert.strictEqual(await node(compiler, "-p", folder).catch((error) => error.stdout), "")
      assert.strictEqual((await node(join(folder, "out", "program.mjs"))).trim(), RESULT)
    })
  }

  it("imports nothing but what it declares as a dependency or a peer", async () => {
    const manifest: { readonly dependencies: object; readonly peerDependencies: object } = JSON.parse(
      await readFile(join(copy, "package.json"), "utf8")
    )
    const known = [...Object.keys(manifest.dependencies), ...Object.keys(manifest.peerDependencies)]
    const dist = join(copy, "dist")
    const unknown = new Set<string>()
    for (const path of await readdir(dist, { recursive: true })) {
      if (!path.endsWith(".d.ts") && !path.endsWith(".js")) continue
      const text = (await readFile(join(dist, path), "utf8")).replaceAll(/^ *\*.*$/gm, "")
      for (const [, name = ""] of text.matchAll(/(?:from |import\()"([^".][^"]*)"/g)) {
        const of = name.split("/").slice(0, name.startsWith("@") ? 2 : 1).join("/")
        if (!name.startsWith("node:") && !known.includes(of) && of !== "effect-redis-kit") {
          unknown.add(`${path}: ${name}`)
        }
      }
    }
    assert.deepStrictEqual([...unknown], [])
  })
})
