/**
 * A cache in front of a source that is slow, and sometimes down. Readers get what is near, what is in Redis, or what the source
 * says; when the source is down they get what was true before, and when Redis is down the source is asked.
 */
import { Console, Context, Data, Effect, Schema } from "effect"
import { Cache } from "effect-redis-kit"

export class Product extends Schema.Class<Product>("Product")({
  id: Schema.String,
  name: Schema.String,
  price: Schema.Number
}) {}

export class NoSuchProduct extends Schema.TaggedError<NoSuchProduct>()("NoSuchProduct", { id: Schema.String }) {}

export class CatalogueDown extends Data.TaggedError("CatalogueDown") {}

/** The source. */
export class Catalogue extends Context.Tag("recipes/Catalogue")<Catalogue, {
  readonly find: (id: string) => Effect.Effect<Product, NoSuchProduct | CatalogueDown>
  readonly setPrice: (id: string, price: number) => Effect.Effect<void, NoSuchProduct | CatalogueDown>
}>() {}

// #region cache
export const Products = Cache.define({
  name: "products",
  key: Schema.String,
  value: Product,
  ttl: "5 minutes",
  // Who reads often asks nobody: Redis tells of changes.
  near: { capacity: 1000 },
  // What is older than that is given while it is looked up anew, or while the source is down.
  grace: "1 day",
  lookupTimeout: { soft: "200 millis", hard: "5 seconds" },
  // Asking for what is not there does not reach the source each time.
  negative: { ttl: "30 seconds", error: NoSuchProduct },
  tags: () => ["catalogue"]
})
// #endregion cache

// #region use
export const product = (id: string) =>
  Effect.gen(function*() {
    const products = yield* Cache.open(Products)
    const catalogue = yield* Catalogue
    return yield* products.getOrSet(id, catalogue.find(id))
  })

/** First the source, then the cache: a lookup that began before the change can't store what it has found. */
export const changePrice = (id: string, price: number) =>
  Effect.gen(function*() {
    const products = yield* Cache.open(Products)
    const catalogue = yield* Catalogue
    yield* catalogue.setPrice(id, price)
    yield* products.delete(id)
  })

/** After an import nothing from before is valid. */
export const imported = Effect.flatMap(Cache.open(Products), (products) => products.invalidateTags("catalogue"))
// #endregion use

export const program = Effect.gen(function*() {
  const readers = yield* Effect.all(Array.from({ length: 100 }, () => product("lamp")), { concurrency: "unbounded" })
  yield* Console.log(`${readers.length} readers: ${readers[0]?.name} costs ${readers[0]?.price}`)
  yield* changePrice("lamp", 25)
  yield* Console.log(`now it costs ${(yield* product("lamp")).price}`)
  yield* Console.log(
    yield* Effect.match(product("unicorn"), {
      onFailure: (error) => `unicorn: ${error._tag}`,
      onSuccess: ({ name }) => name
    })
  )
})
