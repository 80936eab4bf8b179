/**
 * Follows a stream of invalidations beside the writes that it should tell of: whatever was answered while the stream was
 * armed is told, or the stream says that it was lost.
 */
import { assert } from "@effect/vitest"
import { Effect, Exit, type Scope, Stream } from "effect"
import type { Service } from "../../src/RedisClient.js"
import { eventually } from "./support.js"

export interface Mirror {
  /** How often the stream was lost. */
  readonly losses: () => number
  /** How many writes were checked. */
  readonly checked: () => number
  /** Returns when it is armed. */
  readonly armed: Effect.Effect<void>
  /** A write of this key, which must be another one each time. */
  readonly write: (key: string, write: Effect.Effect<unknown, unknown>) => Effect.Effect<void>
  /** Checks all writes since the last time. */
  readonly settle: Effect.Effect<void>
}

export const make = (
  client: Service,
  prefix: string,
  options?: { readonly capacity?: number | undefined }
): Effect.Effect<Mirror, never, Scope.Scope> =>
  Effect.gen(function*() {
    let armed = false
    let epoch = 0
    let alls = 0
    let checked = 0
    const told = new Set<string>()
    /** Writes that were answered while it was armed, with the epoch. */
    const answered = new Map<string, number>()
    yield* client.invalidations([prefix], options).pipe(
      Stream.runForEach((said) =>
        Effect.sync(() => {
          switch (said._tag) {
            case "Armed":
              armed = true
              break
            case "Down":
              armed = false
              epoch++
              break
            case "InvalidatedAll":
              alls++
              for (const key of answered.keys()) told.add(key)
              break
            case "Invalidated":
              for (const key of said.keys) told.add(key)
          }
        })
      ),
      Effect.forkScoped
    )
    return {
      losses: () => epoch,
      checked: () => checked,
      armed: eventually(Effect.suspend(() => armed ? Effect.void : Effect.fail("not yet"))).pipe(
        Effect.timeoutFail({
          duration: "30 seconds",
          onTimeout: () => new Error(`the stream is not armed again; it was lost ${epoch} times`)
        }),
        Effect.orDie
      ),
      write: (key, write) =>
        Effect.suspend(() => {
          const [issued, before] = [armed ? epoch : -1, alls]
          return Effect.map(Effect.exit(write), (exit) => {
            if (Exit.isSuccess(exit) && armed && issued === epoch && before === alls) answered.set(key, issued)
          })
        }),
      settle: Effect.gen(function*() {
        const now = epoch
        const missing = () => Array.from(answered.keys()).filter((key) => answered.get(key) === now && !told.has(key))
        // A deaf connection is found by its next heartbeat.
        yield* eventually(
          Effect.suspend(() => epoch !== now || missing().length === 0 ? Effect.void : Effect.fail("not yet"))
        ).pipe(Effect.timeoutOption("20 seconds"))
        if (epoch === now) {
          assert.deepStrictEqual(missing(), [])
          checked += answered.size
        }
        answered.clear()
        told.clear()
      })
    }
  })
