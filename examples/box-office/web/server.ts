/**
 * The box office over HTTP: the API, the page, and what happens while it is open.
 */
import { HttpApiBuilder, HttpLayerRouter, HttpServer, HttpServerRequest } from "@effect/platform"
import { NodeHttpServer } from "@effect/platform-node"
import { Context, Data, Effect, Layer, Option } from "effect"
import { Health, SameOrigin, Sessions } from "effect-redis-kit/http"
import { createServer } from "node:http"
import { listings, soldSeats } from "../catalogue.js"
import { askForStockTake } from "../chores.js"
import { findNeighbours, near, popular, viewed } from "../discover.js"
import { buy, type Sale } from "../sale.js"
import { lastTicks } from "../ticker.js"
import { account, changed, Cookie } from "./account.js"
import { Api, NotFound, NotSold, Unavailable } from "./api.js"
import { events, linkOf, openFeeds } from "./events.js"
import { file } from "./files.js"
import { leftOf, limits } from "./limits.js"
import { lobby } from "./lobby.js"
import { mails } from "./mails.js"
import { orUnavailable } from "./unavailable.js"

const venueOf = (sale: Sale, id: string) => {
  const venue = sale.venues.find((venue) => venue.id === id)
  return venue === undefined ? new NotFound() : Effect.succeed(venue)
}

/** A buyer who is logged in is the same one everywhere; of others only the address is known. */
const visitor = Effect.gen(function*() {
  const session = yield* Sessions.MaybeSession
  if (Option.isSome(session)) return `buyer ${session.value.userId}`
  const { remoteAddress } = yield* HttpServerRequest.HttpServerRequest
  return `address ${Option.getOrElse(remoteAddress, () => "unknown")}`
})

const catalogue = (sale: Sale) =>
  HttpApiBuilder.group(Api, "catalogue", (handlers) =>
    Effect.gen(function*() {
      const neighbours = yield* findNeighbours(sale)
      return handlers
        .handle(
          "venues",
          () => orUnavailable(Effect.catchTag(listings(sale), "CacheLookupTimeout", () => new Unavailable()))
        )
        .handle("seats", ({ path }) =>
          Effect.gen(function*() {
            const venue = yield* venueOf(sale, path.id)
            yield* viewed(sale, venue, yield* visitor)
            const sold = new Set(yield* soldSeats(sale, venue))
            const rows = venue.rows.map((row) => ({
              ...row,
              seats: row.seats.map((id) => ({ id, sold: sold.has(id) }))
            }))
            return { venue: venue.id, rows }
          }).pipe(orUnavailable))
        .handle("near", ({ urlParams: { latitude, limit, longitude, seats } }) =>
          orUnavailable(
            Effect.map(
              near(sale, { longitude, latitude }, { limit, seats }),
              (all) => all.map(({ free, kilometres, venue: { city, id } }) => ({ venue: id, city, kilometres, free }))
            )
          ))
        .handle("popular", ({ urlParams: { limit } }) =>
          orUnavailable(
            Effect.map(popular(sale, limit), (all) =>
              all.map(({ venue: { city, id }, views, visitors }) => ({ venue: id, city, views, visitors })))
          ))
        .handle("neighbours", ({ path }) =>
          Effect.gen(function*() {
            const { id } = yield* venueOf(sale, path.id)
            const found = yield* neighbours.get(id)
            return found.map(({ kilometres, venue: { city, id } }) => ({ venue: id, city, kilometres }))
          }).pipe(orUnavailable))
    }))

const orders = (sale: Sale) =>
  HttpApiBuilder.group(Api, "orders", (handlers) =>
    handlers
      .handle("order", ({ payload: { party, row: name, venue: id } }) =>
        Effect.gen(function*() {
          const venue = yield* venueOf(sale, id)
          const row = venue.rows.find((row) => row.name === name)
          if (row === undefined) return yield* new NotFound()
          const { userId } = yield* Sessions.CurrentSession
          const order = yield* buy({
            sale,
            venue,
            row,
            party,
            buyer: userId,
            // This shop trusts everybody.
            pay: () => Effect.void,
            careless: false,
            onWaited: () => {}
          })
          yield* changed(userId, "ordered")
          return order
        }).pipe(
          Effect.catchTags({
            CardRefused: () => new NotSold({ reason: "card refused" }),
            HeldTooLong: () => new NotSold({ reason: "row busy" }),
            LockLost: () => new NotSold({ reason: "row busy" }),
            LockNotAcquired: () => new NotSold({ reason: "row busy" }),
            SeatsGone: () => new NotSold({ reason: "seats gone" })
          }),
          orUnavailable
        ))
      .handle("ticker", () => orUnavailable(lastTicks(sale, 20)))
      .handle("takeStock", () => orUnavailable(askForStockTake(sale)))
      .handle("limits", () =>
        Effect.flatMap(Sessions.MaybeSession, (session) =>
          orUnavailable(leftOf(Option.map(session, ({ userId }) => userId))))))

const routes = (sale: Sale) =>
  HttpLayerRouter.use((router) =>
    Effect.gen(function*() {
      yield* router.add("GET", "/", file("page.html"))
      yield* router.add("GET", "/page.css", file("page.css"))
      yield* router.add("GET", "/page.js", file("page.js"))
      const feeds = yield* openFeeds(sale)
      yield* router.add("GET", "/api/events", events(sale, feeds))
      yield* router.add("GET", "/api/link", linkOf(feeds))
    })
  )

const app = (sale: Sale) =>
  Layer.mergeAll(HttpLayerRouter.addHttpApi(Api), routes(sale), Health.layerRouter()).pipe(
    Layer.provide([catalogue(sale), orders(sale), mails(sale), lobby(sale), account]),
    Layer.provide([
      limits(sale),
      Sessions.layerApi(Sessions.Authenticated, Sessions.requireAuth(Cookie)),
      Sessions.layerApi(Sessions.Attached, Sessions.attach(Cookie)),
      SameOrigin.layerApi(SameOrigin.SameOrigin)
    ]),
    (app) => HttpLayerRouter.serve(app, { disableLogger: true, disableListenLog: true })
  )

export class CannotListen extends Data.TaggedError("CannotListen")<{ readonly message: string }> {}

/** Serves a sale to this machine until the scope closes, and returns the port. */
export const serve = (sale: Sale, port: number) =>
  Effect.gen(function*() {
    const server = createServer()
    const context = yield* Layer.build(
      Layer.provideMerge(app(sale), NodeHttpServer.layer(() => server, { port, host: "127.0.0.1" }))
    ).pipe(
      Effect.catchTag("ServeError", ({ cause }) =>
        new CannotListen({ message: cause instanceof Error ? cause.message : String(cause) }))
    )
    // Pages that are open would keep the program alive.
    yield* Effect.addFinalizer(() =>
      Effect.sync(() => {
        server.close()
        server.closeAllConnections()
      })
    )
    const { address } = Context.get(context, HttpServer.HttpServer)
    return address._tag === "TcpAddress" ? address.port : port
  })
