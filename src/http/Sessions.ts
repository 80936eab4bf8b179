/**
 * Sessions of HTTP servers, in cookies: as `HttpMiddleware`, as middleware of `HttpLayerRouter`, as `HttpApiMiddleware`, and
 * as effects for any handler.
 *
 * A cookie holds the token of a session and when the session ends, as far as the browser was told. So each response knows by
 * itself whether the cookie has to be written again.
 *
 * @since 0.1.0
 */
import type * as HttpApi from "@effect/platform/HttpApi"
import * as HttpApiBuilder from "@effect/platform/HttpApiBuilder"
import * as HttpApiEndpoint from "@effect/platform/HttpApiEndpoint"
import * as HttpApiGroup from "@effect/platform/HttpApiGroup"
import * as HttpApiMiddleware from "@effect/platform/HttpApiMiddleware"
import * as HttpApiSchema from "@effect/platform/HttpApiSchema"
import * as HttpApiSecurity from "@effect/platform/HttpApiSecurity"
import * as HttpApp from "@effect/platform/HttpApp"
import * as HttpLayerRouter from "@effect/platform/HttpLayerRouter"
import type * as HttpRouter from "@effect/platform/HttpRouter"
import * as HttpServerRequest from "@effect/platform/HttpServerRequest"
import * as HttpServerRespondable from "@effect/platform/HttpServerRespondable"
import * as HttpServerResponse from "@effect/platform/HttpServerResponse"
import * as Context from "effect/Context"
import * as DateTime from "effect/DateTime"
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Either from "effect/Either"
import * as FiberRef from "effect/FiberRef"
import * as Layer from "effect/Layer"
import * as Option from "effect/Option"
import * as Redacted from "effect/Redacted"
import * as Schema from "effect/Schema"
import { createHash } from "node:crypto"
import { inputError } from "../internal/input.js"
import type { RedisError, RedisInputError } from "../RedisError.js"
import {
  type Definition,
  type DeviceInput,
  type Issued,
  type ListedSession,
  type LookupError,
  type Patch,
  Session,
  type SessionInfo,
  type Sessions,
  type Summary
} from "../Session/Session.js"
import * as ClientAddress from "./ClientAddress.js"
import { fixed, toResponse } from "./failure.js"
import * as SameOrigin from "./SameOrigin.js"

// ---------------------------------------------------------------------------------------------------------------------
// Models
// ---------------------------------------------------------------------------------------------------------------------

/**
 * @since 0.1.0
 * @category models
 */
export interface Options {
  /** The name of the cookie behind its prefix `__Host-`; `"session"` by default. Each definition needs one of its own. */
  readonly name?: string | undefined
  /**
   * `"lax"` by default. With `"strict"` whoever follows a link from another site is not logged in on the first page.
   */
  readonly sameSite?: "lax" | "strict" | undefined
  /** Which proxies are believed when a login notes its address; none by default. */
  readonly clientAddress?: ClientAddress.Options | undefined
  /** What requests of one client have in common; `userAgentFamily` by default. */
  readonly fingerprint?: ((request: HttpServerRequest.HttpServerRequest) => string | undefined) | undefined
  /**
   * For development over plain HTTP where the browser does not take secure cookies of this host: the cookie has no prefix and
   * is not `Secure`. Whoever reads the network has the session, so a warning is logged.
   */
  readonly insecure?: boolean | undefined
}

/**
 * How the sessions of a definition travel: a plain value, made once.
 *
 * @since 0.1.0
 * @category models
 */
export interface CookieSessions<in out A extends object> {
  readonly definition: Definition<A>
  /** The name of the cookie, with its prefix. */
  readonly name: string
  /** For a middleware of an API with a cookie of another name. */
  readonly security: HttpApiSecurity.ApiKey
  readonly fingerprint: (request: HttpServerRequest.HttpServerRequest) => string | undefined
  /** How the address of a login is found; or what is wrong with the options. */
  readonly address: Either.Either<ClientAddress.Resolver, RedisInputError>
  /** How the cookie is written. */
  readonly attributes: {
    readonly path: "/"
    readonly httpOnly: true
    readonly secure: boolean
    readonly sameSite: "lax" | "strict"
  }
}

/**
 * Who logs in, once the application is sure of it.
 *
 * @since 0.1.0
 * @category models
 */
export interface Login<out A> {
  readonly userId: string
  readonly data: A
  /** The application's own id of the device, see `onePerDevice`. What is longer than 512 characters is cut off. */
  readonly deviceId?: string | undefined
}

/**
 * @since 0.1.0
 * @category models
 */
export interface LoggedIn<out A> {
  readonly session: SessionInfo<A>
  /** The sessions that had to make room. */
  readonly evicted: ReadonlyArray<ListedSession<A>>
}

// ---------------------------------------------------------------------------------------------------------------------
// Errors
// ---------------------------------------------------------------------------------------------------------------------

/**
 * There is no session: 401. It does not tell why.
 *
 * @since 0.1.0
 * @category errors
 */
export class Unauthorized extends Schema.TaggedError<Unauthorized>("effect-redis-kit/http/Unauthorized")(
  "Unauthorized",
  { error: fixed("Unauthorized") },
  HttpApiSchema.annotations({ status: 401, description: "There is no session" })
) {
  /** @since 0.1.0 */
  override get message(): string {
    return "there is no session"
  }

  /** @since 0.1.0 */
  [HttpServerRespondable.symbol]() {
    return toResponse(Unauthorized, this)
  }
}

/**
 * The user has to prove again who it is: 403.
 *
 * @since 0.1.0
 * @category errors
 */
export class NotFresh extends Schema.TaggedError<NotFresh>("effect-redis-kit/http/NotFresh")(
  "NotFresh",
  { error: fixed("Forbidden") },
  HttpApiSchema.annotations({ status: 403, description: "The last authentication is too long ago" })
) {
  /** @since 0.1.0 */
  override get message(): string {
    return "the last authentication is too long ago"
  }

  /** @since 0.1.0 */
  [HttpServerRespondable.symbol]() {
    return toResponse(NotFresh, this)
  }
}

/**
 * The user has as many sessions as allowed already, and `onLimit` of the definition is `reject`: 409.
 *
 * @since 0.1.0
 * @category errors
 */
export class TooManySessions extends Schema.TaggedError<TooManySessions>("effect-redis-kit/http/TooManySessions")(
  "TooManySessions",
  { error: fixed("Conflict"), limit: Schema.Number },
  HttpApiSchema.annotations({ status: 409, description: "The user has too many sessions" })
) {
  /** @since 0.1.0 */
  override get message(): string {
    return `the user has ${this.limit} sessions already`
  }

  /** @since 0.1.0 */
  [HttpServerRespondable.symbol]() {
    return toResponse(TooManySessions, this)
  }
}

/**
 * Redis has not answered: 503.
 *
 * @since 0.1.0
 * @category errors
 */
export class SessionsUnavailable
  extends Schema.TaggedError<SessionsUnavailable>("effect-redis-kit/http/SessionsUnavailable")(
    "SessionsUnavailable",
    { error: fixed("Service Unavailable") },
    HttpApiSchema.annotations({ status: 503, description: "Sessions are not available" })
  )
{
  /** @since 0.1.0 */
  override get message(): string {
    return "sessions are not available"
  }

  /** @since 0.1.0 */
  [HttpServerRespondable.symbol]() {
    return toResponse(SessionsUnavailable, this)
  }
}

/**
 * What a middleware of an API fails with.
 *
 * @since 0.1.0
 * @category schemas
 */
export const Failure = Schema.Union(Unauthorized, NotFresh, SessionsUnavailable)

/**
 * @since 0.1.0
 * @category errors
 */
export type Failure = Unauthorized | NotFresh | SessionsUnavailable

// ---------------------------------------------------------------------------------------------------------------------
// Tags
// ---------------------------------------------------------------------------------------------------------------------

/**
 * The session of a request. Its data has no type here; make a class like this with the type of yours where you need it.
 *
 * @since 0.1.0
 * @category tags
 */
export class CurrentSession
  extends Context.Tag("effect-redis-kit/http/CurrentSession")<CurrentSession, SessionInfo<unknown>>()
{}

/**
 * The session of a request, if there is one.
 *
 * @since 0.1.0
 * @category tags
 */
export class MaybeSession extends Context.Tag("effect-redis-kit/http/MaybeSession")<
  MaybeSession,
  Option.Option<SessionInfo<unknown>>
>() {}

const security = (name: string) => HttpApiSecurity.apiKey({ in: "cookie", key: name })

const DEFAULT_NAME = "session"

const PREFIX = "__Host-"

const cookie = security(PREFIX + DEFAULT_NAME)

/**
 * A middleware of endpoints, groups and APIs that need a session. For data with a type, and for a cookie of another name, make
 * a class like this.
 *
 * @example
 * ```ts
 * import { HttpApiMiddleware } from "@effect/platform"
 * import { Context, Schema } from "effect"
 * import { Session } from "effect-redis-kit"
 * import { Sessions } from "effect-redis-kit/http"
 *
 * const Data = Schema.Struct({ theme: Schema.String })
 *
 * const Users = Sessions.cookies(Session.define({ name: "users", data: Data }), { name: "users" })
 *
 * class CurrentUser extends Context.Tag("CurrentUser")<CurrentUser, Session.SessionInfo<typeof Data.Type>>() {}
 *
 * class LoggedIn extends HttpApiMiddleware.Tag<LoggedIn>()("LoggedIn", {
 *   failure: Sessions.Failure,
 *   provides: CurrentUser,
 *   security: { cookie: Users.security }
 * }) {}
 *
 * const LoggedInLive = Sessions.layerApi(LoggedIn, Sessions.requireAuth(Users))
 * ```
 *
 * @since 0.1.0
 * @category tags
 */
export class Authenticated extends HttpApiMiddleware.Tag<Authenticated>()("effect-redis-kit/http/Authenticated", {
  failure: Failure,
  provides: CurrentSession,
  security: { cookie }
}) {}

/**
 * A middleware of endpoints, groups and APIs that need no session, and know it if there is one.
 *
 * @since 0.1.0
 * @category tags
 */
export class Attached extends HttpApiMiddleware.Tag<Attached>()("effect-redis-kit/http/Attached", {
  failure: SessionsUnavailable,
  provides: MaybeSession
}) {}

// ---------------------------------------------------------------------------------------------------------------------
// Constructors
// ---------------------------------------------------------------------------------------------------------------------

/**
 * The user agent without its numbers, which change with every release.
 *
 * @since 0.1.0
 * @category constructors
 */
export const userAgentFamily = ({ headers }: HttpServerRequest.HttpServerRequest): string | undefined =>
  headers["user-agent"]?.replace(/\d+/g, "")

/**
 * Sessions in cookies. Each cookie is bound to this host (`__Host-`), and no script, no plain connection and no form of
 * another site gets it.
 *
 * @example
 * ```ts
 * import { Schema } from "effect"
 * import { Session } from "effect-redis-kit"
 * import { ClientAddress, Sessions } from "effect-redis-kit/http"
 *
 * const Users = Sessions.cookies(
 *   Session.define({ name: "users", data: Schema.Struct({ theme: Schema.String }), maxPerUser: 5 }),
 *   { clientAddress: { trustedProxies: ClientAddress.privateNetworks } }
 * )
 * ```
 *
 * @since 0.1.0
 * @category constructors
 */
export const cookies = <A extends object>(
  definition: Definition<A>,
  options: Options = {}
): CookieSessions<A> => {
  const insecure = options.insecure === true
  const name = `${insecure ? "" : PREFIX}${options.name ?? DEFAULT_NAME}`
  return {
    definition,
    name,
    security: security(name),
    fingerprint: options.fingerprint ?? userAgentFamily,
    address: NAME.test(name)
      ? ClientAddress.make(options.clientAddress)
      : Either.left(inputError("Sessions.cookies", "name", "letters, digits, and - . _ ~", name)),
    attributes: { path: "/", httpOnly: true, secure: !insecure, sameSite: options.sameSite ?? "lax" }
  }
}

const NAME = /^[\w.~-]+$/

/** A token, and when its session ends as far as the browser was told. */
interface Presented {
  readonly token: Redacted.Redacted
  readonly told: string | undefined
}

const VALUE = /^([\w-]{22}\.[\w-]{43})(?:\.([0-9a-z]{1,11}))?$/

/** Only what a browser puts around cookies: some take other white space for a part of the name, and so do we. */
const AROUND = /^[ \t]+|[ \t]+$/g

/**
 * What a request shows: a token, nothing, or something else. Cookies of this name with different values are something else,
 * because one of them may be that of somebody else.
 */
const presentedBy = (
  { name }: CookieSessions<any>,
  { headers }: HttpServerRequest.HttpServerRequest
): Presented | "nothing" | "nonsense" => {
  const header = headers["cookie"]
  if (header === undefined || !header.includes(name)) return "nothing"
  let value: string | undefined
  for (const pair of header.split(";")) {
    const equals = pair.indexOf("=")
    if (equals === -1 || pair.slice(0, equals).replace(AROUND, "") !== name) continue
    const found = pair.slice(equals + 1).replace(AROUND, "")
    if (value !== undefined && value !== found) return "nonsense"
    value = found
  }
  if (value === undefined) return "nothing"
  const match = VALUE.exec(value)
  return match === null ? "nonsense" : { token: Redacted.make(match[1]!), told: match[2] }
}

/** What is done with a response. */
type Change = (response: HttpServerResponse.HttpServerResponse) => HttpServerResponse.HttpServerResponse

/** Every response that is sent for this request is changed, also that of a failure. What comes later wins. */
const announce = (change: Change): Effect.Effect<void> =>
  HttpApp.appendPreResponseHandler((_, response) => Effect.succeed(change(response)))

const noStore = HttpServerResponse.setHeader("cache-control", "no-store")

/** What depends on a cookie is not stored, unless the handler knows better. */
const depends: Change = (response) => response.headers["cache-control"] === undefined ? noStore(response) : response

const toldOf = ({ expiresAt }: Summary): string => DateTime.toEpochMillis(expiresAt).toString(36)

/**
 * The cookie lives as long as the session has left at its last use that was noted, by the server's clock. So it may outlive the
 * session by `touchEvery`, and never ends earlier.
 */
const sets = ({ attributes, name }: CookieSessions<any>, token: Redacted.Redacted, session: Summary): Change => {
  const life = DateTime.toEpochMillis(session.expiresAt) - DateTime.toEpochMillis(session.lastSeenAt)
  const value = `${Redacted.value(token)}.${toldOf(session)}`
  const options = { maxAge: Duration.seconds(Math.ceil(life / 1000)), ...attributes }
  return (response) => noStore(HttpServerResponse.unsafeSetCookie(response, name, value, options))
}

const clears = ({ attributes, name }: CookieSessions<any>): Change => (response) =>
  noStore(HttpServerResponse.expireCookie(response, name, attributes))

/** Of a session that has ended since the beginning of the request, nothing is written. */
const leaves = ({ name }: CookieSessions<any>): Change => HttpServerResponse.removeCookie(name)

/** A token that was replaced and is still good must not overwrite the cookie with the new one. */
const isTokenOf = (token: Redacted.Redacted, { id }: Summary): boolean =>
  createHash("sha256").update(Redacted.value(token).slice(23)).digest("base64url") === id

const unavailable = (error: RedisError): Effect.Effect<never, SessionsUnavailable> =>
  error._tag === "RedisInputError"
    ? Effect.die(error)
    : Effect.zipRight(
      Effect.logWarning("refused, because sessions are not available", error),
      Effect.fail(new SessionsUnavailable())
    )

/** A mistake in the options is one of the program, and a defect: no client can do anything about it. */
const open = <A extends object>(site: CookieSessions<A>): Effect.Effect<Sessions<A>, never, Session> =>
  Either.isLeft(site.address)
    ? Effect.die(site.address.left)
    : Effect.flatMap(Session, (service) => Effect.orDie(service.open(site.definition)))

type Needs = Session | HttpServerRequest.HttpServerRequest

/**
 * Does something with the token of the request. Where there is none, or none that is good, `otherwise` comes out.
 *
 * A cookie that is no token is removed. One of a session that has ended is left to the browser, which removes it in time:
 * this may be the answer to a request that was underway when the user logged in again, and would remove the new cookie.
 */
const withToken = <A extends object, B, E>(
  site: CookieSessions<A>,
  otherwise: Effect.Effect<B, E>,
  use: (
    sessions: Sessions<A>,
    presented: Presented,
    fingerprint: string | undefined
  ) => Effect.Effect<B, LookupError>
): Effect.Effect<B, E | SessionsUnavailable, Needs> =>
  Effect.flatMap(HttpServerRequest.HttpServerRequest, (request) => {
    const presented = presentedBy(site, request)
    if (presented === "nothing") return Effect.zipRight(announce(depends), otherwise)
    if (presented === "nonsense") return Effect.zipRight(announce(clears(site)), otherwise)
    return Effect.flatMap(open(site), (sessions) =>
      Effect.zipRight(
        announce(depends),
        Effect.catchAll(
          use(sessions, presented, site.fingerprint(request)),
          (error): Effect.Effect<B, E | SessionsUnavailable> => {
            switch (error._tag) {
              case "SessionNotFound":
                return Effect.zipRight(announce(leaves(site)), otherwise)
              // The session goes on: its owner, or another release, can still use it.
              case "SessionFingerprintMismatch":
                return otherwise
              case "SessionDecodeError":
                return Effect.zipRight(
                  Effect.logWarning("a session can't be read, and counts as none", error),
                  otherwise
                )
              default:
                return unavailable(error)
            }
          }
        )
      ))
  })

/** Where another fingerprint is refused, a token that comes with one changes nothing. */
const verify = <A extends object>(
  sessions: Sessions<A>,
  token: Redacted.Redacted,
  fingerprint: string | undefined
): Effect.Effect<void, LookupError> =>
  sessions.definition.fingerprint === "reject"
    ? Effect.catchTag(Effect.asVoid(sessions.get(token, { fingerprint })), "SessionDecodeError", () => Effect.void)
    : Effect.void

const unauthorized = Effect.suspend(() => Effect.fail(new Unauthorized()))

const isFailure = Schema.is(Failure)

/**
 * Looks for the session and goes on with it. Nothing has happened before, so it may be interrupted where the server interrupts
 * nothing.
 *
 * It may run outside of where handlers of responses are called. So what is to be done with the response is kept apart: a
 * refusal has it done already, and all other responses get it when they are sent.
 */
const guard = <I, S, E, R>(tag: Context.Tag<I, S>, find: Effect.Effect<S, E, R>) => {
  const found = Effect.locally(
    Effect.zip(Effect.either(Effect.interruptible(find)), FiberRef.get(HttpApp.currentPreResponseHandlers)),
    HttpApp.currentPreResponseHandlers,
    Option.none()
  )
  return <E2, R2>(
    app: HttpApp.Default<E2, R2>
  ): HttpApp.Default<E2 | Exclude<E, Failure>, R | Exclude<R2, I>> =>
    Effect.flatMap(found, ([session, handler]): HttpApp.Default<E2 | Exclude<E, Failure>, R | Exclude<R2, I>> => {
      if (Either.isLeft(session) && isFailure(session.left)) {
        return Effect.flatMap(
          Effect.zip(HttpServerRequest.HttpServerRequest, HttpServerRespondable.toResponse(session.left)),
          ([request, response]) =>
            Option.isNone(handler) ? Effect.succeed(response) : Effect.orDie(handler.value(request, response))
        )
      }
      const next: HttpApp.Default<E2 | Exclude<E, Failure>, Exclude<R2, I>> = Either.isLeft(session)
        ? Effect.fail(session.left as Exclude<E, Failure>)
        : Effect.provideService(app, tag, session.right) as HttpApp.Default<E2, Exclude<R2, I>>
      return Option.isNone(handler)
        ? next
        : Effect.zipRight(HttpApp.appendPreResponseHandler(handler.value), next)
    })
}

/**
 * Sessions of an app, for a part of it or for all of it. `find` is one of `attach`, `requireAuth` and `requireFresh`, or
 * something that goes on with what they give; the app gets it as the service of the tag. It can also be the middleware of
 * `HttpServer.serve`.
 *
 * @example
 * ```ts
 * import { HttpRouter, HttpServer, HttpServerResponse } from "@effect/platform"
 * import { Effect } from "effect"
 * import { Session } from "effect-redis-kit"
 * import { Sessions } from "effect-redis-kit/http"
 *
 * const Users = Sessions.cookies(Session.define({ name: "users" }))
 *
 * const server = HttpRouter.empty.pipe(
 *   HttpRouter.get("/me", Effect.map(Sessions.CurrentSession, ({ userId }) => HttpServerResponse.text(userId))),
 *   Sessions.middleware(Sessions.CurrentSession, Sessions.requireAuth(Users)),
 *   HttpServer.serve()
 * )
 * ```
 *
 * @since 0.1.0
 * @category constructors
 */
export const middleware: <I, S, E, R>(
  tag: Context.Tag<I, S>,
  find: Effect.Effect<NoInfer<S>, E, R>
) => <E2, R2>(
  app: HttpApp.Default<E2, R2>
) => HttpApp.Default<E2 | Exclude<E, Failure>, R | Exclude<R2, I>> = guard

/**
 * Sessions of some routes of an `HttpLayerRouter`: its `layer` is provided to them.
 *
 * @example
 * ```ts
 * import { HttpLayerRouter, HttpServerResponse } from "@effect/platform"
 * import { Effect, Layer } from "effect"
 * import { Session } from "effect-redis-kit"
 * import { Sessions } from "effect-redis-kit/http"
 *
 * const Users = Sessions.cookies(Session.define({ name: "users" }))
 *
 * const me = Effect.map(Sessions.CurrentSession, ({ userId }) => HttpServerResponse.text(userId))
 *
 * const routes = HttpLayerRouter.add("GET", "/me", me).pipe(
 *   Layer.provide(Sessions.routerMiddleware(Sessions.CurrentSession, Sessions.requireAuth(Users)).layer)
 * )
 * ```
 *
 * @since 0.1.0
 * @category constructors
 */
export const routerMiddleware = <I, S, E, R>(
  tag: Context.Tag<I, S>,
  find: Effect.Effect<NoInfer<S>, E, R>
): HttpLayerRouter.Middleware<{
  provides: I
  handles: never
  error: Exclude<E, Failure>
  requires: Exclude<R, HttpLayerRouter.Provided | Session>
  layerError: never
  layerRequires: Session
}> =>
  HttpLayerRouter.middleware<{ provides: any }>()(
    Effect.map(Session, (service) => guard(tag, Effect.provideService(find, Session, service)))
  ) as never

const Ended = Schema.Struct({ ended: Schema.Number })

/**
 * The endpoints that every site with logins has, as a part of an `HttpApi`: `login` with this payload, `logout`, `logoutOthers`
 * and `logoutEverywhere`. `layerGroup` answers them.
 *
 * @since 0.1.0
 * @category constructors
 */
export const group = <A, I>(payload: Schema.Schema<A, I>) =>
  HttpApiGroup.make("sessions")
    .add(HttpApiEndpoint.post("login", "/login").setPayload(payload).addError(Unauthorized).addError(TooManySessions))
    .add(HttpApiEndpoint.post("logout", "/logout"))
    .add(HttpApiEndpoint.post("logoutOthers", "/logout/others").addSuccess(Ended).addError(Unauthorized))
    .add(HttpApiEndpoint.post("logoutEverywhere", "/logout/everywhere").addSuccess(Ended).addError(Unauthorized))
    .addError(SessionsUnavailable)
    .addError(SameOrigin.CrossOriginRequest)

// ---------------------------------------------------------------------------------------------------------------------
// Layers
// ---------------------------------------------------------------------------------------------------------------------

/**
 * Sessions of an `HttpApi`, for the tag that stands at its endpoints or groups, or at the whole of it. `find` is one of
 * `attach`, `requireAuth` and `requireFresh`, or something that goes on with what they give.
 *
 * @example
 * ```ts
 * import { HttpApi, HttpApiEndpoint, HttpApiGroup } from "@effect/platform"
 * import { Schema } from "effect"
 * import { Session } from "effect-redis-kit"
 * import { Sessions } from "effect-redis-kit/http"
 *
 * const Users = Sessions.cookies(Session.define({ name: "users" }))
 *
 * const Api = HttpApi.make("api").add(
 *   HttpApiGroup.make("account")
 *     .add(HttpApiEndpoint.get("me", "/me").addSuccess(Schema.String))
 *     .middleware(Sessions.Authenticated)
 * )
 *
 * const AuthenticatedLive = Sessions.layerApi(Sessions.Authenticated, Sessions.requireAuth(Users))
 * ```
 *
 * @since 0.1.0
 * @category layers
 */
export const layerApi: {
  <I, S, E, R>(
    tag: Context.Tag<
      I,
      HttpApiMiddleware.HttpApiMiddlewareSecurity<{ readonly cookie: HttpApiSecurity.ApiKey }, S, E>
    >,
    find: Effect.Effect<NoInfer<S>, NoInfer<E>, R>
  ): Layer.Layer<I, never, Exclude<R, HttpRouter.HttpRouter.Provided>>
  <I, S, E, R>(
    tag: Context.Tag<I, HttpApiMiddleware.HttpApiMiddleware<S, E>>,
    find: Effect.Effect<NoInfer<S>, NoInfer<E>, R>
  ): Layer.Layer<I, never, Exclude<R, HttpRouter.HttpRouter.Provided>>
} = <I, S, E, R>(
  tag: Context.Tag<I, any>,
  find: Effect.Effect<S, E, R>
): Layer.Layer<I, never, Exclude<R, HttpRouter.HttpRouter.Provided>> =>
  Layer.effect(
    tag,
    Effect.map(Effect.context<Exclude<R, HttpRouter.HttpRouter.Provided>>(), (context) => {
      const found = Effect.mapInputContext(
        Effect.interruptible(find),
        (request: Context.Context<HttpRouter.HttpRouter.Provided>) =>
          Context.merge(context, request) as unknown as Context.Context<R>
      )
      // The cookie is read by ourselves, see `presentedBy`.
      return HttpApiMiddleware.SecurityTypeId in tag ? { cookie: () => found } : found
    })
  )

type PayloadOf<Groups extends HttpApiGroup.HttpApiGroup.Any> = HttpApiEndpoint.HttpApiEndpoint.Payload<
  HttpApiEndpoint.HttpApiEndpoint.WithName<
    HttpApiGroup.HttpApiGroup.EndpointsWithName<Groups, "sessions">,
    "login"
  >
>

/**
 * Answers for `group` of an API. `authenticate` says who it is, or fails with `Unauthorized`: the same for a name that there is
 * not and for a password that is wrong. Requests of other sites are refused.
 *
 * @example
 * ```ts
 * import { HttpApi } from "@effect/platform"
 * import { Effect, Schema } from "effect"
 * import { Session } from "effect-redis-kit"
 * import { Sessions } from "effect-redis-kit/http"
 *
 * const Users = Sessions.cookies(Session.define({ name: "users", maxPerUser: 5 }))
 *
 * const Api = HttpApi.make("api").add(
 *   Sessions.group(Schema.Struct({ name: Schema.String, password: Schema.String }))
 * )
 *
 * declare const check: (name: string, password: string) => Effect.Effect<string, Sessions.Unauthorized>
 *
 * const SessionsLive = Sessions.layerGroup(Api, Users, {
 *   authenticate: ({ name, password }) => Effect.map(check(name, password), (userId) => ({ userId, data: {} }))
 * })
 * ```
 *
 * @since 0.1.0
 * @category layers
 */
export const layerGroup = <
  Id extends string,
  Groups extends HttpApiGroup.HttpApiGroup.Any,
  E,
  R,
  A extends object,
  R2 = never
>(
  api: HttpApi.HttpApi<Id, Groups, E, R>,
  site: CookieSessions<A>,
  options: {
    readonly authenticate: (payload: PayloadOf<Groups>) => Effect.Effect<Login<A>, Unauthorized, R2>
    /** Other origins whose pages may use the endpoints. */
    readonly sameOrigin?: SameOrigin.Options | undefined
  }
): Layer.Layer<
  HttpApiGroup.ApiGroup<Id, "sessions">,
  never,
  Session | Exclude<R2, HttpRouter.HttpRouter.Provided>
> => {
  const checked = SameOrigin.check(options.sameOrigin)
  const ended = Effect.map((ended: number) => ({ ended }))
  return HttpApiBuilder.group(
    api as unknown as HttpApi.HttpApi<Id, ReturnType<typeof group<any, any>>>,
    "sessions",
    (handlers) =>
      handlers
        .handle("login", ({ payload }) =>
          checked.pipe(
            Effect.zipRight(options.authenticate(payload)),
            Effect.flatMap((user) => login(site, user)),
            Effect.asVoid
          ))
        .handle("logout", () => Effect.asVoid(Effect.zipRight(checked, logout(site))))
        .handle("logoutOthers", () => Effect.zipRight(checked, ended(logoutOthers(site))))
        .handle("logoutEverywhere", () => Effect.zipRight(checked, ended(logoutEverywhere(site))))
  ) as never
}

// ---------------------------------------------------------------------------------------------------------------------
// Accessors
// ---------------------------------------------------------------------------------------------------------------------

/**
 * The session of the request, if there is one. It counts as a use.
 *
 * @since 0.1.0
 * @category accessors
 */
export const attach = <A extends object>(
  site: CookieSessions<A>
): Effect.Effect<Option.Option<SessionInfo<A>>, SessionsUnavailable, Needs> =>
  withToken(
    site,
    Effect.succeedNone,
    (sessions, { told, token }, fingerprint) =>
      Effect.flatMap(sessions.getAndTouch(token, { fingerprint }), (session) =>
        Effect.as(
          toldOf(session) === told || !isTokenOf(token, session) ? Effect.void : announce(sets(site, token, session)),
          Option.some(session)
        ))
  )

/**
 * The session of the request, which counts as a use. Without one it is answered with 401, and a cookie that is no token is
 * removed.
 *
 * @since 0.1.0
 * @category accessors
 */
export const requireAuth = <A extends object>(
  site: CookieSessions<A>
): Effect.Effect<SessionInfo<A>, Unauthorized | SessionsUnavailable, Needs> =>
  Effect.flatMap(attach(site), Option.match({ onNone: () => unauthorized, onSome: Effect.succeed }))

/**
 * As `requireAuth`, and 403 when the last authentication is too long ago, see `freshFor`.
 *
 * @since 0.1.0
 * @category accessors
 */
export const requireFresh = <A extends object>(
  site: CookieSessions<A>
): Effect.Effect<SessionInfo<A>, Failure, Needs> =>
  Effect.filterOrFail(requireAuth(site), ({ fresh }) => fresh, () => new NotFresh())

/**
 * The token that the request shows, without asking whether it is good.
 *
 * @since 0.1.0
 * @category accessors
 */
export const token = (
  site: CookieSessions<any>
): Effect.Effect<Option.Option<Redacted.Redacted>, never, HttpServerRequest.HttpServerRequest> =>
  Effect.map(HttpServerRequest.HttpServerRequest, (request) => {
    const presented = presentedBy(site, request)
    return typeof presented === "string" ? Option.none() : Option.some(presented.token)
  })

/** The response gets a cookie with a token that nobody has yet. */
const hand = (site: CookieSessions<any>, { session, token }: Issued<unknown>): Effect.Effect<void> =>
  Effect.zipRight(
    announce(sets(site, token, session)),
    site.attributes.secure
      ? Effect.void
      : Effect.logWarning(`the cookie "${site.name}" is not secure, which is for development alone`)
  )

const LONGEST_DEVICE = 512

const deviceOf = (
  { address }: CookieSessions<any>,
  { headers, remoteAddress }: HttpServerRequest.HttpServerRequest,
  deviceId: string | undefined
): DeviceInput => ({
  deviceId: deviceId?.slice(0, LONGEST_DEVICE),
  userAgent: headers["user-agent"],
  ip: Option.getOrUndefined(Option.flatMap(Either.getRight(address), (resolve) => resolve(headers, remoteAddress)))
})

/**
 * Logs a user in: whoever this is was authenticated by the application. The session is a new one with a new token, and the one
 * that the request came with has ended, whosever it was.
 *
 * @example
 * ```ts
 * import { HttpServerRequest, HttpServerResponse } from "@effect/platform"
 * import { Effect, Schema } from "effect"
 * import { Session } from "effect-redis-kit"
 * import { Sessions } from "effect-redis-kit/http"
 *
 * const Users = Sessions.cookies(Session.define({ name: "users", data: Schema.Struct({ theme: Schema.String }) }))
 *
 * declare const authenticate: (name: string, password: string) => Effect.Effect<string, Sessions.Unauthorized>
 *
 * const Form = Schema.Struct({ name: Schema.String, password: Schema.String })
 *
 * const login = Effect.gen(function*() {
 *   const { name, password } = yield* HttpServerRequest.schemaBodyUrlParams(Form)
 *   const userId = yield* authenticate(name, password)
 *   yield* Sessions.login(Users, { userId, data: { theme: "light" } })
 *   return HttpServerResponse.empty()
 * })
 * ```
 *
 * @since 0.1.0
 * @category accessors
 */
export const login = <A extends object>(
  site: CookieSessions<A>,
  { data, deviceId, userId }: Login<A>
): Effect.Effect<LoggedIn<A>, TooManySessions | SessionsUnavailable, Needs> =>
  Effect.gen(function*() {
    const request = yield* HttpServerRequest.HttpServerRequest
    const sessions = yield* open(site)
    const fingerprint = site.fingerprint(request)
    const presented = presentedBy(site, request)
    // First, so that it does not count for the limit.
    if (typeof presented !== "string") {
      yield* Effect.zipRight(verify(sessions, presented.token, fingerprint), sessions.delete(presented.token)).pipe(
        Effect.catchTags({
          SessionNotFound: () => Effect.void,
          SessionFingerprintMismatch: () => Effect.void,
          SessionDecodeError: () => Effect.void
        }),
        Effect.catchAll(unavailable)
      )
    }
    const device = deviceOf(site, request, deviceId)
    return yield* Effect.uninterruptibleMask((restore) =>
      Effect.flatMap(
        restore(sessions.create({ userId, data, device, fingerprint })),
        (created) => Effect.as(hand(site, created), { session: created.session, evicted: created.evicted })
      )
    ).pipe(
      Effect.catchAll((error): Effect.Effect<never, TooManySessions | SessionsUnavailable> =>
        error._tag === "SessionLimitReached"
          ? Effect.fail(new TooManySessions({ limit: error.limit }))
          : unavailable(error)
      )
    )
  })

/**
 * Ends the session of the request, and removes the cookie. Returns whether there was one.
 *
 * @since 0.1.0
 * @category accessors
 */
export const logout = <A extends object>(site: CookieSessions<A>): Effect.Effect<boolean, SessionsUnavailable, Needs> =>
  Effect.zipLeft(
    withToken(
      site,
      Effect.succeed(false),
      (sessions, { token }, fingerprint) =>
        Effect.zipRight(verify(sessions, token, fingerprint), sessions.delete(token))
    ),
    announce(clears(site))
  )

/**
 * Ends all sessions of the user, and removes the cookie. Returns how many there were.
 *
 * @since 0.1.0
 * @category accessors
 */
export const logoutEverywhere = <A extends object>(
  site: CookieSessions<A>
): Effect.Effect<number, Unauthorized | SessionsUnavailable, Needs> =>
  Effect.zipLeft(
    withToken(site, unauthorized, (sessions, { token }, fingerprint) =>
      Effect.flatMap(sessions.get(token, { fingerprint }), ({ userId }) =>
        sessions.deleteForUser(userId))),
    announce(clears(site))
  )

/**
 * Ends all other sessions of the user, as after a new password. Returns how many there were.
 *
 * @since 0.1.0
 * @category accessors
 */
export const logoutOthers = <A extends object>(
  site: CookieSessions<A>
): Effect.Effect<number, Unauthorized | SessionsUnavailable, Needs> =>
  withToken(
    site,
    unauthorized,
    (sessions, { token }, fingerprint) =>
      Effect.zipRight(verify(sessions, token, fingerprint), sessions.deleteOthers(token))
  )

/**
 * Replaces some fields of the data of the request's session. A session that has ended meanwhile stays ended.
 *
 * @since 0.1.0
 * @category accessors
 */
export const update = <A extends object>(
  site: CookieSessions<A>,
  data: Patch<A>
): Effect.Effect<SessionInfo<A>, Unauthorized | SessionsUnavailable, Needs> =>
  withToken(
    site,
    unauthorized,
    (sessions, { token }, fingerprint) =>
      Effect.zipRight(verify(sessions, token, fingerprint), sessions.update(token, data))
  )

const rotation = <A extends object>(
  site: CookieSessions<A>,
  rotate: (sessions: Sessions<A>, token: Redacted.Redacted) => Effect.Effect<Issued<A>, LookupError>
): Effect.Effect<SessionInfo<A>, Unauthorized | SessionsUnavailable, Needs> =>
  withToken(site, unauthorized, (sessions, { token }, fingerprint) =>
    Effect.zipRight(
      verify(sessions, token, fingerprint),
      Effect.uninterruptibleMask((restore) =>
        Effect.flatMap(restore(rotate(sessions, token)), (issued) => Effect.as(hand(site, issued), issued.session))
      )
    ))

/**
 * Gives the request's session another token, in a new cookie, as after every change of what the user may do.
 *
 * @since 0.1.0
 * @category accessors
 */
export const rotate = <A extends object>(
  site: CookieSessions<A>
): Effect.Effect<SessionInfo<A>, Unauthorized | SessionsUnavailable, Needs> =>
  rotation(site, (sessions, token) => sessions.rotate(token))

/**
 * As `rotate`, when the user has proved again who it is: the session is fresh afterwards.
 *
 * @since 0.1.0
 * @category accessors
 */
export const reauthenticate = <A extends object>(
  site: CookieSessions<A>
): Effect.Effect<SessionInfo<A>, Unauthorized | SessionsUnavailable, Needs> =>
  rotation(site, (sessions, token) => sessions.reauthenticate(token))
