/**
 * How to reach a Redis server: options described by a Schema, and the same from the environment.
 *
 * @since 0.1.0
 */
import * as Config from "effect/Config"
import * as ConfigError from "effect/ConfigError"
import * as Duration from "effect/Duration"
import * as Either from "effect/Either"
import * as Option from "effect/Option"
import * as ParseResult from "effect/ParseResult"
import * as Redacted from "effect/Redacted"
import * as Schedule from "effect/Schedule"
import * as Schema from "effect/Schema"
import { checkSchema, inputError } from "./internal/input.js"
import type { RedisInputError } from "./RedisError.js"

const Port = Schema.Number.annotations({ description: "a port number from 1 to 65535" }).pipe(
  Schema.filter((n) => Number.isInteger(n) && n >= 1 && n <= 65535, { description: "a port number from 1 to 65535" })
)

const Db = Schema.Number.annotations({ description: "a whole number of zero or more" }).pipe(
  Schema.filter((n) => Number.isInteger(n) && n >= 0, { description: "a whole number of zero or more" })
)

const Host = Schema.String.pipe(
  Schema.filter((s) => s.trim().length > 0, { description: "a host name or address" })
)

const Secret = Schema.RedactedFromSelf(Schema.String)

/** A timer of Node holds at most 2^31 - 1 milliseconds. */
const MAX_TIMEOUT = 2 ** 31 - 1

const Timeout = Schema.transformOrFail(
  Schema.declare((u: unknown): u is Duration.DurationInput => Option.isSome(Duration.decodeUnknown(u)), {
    description: "a duration"
  }),
  Schema.DurationFromSelf,
  {
    strict: true,
    decode: (input, _options, ast) => {
      const duration = Duration.decode(input)
      const millis = Duration.toMillis(duration)
      return millis >= 1 && millis <= MAX_TIMEOUT
        ? ParseResult.succeed(duration)
        : ParseResult.fail(new ParseResult.Type(ast, input))
    },
    encode: (duration) => ParseResult.succeed(duration)
  }
).annotations({ description: "a duration from 1 millisecond to 24 days" })

/**
 * Certificates and checks of an encrypted connection, named as in Node's `tls.connect`.
 *
 * @since 0.1.0
 * @category schemas
 */
export const TlsOptions = Schema.Struct({
  /** Certificates of the authorities to trust, as PEM. */
  ca: Schema.optional(Schema.String),
  /** The client's certificate, as PEM. */
  cert: Schema.optional(Schema.String),
  /** The client's private key, as PEM. */
  key: Schema.optional(Secret),
  /** The name that the server's certificate must carry; the host by default. */
  servername: Schema.optional(Schema.String),
  /** Whether a certificate that can't be verified ends the connection; `true` by default. */
  rejectUnauthorized: Schema.optional(Schema.Boolean)
})

/**
 * @since 0.1.0
 * @category models
 */
export type TlsOptions = typeof TlsOptions.Type

/**
 * The options of a connection, before defaults.
 *
 * `url` wins: when it is given, host, port, user name, password and database are taken from it alone, and `rediss:`
 * decides about TLS.
 *
 * @since 0.1.0
 * @category schemas
 */
export const Options = Schema.Struct({
  /** `redis://[user:password@]host[:port][/db]`, or `rediss:` for TLS. */
  url: Schema.optional(Secret),
  /** Default `"localhost"`. */
  host: Schema.optional(Host),
  /** Default 6379. */
  port: Schema.optional(Port),
  username: Schema.optional(Schema.String),
  password: Schema.optional(Secret),
  /** Default 0. */
  db: Schema.optional(Db),
  /** `true`, or the details; default `false`. */
  tls: Schema.optional(Schema.Union(Schema.Boolean, TlsOptions)),
  /** Put before every key and channel by everything except the raw `send`; default none. */
  keyPrefix: Schema.optional(Schema.String),
  /** The name that `CLIENT LIST` shows. */
  name: Schema.optional(
    Schema.String.pipe(
      Schema.filter((s) => /^[\x21-\x7e]+$/.test(s), { description: "a name of printable characters without spaces" })
    )
  ),
  /** How long connecting may take before the layer fails; default 10 seconds. */
  connectTimeout: Schema.optional(Timeout),
  /** How long a command may take from the moment it is issued; default 5 seconds. */
  commandTimeout: Schema.optional(Timeout),
  /** Whether to wait until the server has loaded its data before commands are sent; default `true`. */
  readyCheck: Schema.optional(Schema.Boolean),
  /** Whether to connect with the first command instead of when the layer is built; default `false`. */
  lazyConnect: Schema.optional(Schema.Boolean),
  /**
   * How commands and scripts that are marked idempotent are tried again after a failure of the connection. Nothing else
   * is ever tried again. Default: two more tries, after 50 and 100 milliseconds, with jitter.
   */
  retry: Schema.optional(
    Schema.declare((u: unknown): u is Schedule.Schedule<unknown, unknown> => Schedule.isSchedule(u), {
      description: "a Schedule"
    })
  )
})

/**
 * @since 0.1.0
 * @category models
 */
export type Options = typeof Options.Encoded

/**
 * How to reach a server, complete and checked.
 *
 * @since 0.1.0
 * @category models
 */
export interface RedisConfig {
  readonly host: string
  readonly port: number
  readonly username: Option.Option<string>
  readonly password: Option.Option<Redacted.Redacted>
  readonly db: number
  readonly tls: Option.Option<TlsOptions>
  readonly keyPrefix: string
  readonly name: Option.Option<string>
  readonly connectTimeout: Duration.Duration
  readonly commandTimeout: Duration.Duration
  readonly readyCheck: boolean
  readonly lazyConnect: boolean
  readonly retry: Schedule.Schedule<unknown, unknown>
}

/**
 * Two more tries, after 50 and 100 milliseconds, with jitter.
 *
 * @since 0.1.0
 * @category constants
 */
export const defaultRetry: Schedule.Schedule<unknown, unknown> = Schedule.exponential("50 millis").pipe(
  Schedule.jittered,
  Schedule.intersect(Schedule.recurs(2))
)

interface Address {
  readonly host: string
  readonly port: number
  readonly username: Option.Option<string>
  readonly password: Option.Option<Redacted.Redacted>
  readonly db: number
  readonly tls: boolean
}

const URL_EXPECTED = "redis://[user:password@]host[:port][/db], or rediss: for TLS"

const decodePart = Option.liftThrowable(decodeURIComponent)

/** `None` when it is not a URL of Redis. Nothing of the text may reach an error: it may hold a password. */
const parseUrl = (text: string): Option.Option<Address> => {
  if (!URL.canParse(text)) return Option.none()
  const url = new URL(text)
  if (url.protocol !== "redis:" && url.protocol !== "rediss:") return Option.none()
  if (url.hostname === "" || url.port === "0") return Option.none()
  const path = url.pathname.replace(/^\//, "")
  if (!/^\d*$/.test(path)) return Option.none()
  const username = decodePart(url.username)
  const password = decodePart(url.password)
  if (Option.isNone(username) || Option.isNone(password)) return Option.none()
  return Option.some({
    host: url.hostname.replace(/^\[(.*)\]$/, "$1"),
    port: url.port === "" ? 6379 : Number(url.port),
    username: Option.filter(username, (s) => s !== ""),
    password: Option.map(Option.filter(password, (s) => s !== ""), Redacted.make),
    db: path === "" ? 0 : Number(path),
    tls: url.protocol === "rediss:"
  })
}

const assemble = (options: typeof Options.Type, url: Option.Option<Address>): RedisConfig => {
  const tlsDetails = typeof options.tls === "object" ? options.tls : {}
  const address: Address = Option.getOrElse(url, () => ({
    host: options.host ?? "localhost",
    port: options.port ?? 6379,
    username: Option.fromNullable(options.username),
    password: Option.fromNullable(options.password),
    db: options.db ?? 0,
    tls: options.tls !== undefined && options.tls !== false
  }))
  return {
    ...address,
    tls: address.tls ? Option.some(tlsDetails) : Option.none(),
    keyPrefix: options.keyPrefix ?? "",
    name: Option.fromNullable(options.name),
    connectTimeout: options.connectTimeout ?? Duration.seconds(10),
    commandTimeout: options.commandTimeout ?? Duration.seconds(5),
    readyCheck: options.readyCheck ?? true,
    lazyConnect: options.lazyConnect ?? false,
    retry: options.retry ?? defaultRetry
  }
}

/**
 * Checks options and fills in the defaults. A bad value fails with the field's name and what was expected.
 *
 * @example
 * ```ts
 * import { Redacted } from "effect"
 * import { RedisConfig } from "effect-redis-kit"
 *
 * const config = RedisConfig.make({ host: "redis.internal", password: Redacted.make("secret"), keyPrefix: "shop:" })
 * ```
 *
 * @since 0.1.0
 * @category constructors
 */
export const make = (options: Options = {}): Either.Either<RedisConfig, RedisInputError> =>
  Either.flatMap(checkSchema("RedisConfig", Options, options), (decoded) => {
    if (decoded.url === undefined) return Either.right(assemble(decoded, Option.none()))
    const url = parseUrl(Redacted.value(decoded.url))
    return Option.isNone(url)
      ? Either.left(inputError("RedisConfig", "url", URL_EXPECTED, Redacted.make("")))
      : Either.right(assemble(decoded, url))
  })

/**
 * Where the server is, without user name and password; for messages and logs.
 *
 * @since 0.1.0
 * @category getters
 */
export const target = (config: RedisConfig): string =>
  `redis${Option.isSome(config.tls) ? "s" : ""}://${
    config.host.includes(":") ? `[${config.host}]` : config.host
  }:${config.port}/${config.db}`

// ---------------------------------------------------------------------------------------------------------------------
// Environment
// ---------------------------------------------------------------------------------------------------------------------

/** A variable that is set to nothing counts as not set: it is how compose files and shells unset one. */
const variable = <A>(
  name: string,
  parse: (text: string) => Option.Option<A>,
  expected: string,
  secret: boolean = false
): Config.Config<A | undefined> =>
  Config.option(Config.string(name)).pipe(
    Config.mapOrFail((text) => {
      if (Option.isNone(text) || text.value.trim() === "") return Either.right<A | undefined>(undefined)
      const parsed = parse(text.value.trim())
      return Option.isSome(parsed)
        ? Either.right(parsed.value)
        : Either.left(
          ConfigError.InvalidData([name], `Expected ${expected}${secret ? "" : `, received "${text.value}"`}`)
        )
    })
  )

const text = (name: string) => variable(name, Option.some, "a text")

const whole = (name: string, min: number, max: number, expected: string) =>
  variable(name, (s) => {
    const n = Number(s)
    return /^\d+$/.test(s) && n >= min && n <= max ? Option.some(n) : Option.none()
  }, expected)

const flag = (name: string) =>
  variable(name, (s) => {
    switch (s.toLowerCase()) {
      case "true":
      case "1":
      case "yes":
      case "on":
        return Option.some(true)
      case "false":
      case "0":
      case "no":
      case "off":
        return Option.some(false)
      default:
        return Option.none()
    }
  }, "true or false")

const timeout = (name: string) =>
  variable(
    name,
    (s) =>
      Option.filter(
        /^\d+$/.test(s) ? Option.some(Duration.millis(Number(s))) : Duration.decodeUnknown(s),
        (duration) => Duration.toMillis(duration) >= 1 && Duration.toMillis(duration) <= MAX_TIMEOUT
      ),
    "a duration greater than zero, as milliseconds (\"5000\") or with a unit (\"5 seconds\")"
  )

/**
 * The configuration of the environment: `REDIS_URL` (wins over the rest), `REDIS_HOST`, `REDIS_PORT`, `REDIS_USERNAME`,
 * `REDIS_PASSWORD`, `REDIS_DB`, `REDIS_TLS`, `REDIS_KEY_PREFIX`, `REDIS_NAME`, `REDIS_CONNECT_TIMEOUT`,
 * `REDIS_COMMAND_TIMEOUT`, `REDIS_READY_CHECK`, `REDIS_LAZY_CONNECT`.
 *
 * A bad value fails with the variable's name and what was expected; a value that may be a secret is never repeated.
 *
 * @since 0.1.0
 * @category constructors
 */
export const config: Config.Config<RedisConfig> = Config.all({
  url: variable("REDIS_URL", parseUrl, URL_EXPECTED, true),
  host: text("REDIS_HOST"),
  port: whole("REDIS_PORT", 1, 65535, "a port number from 1 to 65535"),
  username: text("REDIS_USERNAME"),
  password: variable("REDIS_PASSWORD", (s) => Option.some(Redacted.make(s)), "a text", true),
  db: whole("REDIS_DB", 0, Number.MAX_SAFE_INTEGER, "a whole number of zero or more"),
  tls: flag("REDIS_TLS"),
  keyPrefix: text("REDIS_KEY_PREFIX"),
  name: variable(
    "REDIS_NAME",
    Option.liftPredicate((s: string) => /^[\x21-\x7e]+$/.test(s)),
    "a name of printable characters without spaces"
  ),
  connectTimeout: timeout("REDIS_CONNECT_TIMEOUT"),
  commandTimeout: timeout("REDIS_COMMAND_TIMEOUT"),
  readyCheck: flag("REDIS_READY_CHECK"),
  lazyConnect: flag("REDIS_LAZY_CONNECT")
}).pipe(Config.map(({ url, ...options }) => assemble({ ...options, url: undefined }, Option.fromNullable(url))))
