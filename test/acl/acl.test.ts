/**
 * The rules of the operations guide, on a server that enforces them.
 */
import { assert, describe, it } from "@effect/vitest"
import { Data, Effect, Logger, LogLevel, Redacted } from "effect"
import { Layers, RedisClient, type RedisConfig } from "effect-redis-kit"
import { readdirSync, readFileSync } from "node:fs"
import { fileURLToPath } from "node:url"
import { clusterOptions } from "../kit/layers.js"
import * as RealCluster from "../kit/RealCluster.js"
import * as RealServer from "../kit/RealServer.js"
import { capabilities } from "./capabilities.js"

const root = fileURLToPath(new URL("../../", import.meta.url))

const guide = readFileSync(`${root}docs/operations.md`, "utf8")

const codes = (text: string) => Array.from(text.matchAll(/`([^`]+)`/g), ([, code]) => code!)

const sectionOf = (heading: string) => guide.split(`\n## ${heading}\n`)[1]?.split("\n## ")[0] ?? ""

interface Rules {
  readonly commands: ReadonlyArray<string>
  readonly keys: ReadonlyArray<string>
  readonly channels: ReadonlyArray<string>
}

/** The lines of the block: a name, and the rules in any order. */
const rules: ReadonlyMap<string, Rules> = new Map(
  Array.from(sectionOf("Who may do what").matchAll(/^(\w+) +([~&+].+)$/gm), ([, name, line]) => {
    const all = line!.split(" ")
    const startingWith = (sign: string) => all.filter((rule) => rule.startsWith(sign))
    return [name!, { commands: startingWith("+"), keys: startingWith("~"), channels: startingWith("&") }]
  })
)

/** Where the scripts of a capability are. */
const sources: Readonly<Record<string, ReadonlyArray<string>>> = {
  RedisClient: [],
  Lock: ["Lock/scripts.ts"],
  Semaphore: ["Lock/permitScripts.ts"],
  ReadWriteLock: ["Lock/permitScripts.ts"],
  ChatRoom: ["ChatRoom", "Presence"]
}

const textOf = (place: string): string =>
  place.endsWith(".ts")
    ? readFileSync(`${root}src/${place}`, "utf8")
    : readdirSync(`${root}src/${place}`).map((file) => textOf(`${place}/${file}`)).join("\n")

/** Commands that scripts call by their names, whether a test calls them or not. */
const called = (name: string): ReadonlySet<string> =>
  new Set(
    (sources[name] ?? [name]).flatMap((place) =>
      Array.from(textOf(place).matchAll(/redis\.p?call\(\s*['"]([A-Za-z]+)/g), ([, command]) => command!.toLowerCase())
    )
  )

const subcommands = /^(?:xgroup|xinfo)$/

const client = rules.get("RedisClient")!

const settings = ({ channels, commands, keys }: Rules) => ["reset", "on", ">secret", ...commands, ...keys, ...channels]

/** What the first line allows, and this one. */
const only = (name: string, more: ReadonlyArray<string> = []) => {
  const { channels, commands, keys } = rules.get(name)!
  return settings({ commands: [...client.commands, ...commands, ...more], keys, channels })
}

/** The one for everything, as the guide has it. */
const everything = (/^ACL SETUSER shop (.+)$/m.exec(guide)?.[1] ?? "").replace("on >password", "reset on >secret")
  .split(" ")

const workAs = (name: string, options: RedisConfig.Options) =>
  Effect.gen(function*() {
    yield* capabilities[name]!.pipe(
      Effect.timeout("40 seconds"),
      Effect.mapError((error) => new RefusedError({ message: `${name}: ${String(error)}` }))
    )
    const redis = yield* RedisClient.RedisClient
    for (const refusal of [redis.send("GET", "accounts"), redis.send("FLUSHALL")]) {
      assert.include(String(yield* Effect.flip(refusal)), "NOPERM", name)
    }
  }).pipe(Effect.provide(Layers.live({ keyPrefix: "shop:", ...options })), Logger.withMinimumLogLevel(LogLevel.None))

class RefusedError extends Data.TaggedError("RefusedError")<{ readonly message: string }> {}

/** What a server has refused, but for what was refused on purpose. */
const refused = (log: unknown) =>
  (Array.isArray(log) ? log : []).map((entry) => (Array.isArray(entry) ? entry : []).join(" "))
    .filter((entry) => !/ object (?:get|accounts|flushall|client\|setinfo) /i.test(entry))

describe("the rules of the operations guide", () => {
  it("have a line for each capability", () => {
    assert.sameMembers([...rules.keys()], Object.keys(capabilities))
  })

  for (const name of Object.keys(capabilities)) {
    it(`of ${name} have what its scripts call`, () => {
      const allowed = [...client.commands, ...(rules.get(name)?.commands ?? [])].map((rule) => rule.replace(/^\+/, ""))
      const missing = [...called(name)].filter((command) =>
        !allowed.some((rule) => rule === command || (subcommands.test(command) && rule.startsWith(`${command}|`)))
      )
      assert.deepStrictEqual(missing.map((command) => `+${command}`), [], `add them to ${name} in docs/operations.md`)
    })
  }

  it.scopedLive("let each capability work, and nobody go further", () =>
    Effect.gen(function*() {
      const server = yield* RealServer.start()
      const url = (name: string) => Redacted.make(`redis://${name}:secret@${server.host}:${server.port}`)
      yield* Effect.forEach(
        Object.keys(capabilities),
        (name) => Effect.zipRight(server.cli("ACL", "SETUSER", name, ...only(name)), workAs(name, { url: url(name) })),
        { concurrency: 6, discard: true }
      )
      assert.deepStrictEqual(refused(yield* server.cli("ACL", "LOG", "128")), [])
    }), 120_000)

  it.scopedLive("let one user do everything under its prefix", () =>
    Effect.gen(function*() {
      const server = yield* RealServer.start()
      yield* server.cli("ACL", "SETUSER", "shop", ...everything)
      const url = Redacted.make(`redis://shop:secret@${server.host}:${server.port}`)
      yield* Effect.forEach(Object.keys(capabilities), (name) => workAs(name, { url }), {
        concurrency: 6,
        discard: true
      })
      assert.deepStrictEqual(refused(yield* server.cli("ACL", "LOG", "128")), [])
    }), 120_000)

  it.scopedLive("hold on a Cluster", () =>
    Effect.gen(function*() {
      const cluster = yield* RealCluster.start()
      const more = codes(/^- On a Cluster add (.+?),/m.exec(guide)?.[1] ?? "").flatMap((text) => text.split(" "))
      assert.isAbove(more.length, 0)
      for (const name of ["Lock", "Queue", "Cache", "PubSub"]) {
        for (const node of cluster.nodes) {
          yield* RealServer.talk(`redis://${node.host}:${node.port}`, [["ACL", "SETUSER", name, ...only(name, more)]])
        }
        yield* workAs(name, { ...clusterOptions(cluster), username: name, password: Redacted.make("secret") })
      }
    }), 120_000)
})
