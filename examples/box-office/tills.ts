/**
 * Paying: the provider of card payments takes so many at a time, from all processes together.
 */
import { Effect } from "effect"
import { Semaphore } from "effect-redis-kit"
import type { Sale } from "./sale.js"

const tills = ({ id }: Sale) => Semaphore.define({ name: `box-office:${id}:tills`, permits: 40 })

/** Whoever finds no till free waits for one, for a second. */
export const atTill = <A, E, R>(sale: Sale, pay: Effect.Effect<A, E, R>) =>
  pay.pipe(
    Semaphore.withPermits(tills(sale), 1, { lease: "5 seconds", waitTimeout: "1 second" }),
    // One is never more than there are.
    Effect.catchTag("PermitsExceeded", Effect.die)
  )

/** How many pay at this moment, and how many wait for a till. */
export const tillsOf = (sale: Sale) =>
  Effect.map(Semaphore.inspect(tills(sale)), ({ inUse, permits, waiters }) => ({ tills: permits, inUse, waiters }))
