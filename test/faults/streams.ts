/**
 * Entries that are appended, followed by tails, and handled by a group.
 */
import { Chunk, Effect, Either, Schedule, Schema, Stream as Streams } from "effect"
import * as ConsumerGroup from "../../src/ConsumerGroup/index.js"
import * as Stream from "../../src/Stream/index.js"
import { type Book, type Load, patient, readAll, type Verdict, Work } from "./work.js"

export const KEPT = "streams: no entry is lost"
export const TAILED = "streams: a tail has every entry once and in order"
export const HANDLED = "consumer groups: every entry is handled"

const Numbers = Stream.define({ name: "numbers", schema: Schema.Struct({ who: Schema.String }) })
const Group = ConsumerGroup.define({ stream: Numbers, name: "group", from: "start" })

const partsOf = (id: string): readonly [number, number] => {
  const [time = 0, n = 0] = id.split("-").map(Number)
  return [time, n]
}

export const compareIds = (one: string, other: string): number => {
  const [a, b] = [partsOf(one), partsOf(other)]
  return a[0] - b[0] || a[1] - b[1]
}

/**
 * What one reader was given, beside what is there in the end and what had to reach it. Where a reader was given something
 * that a failover has lost since, it stands behind what was written meanwhile, and nothing can be said about that.
 */
export const judgeReader = (
  read: ReadonlyArray<string>,
  stored: ReadonlySet<string>,
  confirmed: ReadonlyArray<string>
): Omit<Verdict, "promise"> => {
  const violations: Array<string> = []
  const [first, last] = [read[0], read.at(-1)]
  if (first === undefined || last === undefined) return { checks: 0, violations }
  const seen = new Set<string>()
  let before: string | undefined
  let ghost: string | undefined
  for (const id of read) {
    if (seen.has(id)) violations.push(`${id} came twice`)
    else if (before !== undefined && compareIds(id, before) < 0) violations.push(`${id} came after ${before}`)
    if (!stored.has(id)) ghost = id
    seen.add(id)
    before = id
  }
  let checks = read.length
  for (const id of confirmed) {
    if (compareIds(id, first) < 0 || compareIds(id, last) > 0) continue
    checks++
    if (!seen.has(id) && (ghost === undefined || compareIds(id, ghost) > 0)) violations.push(`${id} did not come`)
  }
  return { checks, violations }
}

/** As with readers of the book: what was noted by each. */
export const readers = <A>(book: Book, topic: string): Effect.Effect<ReadonlyArray<ReadonlyArray<A>>> =>
  Effect.gen(function*() {
    const names = yield* Effect.promise(() => book.redis.keys(`${topic}:*`))
    return yield* Effect.forEach(names, (name) => readAll<A>(book, name))
  })

export const load: Load = {
  run: Effect.gen(function*() {
    const { ask, book, bug, confirm, paced, task } = yield* Work

    const after = yield* patient(Stream.lastId(Numbers))
    yield* Effect.forkScoped(
      Stream.tail(Numbers, { after }).pipe(
        Streams.runForEachChunk((chunk) =>
          book.note(`tail:${task.name}`, ...Chunk.toReadonlyArray(chunk).map(({ id }) => id).filter(() => !bug()))
        ),
        Effect.tapErrorCause((cause) => book.note("tail-ended", String(cause)))
      )
    )

    const worker = ConsumerGroup.run(
      Group,
      (entry) =>
        bug()
          ? Effect.void
          : Effect.zipRight(
            Effect.sleep(Math.random() * 20),
            Math.random() < 0.03 ? Effect.fail("once in a while") : book.note("handled", entry.id)
          ),
      {
        consumer: task.name,
        concurrency: 5,
        lease: "2 seconds",
        claimEvery: "500 millis",
        retry: Schedule.spaced("100 millis"),
        maxDeliveries: 1000
      }
    )
    yield* Effect.forkScoped(worker)

    let n = 0
    yield* Effect.forkScoped(paced(
      40,
      Effect.gen(function*() {
        const append = ask("Stream.append", Stream.append(Numbers, { who: `${task.name}/${n++}` }))
        const { confirmed, result } = yield* confirm("stream:{numbers}", append)
        if (Either.isRight(result) && confirmed) {
          yield* book.note("appended", bug() ? `${result.right}1` : result.right)
        }
      })
    ))
  }),
  judge: (book) =>
    Effect.gen(function*() {
      // What is there has to be handled before anything is said.
      const idle = Effect.gen(function*() {
        const { total } = yield* ConsumerGroup.pending(Group)
        const [group] = yield* Stream.groups(Numbers)
        return total === 0 && group?.lastDeliveredId === (yield* Stream.lastId(Numbers))
      })
      yield* Effect.repeat(Effect.orElseSucceed(idle, () => false), {
        schedule: Schedule.intersect(Schedule.spaced("200 millis"), Schedule.recurs(200)),
        until: (idle) => idle
      })
      const stored = new Set(
        Chunk.toReadonlyArray(yield* Streams.runCollect(Stream.entries(Numbers, { count: 1000 }))).map(({ id }) => id)
      )
      const appended = yield* readAll<string>(book, "appended")
      const handled = new Set(yield* readAll<string>(book, "handled"))
      const tails = (yield* readers<string>(book, "tail")).map((read) => judgeReader(read, stored, appended))
      return [
        { promise: KEPT, checks: appended.length, violations: appended.filter((id) => !stored.has(id)) },
        {
          promise: TAILED,
          checks: tails.reduce((sum, { checks }) => sum + checks, 0),
          violations: [
            ...tails.flatMap(({ violations }) => violations),
            ...(yield* readAll<string>(book, "tail-ended")).map((cause) => `a tail ended: ${cause}`)
          ]
        },
        { promise: HANDLED, checks: appended.length, violations: appended.filter((id) => !handled.has(id)) }
      ]
    })
}
