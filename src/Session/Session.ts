/**
 * Sessions over Redis: logins that end by themselves, are listed for each user, and can be ended from anywhere.
 *
 * Whoever shows a token has the session. Redis only knows a digest of it.
 *
 * @since 0.1.0
 */
import * as Cause from "effect/Cause"
import * as Context from "effect/Context"
import type * as Data from "effect/Data"
import * as DateTime from "effect/DateTime"
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Either from "effect/Either"
import * as Exit from "effect/Exit"
import { identity } from "effect/Function"
import * as Layer from "effect/Layer"
import type * as Metric from "effect/Metric"
import * as Option from "effect/Option"
import * as ParseResult from "effect/ParseResult"
import * as Redacted from "effect/Redacted"
import * as Schema from "effect/Schema"
import * as AST from "effect/SchemaAST"
import * as Stream from "effect/Stream"
import { hash, randomFillSync } from "node:crypto"
import { checkKey, inputError, nonNegativeMillis, positiveMillis } from "../internal/input.js"
import { exceptPlain } from "../internal/plainValues.js"
import { withSpan } from "../internal/telemetry.js"
import { type Gap, RedisClient, type Service as Client } from "../RedisClient.js"
import { isRedisError, type RedisError, RedisInputError } from "../RedisError.js"
import * as RedisScript from "../RedisScript.js"
import { layer as testServer, type RedisTestServer } from "../RedisTestServer.js"
import * as metrics from "./metrics.js"
import * as scripts from "./scripts.js"

// ---------------------------------------------------------------------------------------------------------------------
// Models
// ---------------------------------------------------------------------------------------------------------------------

/**
 * How sessions behave.
 *
 * @since 0.1.0
 * @category models
 */
export interface Options {
  /** A part of their keys. Tokens of one name are worth nothing under another. */
  readonly name: string
  /** How long a session lives after its last use; 7 days by default. */
  readonly idleTimeout?: Duration.DurationInput | undefined
  /** How long it lives at most, however much it is used; 30 days by default. */
  readonly absoluteTimeout?: Duration.DurationInput | undefined
  /**
   * A use is noted only when the last one that was noted is this long ago, so that reads stay reads. By default a tenth of
   * `idleTimeout`, and an hour at most. It is shorter than `idleTimeout`.
   */
  readonly touchEvery?: Duration.DurationInput | undefined
  /** How many sessions a user can have; any number by default. */
  readonly maxPerUser?: number | undefined
  /**
   * What happens to a login when the user has that many: `evict-oldest` (the default) ends the session that was not used
   * for longest, `reject` fails with `SessionLimitReached`.
   */
  readonly onLimit?: "evict-oldest" | "reject" | undefined
  /** A login ends other sessions of the user with the same device id. Without a device id it ends none. */
  readonly onePerDevice?: boolean | undefined
  /**
   * What it means when a request has another fingerprint than the login had: `signal` (the default) tells it, `reject`
   * fails with `SessionFingerprintMismatch`. The session goes on in both cases.
   */
  readonly fingerprint?: "signal" | "reject" | undefined
  /** How long a token still reads its session after `rotate`, for requests that are underway; not at all by default. */
  readonly rotateGrace?: Duration.DurationInput | undefined
  /** How long after an authentication a session counts as fresh; 15 minutes by default. */
  readonly freshFor?: Duration.DurationInput | undefined
  /** Keeps an index of when sessions end, so that `sweep` can report those that nobody asks for any more. */
  readonly watchExpiry?: boolean | undefined
}

/**
 * A kind of sessions, with the data that each one carries.
 *
 * @since 0.1.0
 * @category models
 */
export interface Definition<out A extends object> extends Options {
  readonly codec: Codec<A>
}

/**
 * How the data of sessions becomes text, a line for each field.
 *
 * @since 0.1.0
 * @category models
 */
export interface Codec<out A extends object> {
  readonly encode: (data: unknown) => Either.Either<ReadonlyArray<string>, string>
  /** The fields that are given. One that is `undefined` is removed. */
  readonly encodePart: (data: object) => Either.Either<ReadonlyArray<scripts.Field>, string>
  readonly decode: (json: string) => Either.Either<A, string>
}

/**
 * What is known about the device of a login. Empty texts count as not given.
 *
 * @since 0.1.0
 * @category models
 */
export interface DeviceInput {
  /** The application's own id of the device. It comes from the client, so it proves nothing. */
  readonly deviceId?: string | undefined
  /** What is longer than 256 characters is cut off. */
  readonly userAgent?: string | undefined
  readonly ip?: string | undefined
}

/**
 * @since 0.1.0
 * @category models
 */
export interface Device {
  readonly deviceId: Option.Option<string>
  readonly userAgent: Option.Option<string>
  readonly ip: Option.Option<string>
}

/**
 * A session without its data.
 *
 * @since 0.1.0
 * @category models
 */
export interface Summary {
  /** Names the session, for example in a list of devices. It is no token: nobody can log in with it. */
  readonly id: string
  readonly userId: string
  readonly device: Device
  readonly createdAt: DateTime.Utc
  /** The last use that was noted, see `touchEvery`. */
  readonly lastSeenAt: DateTime.Utc
  /** The last time that the user has proved who it is: at login, or with `reauthenticate`. */
  readonly authenticatedAt: DateTime.Utc
  /** When it ends unless it is used. */
  readonly expiresAt: DateTime.Utc
  /** Whether the last authentication is not older than `freshFor`. Using the session does not make it fresh. */
  readonly fresh: boolean
}

/**
 * @since 0.1.0
 * @category models
 */
export interface SessionInfo<out A> extends Summary {
  readonly data: A
  /** `unchecked` when the login or this request came without a fingerprint. */
  readonly fingerprint: "match" | "changed" | "unchecked"
}

/**
 * A session in a list. Data that can't be decoded does not hide it.
 *
 * @since 0.1.0
 * @category models
 */
export interface ListedSession<out A> extends Summary {
  readonly data: Either.Either<A, SessionDecodeError>
}

/**
 * A session with the token that it can be used with from now on. The token is not stored anywhere else.
 *
 * @since 0.1.0
 * @category models
 */
export interface Issued<out A> {
  readonly token: Redacted.Redacted
  readonly session: SessionInfo<A>
}

/**
 * @since 0.1.0
 * @category models
 */
export interface Created<out A> extends Issued<A> {
  /** The sessions that had to make room. */
  readonly evicted: ReadonlyArray<ListedSession<A>>
}

/**
 * @since 0.1.0
 * @category models
 */
export interface CreateOptions<in out A> {
  readonly userId: string
  readonly data: A
  readonly device?: DeviceInput | undefined
  /** What a later request of the same client should have too. Only a digest of it is kept. */
  readonly fingerprint?: string | undefined
}

/**
 * @since 0.1.0
 * @category models
 */
export interface GetOptions {
  /** The fingerprint of this request. */
  readonly fingerprint?: string | undefined
}

/**
 * Some fields of the data. A field that is `undefined` is removed, which is possible when it is optional.
 *
 * @since 0.1.0
 * @category models
 */
export type Patch<A> = { readonly [K in keyof A]?: A[K] | undefined }

/**
 * Something that happened to a session. It carries no token.
 *
 * - `Evicted`: a login needed its room (`limit`), or came from the same device (`device`)
 * - `Expired`: it was found to be over. When nobody looks, nobody finds it: see `watchExpiry`
 * - `Rotated`: it has another id now
 *
 * @since 0.1.0
 * @category models
 */
export type SessionEvent = Data.TaggedEnum<{
  Created: EventFields
  Evicted: EventFields & { readonly reason: "limit" | "device" }
  Expired: EventFields
  Rotated: EventFields & { readonly previousId: string }
  Deleted: EventFields
}>

/**
 * @since 0.1.0
 * @category models
 */
export interface EventFields {
  readonly id: string
  readonly userId: string
  /** By the server's clock. */
  readonly at: DateTime.Utc
}

/**
 * The sessions of one definition. Each operation is one round trip.
 *
 * A token that is unknown, ended, replaced or no token at all fails with the same `SessionNotFound`.
 *
 * @since 0.1.0
 * @category models
 */
export interface Sessions<in out A extends object> {
  readonly definition: Definition<A>
  /**
   * Starts a session, and ends others when the user has too many. Interrupting it, or an outcome that stays unknown,
   * takes the new session back as far as the server can be reached.
   */
  readonly create: (options: CreateOptions<A>) => Effect.Effect<Created<A>, SessionLimitReached | RedisError>
  /** Reads a session, and does not count as a use. */
  readonly get: (token: Redacted.Redacted, options?: GetOptions) => Effect.Effect<SessionInfo<A>, LookupError>
  /** Notes a use, at most once in `touchEvery`. Returns when the session ends now. */
  readonly touch: (
    token: Redacted.Redacted,
    options?: GetOptions
  ) => Effect.Effect<DateTime.Utc, LookupError>
  /** Reads a session and notes the use, for every request. */
  readonly getAndTouch: (token: Redacted.Redacted, options?: GetOptions) => Effect.Effect<SessionInfo<A>, LookupError>
  /** Whether `get` would give a session. */
  readonly isValid: (token: Redacted.Redacted, options?: GetOptions) => Effect.Effect<boolean, RedisError>
  /**
   * Replaces some fields of the data. Updates of different fields at the same time both survive. Nothing is stored when
   * the session has ended meanwhile.
   */
  readonly update: (
    token: Redacted.Redacted,
    data: Patch<A>
  ) => Effect.Effect<SessionInfo<A>, SessionNotFound | SessionDecodeError | RedisError>
  /**
   * Gives the session another token and id, as after every change of what the user may do. Of several at the same time one
   * succeeds, and the others fail with `SessionNotFound`.
   */
  readonly rotate: (
    token: Redacted.Redacted
  ) => Effect.Effect<Issued<A>, SessionNotFound | SessionDecodeError | RedisError>
  /** As `rotate`, when the user has proved again who it is: the session is fresh afterwards. */
  readonly reauthenticate: (
    token: Redacted.Redacted
  ) => Effect.Effect<Issued<A>, SessionNotFound | SessionDecodeError | RedisError>
  /** Ends a session. Returns whether there was one. */
  readonly delete: (token: Redacted.Redacted) => Effect.Effect<boolean, RedisError>
  /** Ends a session of a user by its id, as from a list of devices. */
  readonly deleteById: (userId: string, id: string) => Effect.Effect<boolean, RedisError>
  /** The sessions of a user, the last used first. */
  readonly listForUser: (userId: string) => Effect.Effect<ReadonlyArray<ListedSession<A>>, RedisError>
  /** How many sessions a user has. */
  readonly count: (userId: string) => Effect.Effect<number, RedisError>
  /** Ends all sessions of a user. Returns how many there were. */
  readonly deleteForUser: (userId: string) => Effect.Effect<number, RedisError>
  /** Ends all other sessions of the user. Returns how many there were. */
  readonly deleteOthers: (token: Redacted.Redacted) => Effect.Effect<number, SessionNotFound | RedisError>
  /**
   * What happens to the sessions of all users from now on, in every process; with a `Gap` where something may be missing.
   */
  readonly events: Stream.Stream<SessionEvent | Gap, RedisError>
  /**
   * Removes all sessions that are over, and reports them. Returns how many. It needs `watchExpiry`; several at the same
   * time share the work.
   */
  readonly sweep: Effect.Effect<number, RedisError>
}

/**
 * What can be wrong with a token that somebody shows.
 *
 * @since 0.1.0
 * @category errors
 */
export type LookupError = SessionNotFound | SessionFingerprintMismatch | SessionDecodeError | RedisError

/**
 * @since 0.1.0
 * @category models
 */
export interface Service {
  /** The sessions of a definition. It sends nothing, and fails when an option makes no sense. */
  readonly open: <A extends object>(definition: Definition<A>) => Effect.Effect<Sessions<A>, RedisInputError>
}

/**
 * @since 0.1.0
 * @category tags
 */
export class Session extends Context.Tag("effect-redis-kit/Session")<Session, Service>() {}

// ---------------------------------------------------------------------------------------------------------------------
// Errors
// ---------------------------------------------------------------------------------------------------------------------

/**
 * There is no such session (any more). It does not tell why: whoever guesses learns nothing.
 *
 * @since 0.1.0
 * @category errors
 */
export class SessionNotFound extends Schema.TaggedError<SessionNotFound>("effect-redis-kit/Session/SessionNotFound")(
  "SessionNotFound",
  {
    /** Its name. */
    definition: Schema.String
  }
) {
  /** @since 0.1.0 */
  override get message(): string {
    return `there is no such session of "${this.definition}"`
  }
}

/**
 * The user has as many sessions as allowed already, and `onLimit` is `reject`.
 *
 * @since 0.1.0
 * @category errors
 */
export class SessionLimitReached extends Schema.TaggedError<SessionLimitReached>(
  "effect-redis-kit/Session/SessionLimitReached"
)("SessionLimitReached", {
  definition: Schema.String,
  limit: Schema.Number,
  /** How many there are. */
  live: Schema.Number
}) {
  /** @since 0.1.0 */
  override get message(): string {
    return `the user has ${this.live} sessions of "${this.definition}" already, and ${this.limit} are allowed`
  }
}

/**
 * The request has another fingerprint than the login had, and the definition says `reject`. The session goes on.
 *
 * @since 0.1.0
 * @category errors
 */
export class SessionFingerprintMismatch extends Schema.TaggedError<SessionFingerprintMismatch>(
  "effect-redis-kit/Session/SessionFingerprintMismatch"
)("SessionFingerprintMismatch", {
  definition: Schema.String,
  id: Schema.String,
  userId: Schema.String
}) {
  /** @since 0.1.0 */
  override get message(): string {
    return `a session of "${this.definition}" was used with another fingerprint`
  }
}

/**
 * The session is there, and its data does not fit the schema: it was written by another release of the program, or by
 * somebody else. It stays as it is, and can be updated or deleted. `detail` says where, and never contains data.
 *
 * @since 0.1.0
 * @category errors
 */
export class SessionDecodeError extends Schema.TaggedError<SessionDecodeError>(
  "effect-redis-kit/Session/SessionDecodeError"
)("SessionDecodeError", {
  definition: Schema.String,
  id: Schema.String,
  detail: Schema.String
}) {
  /** @since 0.1.0 */
  override get message(): string {
    return `a session of "${this.definition}" can't be read: ${this.detail}`
  }
}

/**
 * The last authentication is too long ago for what is asked for.
 *
 * @since 0.1.0
 * @category errors
 */
export class SessionNotFresh extends Schema.TaggedError<SessionNotFresh>("effect-redis-kit/Session/SessionNotFresh")(
  "SessionNotFresh",
  { authenticatedAt: Schema.DateTimeUtcFromSelf }
) {
  /** @since 0.1.0 */
  override get message(): string {
    return "the user has to prove again who it is"
  }
}

// ---------------------------------------------------------------------------------------------------------------------
// Constructors
// ---------------------------------------------------------------------------------------------------------------------

/**
 * A schema of objects that knows its fields: `Schema.Struct`, or a `Schema.Class`.
 *
 * @since 0.1.0
 * @category models
 */
export interface DataSchema<A extends object, I extends object> extends Schema.Schema<A, I> {
  readonly fields: Schema.Struct.Fields
}

/** What is wrong, without what was there. */
const whereOf = (error: ParseResult.ParseError): string => {
  const paths = ParseResult.ArrayFormatter.formatErrorSync(error).map(({ path }) => path.map(String).join("."))
  return paths.filter((path) => path !== "").join(", ")
}

const lineOf = (name: string, value: unknown): string => `${JSON.stringify(name)}:${JSON.stringify(value)}`

/** What is no JSON becomes `undefined`, which no schema of objects takes. */
const parseJson = (json: string): unknown => {
  try {
    return JSON.parse(json)
  } catch {
    return undefined
  }
}

/** Runs what may meet values that JSON does not have. */
const jsonSafe = <A>(make: () => A, where: string): Either.Either<A, string> =>
  Either.try({ try: make, catch: () => where })

const codecOf = <A extends object, I extends object>(schema: DataSchema<A, I>): Codec<A> => {
  const encode = exceptPlain(schema, Schema.encodeUnknownEither(schema))
  const decode = exceptPlain(schema, Schema.decodeUnknownEither(schema))
  const fields = new Map(
    Object.entries(schema.fields).map(([key, field]) => {
      const single: Schema.Schema<any, any> = Schema.make(Schema.Struct({ [key]: field }).ast)
      const names = AST.getPropertySignatures(AST.encodedAST(single.ast)).map(({ name }) => String(name))
      return [key, { names, encode: Schema.encodeUnknownEither(single) }]
    })
  )
  return {
    encode: (data) =>
      Either.flatMap(
        Either.mapLeft(encode(data), whereOf),
        (encoded) =>
          jsonSafe(
            () => {
              const lines: Array<string> = []
              for (const [name, value] of Object.entries(encoded)) {
                const text: string | undefined = JSON.stringify(value)
                if (text !== undefined) lines.push(`${JSON.stringify(name)}:${text}`)
              }
              return lines
            },
            ""
          )
      ),
    encodePart: (data) => {
      const lines: Array<scripts.Field> = []
      for (const [key, value] of Object.entries(data)) {
        const field = fields.get(key)
        if (field === undefined) return Either.left(key)
        const encoded = field.encode(value === undefined ? {} : { [key]: value })
        if (Either.isLeft(encoded)) return Either.left(whereOf(encoded.left))
        const part = jsonSafe(
          () =>
            field.names.map((name): scripts.Field => [
              JSON.stringify(name),
              encoded.right[name] === undefined ? "" : lineOf(name, encoded.right[name])
            ]),
          key
        )
        if (Either.isLeft(part)) return Either.left(part.left)
        lines.push(...part.right)
      }
      return Either.right(lines)
    },
    decode: (json) =>
      Either.mapLeft(decode(parseJson(json)), (error) => `its data does not fit the schema (${whereOf(error)})`)
  }
}

const noData = codecOf(Schema.Struct({}))

/**
 * Describes sessions. The fields of `data` are stored one by one, so a new release may add optional ones.
 *
 * @example
 * ```ts
 * import { Schema } from "effect"
 * import { Session } from "effect-redis-kit"
 *
 * const Users = Session.define({
 *   name: "users",
 *   data: Schema.Struct({ theme: Schema.Literal("light", "dark"), cart: Schema.Array(Schema.String) }),
 *   idleTimeout: "7 days",
 *   absoluteTimeout: "30 days",
 *   maxPerUser: 5
 * })
 * ```
 *
 * @since 0.1.0
 * @category constructors
 */
export const define: {
  <A extends object, I extends object>(options: Options & { readonly data: DataSchema<A, I> }): Definition<A>
  (options: Options): Definition<{}>
} = <A extends object, I extends object>(
  { data, ...options }: Options & { readonly data?: DataSchema<A, I> }
): Definition<any> => ({ ...options, codec: data === undefined ? noData : codecOf(data) })

const TOKEN = /^([\w-]{2})([\w-]{20})\.([\w-]{43})$/

const RESERVED = /[%{}]/

const LONE_SURROGATE = /\p{Surrogate}/u

/** How often a name or a text may be repeated in Redis is bounded by how long it may be. */
const LONGEST = 512
const LONGEST_USER_AGENT = 256

/** The characters of the hash tags, of which there are 4096. */
const ALPHABET = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_"

const sha256 = (text: string): string => hash("sha256", text, "base64url")

/** Asking for many random bytes at once costs a tenth. They leave memory when they are used. */
const random = Buffer.alloc(64 * 32)
let randomUsed = random.length

const newSecret = (): string => {
  if (randomUsed === random.length) {
    randomFillSync(random)
    randomUsed = 0
  }
  const end = randomUsed + 32
  const secret = random.toString("base64url", randomUsed, end)
  random.fill(0, randomUsed, end)
  randomUsed = end
  return secret
}

/** Where the sessions of a user are, and the id of one. */
interface Place {
  readonly keys: scripts.Keys
  readonly id: string
}

/** How long the server is waited for to take back what nobody will know of. */
const UNDO = Duration.millis(500)

const openWith = <A extends object>(
  client: Client,
  definition: Definition<A>
): Either.Either<Sessions<A>, RedisInputError> =>
  Either.gen(function*() {
    const operation = "Session.open"
    const { codec, maxPerUser, name } = definition
    const badName = checkKey(operation, name, "name")
    if (badName !== undefined) return yield* Either.left(badName)
    if (name.length > LONGEST) {
      return yield* Either.left(inputError(operation, "name", `at most ${LONGEST} characters`, name.length))
    }
    const idle = yield* positiveMillis(operation, "idleTimeout", definition.idleTimeout ?? "7 days")
    const absolute = yield* positiveMillis(operation, "absoluteTimeout", definition.absoluteTimeout ?? "30 days")
    const touchEvery = yield* nonNegativeMillis(
      operation,
      "touchEvery",
      definition.touchEvery ?? Math.min(3_600_000, Math.floor(idle / 10))
    )
    if (touchEvery >= idle) {
      return yield* Either.left(
        inputError(operation, "touchEvery", "shorter than idleTimeout", Duration.millis(touchEvery))
      )
    }
    if (maxPerUser !== undefined && !(Number.isSafeInteger(maxPerUser) && maxPerUser > 0)) {
      return yield* Either.left(inputError(operation, "maxPerUser", "a whole number greater than zero", maxPerUser))
    }
    const grace = yield* nonNegativeMillis(operation, "rotateGrace", definition.rotateGrace ?? 0)
    const freshFor = yield* positiveMillis(operation, "freshFor", definition.freshFor ?? "15 minutes")
    const rejects = definition.fingerprint === "reject"
    const watched = definition.watchExpiry === true

    const prefix = `session:${RESERVED.test(name) ? name.replace(/[%{}]/g, encodeURIComponent) : name}`
    const channel = `${prefix}:events`
    const settings: scripts.Settings = {
      channel: client.key(channel),
      idle: String(idle),
      absolute: String(absolute),
      touchEvery: String(touchEvery),
      terms: `${idle} ${absolute} ${client.key(channel)}`
    }
    const notFound = Effect.suspend(() => {
      count(metrics.notFound)
      return Effect.fail(new SessionNotFound({ definition: name }))
    })
    const attributes = () => ({ "effect_redis.session.name": name })
    const span = <B, E>(operation: string, effect: Effect.Effect<B, E>) =>
      withSpan(effect, `session.${operation}`, attributes)

    // -----------------------------------------------------------------------------------------------------------------
    // Where things are
    // -----------------------------------------------------------------------------------------------------------------

    const indexOf = (tag: string) => `${prefix}:{${tag}}:expiry`
    const keysOf = (tag: string, rest: string): scripts.Keys =>
      watched ? [`${prefix}:{${tag}}:${rest}`, indexOf(tag)] : [`${prefix}:{${tag}}:${rest}`]
    const digestOf = (userId: string) => sha256(`${name}\0${userId}`).slice(0, 22)
    const keysOfDigest = (digest: string) => keysOf(digest.slice(0, 2), digest.slice(2))
    const printOf = (fingerprint: string | undefined) =>
      fingerprint === undefined || fingerprint === "" ? "" : sha256(`${name}\0${fingerprint}`).slice(0, 16)

    /** Any text is looked at in the same way, and what is no token is not sent. */
    const placeOf = (token: Redacted.Redacted): Place | undefined => {
      const match = TOKEN.exec(Redacted.value(token))
      return match === null ? undefined : { keys: keysOf(match[1]!, match[2]!), id: sha256(match[3]!) }
    }

    const issue = (digest: string) => {
      const secret = newSecret()
      return { token: Redacted.make(`${digest}.${secret}`), id: sha256(secret) }
    }

    const badUser = (operation: string, userId: string): RedisInputError | undefined =>
      checkKey(operation, userId, "userId") ?? tooLong(operation, "userId", userId) ??
        // Their digests would be the same.
        (LONE_SURROGATE.test(userId) ? inputError(operation, "userId", "well-formed text", {}) : undefined)

    // -----------------------------------------------------------------------------------------------------------------
    // Records
    // -----------------------------------------------------------------------------------------------------------------

    interface Parsed {
      readonly summary: Summary
      readonly print: string
      /** The data as JSON. */
      readonly json: string
    }

    const summaryOf = (
      id: string,
      userId: string,
      device: Device,
      header: string,
      now: number
    ): Summary => {
      const created = header.slice(14, 27)
      const seen = header.slice(27, 40)
      const authenticated = header.slice(40, 53)
      const createdAt = timeOf(created)
      return {
        id,
        userId,
        device,
        createdAt,
        lastSeenAt: seen === created ? createdAt : timeOf(seen),
        authenticatedAt: authenticated === created ? createdAt : timeOf(authenticated),
        expiresAt: timeOf(header.slice(1, 14)),
        fresh: now - Number(authenticated) < freshFor
      }
    }

    const unreadable = (id: string, detail: string) => new SessionDecodeError({ definition: name, id, detail })

    const parse = (id: string, record: string, now: number): Either.Either<Parsed, SessionDecodeError> => {
      const lines = RECORD.exec(record)
      if (lines === null) return Either.left(unreadable(id, OTHER_FORM))
      const userId = textOf(lines[1]!)
      const deviceId = givenOf(lines[2]!)
      const userAgent = givenOf(lines[4]!)
      const ip = givenOf(lines[5]!)
      if (userId === undefined || deviceId === undefined || userAgent === undefined || ip === undefined) {
        return Either.left(unreadable(id, OTHER_FORM))
      }
      return Either.right({
        summary: summaryOf(id, userId, { deviceId, userAgent, ip }, record, now),
        print: lines[3]!,
        json: `{${record.slice(lines[0].length)}}`
      })
    }

    const dataOf = ({ json, summary: { id } }: Parsed): Either.Either<A, SessionDecodeError> =>
      Either.mapLeft(codec.decode(json), (detail) => unreadable(id, detail))

    const compare = (stored: string, given: string): SessionInfo<A>["fingerprint"] =>
      stored === "" || given === "" ? "unchecked" : stored === given ? "match" : "changed"

    const refuse = ({ id, userId }: Summary) => {
      count(metrics.mismatched)
      return new SessionFingerprintMismatch({ definition: name, id, userId })
    }

    const infoOf = (
      asked: string,
      { id = asked, now, record }: scripts.Found,
      print = ""
    ): Either.Either<SessionInfo<A>, SessionDecodeError | SessionFingerprintMismatch> => {
      const parsed = parse(id, record, now)
      if (Either.isLeft(parsed)) return Either.left(parsed.left)
      const { summary } = parsed.right
      const fingerprint = compare(parsed.right.print, print)
      if (rejects && fingerprint === "changed") return Either.left(refuse(summary))
      const data = dataOf(parsed.right)
      return Either.isLeft(data) ? Either.left(data.left) : Either.right(whole(summary, data.right, fingerprint))
    }

    /** Field by field, because `...` costs ten times as much. */
    const whole = (summary: Summary, data: A, fingerprint: SessionInfo<A>["fingerprint"]): SessionInfo<A> => ({
      id: summary.id,
      userId: summary.userId,
      device: summary.device,
      createdAt: summary.createdAt,
      lastSeenAt: summary.lastSeenAt,
      authenticatedAt: summary.authenticatedAt,
      expiresAt: summary.expiresAt,
      fresh: summary.fresh,
      data,
      fingerprint
    })

    const listed = (entries: ReadonlyArray<scripts.Entry>, now: number): ReadonlyArray<ListedSession<A>> =>
      entries.flatMap(([id, record]) => {
        const parsed = parse(id, record, now)
        return Either.isLeft(parsed) ? [] : [{ ...parsed.right.summary, data: dataOf(parsed.right) }]
      })

    // -----------------------------------------------------------------------------------------------------------------
    // Operations
    // -----------------------------------------------------------------------------------------------------------------

    const withPlace = <B, E>(
      token: Redacted.Redacted,
      use: (place: Place) => Effect.Effect<B, E>
    ): Effect.Effect<B, E | SessionNotFound> => {
      const place = placeOf(token)
      return place === undefined ? notFound : use(place)
    }

    const withUser = <B, E>(
      operation: string,
      userId: string,
      use: (keys: scripts.Keys) => Effect.Effect<B, E>
    ): Effect.Effect<B, E | RedisInputError> => {
      const bad = badUser(`Session.${operation}`, userId)
      return bad === undefined ? use(keysOfDigest(digestOf(userId))) : Effect.fail(bad)
    }

    const read = (
      token: Redacted.Redacted,
      print: string,
      ask: (place: Place) => Effect.Effect<scripts.Found | undefined, RedisError>
    ): Effect.Effect<SessionInfo<A>, LookupError> =>
      withPlace(token, (place) =>
        Effect.flatMap(ask(place), (found): Effect.Effect<SessionInfo<A>, LookupError> => {
          if (found === undefined) return notFound
          const info = infoOf(place.id, found, print)
          if (Either.isLeft(info)) return Effect.fail(info.left)
          count(metrics.found)
          return Exit.succeed(info.right)
        }))

    const ask = ({ id, keys }: Place) => client.eval(scripts.get, keys, id)

    const askAndTouch = (print: string) => ({ id, keys }: Place) =>
      client.eval(scripts.touch, keys, settings, id, rejects ? print : "")

    /** Without a caller nobody has the token, so what was done is undone: else it would count until it ends. */
    const orUndo = <B, E extends { readonly _tag: string }>(
      effect: Effect.Effect<B, E>,
      undo: Effect.Effect<unknown, RedisError>
    ): Effect.Effect<B, E> =>
      Effect.onError(effect, (cause) => {
        const failure = Cause.failureOption(cause)
        return Cause.isInterrupted(cause) ||
            (Option.isSome(failure) && failure.value._tag === "RedisOutcomeUnknownError")
          ? Effect.ignore(Effect.timeoutOption(Effect.interruptible(undo), UNDO))
          : Effect.void
      })

    const rotation = (operation: string, token: Redacted.Redacted, authenticated: boolean) =>
      span(
        operation,
        withPlace(token, ({ id, keys }) =>
          // Each run makes a token of its own.
          Effect.suspend(() => {
            const issued = issue(Redacted.value(token).slice(0, 22))
            const turn = { id, newId: issued.id, grace, authenticated }
            const back = { id: issued.id, newId: id, grace: 0, authenticated: false }
            return Effect.flatMap(
              orUndo(
                client.eval(scripts.rotate, keys, settings, turn),
                client.eval(scripts.rotate, keys, settings, back)
              ),
              (found): Effect.Effect<Issued<A>, SessionNotFound | SessionDecodeError> => {
                if (found === undefined) return notFound
                const info = withoutMismatch(infoOf(issued.id, found))
                if (Either.isLeft(info)) return Effect.fail(info.left)
                count(metrics.rotated)
                return Exit.succeed({ token: issued.token, session: info.right })
              }
            )
          }))
      )

    const create = (options: CreateOptions<A>): Effect.Effect<Created<A>, SessionLimitReached | RedisError> => {
      const operation = "Session.create"
      const { data, device = {}, fingerprint, userId } = options
      const bad = badUser(operation, userId) ?? tooLong(operation, "device.deviceId", device.deviceId) ??
        tooLong(operation, "device.ip", device.ip)
      if (bad !== undefined) return Effect.fail(bad)
      const lines = codec.encode(data)
      if (Either.isLeft(lines)) return Effect.fail(badData(operation, lines.left))
      const deviceId = given(device.deviceId)
      const userAgent = given(device.userAgent)?.slice(0, LONGEST_USER_AGENT)
      const ip = given(device.ip)
      const deviceLine = lineOfText(deviceId)
      const print = printOf(fingerprint)
      const digest = digestOf(userId)
      const keys = keysOfDigest(digest)
      // Each run makes a token of its own.
      return span(
        "create",
        Effect.suspend(() => {
          const { id, token } = issue(digest)
          return Effect.flatMap(
            orUndo(
              client.eval(scripts.create, keys, settings, {
                id,
                limit: maxPerUser ?? 0,
                evict: definition.onLimit !== "reject",
                device: definition.onePerDevice === true ? deviceLine : "",
                rest: recordOf(
                  [lineOfText(userId), deviceLine, print, lineOfText(userAgent), lineOfText(ip)],
                  lines.right
                )
              }),
              client.eval(scripts.remove, keys, settings, id)
            ),
            (reply): Effect.Effect<Created<A>, SessionLimitReached> => {
              if (typeof reply === "number") {
                count(metrics.rejected)
                return Effect.fail(new SessionLimitReached({ definition: name, limit: maxPerUser ?? 0, live: reply }))
              }
              // It was created just now.
              const now = Number(reply.header.slice(14, 27))
              count(metrics.created)
              count(metrics.evicted, reply.evicted.length)
              return Exit.succeed({
                token,
                session: whole(
                  summaryOf(id, userId, deviceOf(deviceId, userAgent, ip), reply.header, now),
                  data,
                  compare(print, print)
                ),
                evicted: listed(reply.evicted, now)
              })
            }
          )
        })
      )
    }

    const removed = (operation: string, effect: Effect.Effect<number, RedisError>) =>
      span(
        operation,
        Effect.map(effect, (n) => {
          count(metrics.deleted, n)
          return n
        })
      )

    /** What is due under some hash tags, as far as it was when they were asked. */
    const sweepTags = (tags: ReadonlyArray<string>, now: string): Effect.Effect<number, RedisError> =>
      Effect.gen(function*() {
        const due = yield* Effect.flatMap(
          client.pipeline(
            tags.map((tag) => ["ZRANGEBYSCORE", client.key(indexOf(tag)), "-inf", now, "LIMIT", 0, BATCH] as const)
          ),
          Either.all
        )
        const users = due.map((reply) => reply as ReadonlyArray<string>)
        const calls = users.flatMap((rests, i) =>
          rests.map((rest) => RedisScript.call(scripts.sweep, keysOf(tags[i]!, rest), settings.channel))
        )
        if (calls.length === 0) return 0
        const ended = yield* Effect.flatMap(client.pipeline(calls), Either.all)
        const again = tags.filter((_, i) => users[i]!.length === BATCH)
        return ended.reduce<number>((sum, n) => sum + Number(n), 0) + (yield* sweepTags(again, now))
      })

    const sweep = Effect.gen(function*() {
      if (!watched) {
        return yield* Effect.fail(inputError("Session.sweep", "watchExpiry", "true in the definition", "false"))
      }
      const now = String((yield* client.time) / 1000n)
      let ended = 0
      for (const first of ALPHABET) {
        ended += yield* sweepTags(Array.from(ALPHABET, (second) => first + second), now)
      }
      count(metrics.expired, ended)
      return ended
    })

    return identity<Sessions<A>>({
      definition,
      create,
      get: (token, options) => span("get", read(token, printOf(options?.fingerprint), ask)),
      getAndTouch: (token, options) => {
        const print = printOf(options?.fingerprint)
        return span("getAndTouch", read(token, print, askAndTouch(print)))
      },
      touch: (token, options) => {
        const print = printOf(options?.fingerprint)
        return span(
          "touch",
          withPlace(token, (place) =>
            Effect.flatMap(askAndTouch(print)(place), (found): ReturnType<Sessions<A>["touch"]> => {
              if (found === undefined) {
                return notFound
              }
              const parsed = parse(found.id ?? place.id, found.record, found.now)
              if (Either.isLeft(parsed)) {
                return Effect.fail(parsed.left)
              }
              const { print: stored, summary } = parsed.right
              if (rejects && compare(stored, print) === "changed") {
                return Effect.fail(refuse(summary))
              }
              count(metrics.found)
              return Effect.succeed(summary.expiresAt)
            }))
        )
      },
      isValid: (token, options) => {
        const print = printOf(options?.fingerprint)
        return span(
          "isValid",
          Effect.matchEffect(read(token, print, ask), {
            onSuccess: () =>
              Effect.succeed(true),
            onFailure: (error) =>
              isRedisError(error) ? Effect.fail(error) : Effect.succeed(false)
          })
        )
      },
      update: (token, data) => {
        const fields = codec.encodePart(data)
        if (Either.isLeft(fields)) return Effect.fail(badData("Session.update", fields.left))
        return span(
          "update",
          withPlace(token, ({ id, keys }) =>
            Effect.flatMap(
              client.eval(scripts.update, keys, settings, id, fields.right),
              (found): Effect.Effect<SessionInfo<A>, SessionNotFound | SessionDecodeError> =>
                found === undefined ? notFound : withoutMismatch(infoOf(id, found))
            ))
        )
      },
      rotate: (token) => rotation("rotate", token, false),
      reauthenticate: (token) => rotation("reauthenticate", token, true),
      delete: (token) => {
        const place = placeOf(token)
        return place === undefined
          ? Effect.succeed(false)
          : Effect.map(
            removed("delete", Effect.map(client.eval(scripts.remove, place.keys, settings, place.id), Number)),
            (n) => n === 1
          )
      },
      deleteById: (userId, id) =>
        withUser("deleteById", userId, (keys) =>
          Effect.map(
            removed("deleteById", Effect.map(client.eval(scripts.remove, keys, settings, id), Number)),
            (n) => n === 1
          )),
      listForUser: (userId) =>
        withUser("listForUser", userId, (keys) =>
          span(
            "listForUser",
            Effect.map(
              client.eval(scripts.list, keys, settings),
              ({ entries, now }) =>
                listed(entries, now).toSorted((a, b) =>
                  b.lastSeenAt.epochMillis - a.lastSeenAt.epochMillis ||
                  b.createdAt.epochMillis - a.createdAt.epochMillis
                )
            )
          )),
      count: (userId) => withUser("count", userId, (keys) => span("count", client.eval(scripts.count, keys, settings))),
      deleteForUser: (userId) =>
        withUser(
          "deleteForUser",
          userId,
          (keys) => removed("deleteForUser", client.eval(scripts.removeAll, keys, settings))
        ),
      deleteOthers: (token) =>
        withPlace(token, ({ id, keys }) =>
          Effect.flatMap(
            span("deleteOthers", client.eval(scripts.removeOthers, keys, settings, id)),
            (n): Effect.Effect<number, SessionNotFound> => {
              if (n === undefined) return notFound
              count(metrics.deleted, n)
              return Effect.succeed(n)
            }
          )),
      events: Stream.unwrapScoped(Effect.map(
        client.subscribe({ channels: [channel] }),
        (queue) =>
          Stream.filterMap(
            Stream.fromQueue(queue),
            (message): Option.Option<SessionEvent | Gap> =>
              message._tag === "Gap" ? Option.some(message) : eventOf(message.payload)
          )
      )),
      sweep: span("sweep", sweep)
    })
  })

const BATCH = 100

/** The times, the user, the device id, the fingerprint, the user agent, the address; behind them the data. */
const RECORD = /^1\d{52}\n([^\n]*)\n([^\n]*)\n([^\n]*)\n([^\n]*)\n([^\n]*)\n?/

const OTHER_FORM = "its record has another form"

/** A record behind its times. */
const recordOf = (head: ReadonlyArray<string>, data: ReadonlyArray<string>): string =>
  data.length === 0 ? head.join("\n") : `${head.join("\n")}\n${data.join(",\n")}`

/** What needs no quotes to be a line. */
const PRINTABLE = /^[ !#-~][ -~]*$/

/** A text as a line of a record: as it is, or as JSON. Nothing is an empty line. */
const lineOfText = (text: string | undefined): string =>
  text === undefined ? "" : PRINTABLE.test(text) ? text : JSON.stringify(text)

const textOf = (line: string): string | undefined => {
  if (!line.startsWith("\"")) return line
  const text = parseJson(line)
  return typeof text === "string" ? text : undefined
}

/** As `textOf`, when it may be nothing. */
const givenOf = (line: string): Option.Option<string> | undefined => {
  if (line === "") return Option.none()
  const text = textOf(line)
  return text === undefined ? undefined : Option.some(text)
}

const deviceOf = (
  deviceId: string | undefined,
  userAgent: string | undefined,
  ip: string | undefined
): Device => ({
  deviceId: Option.fromNullable(deviceId),
  userAgent: Option.fromNullable(userAgent),
  ip: Option.fromNullable(ip)
})

const timeOf = (digits: string): DateTime.Utc => DateTime.unsafeMake(Number(digits))

const noLabels: ReadonlyArray<never> = []

const count = (metric: Metric.Metric.Counter<number>, n = 1): void => {
  if (n > 0) metric.unsafeUpdate(n, noLabels)
}

const given = (text: string | undefined): string | undefined => text === "" ? undefined : text

const tooLong = (operation: string, field: string, text: string | undefined): RedisInputError | undefined =>
  text === undefined || text.length <= LONGEST
    ? undefined
    : inputError(operation, field, `at most ${LONGEST} characters`, text.length)

const badData = (operation: string, where: string) =>
  new RedisInputError({
    operation,
    field: where === "" ? "data" : `data (${where})`,
    expected: "what its schema describes, and what JSON can hold",
    actual: "something else"
  })

const withoutMismatch = <A>(
  info: Either.Either<A, SessionDecodeError | SessionFingerprintMismatch>
): Either.Either<A, SessionDecodeError> => info as Either.Either<A, SessionDecodeError>

const eventOf = (payload: string): Option.Option<SessionEvent> => {
  const [what, at, id, more, user] = payload.split("\n")
  const userId = user === undefined ? undefined : textOf(user)
  return Option.flatMap(DateTime.make(Number(at)), (time) => {
    if (userId === undefined) return Option.none()
    const fields = { id: id!, userId, at: DateTime.toUtc(time) }
    switch (what) {
      case "created":
        return Option.some({ _tag: "Created", ...fields })
      case "expired":
        return Option.some({ _tag: "Expired", ...fields })
      case "deleted":
        return Option.some({ _tag: "Deleted", ...fields })
      case "rotated":
        return Option.some({ _tag: "Rotated", ...fields, previousId: more! })
      case "evicted":
        return Option.some({ _tag: "Evicted", ...fields, reason: more === "device" ? "device" : "limit" })
      default:
        return Option.none()
    }
  })
}

/**
 * Sessions over the client of the environment.
 *
 * @since 0.1.0
 * @category constructors
 */
export const make: Effect.Effect<Service, never, RedisClient> = Effect.map(RedisClient, (client) => {
  const opened = new WeakMap<object, Either.Either<Sessions<any>, RedisInputError>>()
  return {
    open: (definition) => {
      let sessions = opened.get(definition)
      if (sessions === undefined) opened.set(definition, sessions = openWith(client, definition))
      return sessions
    }
  }
})

// ---------------------------------------------------------------------------------------------------------------------
// Layers
// ---------------------------------------------------------------------------------------------------------------------

/**
 * @since 0.1.0
 * @category layers
 */
export const layer: Layer.Layer<Session, never, RedisClient> = Layer.effect(Session, make)

/**
 * Sessions on a server in memory, with the server and its client beside it.
 *
 * @since 0.1.0
 * @category layers
 */
export const layerTest: Layer.Layer<Session | RedisClient | RedisTestServer> = Layer.provideMerge(layer, testServer)

// ---------------------------------------------------------------------------------------------------------------------
// Accessors
// ---------------------------------------------------------------------------------------------------------------------

/**
 * The sessions of a definition. It sends nothing, and fails when an option makes no sense.
 *
 * @example
 * ```ts
 * import { Effect, Schema } from "effect"
 * import { Session } from "effect-redis-kit"
 *
 * const Users = Session.define({ name: "users", data: Schema.Struct({ theme: Schema.String }), maxPerUser: 5 })
 *
 * const program = Effect.gen(function*() {
 *   const sessions = yield* Session.open(Users)
 *   const { token } = yield* sessions.create({ userId: "ada", data: { theme: "dark" } })
 *   const { data, userId } = yield* sessions.getAndTouch(token)
 *   yield* Effect.log(`${userId} likes it ${data.theme}`)
 *   yield* sessions.delete(token)
 * })
 * ```
 *
 * @since 0.1.0
 * @category accessors
 */
export const open = <A extends object>(
  definition: Definition<A>
): Effect.Effect<Sessions<A>, RedisInputError, Session> =>
  Effect.flatMap(Session, (service) => service.open(definition))

/**
 * Fails when the last authentication of the session is too long ago, before something that needs a recent one.
 *
 * @since 0.1.0
 * @category accessors
 */
export const requireFresh = ({ authenticatedAt, fresh }: Summary): Effect.Effect<void, SessionNotFresh> =>
  fresh ? Effect.void : Effect.fail(new SessionNotFresh({ authenticatedAt }))
