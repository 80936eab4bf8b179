/**
 * What has to be done again and again, once in all processes: a sample of the sale every few seconds, and a stock-take.
 */
import { Array, Clock, Duration, Effect, Option, Schema } from "effect"
import { Queue, RedisClient, Stream } from "effect-redis-kit"
import { LIFE, type Sale } from "./sale.js"
import { takeStock } from "./stock-take.js"
import { totals } from "./totals.js"

const chores = ({ id }: Sale) =>
  Queue.define({
    name: `box-office.${id}.chores`,
    payload: Schema.Literal("sample", "stock-take"),
    attempts: 2,
    lease: "10 seconds",
    deadLetters: { age: LIFE, count: 20 }
  })

/** How much was sold at a moment. */
export class Sample extends Schema.Class<Sample>("Sample")({
  /** In milliseconds. */
  at: Schema.Int,
  tickets: Schema.Int,
  /** In cents. */
  revenue: Schema.Int
}) {}

/** Some minutes. */
const SAMPLES = 120

const samples = ({ id }: Sale) =>
  Stream.define({ name: `box-office:${id}:samples`, schema: Sample, maxLength: SAMPLES })

const sample = (sale: Sale) =>
  Effect.gen(function*() {
    const redis = yield* RedisClient.RedisClient
    const all = yield* totals(sale)
    const at = yield* Clock.currentTimeMillis
    yield* Stream.append(samples(sale), new Sample({ at, tickets: all.tickets, revenue: all.revenue }), {
      trim: { maxLength: SAMPLES, exact: true }
    })
    // Schedules live until somebody removes them. Those of an evening are not worth that.
    yield* redis.pipeline(
      [
        samples(sale).key,
        ...["meta", "schedules", "schedules:due", "schedules:state"].map((key) => `queue:{${chores(sale).name}}:${key}`)
      ].map((key) => ["EXPIRE", redis.key(key), Duration.toSeconds(LIFE)] as const)
    )
  })

/** The last samples, the oldest first. */
export const lastSamples = (sale: Sale) =>
  Effect.map(
    Stream.rangeReverse(samples(sale), { count: SAMPLES }),
    (elements) =>
      Array.filterMap(
        elements.toReversed(),
        (element) => element._tag === "Entry" ? Option.some(element.value) : Option.none()
      )
  )

/** One at a time, however many ask for it. */
const stockTake = { key: "stock-take", mode: "until-finished" } as const

/** Somebody wants to know now. */
export const askForStockTake = (sale: Sale) =>
  Queue.enqueue(chores(sale), "stock-take", { deduplicate: stockTake }).pipe(
    Effect.asVoid,
    // It is as small as a job can be, and there is no other.
    Effect.catchTags({ PayloadTooLarge: Effect.die, QueueFull: Effect.die })
  )

/** Does all of it until the scope closes, unless another process does. */
export const doChores = (sale: Sale) =>
  Effect.gen(function*() {
    yield* Effect.all([
      Queue.schedule(chores(sale), "sample", { every: "2 seconds", payload: "sample" }),
      Queue.schedule(chores(sale), "stock-take", {
        every: "30 seconds",
        payload: "stock-take",
        deduplicate: stockTake
      })
    ])
    yield* Queue.makeWorker(
      chores(sale),
      ({ payload }) => Effect.if(payload === "sample", { onTrue: () => sample(sale), onFalse: () => takeStock(sale) }),
      { concurrency: 2 }
    )
  })

/** Nothing of it is left. */
export const forgetChores = (sale: Sale) =>
  Effect.gen(function*() {
    const redis = yield* RedisClient.RedisClient
    yield* Effect.forEach(["sample", "stock-take"], (id) => Queue.removeSchedule(chores(sale), id), { discard: true })
    yield* Queue.obliterate(chores(sale), { force: true })
    yield* redis.unlink(samples(sale).key)
  })
