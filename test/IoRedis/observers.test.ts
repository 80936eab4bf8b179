import { assert, describe, it } from "@effect/vitest"
import { Effect, Exit } from "effect"
import { type Command, Redis } from "ioredis"
import { tracingChannel } from "node:diagnostics_channel"
import { connect, serverUrl } from "./support.js"

/** What a tool sees of a command that says its name in an argument. */
interface Seen {
  readonly command: string
  readonly outcome: unknown
}

const asks = Effect.gen(function*() {
  const client = yield* connect({ url: serverUrl() })
  return yield* Effect.all([
    client.send("ECHO", "observed"),
    client.sendBytes("ECHO", "observed"),
    Effect.exit(client.send("observed"))
  ], { concurrency: "unbounded" })
})

const isAnswered = (answers: Effect.Effect.Success<typeof asks>): void => {
  const [text, bytes, refused] = answers
  assert.strictEqual(text, "observed")
  assert.deepStrictEqual(Buffer.from(bytes as Uint8Array), Buffer.from("observed"))
  assert.isTrue(Exit.isFailure(refused) && String(refused.cause).includes("unknown command"))
}

const outcomes = (seen: ReadonlyArray<Seen>) =>
  seen.map(({ command, outcome }) =>
    `${command} ${outcome instanceof Error ? outcome.message.slice(0, 19) : String(outcome)}`
  )

const EXPECTED = ["ECHO observed", "ECHO observed", "OBSERVED ERR unknown command"]

describe("tools that observe ioredis", () => {
  it.scopedLive("by its channel see commands from their beginning to their end", () =>
    Effect.gen(function*() {
      const seen: Array<Seen> = []
      let begun = 0
      const isOurs = ({ args, command }: { readonly command: string; readonly args: ReadonlyArray<unknown> }) =>
        args.some((arg) => String(arg) === "observed" || String(arg) === "?") || command === "OBSERVED"
      const subscriber = {
        start: (message: any) => void (isOurs(message) && begun++),
        end: () => {},
        asyncStart: () => {},
        asyncEnd: (message: any) => {
          if (isOurs(message)) seen.push({ command: message.command, outcome: message.error ?? message.result })
        },
        error: () => {}
      }
      const channel = tracingChannel("ioredis:command")
      yield* Effect.acquireRelease(
        Effect.sync(() => channel.subscribe(subscriber)),
        () => Effect.sync(() => channel.unsubscribe(subscriber))
      )
      isAnswered(yield* asks)
      assert.strictEqual(begun, 3)
      assert.deepStrictEqual(outcomes(seen), EXPECTED)
    }))

  it.scopedLive("by wrapping its commands see what they come to", () =>
    Effect.gen(function*() {
      const seen: Array<Seen> = []
      // oxlint-disable-next-line unbound-method -- It is called with its own `this`.
      const original = Redis.prototype.sendCommand
      yield* Effect.acquireRelease(
        Effect.sync(() => {
          Redis.prototype.sendCommand = function(this: Redis, command: Command, ...rest) {
            const { reject, resolve } = command
            if (command.args.includes("observed") || command.name === "OBSERVED") {
              command.resolve = (reply: unknown) => {
                seen.push({ command: command.name, outcome: reply })
                resolve(reply)
              }
              command.reject = (error) => {
                seen.push({ command: command.name, outcome: error })
                reject(error)
              }
            }
            return original.call(this, command, ...rest)
          }
        }),
        () => Effect.sync(() => Redis.prototype.sendCommand = original)
      )
      isAnswered(yield* asks)
      assert.deepStrictEqual(outcomes(seen), EXPECTED)
    }))
})
