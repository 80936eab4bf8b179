/**
 * News of the house, for whoever watches at this moment: who was refused, and which mails are sent again.
 */
import { Effect, Schema } from "effect"
import { EventBus, PubSub } from "effect-redis-kit"
import type { Sale } from "./sale.js"

/** A limit was reached. */
export class Refused extends Schema.TaggedClass<Refused>()("Refused", {
  policy: Schema.String,
  who: Schema.String,
  /** In how many milliseconds it will be allowed again. */
  retryAfter: Schema.Number
}) {}

/** Somebody has sent a mail again that could not be brought. */
export class SentAgain extends Schema.TaggedClass<SentAgain>()("SentAgain", {
  order: Schema.String,
  by: Schema.String
}) {}

export const news = ({ id }: Sale) => PubSub.channel(`box-office:${id}:news`, Schema.Union(Refused, SentAgain))

/** Nothing is worth failing for because of its news. */
export const report = (sale: Sale, event: Refused | SentAgain) =>
  Effect.ignoreLogged(EventBus.publish(news(sale), event))
