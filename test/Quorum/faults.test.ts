import { assert, describe, it } from "@effect/vitest"
import { Effect, Fiber, Redacted, type Scope } from "effect"
import { spawn } from "node:child_process"
import { text } from "node:stream/consumers"
import { fileURLToPath } from "node:url"
import { layer as redis } from "../../src/IoRedis.js"
import * as Quorum from "../../src/Quorum/index.js"
import { keysOf } from "../../src/Quorum/scripts.js"
import * as FaultProxy from "../kit/FaultProxy.js"
import * as RealServer from "../kit/RealServer.js"
import { viteNode } from "../kit/viteNode.js"

const workerFile = fileURLToPath(new URL("./worker.ts", import.meta.url))

/** What a process says when it has ended, and with which code. */
const worker = (task: object): Effect.Effect<Effect.Effect<readonly [string, number | null]>, never, Scope.Scope> =>
  Effect.map(
    Effect.acquireRelease(
      Effect.sync(() =>
        spawn(process.execPath, [...viteNode, workerFile, JSON.stringify(task)], {
          stdio: ["ignore", "pipe", "inherit"]
        })
      ),
      (child) => Effect.sync(() => void child.kill("SIGKILL"))
    ),
    (child) => {
      const ended = Promise.all([
        text(child.stdout),
        new Promise<number | null>((resolve) => child.once("exit", resolve))
      ])
      return Effect.promise(() => ended)
    }
  )

const five = (options?: RealServer.Options) => Effect.replicateEffect(RealServer.start(options), 5)

const quorumOf = (servers: ReadonlyArray<{ readonly url: string }>) => {
  const [first, ...others] = servers.map(({ url }) => redis({ url: Redacted.make(url), commandTimeout: "2 seconds" }))
  return Quorum.layer([first!, ...others], { nodeTimeout: "300 millis" })
}

const has = (server: RealServer.Server, name: string) =>
  Effect.map(server.cli("EXISTS", keysOf(name)[0]!), (n) => n === 1)

/** Every node has its client. */
const complete = (servers: ReadonlyArray<RealServer.Server>) =>
  Effect.scoped(Effect.gen(function*() {
    yield* Quorum.acquire("complete", { lease: "1 second" })
    for (const server of servers) {
      yield* RealServer.until("all nodes", has(server, "complete"), (there) => there, String)
    }
  }))

/** How many scripts it has run. */
const scripts = (server: RealServer.Server) =>
  Effect.map(
    server.cli("INFO", "commandstats"),
    (info) =>
      Array.from(String(info).matchAll(/cmdstat_eval(?:sha)?:calls=(\d+)/g), ([, calls]) => Number(calls))
        .reduce((a, b) => a + b, 0)
  )

describe("Quorum under faults", () => {
  it.live(
    "two dead nodes and one that hangs: fails with the reasons, in time, and leaves no key anywhere",
    () =>
      Effect.gen(function*() {
        const servers = yield* five({ appendonly: true })
        const name = "minority"
        yield* Effect.gen(function*() {
          yield* complete(servers)
          const before = [0, 0, yield* scripts(servers[2]!)]
          yield* servers[0]!.kill
          yield* servers[1]!.kill
          yield* servers[2]!.pause
          const failure = yield* Effect.flip(
            Effect.scoped(Quorum.acquire(name, { lease: "10 minutes", waitTimeout: "1 second" }))
          ).pipe(Effect.timeout("5 seconds"))
          assert(failure._tag === "QuorumNotReached")
          assert.strictEqual(failure.granted, 2)
          assert.deepStrictEqual(
            failure.failed.map(({ error, node, target }) => [node, target, error._tag]),
            [
              [0, `${servers[0]!.url}/0`, "RedisConnectionError"],
              [1, `${servers[1]!.url}/0`, "RedisConnectionError"],
              [2, `${servers[2]!.url}/0`, "RedisOutcomeUnknownError"]
            ]
          )
          for (const server of servers.slice(3)) assert.isFalse(yield* has(server, name))
          yield* servers[2]!.resume
          yield* servers[0]!.restart
          // The releases arrive by themselves, long before the lease would have ended.
          for (const i of [0, 2]) {
            yield* RealServer.until("the release", scripts(servers[i]!), (count) => count > before[i]!, String)
            yield* RealServer.until("no key", has(servers[i]!, name), (there) => !there, String)
          }
          // Nothing comes after them.
          yield* Effect.sleep("1 second")
          for (const server of [servers[0]!, ...servers.slice(2)]) assert.isFalse(yield* has(server, name))
          assert.strictEqual(
            yield* Quorum.withLock(Effect.succeed("works"), name, { waitTimeout: "5 seconds" }),
            "works"
          )
        }).pipe(Effect.provide(quorumOf(servers)))
      }).pipe(Effect.scoped),
    60_000
  )

  it.live(
    "two dead nodes of five change nothing: acquire, renew, extend, release, withLock",
    () =>
      Effect.gen(function*() {
        const servers = yield* five()
        const name = "works"
        yield* Effect.gen(function*() {
          yield* complete(servers)
          yield* servers[1]!.kill
          yield* servers[3]!.kill
          const held = yield* Quorum.acquire(name, { lease: "1 second" })
          yield* Effect.sleep("2500 millis")
          assert.isTrue(yield* held.isHeld)
          yield* held.extend("10 seconds")
          assert.isTrue(yield* held.release)
          assert.strictEqual(yield* Quorum.withLock(Effect.succeed("done"), name), "done")
          for (const server of [servers[0]!, servers[2]!, servers[4]!]) assert.isFalse(yield* has(server, name))
        }).pipe(Effect.scoped, Effect.provide(quorumOf(servers)))
      }).pipe(Effect.scoped),
    60_000
  )

  it.live(
    "the layer is there with a minority of dead nodes, takes them in later, and fails with a majority",
    () =>
      Effect.gen(function*() {
        const servers = yield* five()
        for (const server of servers.slice(0, 2)) yield* server.kill
        yield* Effect.gen(function*() {
          assert.strictEqual(yield* Quorum.withLock(Effect.succeed(1), "built"), 1)
          for (const server of servers.slice(0, 2)) yield* server.restart
          for (const server of servers.slice(3)) yield* server.kill
          assert.strictEqual(yield* Quorum.withLock(Effect.succeed(2), "built", { waitTimeout: "15 seconds" }), 2)
          yield* servers[0]!.kill
        }).pipe(Effect.provide(quorumOf(servers)))
        const failure = yield* Effect.flip(Effect.provide(Effect.void, quorumOf(servers)))
        assert.strictEqual(failure._tag, "RedisConnectionError")
      }).pipe(Effect.scoped),
    60_000
  )

  it.live("lost replies neither leak the lock nor make the caller wait for itself", () =>
    Effect.gen(function*() {
      const servers = yield* five()
      const proxies = yield* Effect.forEach(servers, (server) => FaultProxy.make(server))
      yield* Effect.gen(function*() {
        // The scripts are known to the servers, so that the next reply is that of the one command.
        yield* Effect.scoped(Quorum.acquire("warm"))
        yield* Effect.sleep("100 millis")
        for (const proxy of proxies.slice(0, 4)) yield* proxy.dropReplies(1)
        const held = yield* Quorum.acquire("lost-reply", { lease: "10 minutes", waitTimeout: "20 seconds" })
        for (const proxy of proxies.slice(1)) yield* proxy.dropReplies(1)
        yield* Effect.exit(held.release)
        const next = yield* Quorum.acquire("lost-reply", { lease: "10 minutes", waitTimeout: "20 seconds" })
        assert.isAbove(next.fencingToken, held.fencingToken)
        assert.isTrue(yield* next.release)
        for (const server of servers) {
          yield* RealServer.until("no key", has(server, "lost-reply"), (there) => !there, String)
        }
      }).pipe(Effect.scoped, Effect.provide(quorumOf(proxies)))
    }).pipe(Effect.scoped), 60_000)

  it.live(
    "four processes of 25 fibers keep to one holder while nodes are killed, frozen and restarted",
    () =>
      Effect.gen(function*() {
        const servers = yield* five({ appendonly: true })
        const resource = yield* RealServer.start()
        const name = "crowd"
        const rounds = 3
        const ended = yield* Effect.replicateEffect(
          worker({ urls: servers.map(({ url }) => url), resource: resource.url, name, fibers: 25, rounds }),
          4
        )
        const results = yield* Effect.fork(Effect.all(ended, { concurrency: "unbounded" }))
        const log = Effect.map(
          resource.cli("LRANGE", `{${name}}:log`, "0", "-1"),
          (reply) => (reply as ReadonlyArray<string>).map((entry) => entry.split(" "))
        )
        /** Until so many more turns are over. */
        const progress = (turns: number) =>
          Effect.flatMap(log, ({ length }) =>
            RealServer.until(
              "progress",
              log,
              (entries) => entries.length >= length + 2 * turns,
              (entries) => String(entries.length),
              60
            ))
        yield* progress(20)
        yield* servers[0]!.kill
        yield* progress(20)
        yield* servers[1]!.kill
        yield* progress(20)
        yield* servers[0]!.restart
        yield* servers[2]!.pause
        yield* progress(20)
        // Three of five are away: nobody gets anywhere, until one of them is back.
        yield* servers[3]!.kill
        yield* Effect.sleep("1 second")
        yield* servers[2]!.resume
        yield* servers[1]!.restart
        yield* servers[3]!.restart
        yield* progress(20)
        yield* servers[4]!.kill
        yield* servers[4]!.restart
        yield* progress(20)
        const outcomes: Record<string, number> = {}
        for (const [output, code] of yield* Fiber.join(results)) {
          // Nothing of any fiber is left: the processes end by themselves.
          assert.strictEqual(code, 0)
          for (const [outcome, n] of Object.entries<number>(JSON.parse(output))) {
            outcomes[outcome] = (outcomes[outcome] ?? 0) + n
          }
        }
        assert.includeMembers(["served", "LockLost", "LockNotAcquired", "QuorumNotReached"], Object.keys(outcomes))
        assert.strictEqual(Object.values(outcomes).reduce((a, b) => a + b, 0), 4 * 25 * rounds)
        assert.isAbove(outcomes["served"] ?? 0, 4 * 25 * rounds * 0.9)
        // Each token belongs to one holder, and is larger than all before it.
        const holders = new Map<string, string>()
        let last = 0
        for (const [token, who] of yield* log) {
          assert.isAtLeast(Number(token), last)
          last = Number(token)
          assert.strictEqual(holders.get(token!) ?? who, who)
          holders.set(token!, who!)
        }
        for (const server of servers) {
          yield* RealServer.until("no key", has(server, name), (there) => !there, String)
        }
      }).pipe(Effect.scoped),
    180_000
  )
})
