/**
 * Messages with numbers, and subscribers that count.
 */
import { Effect, Either, Schema } from "effect"
import * as PubSub from "../../src/PubSub/index.js"
import { type Book, found, type Load, patient, readAll, type Task, together, type Verdict, Work } from "./work.js"

export const GAPS = "messages: none is missed without a Gap"
export const ONCE = "messages: none comes twice"

const Numbered = Schema.Struct({ from: Schema.String, n: Schema.Number })

/**
 * On a Cluster the sharded ones are counted: those go to the subscribers of the node that has acknowledged them. Others are
 * passed on from node to node, and no node tells its clients when it has missed some.
 */
const channelsOf = (mode: Task["mode"]) => {
  const sharded = mode === "cluster"
  return [
    ...[0, 1, 2].map((i) => ({ counted: true, channel: PubSub.channel(`counted-${i}`, Numbered, { sharded }) })),
    ...(sharded ? [{ counted: false, channel: PubSub.channel("passed-on", Numbered) }] : [])
  ]
}

/** Where a subscriber got a number that does not follow the one before. */
interface Jump {
  readonly topic: string
  readonly from: number
  readonly to: number
  /** Whether it was told. */
  readonly told: boolean
}

/** Only what was acknowledged has to arrive. */
export const judgeJumps = (
  jumps: ReadonlyArray<Jump>,
  acknowledged: ReadonlyMap<string, ReadonlySet<number>>
): Omit<Verdict, "promise"> => {
  const violations: Array<string> = []
  for (const { from, to, told, topic } of jumps) {
    const missed: Array<number> = []
    for (let n = from + 1; n < to; n++) if (acknowledged.get(topic)?.has(n) === true) missed.push(n)
    if (!told && missed.length > 0) violations.push(`${topic}: ${missed.join(", ")} were missed after ${from}`)
  }
  return { checks: jumps.length, violations }
}

export const load: Load = {
  run: Effect.gen(function*() {
    const { ask, book, bug, check, paced, task } = yield* Work
    for (const { channel, counted } of channelsOf(task.mode)) {
      const topic = (publisher: string) => `${channel.name} of ${publisher}`
      const subscription = yield* patient(
        PubSub.subscribeScoped(channel, { gaps: true, buffer: { capacity: 100_000 } })
      )
      const last = new Map<string, number>()
      const seen = new Map<string, Set<number>>()
      const told = new Set<string>()
      const read = Effect.gen(function*() {
        const element = yield* subscription.take
        if (element._tag === "Gap") return last.forEach((_, publisher) => void told.add(publisher))
        const { from, n } = element.payload
        const known = seen.get(from) ?? new Set()
        seen.set(from, known)
        const before = last.get(from)
        yield* check(ONCE, !known.has(n) && !bug(), () => `${topic(from)}: ${n}`)
        known.add(n)
        if (n < (before ?? 0)) {
          // One whose outcome was unknown may still come.
          if (counted) yield* book.note("late", [topic(from), n])
          return
        }
        if (bug()) return
        if (counted && before !== undefined) {
          yield* check(GAPS, true, () => "")
          if (n > before + 1) {
            yield* book.note("jumps", { topic: topic(from), from: before, to: n, told: told.has(from) } satisfies Jump)
          }
        }
        told.delete(from)
        last.set(from, n)
      })
      yield* Effect.forkScoped(Effect.forever(read))

      let n = 0
      const publish = Effect.gen(function*() {
        const mine = ++n
        const result = yield* Effect.either(
          ask("PubSub.publish", PubSub.publish(channel, { from: task.name, n: mine }))
        )
        if (Either.isRight(result)) yield* book.note("published", [topic(task.name), mine])
      })
      yield* Effect.forkScoped(paced(40, publish))
    }
  }),
  judge: (book: Book) =>
    Effect.gen(function*() {
      const acknowledged = new Map<string, Set<number>>()
      for (const [topic, n] of yield* readAll<readonly [string, number]>(book, "published")) {
        const known = acknowledged.get(topic) ?? new Set()
        acknowledged.set(topic, known)
        known.add(n)
      }
      const late = (yield* readAll<readonly [string, number]>(book, "late"))
        .filter(([topic, n]) => acknowledged.get(topic)?.has(n) === true)
      return [
        together(
          yield* found(book, GAPS),
          judgeJumps(yield* readAll<Jump>(book, "jumps"), acknowledged)
        ),
        together(yield* found(book, ONCE), {
          checks: 0,
          violations: late.map(([topic, n]) => `${topic}: ${n} came out of order`)
        })
      ]
    })
}
