/**
 * What works behind the scenes, in every process: mails, the revenue, the ranking of orders, and the chores.
 */
import { Effect, Schedule } from "effect"
import { doChores } from "./chores.js"
import { deliver } from "./mail.js"
import type { Sale } from "./sale.js"
import { countRevenue } from "./sales.js"
import { rankOrders } from "./ticker.js"

/** Until the scope closes. */
export const backstage = (sale: Sale) =>
  Effect.gen(function*() {
    yield* deliver(sale)
    yield* rankOrders(sale)
    yield* doChores(sale)
    yield* countRevenue(sale).pipe(
      Effect.tapErrorCause(Effect.logWarning),
      Effect.retry(Schedule.spaced("1 second")),
      Effect.forkScoped
    )
  })
