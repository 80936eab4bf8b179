import { assert, describe, it } from "@effect/vitest"
import { Context, Effect, Exit, Layer, Option, Redacted, Scope, Stream } from "effect"
import { layer as redis } from "../../src/IoRedis.js"
import * as Presence from "../../src/Presence/index.js"
import { RedisClient } from "../../src/RedisClient.js"
import * as FaultProxy from "../kit/FaultProxy.js"
import * as RealServer from "../kit/RealServer.js"
import * as Worker from "../kit/worker.js"
import { listen } from "./suite.js"

const Rooms = Presence.define({ name: "processes", ttl: "1 second" })

const services = (url: string) =>
  Layer.provideMerge(Presence.layer, redis({ url: Redacted.make(url), commandTimeout: "1 second" }))

const eventually = (holds: () => boolean) => RealServer.until("what was to happen", Effect.sync(holds), Boolean, String)

/** A process, and what it has said so far. */
const process = (task: { url: string; room: string; users: ReadonlyArray<string> }) =>
  Effect.gen(function*() {
    const { child, exit, messages } = yield* Worker.start(new URL("./worker.ts", import.meta.url), task)
    const said: Array<any> = []
    yield* Effect.forkScoped(Stream.runForEach(messages, (message) => Effect.sync(() => void said.push(message))))
    yield* eventually(() => said.some(({ ready }) => ready))
    return { child, exit, said }
  })

describe("Presence under faults", () => {
  it.live("of a process that is killed each user leaves once, though three others look for it", () =>
    Effect.gen(function*() {
      const server = yield* RealServer.start()
      const room = "killed"
      const scope = yield* Scope.make()
      // Each has connections of its own, as a process has.
      const others = yield* Effect.forEach(
        [1, 2, 3],
        () =>
          Effect.map(Layer.build(Layer.fresh(services(server.url))), Context.get(Presence.Presence)).pipe(
            Scope.extend(scope)
          )
      )
      yield* Scope.extend(others[0]!.join(Rooms, room, "bob"), scope)
      const told = yield* Effect.forEach(others, (other) => Scope.extend(listen(other, Rooms, room), scope))
      const victim = yield* process({ url: server.url, room, users: ["ada", "ada", "bob", "cy"] })
      victim.child.kill("SIGKILL")
      const joined = ["ada joined", "cy joined"]
      for (const all of told) yield* eventually(() => all.length >= 4)
      yield* Effect.sleep("700 millis")
      for (const all of told) {
        assert.deepStrictEqual(all.slice(0, 2), joined)
        assert.deepStrictEqual(all.slice(2).sort(), ["ada expired", "cy expired"])
      }
      // Graceful ends leave nothing behind.
      yield* Scope.close(scope, Exit.void)
      const keys = yield* server.cli("KEYS", "*")
      assert.deepStrictEqual(keys, ["presence:{processes:killed}:seen"])
    }).pipe(Effect.scoped))

  it.live("a process that was stopped beyond the ttl joins again when it goes on, and is told", () =>
    Effect.gen(function*() {
      const server = yield* RealServer.start()
      const room = "stopped"
      const stopped = yield* process({ url: server.url, room, users: ["ada"] })
      yield* Effect.gen(function*() {
        const told = yield* listen(yield* Presence.Presence, Rooms, room)
        assert.isTrue(yield* Presence.isOnline(Rooms, room, "ada"))
        stopped.child.kill("SIGSTOP")
        yield* eventually(() => told.length >= 1)
        assert.isFalse(yield* Presence.isOnline(Rooms, room, "ada"))
        stopped.child.kill("SIGCONT")
        yield* eventually(() => told.length >= 2)
        assert.deepStrictEqual(told, ["ada expired", "ada joined"])
        yield* eventually(() => stopped.said.some(({ rejoins }) => rejoins === 1))
        stopped.child.stdin!.write("end\n")
        assert.strictEqual(yield* stopped.exit, 0)
        yield* eventually(() => told.length >= 3)
        assert.deepStrictEqual(told, ["ada expired", "ada joined", "ada left"])
      }).pipe(Effect.scoped, Effect.provide(services(server.url)))
    }).pipe(Effect.scoped))

  it.live("an outage shorter than the ttl is no absence, and a longer one is one", () =>
    Effect.gen(function*() {
      const server = yield* RealServer.start()
      const proxy = yield* FaultProxy.make(server)
      const Patient = Presence.define({ name: "patient", ttl: "6 seconds" })
      yield* Effect.gen(function*() {
        const observer = yield* Presence.Presence
        const [short, long] = [
          yield* listen(observer, Patient, "room"),
          yield* listen(observer, Rooms, "room")
        ]
        yield* Effect.gen(function*() {
          yield* Presence.join(Patient, "room", "ada")
          const { rejoins } = yield* Presence.join(Rooms, "room", "ada")
          yield* proxy.refuse
          yield* Effect.sleep("1100 millis")
          yield* proxy.accept
          assert.deepStrictEqual(yield* Stream.runHead(rejoins), Option.some(1))
          yield* eventually(() => long.length >= 3)
          assert.deepStrictEqual(long, ["ada joined", "ada expired", "ada joined"])
          assert.deepStrictEqual(short, ["ada joined"])
          // The end of the scope is bounded, though there is nobody to tell.
          yield* proxy.refuse
        }).pipe(Effect.scoped, Effect.timeout("10 seconds"), Effect.provide(services(proxy.url)))
        yield* eventually(() => short.length >= 2 && long.length >= 4)
        assert.deepStrictEqual([short[1], long[3]], ["ada expired", "ada expired"])
        const client = yield* RedisClient
        assert.deepStrictEqual(yield* client.send("PUBSUB", "NUMSUB", client.key("presence:{patient:room}:events")), [
          "presence:{patient:room}:events",
          1
        ])
      }).pipe(Effect.scoped, Effect.provide(services(server.url)))
    }).pipe(Effect.scoped))

  it.live("rooms leave nothing behind once every time is over", () =>
    Effect.gen(function*() {
      const server = yield* RealServer.start()
      const Brief = Presence.define({ name: "brief", ttl: "300 millis", lastSeen: "400 millis" })
      yield* Effect.forEach(
        Array.from({ length: 100 }, (_, i) => i),
        (i) => Effect.scoped(Presence.join(Brief, `room ${i % 10}`, `user ${i}`)),
        { concurrency: 20, discard: true }
      ).pipe(Effect.provide(services(server.url)))
      assert.isAbove(Number(yield* server.cli("DBSIZE")), 0)
      yield* Effect.sleep("500 millis")
      assert.deepStrictEqual(yield* server.cli("KEYS", "*"), [])
    }).pipe(Effect.scoped))
})
