/**
 * Events of accounts, which all tests of event stores are about.
 */
import { Data, Effect, Either, Schema, Stream } from "effect"
import * as EventStore from "../../src/EventStore/index.js"
import { RedisClient } from "../../src/RedisClient.js"

export class Opened extends Schema.TaggedClass<Opened>()("Opened", { owner: Schema.String }) {}

export class Deposited extends Schema.TaggedClass<Deposited>()("Deposited", {
  amount: Schema.Number,
  at: Schema.optional(Schema.Date)
}) {}

export class Withdrawn extends Schema.TaggedClass<Withdrawn>()("Withdrawn", { amount: Schema.Number }) {}

export const Event = Schema.Union(Opened, Deposited, Withdrawn)

export type Event = typeof Event.Type

export class Overdrawn extends Data.TaggedError("Overdrawn")<{ readonly balance: number }> {}

export const accounts = (name: string, options: { readonly partitions?: number } = {}) =>
  EventStore.define({ name, event: Event, ...options })

export const account = (id: string): EventStore.Aggregate => ({ type: "account", id })

export const deposits = (from: number, to: number): ReadonlyArray<Deposited> =>
  Array.from({ length: to - from + 1 }, (_, i) => new Deposited({ amount: from + i }))

export const amountOf = (event: Event): number => event._tag === "Opened" ? 0 : event.amount

/** What can be read of some events. */
export const amounts = (
  events: Iterable<Either.Either<EventStore.Recorded<Event, unknown>, unknown> | EventStore.Recorded<Event, unknown>>
): ReadonlyArray<number> =>
  Array.from(events).flatMap((one) =>
    Either.isEither(one) ? Either.isRight(one) ? [amountOf(one.right.data)] : [] : [amountOf(one.data)]
  )

/** The keys under the name of a store, without those that only remember appends. */
export const keysOf = (name: string) =>
  Effect.flatMap(
    RedisClient,
    (client) =>
      Effect.map(Stream.runCollect(client.scan({ match: `events:{${name}*` })), (keys) =>
        Array.from(new Set(keys)).filter((key) => !key.includes(":once:")).sort())
  )

/** Writes an entry into the stream of an aggregate, and says where it is, as another program might do. */
export const forge = (name: string, { id, type }: EventStore.Aggregate, version: number, body: string | undefined) =>
  Effect.gen(function*() {
    const client = yield* RedisClient
    const base = `events:{${name}.0}`
    const position = yield* client.send("XADD", client.key(`${base}:all`), "*", "t", type, "a", id, "v", version)
    yield* client.send(
      "XADD",
      client.key(`${base}:a:${type}:${id}`),
      `${version}-0`,
      ...(body === undefined ? ["other", "fields"] : ["i", `forged.${version}`, "p", String(position), "e", body])
    )
    return String(position)
  })

const total = (balance: number, event: Event): number =>
  event._tag === "Opened" ? balance : event._tag === "Deposited" ? balance + event.amount : balance - event.amount

export const Balance = EventStore.snapshot({ name: "balance", state: Schema.Struct({ total: Schema.Number }) })

/** A command is an amount: what is below zero is withdrawn. */
export const decider = (
  definition: EventStore.Definition<Event, { readonly [name: string]: unknown }>,
  options: {
    readonly snapshot?: EventStore.Snapshot<{ readonly total: number }>
    readonly snapshotEvery?: number
    readonly conflictRetries?: number
    readonly onDecide?: () => void
  } = {}
) =>
  EventStore.decider({
    store: definition,
    type: "account",
    initial: { total: 0 },
    evolve: (state, event) => ({ total: total(state.total, event) }),
    decide: (amount: number, { total }): Effect.Effect<ReadonlyArray<Event>, Overdrawn> => {
      options.onDecide?.()
      if (amount === 0) return Effect.succeed([])
      if (amount > 0) return Effect.succeed([new Deposited({ amount })])
      return total + amount < 0
        ? Effect.fail(new Overdrawn({ balance: total }))
        : Effect.succeed([new Withdrawn({ amount: -amount })])
    },
    snapshot: options.snapshot,
    snapshotEvery: options.snapshotEvery,
    conflictRetries: options.conflictRetries
  })
