/**
 * A worker by hand: it takes and settles jobs when a test says so.
 */
import { assert } from "@effect/vitest"
import { Effect } from "effect"
import { type Definition, settingsOf } from "../../src/Queue/Definition.js"
import { deadInfo, type DeadReason } from "../../src/Queue/envelope.js"
import { keysOf } from "../../src/Queue/keys.js"
import { RedisClient } from "../../src/RedisClient.js"
import { fresh } from "../kit/suites.js"
import { work } from "./work.js"

export interface Taken {
  readonly id: string
  readonly member: string
}

export const makeHand = <A, B>(definition: Definition<A, B>, lease = 60_000) =>
  Effect.map(Effect.zip(RedisClient, Effect.orDie(settingsOf(definition))), ([client, settings]) => {
    const keys = keysOf(definition.name)
    const worker = fresh("hand")
    let call = 0
    let asked = 0
    const ask = (want: number, settles: ReadonlyArray<string>, repeated = false) =>
      Effect.suspend(() => {
        if (!repeated) {
          call++
          asked = want
        }
        const number = call
        return Effect.map(
          work(
            client,
            keys,
            worker,
            call,
            {
              ...settings,
              cluster: false,
              wake: client.key(keys.wake),
              lease
            },
            want,
            settles
          ),
          (claimed) => ({
            lost: claimed.lost,
            next: claimed.next,
            taken: claimed.ids.map((id, i): Taken => ({ id, member: `${worker}:${number}:${i + 1}|${id}` }))
          })
        )
      })
    const settle = (outcome: string) => ({ member }: Taken) =>
      Effect.map(ask(0, [member, outcome]), ({ lost }) => lost.length === 0)
    return {
      /** Takes up to so many jobs. */
      take: (want: number) => Effect.map(ask(want, []), ({ taken }) => taken),
      /** The same, and when it makes sense to ask again. */
      ask: (want: number) => ask(want, []),
      /** Takes the next one, which has to be there. */
      next: Effect.map(ask(1, []), ({ taken: [first] }) => {
        assert.isDefined(first)
        return first
      }),
      /** The last call once more, which was to take jobs. */
      again: Effect.suspend(() => Effect.map(ask(asked, [], true), ({ taken }) => taken)),
      postpone: (millis: number) => settle(`p${millis}`),
      complete: settle("c"),
      /** With the JSON of a result. */
      completeWith: (json: string) => settle(`c${json}`),
      release: settle("x"),
      retry: (millis: number) => settle(`r${millis}`),
      bury: (reason: DeadReason, attempts: number) => settle(`f${deadInfo(reason, attempts, undefined)}`),
      completeAll: (taken: ReadonlyArray<Taken>) =>
        Effect.map(ask(0, taken.flatMap(({ member }) => [member, "c"])), ({ lost }) => assert.lengthOf(lost, 0)),
      /** All at once. */
      buryAll: (reason: DeadReason, attempts: number) => (taken: ReadonlyArray<Taken>) =>
        Effect.map(
          ask(0, taken.flatMap(({ member }) => [member, `f${deadInfo(reason, attempts, undefined)}`])),
          ({ lost }) => assert.lengthOf(lost, 0)
        )
    }
  })
