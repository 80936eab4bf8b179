/**
 * What the server tells about streams, as data.
 */
import * as Option from "effect/Option"
import * as Decode from "../internal/commands/decode.js"
import { type Codec, element, rawEntries, rawEntry } from "./codec.js"
import type { Element, FullGroup, FullInfo, StreamInfo } from "./Stream.js"

type Fields = ReadonlyMap<string, unknown>

const any = (value: unknown): { readonly value: unknown } => ({ value })

const fieldsOf = (reply: unknown): Fields | undefined => {
  const pairs = Decode.asPairs(any)(reply)
  return pairs === undefined ? undefined : new Map(pairs.map(([name, { value }]) => [name, value]))
}

/** A shape that is not the one of the server. */
class Unexpected extends Error {}

const reading = <A>(read: () => A): A | undefined => {
  try {
    return read()
  } catch (thrown) {
    if (thrown instanceof Unexpected) return undefined
    throw thrown
  }
}

const refuse = (): never => {
  throw new Unexpected()
}

const count = (fields: Fields, name: string): number => {
  const value = fields.get(name)
  return typeof value === "number" ? value : refuse()
}

const text = (fields: Fields, name: string): string => {
  const value = fields.get(name)
  return typeof value === "string" ? value : refuse()
}

const optionalCount = (fields: Fields, name: string): Option.Option<number> => {
  const value = fields.get(name)
  return typeof value === "number" ? Option.some(value) : Option.none()
}

const list = <A>(value: unknown, read: (item: unknown) => A): ReadonlyArray<A> =>
  Array.isArray(value) ? value.map(read) : refuse()

const record = (value: unknown): Fields => fieldsOf(value) ?? refuse()

const optionalEntry = <A>(codec: Codec<A>, value: unknown): Option.Option<Element<A>> =>
  value === null || value === undefined
    ? Option.none()
    : Option.some(element(codec, rawEntry(value) ?? refuse()))

const common = (fields: Fields) => ({
  length: count(fields, "length"),
  lastId: text(fields, "last-generated-id"),
  maxDeletedId: text(fields, "max-deleted-entry-id"),
  entriesAdded: count(fields, "entries-added")
})

export const streamInfo = <A>(codec: Codec<A>) => (reply: unknown): StreamInfo<A> | undefined =>
  reading(() => {
    const fields = record(reply)
    return {
      ...common(fields),
      groups: count(fields, "groups"),
      firstEntry: optionalEntry(codec, fields.get("first-entry")),
      lastEntry: optionalEntry(codec, fields.get("last-entry"))
    }
  })

const tuple = (value: unknown): ReadonlyArray<unknown> => Array.isArray(value) ? value : refuse()

const asText = (value: unknown): string => typeof value === "string" ? value : refuse()

const asCount = (value: unknown): number => typeof value === "number" ? value : refuse()

const fullGroup = (value: unknown): FullGroup => {
  const fields = record(value)
  return {
    name: text(fields, "name"),
    lastDeliveredId: text(fields, "last-delivered-id"),
    entriesRead: optionalCount(fields, "entries-read"),
    lag: optionalCount(fields, "lag"),
    pending: count(fields, "pel-count"),
    pendingEntries: list(fields.get("pending"), (item) => {
      const [id, consumer, deliveredAt, deliveries] = tuple(item)
      return {
        id: asText(id),
        consumer: asText(consumer),
        deliveredAt: asCount(deliveredAt),
        deliveries: asCount(deliveries)
      }
    }),
    consumers: list(fields.get("consumers"), (item) => {
      const consumer = record(item)
      return {
        name: text(consumer, "name"),
        pending: count(consumer, "pel-count"),
        seenAt: count(consumer, "seen-time")
      }
    })
  }
}

export const fullInfo = <A>(codec: Codec<A>) => (reply: unknown): FullInfo<A> | undefined =>
  reading(() => {
    const fields = record(reply)
    const entries = rawEntries(fields.get("entries")) ?? refuse()
    return {
      ...common(fields),
      entries: entries.map((entry) => element(codec, entry)),
      groups: list(fields.get("groups"), fullGroup)
    }
  })
