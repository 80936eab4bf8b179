import { assert, describe, it } from "@effect/vitest"
import { DateTime, Effect, FastCheck, Option, TestClock } from "effect"
import * as Presence from "../../src/Presence/index.js"
import { listen, open, vanish } from "./suite.js"

const TTL = 1000

const Rooms = Presence.define({ name: "model", ttl: TTL, lastSeen: "1 minute" })

const USERS = ["a", "ab", "a\u0001", "é"]

const user = FastCheck.constantFrom(...USERS)

const step = FastCheck.oneof(
  FastCheck.record({ _tag: FastCheck.constant("open" as const), user, at: FastCheck.nat(1) }),
  FastCheck.record({ _tag: FastCheck.constant("vanish" as const), user }),
  FastCheck.record({ _tag: FastCheck.constant("close" as const), which: FastCheck.nat(20) }),
  FastCheck.record({ _tag: FastCheck.constant("wait" as const), millis: FastCheck.integer({ min: 1, max: 700 }) })
)

/** A connection; `end` is when its time is over, which never comes as long as its process lives. */
interface Connection {
  readonly user: string
  readonly end: number
}

describe("Presence, whatever happens in whatever order", () => {
  it.effect.prop(
    "does what a plain model does",
    { steps: FastCheck.array(step, { minLength: 5, maxLength: 40 }) },
    ({ steps }) =>
      Effect.gen(function*() {
        const services = [yield* Presence.Presence, yield* Presence.make]
        const told = yield* Effect.forEach(services, (service) => listen(service, Rooms, "room"))
        const opened: Array<{ readonly connection: Connection; readonly close: Effect.Effect<void> }> = []
        let connections: ReadonlyArray<Connection> = []
        const expected: Array<string> = []
        let now = 0

        const online = () => new Set(connections.map(({ user }) => user))
        const become = (next: ReadonlyArray<Connection>, reason: "left" | "expired") => {
          const before = online()
          connections = next
          const after = online()
          for (const user of before) if (!after.has(user)) expected.push(`${user} ${reason}`)
          for (const user of after) if (!before.has(user)) expected.push(`${user} joined`)
        }
        const of = (user: string, texts: ReadonlyArray<string>) => texts.filter((text) => text.startsWith(`${user} `))

        for (const step of steps) {
          switch (step._tag) {
            case "open": {
              const { close } = yield* open(services[step.at]!, Rooms, "room", step.user)
              const connection = { user: step.user, end: Infinity }
              opened.push({ connection, close })
              become([...connections, connection], "left")
              break
            }
            case "vanish": {
              yield* vanish(Rooms, "room", step.user)
              become([...connections, { user: step.user, end: now + TTL }], "left")
              break
            }
            case "close": {
              const [one] = opened.splice(step.which % Math.max(1, opened.length), 1)
              if (one === undefined) break
              yield* one.close
              become(connections.filter((connection) => connection !== one.connection), "left")
              break
            }
            case "wait": {
              yield* TestClock.adjust(step.millis)
              now += step.millis
              become(connections.filter(({ end }) => end > now), "expired")
            }
          }
          assert.deepStrictEqual(yield* services[0]!.count(Rooms, "room"), {
            users: online().size,
            connections: connections.length
          })
          const { members } = yield* services[1]!.members(Rooms, "room")
          assert.deepStrictEqual(
            members.map(({ connections, user }) => [user, connections.length]),
            Array.from(online()).sort((a, b) => Buffer.compare(Buffer.from(a), Buffer.from(b))).map((user) => [
              user,
              connections.filter((connection) => connection.user === user).length
            ])
          )
          for (const user of USERS) {
            assert.strictEqual(yield* services[0]!.isOnline(Rooms, "room", user), online().has(user))
            const seen = yield* services[0]!.lastSeen(Rooms, "room", user)
            assert.strictEqual(Option.isSome(seen), of(user, expected).length > 0)
            if (Option.isSome(seen)) assert.isAtMost(DateTime.toEpochMillis(seen.value), now)
          }
        }
        yield* TestClock.adjust(1)
        for (const all of told) {
          for (const user of USERS) assert.deepStrictEqual(of(user, all), of(user, expected))
        }
      }).pipe(Effect.scoped, Effect.provide(Presence.layerTest)),
    { fastCheck: { numRuns: 25 }, timeout: 120_000 }
  )
})
