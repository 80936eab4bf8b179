import { assert, describe, it } from "@effect/vitest"
import { existsSync, readdirSync } from "node:fs"
import { fileURLToPath } from "node:url"
import { entries, entryBundle, importGraph, programBundle } from "./bundle.js"

const src = fileURLToPath(new URL("../../src/", import.meta.url))

/** The folders that can be imported, each of which is a capability or an edge. */
const folders = readdirSync(src).filter((name) => existsSync(`${src}${name}/index.ts`) || name === "integrations")

/** What is beside one's own folder. Who is not here needs nobody. */
const needs: Record<string, ReadonlyArray<string>> = {
  "./ChatRoom": ["Presence"],
  "./ConsumerGroup": ["Stream"],
  "./EventStore": ["Lock"],
  "./Queue": ["Stream"],
  "./Quorum": ["Lock"],
  "./ReadWriteLock": ["Lock"],
  "./Semaphore": ["Lock"],
  "./http": ["RateLimiter", "Session"],
  "./integrations/Reactivity": ["PubSub"],
  "./http/RpcRateLimits": ["RateLimiter"]
}

/** The packages of others that an entry may load; nobody else loads any. */
const packages: Record<string, ReadonlyArray<string>> = {
  "./IoRedis": ["ioredis"],
  "./http": ["@effect/platform"],
  "./http/RpcRateLimits": ["@effect/platform", "@effect/rpc"],
  "./integrations/BackingPersistence": ["@effect/experimental"],
  "./integrations/KeyValueStore": ["@effect/platform"],
  "./integrations/PersistedQueueStore": ["@effect/experimental"],
  "./integrations/RateLimiterStore": ["@effect/experimental"],
  "./integrations/Reactivity": ["@effect/experimental"]
}

/** These are made of everything. */
const everything = [".", "./Layers", "./testing"]

/** `Lock` for `src/Lock/scripts.ts`; nothing for what everybody may use. */
const folderOf = (file: string): string | undefined => {
  const folder = /^src\/([^/]+)\//.exec(file)?.[1]
  return folder !== undefined && folders.includes(folder) ? folder : undefined
}

const foldersOf = (files: ReadonlyArray<string>): ReadonlyArray<string> =>
  [...new Set(files.map(folderOf))].filter((folder) => folder !== undefined).sort()

const has = (files: ReadonlyArray<string>, part: string): boolean => files.some((file) => file.includes(part))

describe("an entry loads what it needs", () => {
  for (const entry of entries.keys()) {
    it(entry, async () => {
      const { files, packages: loaded } = await entryBundle(entry)
      assert.isNotEmpty(files)
      assert.isFalse(has(files, "src/memory/"), "the server in memory")
      assert.isFalse(has(files, "node_modules/"), "a package of others")
      assert.strictEqual(has(files, "src/ioredis/") || has(files, "src/IoRedis.ts"), entry === "./IoRedis")
      assert.deepStrictEqual(loaded, packages[entry] ?? [])
      if (everything.includes(entry)) return
      const own = entry.split("/")[1] ?? ""
      const expected = [...needs[entry] ?? [], ...folders.includes(own) ? [own] : []].sort()
      assert.deepStrictEqual(foldersOf(files), expected)
    })
  }
})

describe("of the whole package a bundler keeps what is used", () => {
  const kept = (code: string) =>
    programBundle(`import { ${code.split("|")[0]} } from "effect-redis-kit"\n${code.split("|")[1]}`)

  it("of Lock nothing but locks", async () => {
    const { bytes, files, packages: loaded } = await kept("Lock | console.log(Lock.acquire)")
    assert.deepStrictEqual(foldersOf(files), ["Lock"])
    assert.deepStrictEqual(loaded, [])
    assert.isFalse(has(files, "src/memory/") || has(files, "src/ioredis/"))
    assert.isBelow(bytes, 1.05 * (await entryBundle("./Lock")).bytes)
  })

  it("of withLock nothing but locks", async () => {
    const { files } = await kept("withLock | console.log(withLock)")
    assert.deepStrictEqual(foldersOf(files), ["Lock"])
  })

  it("of Queue nothing but queues, and what waits for their events", async () => {
    const { files } = await kept("Queue | console.log(Queue.define)")
    assert.deepStrictEqual(foldersOf(files), ["Queue", "Stream"])
  })

  it("and nothing of what is imported for no reason", async () => {
    const { files } = await programBundle(`import "effect-redis-kit"\nconsole.log(1)`)
    assert.deepStrictEqual(files.filter((file) => file.startsWith("src/")), [])
  })
})

it("no module waits for itself to be loaded", async () => {
  const graph = await importGraph()
  assert.isAbove(graph.size, 150)
  const state = new Map<string, "open" | "done">()
  const visit = (file: string, path: ReadonlyArray<string>): void => {
    if (state.get(file) === "done") return
    const here = [...path, file]
    if (state.get(file) === "open") assert.fail(`a circle of imports: ${here.slice(here.indexOf(file)).join(" -> ")}`)
    state.set(file, "open")
    for (const next of graph.get(file) ?? []) visit(next, here)
    state.set(file, "done")
  }
  for (const file of graph.keys()) visit(file, [])
})
