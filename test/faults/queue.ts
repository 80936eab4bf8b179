/**
 * Jobs that every process adds and works at.
 */
import { Effect, Either, Schedule, Schema } from "effect"
import * as Queue from "../../src/Queue/index.js"
import { type Load, readAll, Work } from "./work.js"

export const KEPT = "queue: no job is lost"

const Jobs = Queue.define({
  name: "jobs",
  payload: Schema.Struct({ n: Schema.Number }),
  attempts: 1000,
  backoff: Schedule.spaced("50 millis"),
  lease: "3 seconds"
})

export const load: Load = {
  run: Effect.gen(function*() {
    const { ask, book, bug, confirm, paced, task } = yield* Work

    yield* Effect.orDie(Queue.makeWorker(
      Jobs,
      (job) =>
        bug()
          ? Effect.void
          : Effect.zipRight(
            Effect.sleep(Math.random() * 20),
            Math.random() < 0.05 ? Effect.fail("once in a while") : book.note("done", job.id)
          ),
      { concurrency: 5 }
    ))

    let n = 0
    yield* Effect.forkScoped(paced(
      60,
      Effect.gen(function*() {
        const jobs = Array.from({ length: 1 + n % 4 }, () => ({
          id: `${task.name}/${n++}`,
          payload: { n },
          priority: n % 3,
          ...(n % 7 === 0 ? { delay: 300 } : {})
        }))
        const { confirmed, result } = yield* confirm(
          "queue:{jobs}:jobs",
          ask("Queue.enqueueAll", Queue.enqueueAll(Jobs, jobs))
        )
        if (Either.isRight(result) && confirmed) yield* book.note("enqueued", ...jobs.map(({ id }) => id))
      })
    ))
  }),
  judge: (book) =>
    Effect.gen(function*() {
      const { dead, delayed, ready, running } = yield* Queue.counts(Jobs).pipe(
        Effect.repeat({
          schedule: Schedule.intersect(Schedule.spaced("200 millis"), Schedule.recurs(200)),
          until: ({ delayed, ready, running }) => delayed + ready + running === 0
        }),
        Effect.zipRight(Queue.counts(Jobs))
      )
      const enqueued = yield* readAll<string>(book, "enqueued")
      const done = new Set(yield* readAll<string>(book, "done"))
      const left = ready + delayed + running
      return [{
        promise: KEPT,
        checks: enqueued.length,
        violations: [
          ...enqueued.filter((id) => !done.has(id)),
          ...(left + dead === 0 ? [] : [`${left} jobs are left in the end, ${dead} are dead letters`])
        ]
      }]
    })
}
