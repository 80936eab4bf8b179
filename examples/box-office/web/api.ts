/**
 * The box office as an API: what can be asked, and what is answered.
 */
import { HttpApi, HttpApiEndpoint, HttpApiGroup, HttpApiMiddleware, HttpApiSchema } from "@effect/platform"
import { Schema } from "effect"
import { RateLimits, SameOrigin, Sessions } from "effect-redis-kit/http"
import { Listing } from "../live.js"
import { Words } from "../lobby.js"
import { Order } from "../sale.js"
import { Ticked } from "../ticker.js"
import { sections } from "../venues.js"

/** There is no such venue, or no such row in it. */
export class NotFound extends Schema.TaggedError<NotFound>()(
  "NotFound",
  {},
  HttpApiSchema.annotations({ status: 404 })
) {}

/** Others were faster, or are buying in that row at this moment. */
export class NotSold extends Schema.TaggedError<NotSold>()(
  "NotSold",
  { reason: Schema.Literal("seats gone", "row busy", "card refused") },
  HttpApiSchema.annotations({ status: 409 })
) {}

/** Redis does not answer. */
export class Unavailable extends Schema.TaggedError<Unavailable>()(
  "Unavailable",
  {},
  HttpApiSchema.annotations({ status: 503 })
) {}

export class Seats extends Schema.Class<Seats>("Seats")({
  venue: Schema.String,
  rows: Schema.Array(Schema.Struct({
    name: Schema.String,
    section: Schema.Literal(...sections),
    /** Of one seat, in cents. */
    price: Schema.Int,
    seats: Schema.Array(Schema.Struct({ id: Schema.String, sold: Schema.Boolean }))
  }))
}) {}

/** A venue near a visitor. */
export class Near extends Schema.Class<Near>("Near")({
  venue: Schema.String,
  city: Schema.String,
  kilometres: Schema.Number,
  /** How many seats are free. */
  free: Schema.Int
}) {}

/** Where else to go. */
export class Neighbour extends Schema.Class<Neighbour>("Neighbour")({
  venue: Schema.String,
  city: Schema.String,
  kilometres: Schema.Number
}) {}

/** A venue that many look at. */
export class Popular extends Schema.Class<Popular>("Popular")({
  venue: Schema.String,
  city: Schema.String,
  /** In this hour. */
  views: Schema.Int,
  /** Since the sale was opened, each counted once. */
  visitors: Schema.Int
}) {}

const limit = Schema.optionalWith(Schema.NumberFromString.pipe(Schema.int(), Schema.between(1, 100)), {
  default: () => 10
})

const Limit = Schema.Struct({
  policy: Schema.String,
  limit: Schema.Number,
  remaining: Schema.Number,
  /** In how many seconds all of it will be there again. */
  reset: Schema.Number
})

/** What is left of each limit of orders. */
export class Limits extends Schema.Class<Limits>("Limits")({
  address: Limit,
  /** `null` for visitors. */
  buyer: Schema.NullOr(Limit)
}) {}

/** What became of the confirmations. */
export class Mails extends Schema.Class<Mails>("Mails")({
  delivered: Schema.Int,
  waiting: Schema.Int,
  /** The dead letters, the newest first. */
  undelivered: Schema.Array(Schema.Struct({
    order: Schema.String,
    reason: Schema.String,
    error: Schema.NullOr(Schema.String),
    attempts: Schema.Int
  }))
}) {}

/** The queue of the confirmations. */
export class QueueView extends Schema.Class<QueueView>("QueueView")({
  counts: Schema.Struct({ ready: Schema.Int, delayed: Schema.Int, running: Schema.Int, dead: Schema.Int }),
  paused: Schema.Boolean,
  workers: Schema.Int,
  /** For how many seconds the oldest ready job waits. */
  oldest: Schema.NullOr(Schema.Number),
  /** Of the last minutes in which something happened. */
  throughput: Schema.Array(Schema.Struct({ minute: Schema.DateTimeUtc, completed: Schema.Int, failed: Schema.Int })),
  running: Schema.Array(Schema.Struct({ id: Schema.String, progress: Schema.Unknown }))
}) {}

/** An order that was made, without who made it. */
export class Tick extends Ticked.extend<Tick>("Tick")({
  id: Schema.String,
  /** In milliseconds. */
  at: Schema.Number
}) {}

/** How often a buyer may say something. */
export class TalkLimit extends HttpApiMiddleware.Tag<TalkLimit>()("TalkLimit", { failure: RateLimits.Failure }) {}

/** How often somebody may ask for a stock-take. */
export class StockTakeLimit
  extends HttpApiMiddleware.Tag<StockTakeLimit>()("StockTakeLimit", { failure: RateLimits.Failure })
{}

/** How often an address may log in. */
export class LoginLimit extends HttpApiMiddleware.Tag<LoginLimit>()("LoginLimit", { failure: RateLimits.Failure }) {}

/** Who is logged in, and in how many places. */
export class Me extends Schema.Class<Me>("Me")({ name: Schema.String, sessions: Schema.Int }) {}

const Catalogue = HttpApiGroup.make("catalogue")
  .add(HttpApiEndpoint.get("venues", "/venues").addSuccess(Schema.Array(Listing)))
  .add(
    HttpApiEndpoint.get("seats", "/venues/:id")
      .setPath(Schema.Struct({ id: Schema.String }))
      .addSuccess(Seats)
      .addError(NotFound)
      .middleware(Sessions.Attached)
  )
  .add(
    HttpApiEndpoint.get("neighbours", "/venues/:id/neighbours")
      .setPath(Schema.Struct({ id: Schema.String }))
      .addSuccess(Schema.Array(Neighbour))
      .addError(NotFound)
  )
  .add(
    HttpApiEndpoint.get("near", "/near")
      .setUrlParams(Schema.Struct({
        longitude: Schema.NumberFromString.pipe(Schema.between(-180, 180)),
        latitude: Schema.NumberFromString.pipe(Schema.between(-85.05, 85.05)),
        /** How many seats must be free; 0 for all venues. */
        seats: Schema.optionalWith(Schema.NumberFromString.pipe(Schema.int(), Schema.between(0, 8)), {
          default: () => 0
        }),
        limit
      }))
      .addSuccess(Schema.Array(Near))
  )
  .add(
    HttpApiEndpoint.get("popular", "/popular")
      .setUrlParams(Schema.Struct({ limit }))
      .addSuccess(Schema.Array(Popular))
  )
  .addError(Unavailable)

const Orders = HttpApiGroup.make("orders")
  .add(
    HttpApiEndpoint.post("order", "/orders")
      .setPayload(Schema.Struct({
        venue: Schema.String,
        row: Schema.String,
        party: Schema.Int.pipe(Schema.between(1, 8))
      }))
      .addSuccess(Order, { status: 201 })
      .addError(NotSold)
      .addError(NotFound)
      // What is added last runs first, so the limit knows the buyer.
      .middleware(RateLimits.RateLimit)
      .middleware(Sessions.Authenticated)
  )
  .add(HttpApiEndpoint.get("ticker", "/ticker").addSuccess(Schema.Array(Tick)))
  .add(
    HttpApiEndpoint.post("takeStock", "/stock-take")
      .middleware(StockTakeLimit)
      .middleware(Sessions.Authenticated)
  )
  .add(HttpApiEndpoint.get("limits", "/limits").addSuccess(Limits).middleware(Sessions.Attached))
  .addError(Unavailable)

const Mailing = HttpApiGroup.make("mails")
  .add(HttpApiEndpoint.get("mails", "/mails").addSuccess(Mails))
  .add(HttpApiEndpoint.get("queue", "/queue").addSuccess(QueueView))
  .add(
    HttpApiEndpoint.post("sendAgain", "/mails/:order")
      .setPath(Schema.Struct({ order: Schema.String }))
      .addError(NotFound)
      .middleware(Sessions.Authenticated)
  )
  .addError(Unavailable)

const Lobby = HttpApiGroup.make("lobby")
  .add(
    HttpApiEndpoint.post("say", "/lobby")
      .setPayload(Schema.Struct({
        words: Words,
        /** Of the page, so that what is sent twice is said once. */
        id: Schema.optional(Schema.String.pipe(Schema.pattern(/^[\w-]{8,64}$/)))
      }))
      .middleware(TalkLimit)
      .middleware(Sessions.Authenticated)
  )
  .addError(Unavailable)

const Account = HttpApiGroup.make("account")
  .add(
    HttpApiEndpoint.post("login", "/login")
      .setPayload(Schema.Struct({ name: Schema.NonEmptyTrimmedString.pipe(Schema.maxLength(40)) }))
      .addError(Sessions.TooManySessions)
      .middleware(LoginLimit)
  )
  .add(HttpApiEndpoint.post("logout", "/logout").middleware(Sessions.Attached))
  .add(HttpApiEndpoint.post("logoutEverywhere", "/logout-everywhere").middleware(Sessions.Authenticated))
  .add(HttpApiEndpoint.get("me", "/me").addSuccess(Me).middleware(Sessions.Authenticated))
  .addError(Sessions.SessionsUnavailable)
  .addError(Unavailable)

/** Pages of other sites can't do anything with the cookie of a buyer. */
export const Api = HttpApi.make("box-office")
  .add(Catalogue)
  .add(Orders)
  .add(Mailing)
  .add(Lobby)
  .add(Account)
  .prefix("/api")
  .middleware(SameOrigin.SameOrigin)
