/**
 * A small shop: whoever orders holds the lock of the article, its price comes through a cache, and the receipt is a job that
 * a worker does later. Nothing in here knows of OpenTelemetry.
 */
import { HttpRouter, HttpServerResponse } from "@effect/platform"
import { Effect, Schema } from "effect"
import { Cache, Queue, withLock } from "effect-redis-kit"

const Prices = Cache.define({ name: "prices", key: Schema.String, value: Schema.Number, ttl: "1 hour" })

const Receipt = Schema.Struct({ article: Schema.String, price: Schema.Number })

const Receipts = Queue.define({ name: "receipts", payload: Receipt })

const priceOf = (article: string) =>
  Effect.sleep("5 millis").pipe(
    Effect.as(article.length * 100),
    Effect.withSpan("lookUpPrice", { attributes: { article } })
  )

const order = (article: string) =>
  Effect.gen(function*() {
    const prices = yield* Cache.open(Prices)
    const price = yield* prices.getOrSet(article, priceOf(article))
    yield* Queue.enqueue(Receipts, { article, price })
    return price
  }).pipe(withLock(`article:${article}`, { lease: "10 seconds" }))

export const routes = HttpRouter.empty.pipe(
  HttpRouter.post(
    "/orders/:article",
    Effect.gen(function*() {
      const { article } = yield* HttpRouter.schemaPathParams(Schema.Struct({ article: Schema.String }))
      return yield* HttpServerResponse.json({ article, price: yield* order(article) })
    })
  )
)

/** What the worker prints is up to whoever runs it. */
export const worker = (print: (receipt: typeof Receipt.Type) => Effect.Effect<void>) =>
  Queue.worker(Receipts, ({ payload }) => print(payload).pipe(Effect.withSpan("printReceipt")))
