/**
 * Histories that several processes append to at the same time, and subscriptions to all of them.
 */
import { Chunk, Effect, Either, Option, Schema, Stream } from "effect"
import * as EventStore from "../../src/EventStore/index.js"
import { judgeReader, readers } from "./streams.js"
import { type Load, patient, pick, readAll, type Verdict, Work } from "./work.js"

export const ONCE = "event store: no event twice, versions without holes"
export const KEPT = "event store: no event is lost"
export const HEARD = "event store: a subscription has every event once and in order"

class Counted extends Schema.TaggedClass<Counted>()("Counted", { who: Schema.String }) {}

const Counts = EventStore.define({ name: "counts", event: Counted })

const AGGREGATES = ["a0", "a1", "a2", "a3"].map((id) => ({ type: "count", id }))

interface Appended {
  readonly aggregate: string
  readonly id: string
  readonly version: number
}

interface Stored extends Appended {
  readonly position: string
}

/** One history, and those of its events that have to be there. */
export const judgeHistory = (events: ReadonlyArray<Stored>): Omit<Verdict, "promise"> => {
  const violations: Array<string> = []
  const seen = new Set<string>()
  events.forEach(({ aggregate, id, version }, i) => {
    if (version !== i + 1) violations.push(`${aggregate}: version ${version} stands where ${i + 1} should`)
    if (seen.has(id)) violations.push(`${aggregate}: ${id} is there twice`)
    seen.add(id)
  })
  return { checks: events.length, violations }
}

export const load: Load = {
  run: Effect.gen(function*() {
    const { ask, book, bug, confirm, paced, task } = yield* Work
    const store = yield* Effect.orDie(patient(EventStore.open(Counts)))

    yield* Effect.forkScoped(
      store.subscribe({ after: "now" }).pipe(
        Stream.runForEachChunk((chunk) =>
          book.note(
            `heard:${task.name}`,
            ...Chunk.toReadonlyArray(chunk).map(({ position }) => position)
              .flatMap((position) => bug() ? [position, position] : [position])
          )
        ),
        Effect.tapErrorCause((cause) => book.note("subscription-ended", String(cause)))
      )
    )

    let n = 0
    const append = Effect.gen(function*() {
      const aggregate = pick(AGGREGATES)!
      const expected = yield* ask("EventStore.version", store.version(aggregate))
      const id = `${task.name}/${++n}`
      const events = Array.from({ length: 1 + n % 3 }, () => new Counted({ who: id }))
      // Once more, also when the first one had an answer: it has to be recognised.
      const insistent = Effect.gen(function*() {
        const first = yield* Effect.either(store.append(aggregate, events, { expected, id }))
        if (Either.isLeft(first) && first.left._tag === "VersionConflict") return yield* first.left
        const { version } = yield* store.append(aggregate, events, bug() ? { id: `${id}.again` } : { expected, id })
        if (Either.isRight(first) && version !== first.right.version) {
          yield* book.note("repeated", [id, first.right.version, version])
        }
        return version
      })
      const { confirmed, result } = yield* confirm("events:{counts.0}", ask("EventStore.append", insistent, 9000))
      if (Either.isRight(result) && confirmed) {
        const first = result.right - events.length + 1
        yield* book.note(
          "events",
          ...events.map((_, i): Appended => ({
            aggregate: aggregate.id,
            id: `${id}.${i + 1}`,
            version: first + i
          }))
        )
      }
    })
    for (let i = 0; i < 2; i++) yield* Effect.forkScoped(paced(80, append))
  }),
  judge: (book) =>
    Effect.gen(function*() {
      const store = yield* EventStore.open(Counts)
      const all = Chunk.toReadonlyArray(yield* Stream.runCollect(store.replay()))
      const log = new Map(
        all.map(({ aggregate, id, position, version }) => [id, { aggregate: aggregate.id, version, position }])
      )
      const histories = yield* Effect.forEach(
        AGGREGATES,
        (aggregate) =>
          Effect.map(Stream.runCollect(store.stream(aggregate)), (events) =>
            Chunk.toReadonlyArray(events).map(({ id, position, version }): Stored => ({
              aggregate: aggregate.id,
              id,
              version,
              position
            })))
      )
      const parts = histories.map(judgeHistory)
      const stored = new Map(histories.flat().map((event) => [event.id, event]))
      const appended = yield* readAll<Appended>(book, "events")
      const repeated = yield* readAll<readonly [string, number, number]>(book, "repeated")
      const positions = new Set(all.map(({ position }) =>
        position
      ))
      const confirmed = appended.flatMap(({ id }) => Option.toArray(Option.fromNullable(stored.get(id)?.position)))
      const heard = (yield* readers<string>(book, "heard")).map((read) => judgeReader(read, positions, confirmed))
      return [
        {
          promise: ONCE,
          checks: parts.reduce((sum, { checks }) => sum + checks, 0) + all.length,
          violations: [
            ...parts.flatMap(({ violations }) => violations),
            ...(all.length === stored.size && log.size === stored.size
              ? []
              : [`${stored.size} events in the histories, ${all.length} in the log`]),
            ...[...stored].filter(([id, event]) =>
              log.get(id)?.version !== event.version || log.get(id)?.position !== event.position
            ).map(([id]) => `${id} stands elsewhere in the log`),
            ...repeated.map(([id, first, second]) => `${id} had version ${first}, and then ${second}`)
          ]
        },
        {
          promise: KEPT,
          checks: appended.length,
          violations: appended.filter(({ aggregate, id, version }) =>
            stored.get(id)?.version !== version || stored.get(id)?.aggregate !== aggregate
          ).map(({ id }) => id)
        },
        {
          promise: HEARD,
          checks: heard.reduce((sum, { checks }) => sum + checks, 0),
          violations: [
            ...heard.flatMap(({ violations }) => violations),
            ...(yield* readAll<string>(book, "subscription-ended")).map((cause) => `a subscription ended: ${cause}`)
          ]
        }
      ]
    })
}
