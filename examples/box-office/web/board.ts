/**
 * The board: everything about a sale that changes all the time. It is read once a second for all pages of this process,
 * and not at all while nobody looks.
 */
import { Clock, Effect, Option, Schedule, SubscriptionRef } from "effect"
import { Queue } from "effect-redis-kit"
import { bestVenues } from "../chart.js"
import { lastSamples } from "../chores.js"
import { popular, visitors } from "../discover.js"
import { confirmations, queueOf } from "../mail.js"
import type { Sale } from "../sale.js"
import { revenueOfLog } from "../sales.js"
import { lastStockTake } from "../stock-take.js"
import { dearestOrders } from "../ticker.js"
import { tillsOf } from "../tills.js"
import { totals } from "../totals.js"
import { capacity } from "../venues.js"
import { meters } from "./meters.js"

/** How many dead letters are shown. */
const LETTERS = 20

const SHOWN = 5

const letters = (sale: Sale) =>
  Effect.map(
    Queue.deadLetters(confirmations(sale), { limit: LETTERS }),
    ({ letters }) =>
      letters.map(({ error, failures, id, reason }) => ({
        order: id,
        error: Option.getOrElse(error, () => reason),
        attempts: failures
      }))
  )

const read = (sale: Sale) =>
  Effect.gen(function*() {
    const all = yield* Effect.all({
      totals: totals(sale),
      log: revenueOfLog(sale),
      best: bestVenues(sale, SHOWN),
      dearest: dearestOrders(sale, SHOWN),
      popular: popular(sale, SHOWN),
      visitors: visitors(sale),
      tills: tillsOf(sale),
      queue: queueOf(sale),
      letters: letters(sale),
      stock: lastStockTake(sale),
      samples: lastSamples(sale)
    }, { concurrency: "unbounded" })
    const { orders, revenue, tickets, venues } = all.totals
    return {
      at: yield* Clock.currentTimeMillis,
      seats: capacity(...sale.venues),
      orders,
      tickets,
      revenue,
      log: all.log,
      /** The tickets of each venue. */
      venues: venues.map(([venue, tickets]) => [venue.id, tickets] as const),
      best: all.best,
      dearest: all.dearest,
      popular: all.popular.map(({ venue: { city, id }, views, visitors }) => ({ venue: id, city, views, visitors })),
      visitors: all.visitors,
      tills: all.tills,
      queue: all.queue,
      letters: all.letters,
      stock: Option.getOrNull(all.stock),
      samples: all.samples.map(({ at, revenue, tickets }) => [at, tickets, revenue] as const),
      meters: yield* meters
    }
  })

export type Board = Effect.Effect.Success<ReturnType<typeof read>>

/** A thousand venues take longer to read than a few. */
const pauseOf = ({ venues }: Sale) => Math.max(1000, venues.length * 2)

/** What each page runs, and what it then gets. */
export const keepBoard = (sale: Sale) =>
  Effect.gen(function*() {
    const board = yield* SubscriptionRef.make(Option.none<Board>())
    const watched = yield* Effect.makeLatch(false)
    let pages = 0
    yield* watched.await.pipe(
      Effect.zipRight(read(sale)),
      Effect.flatMap((now) => SubscriptionRef.set(board, Option.some(now))),
      // The pages are told in another way that Redis is away.
      Effect.ignore,
      Effect.repeat(Schedule.spaced(pauseOf(sale))),
      Effect.forkScoped
    )
    const watch = Effect.acquireRelease(
      Effect.suspend(() => ++pages === 1 ? watched.open : Effect.void),
      () =>
        Effect.suspend(() =>
          --pages === 0 ? Effect.zipRight(watched.close, SubscriptionRef.set(board, Option.none())) : Effect.void
        )
    )
    return { board, watch }
  })
