import { assert, layer } from "@effect/vitest"
import { DateTime, Duration, Effect, Either, Exit, Layer, Logger, LogLevel, Option, Schema, Scope } from "effect"
import * as Queue from "../../src/Queue/index.js"
import { keysOf } from "../../src/Queue/keys.js"
import { RedisClient } from "../../src/RedisClient.js"
import type { RedisError } from "../../src/RedisError.js"
import { error, fresh, type Time, until } from "../kit/suites.js"
import { makeHand } from "./hand.js"

const Payload = Schema.Struct({ n: Schema.Number })

type Payload = typeof Payload.Type

const define = (text: string, options: Partial<Queue.Options<Payload, Payload>> = {}) =>
  Queue.define({ name: fresh(text), payload: Payload, backoff: () => 0, ...options })

/** Far enough away that no test comes to it. */
const FAR = "1000 days"

const serverNow = Effect.map(
  Effect.flatMap(RedisClient, (client) => client.send("TIME")),
  (reply) => {
    const [seconds, micros] = reply as [string, string]
    return Number(seconds) * 1000 + Math.floor(Number(micros) / 1000)
  }
)

const at = (millis: number) => DateTime.unsafeMake(millis)

const millisOf = (time: Option.Option<DateTime.Utc>) => Option.getOrUndefined(Option.map(time, DateTime.toEpochMillis))

/** What was fired, in order. */
const slotsOf = (jobs: ReadonlyArray<Queue.Job<Payload>>) =>
  jobs.map(({ schedule }) => Option.getOrThrow(Option.map(schedule, ({ slot }) => DateTime.toEpochMillis(slot))))

const recorder = () => {
  const jobs: Array<Queue.Job<Payload>> = []
  return { jobs, record: (job: Queue.Job<Payload>) => Effect.sync(() => void jobs.push(job)) }
}

/** Neither twice, nor one left out. */
const assertEvery = (slots: ReadonlyArray<number>, every: number) => {
  for (let i = 1; i < slots.length; i++) assert.strictEqual(slots[i]! - slots[i - 1]!, every)
}

const info = (definition: Queue.Definition<Payload>, id: string) =>
  Effect.map(Queue.getSchedule(definition, id), Option.getOrThrow)

/** Moves the next slot of a schedule into the past, so that no test has to wait. */
const late = (definition: Queue.Definition<Payload>, id: string, slot: number) =>
  Effect.flatMap(RedisClient, (client) => client.zadd(keysOf(definition.name).schedulesDue, [[id, slot]]))

export const schedulesSuite = (
  name: string,
  driver: Layer.Layer<RedisClient, RedisError>,
  options: { readonly excludeTestServices?: boolean },
  time: Time
) => {
  const { elapse } = time
  const eventually = until(time)
  const holds = (condition: () => boolean) => eventually(Effect.sync(condition))
  const silent = Logger.minimumLogLevel(LogLevel.None)

  layer(Layer.orDie(Layer.provideMerge(Queue.layer, driver)), options)(`Queue schedules, ${name}`, (it) => {
    it.scoped("a worker fires the slots of an interval, each once", () =>
      Effect.gen(function*() {
        const queue = define("interval")
        const { jobs, record } = recorder()
        yield* Queue.makeWorker(queue, record)
        const made = yield* Queue.schedule(queue, "tick", { every: "100 millis", payload: { n: 7 }, priority: 2 })
        yield* holds(() => jobs.length >= 4)
        const slots = slotsOf(jobs)
        assertEvery(slots, 100)
        assert.strictEqual(slots[0], millisOf(made.next))
        assert.strictEqual(slots[0]! % 100, 0)
        assert.strictEqual(jobs[0]?.id, `schedule:tick:${slots[0]}`)
        assert.deepStrictEqual(jobs[0]?.payload, { n: 7 })
        assert.strictEqual(jobs[0]?.priority, 2)
        assert.isAtLeast(DateTime.toEpochMillis(jobs[0]!.enqueuedAt), slots[0]!)
        const { fired, last, next, state } = yield* info(queue, "tick")
        assert.strictEqual(state, "active")
        assert.isAtLeast(fired, 4)
        assert.strictEqual(millisOf(next)! - millisOf(last)!, 100)
        yield* Queue.enqueue(queue, { n: 8 })
        yield* holds(() => jobs.some(({ payload, schedule }) => payload.n === 8 && Option.isNone(schedule)))
      }))

    it.scoped("a cron of every second fires, also without a worker", () =>
      Effect.gen(function*() {
        const queue = define("cron")
        const scope = yield* Scope.make()
        yield* Layer.buildWithScope(Queue.scheduler(queue), scope)
        const made = yield* Queue.schedule(queue, "cron", { cron: "* * * * * *", count: 1, payload: { n: 1 } })
        yield* eventually(Effect.map(Queue.counts(queue), ({ ready }) => ready === 1))
        yield* Scope.close(scope, Exit.void)
        const { jobs } = yield* Queue.list(queue, "ready")
        const first = millisOf(made.next)!
        assert.deepStrictEqual(jobs.map(({ id }) => id), [`schedule:cron:${first}`])
        assert.strictEqual(first % 1000, 0)
        const ended = yield* info(queue, "cron")
        assert.deepStrictEqual([ended.state, ended.fired, millisOf(ended.last)], ["ended", 1, first])
        assert.isTrue(Option.isNone(ended.next))
        // The same again does not begin again.
        assert.strictEqual(
          (yield* Queue.schedule(queue, "cron", {
            cron: "* * * * * *",
            count: 1,
            payload: { n: 1 }
          })).state,
          "ended"
        )
      }))

    it.scoped("intervals count from the start, and end", () =>
      Effect.gen(function*() {
        const queue = define("start")
        const { jobs, record } = recorder()
        yield* Queue.makeWorker(queue, record)
        const start = (yield* serverNow) + 333
        const made = yield* Queue.schedule(queue, "some", {
          every: "100 millis",
          start: at(start),
          end: at(start + 250),
          payload: { n: 1 }
        })
        assert.strictEqual(millisOf(made.next), start)
        yield* eventually(Effect.map(info(queue, "some"), ({ state }) => state === "ended"))
        yield* holds(() => jobs.length === 3)
        assert.deepStrictEqual(slotsOf(jobs), [start, start + 100, start + 200])
      }))

    it.scoped("the same again changes nothing, and a change of its jobs keeps the next slot", () =>
      Effect.gen(function*() {
        const queue = define("upsert")
        const start = at((yield* serverNow) + Duration.toMillis(FAR))
        const first = { every: "1 hour", start, payload: { n: 1 } } as const
        const client = yield* RedisClient
        const state = Effect.flatMap(
          Effect.succeed(keysOf(queue.name)),
          ({ schedules, schedulesDue, schedulesState }) =>
            Effect.all([
              client.hget(schedules, "one"),
              client.hget(schedulesState, "one"),
              client.zrangeWithScores(schedulesDue)
            ])
        )
        yield* Queue.schedule(queue, "one", first)
        const before = yield* state
        yield* Effect.all(Array.from({ length: 20 }, () => Queue.schedule(queue, "one", first)), {
          concurrency: "unbounded"
        })
        assert.deepStrictEqual(yield* state, before)
        yield* Queue.makeScheduler(queue)
        yield* eventually(Effect.map(flagOf(queue, "one"), (flag) => flag === "a"))
        const scheduled = yield* info(queue, "one")
        assert.strictEqual(millisOf(scheduled.next), DateTime.toEpochMillis(start))
        yield* late(queue, "one", 12345)
        const changed = yield* Queue.schedule(queue, "one", { ...first, payload: { n: 2 }, priority: 1 })
        assert.deepStrictEqual(changed.payload, Either.right({ n: 2 }))
        assert.strictEqual(changed.priority, 1)
        assert.strictEqual(millisOf(changed.next), 12345)
        const moved = yield* Queue.schedule(queue, "one", { ...first, every: "2 hours" })
        assert.strictEqual(millisOf(moved.next), millisOf(scheduled.next))
        const { schedules } = yield* Queue.listSchedules(queue)
        assert.lengthOf(schedules, 1)
      }))

    it.scoped("what is paused has no slots until it is resumed, also when it is changed meanwhile", () =>
      Effect.gen(function*() {
        const queue = define("pause")
        const { jobs, record } = recorder()
        yield* Queue.makeWorker(queue, record)
        yield* Queue.schedule(queue, "tick", { every: "100 millis", payload: { n: 1 } })
        yield* holds(() => jobs.length > 0)
        yield* Queue.pauseSchedule(queue, "tick")
        const { fired } = yield* info(queue, "tick")
        const changed = yield* Queue.schedule(queue, "tick", { every: "100 millis", payload: { n: 2 }, catchUp: "all" })
        assert.deepStrictEqual([changed.state, Option.isNone(changed.next)], ["paused", true])
        yield* elapse("400 millis")
        assert.strictEqual((yield* info(queue, "tick")).fired, fired)
        const resumedAt = yield* serverNow
        yield* Queue.resumeSchedule(queue, "tick")
        yield* Queue.resumeSchedule(queue, "tick")
        yield* holds(() => jobs.length > fired)
        assert.isAbove(slotsOf(jobs)[fired]!, resumedAt)
        assert.deepStrictEqual(jobs[fired]?.payload, { n: 2 })
      }))

    it.scoped("removing it leaves nothing, and takes the job with it that waits when that is wanted", () =>
      Effect.gen(function*() {
        const queue = define("remove")
        yield* Queue.makeScheduler(queue)
        const every = { every: FAR, payload: { n: 1 } } as const
        const keepsJob = [false, true]
        for (const job of keepsJob) {
          yield* Queue.schedule(queue, "gone", every)
          yield* eventually(Effect.map(flagOf(queue, "gone"), (flag) => flag === "a"))
          yield* late(queue, "gone", yield* serverNow)
          // It tells the runner to look.
          yield* Queue.schedule(queue, "gone", { ...every, payload: { n: 2 } })
          yield* eventually(Effect.map(Queue.counts(queue), ({ ready }) => ready === 1))
          assert.isTrue(yield* Queue.removeSchedule(queue, "gone", { job }))
          assert.isFalse(yield* Queue.removeSchedule(queue, "gone"))
          assert.strictEqual((yield* Queue.counts(queue)).ready, job ? 0 : 1)
          yield* Queue.drain(queue)
        }
        assert.isTrue(Option.isNone(yield* Queue.getSchedule(queue, "gone")))
        const redis = yield* RedisClient
        const { schedules, schedulesDue, schedulesState } = keysOf(queue.name)
        for (const key of [schedules, schedulesDue, schedulesState]) assert.strictEqual(yield* redis.exists(key), 0)
        // What is left of the job in the list is no job.
        const hand = yield* makeHand(queue)
        assert.lengthOf(yield* hand.take(10), 0)
      }))

    it.scoped("missed slots are skipped, or the last one or all of them are fired", () =>
      Effect.gen(function*() {
        const every = 60_000
        for (const catchUp of ["skip", "last", "all"] as const) {
          const queue = define(catchUp)
          const scope = yield* Scope.make()
          yield* Scope.extend(Queue.makeScheduler(queue), scope)
          const timing = { every, start: at(((yield* serverNow) % every) + 30_000 + every), catchUp } as const
          yield* Queue.schedule(queue, "late", { ...timing, payload: { n: 1 } })
          yield* eventually(Effect.map(flagOf(queue, "late"), (flag) => flag === "a"))
          yield* Scope.close(scope, Exit.void)
          // Half a minute ago there was a slot, which is not too late.
          const { next } = yield* info(queue, "late")
          const due = millisOf(next)!
          // In virtual time the first instants have no past.
          if (due < 10 * every) yield* elapse(10 * every)
          const now = yield* serverNow
          const recent = due - Math.ceil((due - now) / every) * every
          yield* late(queue, "late", recent - 5 * every)
          yield* Queue.makeScheduler(queue)
          const expected = catchUp === "skip" ? 1 : catchUp === "last" ? 2 : 6
          yield* eventually(Effect.map(info(queue, "late"), ({ fired }) => fired === expected))
          const { jobs } = yield* Queue.list(queue, "ready")
          assert.deepStrictEqual(
            jobs.map(({ id }) => id),
            Array.from({ length: expected }, (_, i) => `schedule:late:${recent - (expected - 1 - i) * every}`)
          )
          assert.strictEqual(millisOf((yield* info(queue, "late")).next), recent + every)
        }
      }))

    it.scoped("goes on when jobs fail, are dead letters, or are dropped as duplicates", () =>
      Effect.gen(function*() {
        const queue = define("failing", { attempts: 1 })
        let calls = 0
        yield* Queue.makeWorker(queue, () => Effect.suspend(() => Effect.fail(`no ${calls++}`)))
        yield* Queue.schedule(queue, "fails", { every: "100 millis", payload: { n: 1 } })
        yield* eventually(Effect.map(Queue.deadLetterCount(queue), (count) => count >= 3))

        const slow = define("duplicates")
        yield* Queue.makeScheduler(slow)
        yield* Queue.schedule(slow, "one at a time", {
          every: "100 millis",
          payload: { n: 1 },
          deduplicate: { key: "report", mode: "until-finished" }
        })
        yield* eventually(Effect.map(info(slow, "one at a time"), ({ fired }) => fired >= 3))
        assert.strictEqual((yield* Queue.counts(slow)).ready, 1)
      }).pipe(Effect.provide(silent)))

    it.scoped("a full queue makes its slots wait, and a paused one takes their jobs", () =>
      Effect.gen(function*() {
        const queue = define("full", { maxSize: 1 })
        yield* Queue.enqueue(queue, { n: 0 })
        yield* Queue.makeScheduler(queue)
        const { next } = yield* Queue.schedule(queue, "tick", { every: "200 millis", payload: { n: 1 }, count: 1 })
        yield* eventually(Effect.map(serverNow, (now) => now > millisOf(next)! + 100))
        assert.strictEqual((yield* info(queue, "tick")).fired, 0)
        assert.strictEqual((yield* error(Queue.fireSchedule(queue, "tick")))._tag, "QueueFull")
        yield* Queue.drain(queue)
        yield* Queue.pause(queue)
        yield* eventually(Effect.map(info(queue, "tick"), ({ fired }) => fired === 1))
        assert.deepStrictEqual(
          (yield* Queue.list(queue, "ready")).jobs.map(({ id }) => id),
          [`schedule:tick:${millisOf(next)}`]
        )
      }).pipe(Effect.provide(silent)))

    it.scoped("fires at once when it is told to", () =>
      Effect.gen(function*() {
        const queue = define("now")
        const { jobs, record } = recorder()
        yield* Queue.schedule(queue, "far", { every: FAR, payload: { n: 3 }, attempts: 9, timeout: "1 minute" })
        const fired = yield* Effect.all([Queue.fireSchedule(queue, "far"), Queue.fireSchedule(queue, "far")])
        assert.deepStrictEqual(fired.map(({ outcome }) => outcome), ["added", "added"])
        yield* Queue.makeWorker(queue, record)
        yield* holds(() => jobs.length === 2)
        assert.deepStrictEqual(jobs.map(({ attempts, id, payload }) => [attempts, id, payload.n]), [
          [9, fired[0].id, 3],
          [9, fired[1].id, 3]
        ])
        assert.strictEqual(Option.getOrThrow(jobs[0]!.schedule).id, "far")
        assert.strictEqual((yield* info(queue, "far")).fired, 0)
      }))

    it.scoped("the jobs of a schedule may have a group", () =>
      Effect.gen(function*() {
        const queue = define("grouped", { groups: { concurrency: 1 } })
        const { jobs, record } = recorder()
        yield* Queue.makeWorker(queue, record)
        const made = yield* Queue.schedule(queue, "tick", {
          every: "100 millis",
          payload: { n: 1 },
          group: "acme",
          priority: 1,
          count: 2
        })
        assert.deepStrictEqual([made.group, made.priority], [Option.some("acme"), 1])
        yield* holds(() => jobs.length === 2)
        assert.deepStrictEqual(jobs.map(({ group, priority }) => [group, priority]), [
          [Option.some("acme"), 1],
          [Option.some("acme"), 1]
        ])
        yield* Queue.pause(queue)
        const { id } = yield* Queue.fireSchedule(queue, "tick")
        assert.deepStrictEqual((yield* Queue.list(queue, "ready")).jobs.map((job) => job.id), [id])
      }))

    it.scoped("several runners fire each slot once, and one that comes later goes on", () =>
      Effect.gen(function*() {
        const queue = define("several")
        const { jobs, record } = recorder()
        const services = yield* Effect.all(Array.from({ length: 3 }, () => Queue.make))
        const [first, second, third] = services
        const scope = yield* Scope.make()
        yield* Scope.extend(first!.makeWorker(queue, record), scope)
        yield* second!.makeScheduler(queue)
        yield* Effect.all(
          Array.from({ length: 12 }, (_, i) =>
            services[i % 3]!.schedule(queue, "tick", { every: "100 millis", payload: { n: 1 } })),
          { concurrency: "unbounded" }
        )
        yield* holds(() =>
          jobs.length >= 3
        )
        yield* third!.makeWorker(queue, record)
        yield* Scope.close(scope, Exit.void)
        const now = jobs.length
        yield* holds(() => jobs.length >= now + 3)
        assertEvery(slotsOf(jobs).slice().sort((a, b) => a - b), 100)
      }))

    it.scoped("lists pages in the order of the next slots", () =>
      Effect.gen(function*() {
        const queue = define("list")
        const now = yield* serverNow
        yield* Queue.makeScheduler(queue)
        for (let i = 0; i < 7; i++) {
          yield* Queue.schedule(queue, `s${i}`, {
            every: FAR,
            start: at(now + Duration.toMillis(FAR) + 1000 * (7 - i)),
            payload: { n: i },
            count: 5,
            catchUp: "last",
            grace: "5 minutes"
          })
        }
        yield* Queue.schedule(queue, "cron", { cron: "0 0 1 1 *", timeZone: "Asia/Tokyo", payload: { n: 9 } })
        yield* Queue.pauseSchedule(queue, "cron")
        yield* Queue.pauseSchedule(queue, "s3")
        yield* eventually(Effect.map(Queue.listSchedules(queue), ({ schedules }) => schedules[0]?.id === "s6"))
        const ids: Array<string> = []
        let next = Option.some(0)
        while (Option.isSome(next)) {
          const page: Queue.SchedulePage<Payload> = yield* Queue.listSchedules(queue, { offset: next.value, limit: 3 })
          ids.push(...page.schedules.map(({ id }) => id))
          next = page.next
        }
        assert.deepStrictEqual(ids, ["s6", "s5", "s4", "s2", "s1", "s0", "cron", "s3"])
        const found = yield* info(queue, "s1")
        assert.deepStrictEqual(
          [found.state, found.catchUp, Duration.toMillis(found.grace), Option.getOrUndefined(found.count), found.fired],
          ["active", "last", 300_000, 5, 0]
        )
        assert.deepStrictEqual((yield* info(queue, "cron")).timing, { cron: "0 0 1 1 *", timeZone: "Asia/Tokyo" })
        yield* Queue.obliterate(queue)
        assert.lengthOf((yield* Queue.listSchedules(queue)).schedules, 0)
      }))

    it.scoped("refuses what makes no sense before anything is sent", () =>
      Effect.gen(function*() {
        const queue = define("input", { maxPayload: 50 })
        const payload = { n: 1 }
        const fieldOf = (id: string, options: Queue.ScheduleOptions<Payload>) =>
          Effect.map(error(Queue.schedule(queue, id, options)), (failure) =>
            failure._tag === "RedisInputError" ? failure.field : failure._tag)
        const every = "1 minute"
        assert.strictEqual(yield* fieldOf("", { every, payload }), "id")
        assert.strictEqual(yield* fieldOf("x".repeat(201), { every, payload }), "id")
        assert.strictEqual(yield* fieldOf("a", { every: 0, payload }), "every")
        assert.strictEqual(yield* fieldOf("a", { every: 9, payload }), "every")
        assert.strictEqual(yield* fieldOf("a", { every: "infinity" as "1 day", payload }), "every")
        assert.strictEqual(yield* fieldOf("a", { cron: "0 0 30 2 *", payload }), "cron")
        assert.strictEqual(yield* fieldOf("a", { cron: "61 * * * *", payload }), "cron")
        assert.strictEqual(yield* fieldOf("a", { cron: "", payload }), "cron")
        assert.strictEqual(yield* fieldOf("a", { cron: "* * * * *", timeZone: "Mars/Olympus", payload }), "timeZone")
        assert.strictEqual(yield* fieldOf("a", { payload } as any), "cron")
        assert.strictEqual(yield* fieldOf("a", { every, cron: "* * * * *", payload } as any), "cron")
        assert.strictEqual(yield* fieldOf("a", { every, payload, count: 0 }), "count")
        assert.strictEqual(yield* fieldOf("a", { every, payload, catchUp: "some" as "all" }), "catchUp")
        assert.strictEqual(yield* fieldOf("a", { every, payload, grace: -1 }), "grace")
        assert.strictEqual(yield* fieldOf("a", { every, payload, start: at(-1) }), "start")
        assert.strictEqual(yield* fieldOf("a", { every, payload, priority: 4 }), "priority")
        assert.strictEqual(yield* fieldOf("a", { every, payload, attempts: 0 }), "attempts")
        assert.strictEqual(yield* fieldOf("a", { every, payload: { n: "x" } as any }), "payload")
        assert.strictEqual(yield* fieldOf("a", { every, payload: { n: "1" + "0".repeat(99) } as any }), "payload")
        assert.strictEqual((yield* error(Queue.pauseSchedule(queue, "none")))._tag, "ScheduleNotFound")
        assert.strictEqual((yield* error(Queue.resumeSchedule(queue, "none")))._tag, "ScheduleNotFound")
        assert.strictEqual((yield* error(Queue.fireSchedule(queue, "none")))._tag, "ScheduleNotFound")
        assert.isFalse(yield* Queue.removeSchedule(queue, "none"))
        const redis = yield* RedisClient
        for (const key of keysOf(queue.name).all) {
          assert.strictEqual(yield* redis.exists(key), 0)
        }
      }))

    it.scoped("a queue has so many schedules and no more", () =>
      Effect.gen(function*() {
        const queue = define("many")
        const redis = yield* RedisClient
        const { schedulesDue } = keysOf(queue.name)
        for (let i = 0; i < 10; i++) {
          yield* redis.zadd(schedulesDue, Array.from({ length: 1000 }, (_, j) => [`${i}:${j}`, 1e15] as const))
        }
        const failure = yield* error(Queue.schedule(queue, "one more", { every: "1 day", payload: { n: 1 } }))
        assert.strictEqual(failure._tag, "TooManySchedules")
        yield* redis.zrem(schedulesDue, "0:0")
        yield* Queue.schedule(queue, "one more", { every: "1 day", payload: { n: 1 } })
        yield* Queue.schedule(queue, "one more", { every: "1 day", payload: { n: 2 } })
      }))
  })
}

/** The flag of the state of a schedule: whether its next slot is known. */
const flagOf = (definition: Queue.Definition<Payload>, id: string) =>
  Effect.flatMap(RedisClient, (redis) =>
    Effect.map(
      redis.hget(keysOf(definition.name).schedulesState, id),
      (state) => Option.getOrUndefined(Option.map(state, (text) => text.split(" ")[1]))
    ))
