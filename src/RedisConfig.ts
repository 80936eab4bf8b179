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
import { RedisInputError } from "./RedisError.js"

const Port = Schema.Number.annotations({ description: "a port number from 1 to 65535" }).pipe(
  Schema.filter((n) => Number.isInteger(n) && n >= 1 && n <= 65535, { description: "a port number from 1 to 65535" })
)

const Db = Schema.Number.annotations({ description: "a whole number of zero or more" }).pipe(
  Schema.filter((n) => Number.isInteger(n) && n >= 0, { description: "a whole number of zero or more" })
)

const Host = Schema.String.pipe(
  Schema.filter((s) => s.trim().length > 0, { description: "a host name or address" })
)

const ServerAddress = Schema.Struct({ host: Host, port: Schema.optional(Port) })

const Addresses = Schema.Array(ServerAddress).pipe(
  Schema.filter((addresses) => addresses.length > 0, { description: "at least one address" })
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
 * decides about TLS. Beside `clusterNodes` or `sentinels` its host and port are not used, since these say where to go.
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
  /** Default 0, and always that on a Cluster. */
  db: Schema.optional(Db),
  /** Some nodes of a Cluster, from which the others are learnt; the default of `port` is 6379. */
  clusterNodes: Schema.optional(Addresses),
  /** Sentinels that know where the master is, asked in this order; the default of `port` is 26379. */
  sentinels: Schema.optional(Addresses),
  /** The name under which the sentinels know it. */
  sentinelMaster: Schema.optional(
    Schema.String.pipe(Schema.filter((s) => s.trim().length > 0, { description: "the name of a master" }))
  ),
  /** Of the sentinels; user name and password of the servers are not sent to them. */
  sentinelUsername: Schema.optional(Schema.String),
  sentinelPassword: Schema.optional(Secret),
  /** Of the connections to the sentinels: `true`, or the details; default `false`. */
  sentinelTls: Schema.optional(Schema.Union(Schema.Boolean, TlsOptions)),
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
 * @since 0.1.0
 * @category models
 */
export interface Address {
  readonly host: string
  readonly port: number
}

/**
 * How to find the master.
 *
 * @since 0.1.0
 * @category models
 */
export interface Sentinels {
  readonly nodes: ReadonlyArray<Address>
  readonly master: string
  readonly username: Option.Option<string>
  readonly password: Option.Option<Redacted.Redacted>
  readonly tls: Option.Option<TlsOptions>
}

/**
 * How to reach a server, complete and checked. With `clusterNodes` or `sentinels`, `host` and `port` are not used.
 *
 * @since 0.1.0
 * @category models
 */
export interface RedisConfig {
  readonly host: string
  readonly port: number
  /** Empty when the server is no Cluster. */
  readonly clusterNodes: ReadonlyArray<Address>
  readonly sentinels: Option.Option<Sentinels>
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

interface Access extends Address {
  readonly username: Option.Option<string>
  readonly password: Option.Option<Redacted.Redacted>
  readonly db: number
  readonly tls: boolean
}

const URL_EXPECTED = "redis://[user:password@]host[:port][/db], or rediss: for TLS"

const decodePart = Option.liftThrowable(decodeURIComponent)

/** `None` when it is not a URL of Redis. Nothing of the text may reach an error: it may hold a password. */
const parseUrl = (text: string): Option.Option<Access> => {
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

const tlsOf = (tls: boolean | TlsOptions | undefined): Option.Option<TlsOptions> =>
  tls === undefined || tls === false ? Option.none() : Option.some(tls === true ? {} : tls)

const withPort = (addresses: Options["clusterNodes"], port: number): ReadonlyArray<Address> =>
  (addresses ?? []).map((address) => ({ host: address.host, port: address.port ?? port }))

interface Misfit {
  readonly field: keyof Options
  readonly expected: string
}

const LEFT_OUT_FOR = "left out, because the servers are named by"

/** What can't be used together. */
const findMisfit = (options: typeof Options.Type, url: Option.Option<Access>): Misfit | undefined => {
  const { clusterNodes, sentinelMaster, sentinels } = options
  const misfit = (field: Misfit["field"], expected: string): Misfit => ({ field, expected })
  if (clusterNodes !== undefined && sentinels !== undefined) {
    return misfit("sentinels", "left out, because a Cluster has none")
  }
  if (sentinels !== undefined && sentinelMaster === undefined) {
    return misfit("sentinelMaster", "given, because sentinels can watch several masters")
  }
  if (sentinels === undefined) {
    for (const field of ["sentinelMaster", "sentinelUsername", "sentinelPassword", "sentinelTls"] as const) {
      if (options[field] !== undefined) return misfit(field, "left out, because there are no sentinels")
    }
  }
  if (Option.isNone(url) && (clusterNodes !== undefined || sentinels !== undefined)) {
    const by = clusterNodes === undefined ? "the sentinels" : "the nodes of the Cluster"
    if (options.host !== undefined) return misfit("host", `${LEFT_OUT_FOR} ${by}`)
    if (options.port !== undefined) return misfit("port", `${LEFT_OUT_FOR} ${by}`)
  }
  if (clusterNodes !== undefined) {
    if (Option.isSome(url) && url.value.db !== 0) {
      return misfit("url", "without a database, because a Cluster has only 0")
    }
    if (Option.isNone(url) && (options.db ?? 0) !== 0) return misfit("db", "0, because a Cluster has no other")
  }
  return undefined
}

const assemble = (options: typeof Options.Type, url: Option.Option<Access>): RedisConfig => {
  const tlsDetails = typeof options.tls === "object" ? options.tls : {}
  const address: Access = Option.getOrElse(url, () => ({
    host: options.host ?? "localhost",
    port: options.port ?? 6379,
    username: Option.fromNullable(options.username),
    password: Option.fromNullable(options.password),
    db: options.db ?? 0,
    tls: options.tls !== undefined && options.tls !== false
  }))
  return {
    ...address,
    clusterNodes: withPort(options.clusterNodes, 6379),
    sentinels: options.sentinels === undefined ? Option.none() : Option.some({
      nodes: withPort(options.sentinels, 26379),
      master: options.sentinelMaster ?? "",
      username: Option.fromNullable(options.sentinelUsername),
      password: Option.fromNullable(options.sentinelPassword),
      tls: tlsOf(options.sentinelTls)
    }),
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
    const url = decoded.url === undefined ? Option.none() : parseUrl(Redacted.value(decoded.url))
    if (decoded.url !== undefined && Option.isNone(url)) {
      return Either.left(inputError("RedisConfig", "url", URL_EXPECTED, Redacted.make("")))
    }
    const misfit = findMisfit(decoded, url)
    if (misfit === undefined) return Either.right(assemble(decoded, url))
    const { expected, field } = misfit
    const actual = decoded[field] === undefined ? "left out" : field === "db" ? String(decoded.db) : "given"
    return Either.left(new RedisInputError({ operation: "RedisConfig", field, expected, actual }))
  })

const showAddress = ({ host, port }: Address): string => `${host.includes(":") ? `[${host}]` : host}:${port}`

/**
 * Where the server is, without user name and password; for messages and logs. As `redis://host:6379/0`,
 * `redis+cluster://host:7000,host:7001` or `redis+sentinel://host:26379/master/0`, and `rediss` with TLS.
 *
 * @since 0.1.0
 * @category getters
 */
export const target = (config: RedisConfig): string => {
  const scheme = `redis${Option.isSome(config.tls) ? "s" : ""}`
  if (config.clusterNodes.length > 0) return `${scheme}+cluster://${config.clusterNodes.map(showAddress).join()}`
  if (Option.isNone(config.sentinels)) return `${scheme}://${showAddress(config)}/${config.db}`
  const { master, nodes } = config.sentinels.value
  return `${scheme}+sentinel://${nodes.map(showAddress).join()}/${master}/${config.db}`
}

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

/** `host:port`, with brackets around an address of version 6; the port may be left out. */
const parseAddress = (text: string): Option.Option<NonNullable<Options["clusterNodes"]>[number]> => {
  const [, six, other, port] = /^(?:\[([^\]]+)\]|([^:[\]\s]+))(?::(\d+))?$/.exec(text.trim()) ?? []
  const host = six ?? other
  if (host === undefined) return Option.none()
  if (port === undefined) return Option.some({ host })
  return Number(port) >= 1 && Number(port) <= 65535 ? Option.some({ host, port: Number(port) }) : Option.none()
}

const addresses = (name: string) =>
  variable(
    name,
    (s) => Option.all(s.split(",").map(parseAddress)),
    "addresses separated by commas, as \"host:port,host:port\"",
    // Somebody may have put a URL there.
    true
  )

/** How the variables are called whose names are not those of the fields. */
const variables: Partial<Record<keyof Options, string>> = {
  sentinels: "REDIS_SENTINELS",
  sentinelMaster: "REDIS_SENTINEL_MASTER",
  sentinelUsername: "REDIS_SENTINEL_USERNAME",
  sentinelPassword: "REDIS_SENTINEL_PASSWORD",
  sentinelTls: "REDIS_SENTINEL_TLS"
}

/**
 * The configuration of the environment: `REDIS_URL` (wins over the rest), `REDIS_HOST`, `REDIS_PORT`, `REDIS_USERNAME`,
 * `REDIS_PASSWORD`, `REDIS_DB`, `REDIS_TLS`, `REDIS_KEY_PREFIX`, `REDIS_NAME`, `REDIS_CONNECT_TIMEOUT`,
 * `REDIS_COMMAND_TIMEOUT`, `REDIS_READY_CHECK`, `REDIS_LAZY_CONNECT`; for a Cluster `REDIS_CLUSTER_NODES`
 * (`host:port,host:port`); for Sentinel `REDIS_SENTINELS` in the same form, `REDIS_SENTINEL_MASTER`, and where needed
 * `REDIS_SENTINEL_USERNAME`, `REDIS_SENTINEL_PASSWORD`, `REDIS_SENTINEL_TLS`.
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
  clusterNodes: addresses("REDIS_CLUSTER_NODES"),
  sentinels: addresses("REDIS_SENTINELS"),
  sentinelMaster: text("REDIS_SENTINEL_MASTER"),
  sentinelUsername: text("REDIS_SENTINEL_USERNAME"),
  sentinelPassword: variable("REDIS_SENTINEL_PASSWORD", (s) => Option.some(Redacted.make(s)), "a text", true),
  sentinelTls: flag("REDIS_SENTINEL_TLS"),
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
}).pipe(Config.mapOrFail(({ url, ...rest }) => {
  const options = { ...rest, url: undefined }
  const access = Option.fromNullable(url)
  const misfit = findMisfit(options, access)
  if (misfit === undefined) return Either.right(assemble(options, access))
  const name = variables[misfit.field] ?? `REDIS_${misfit.field.toUpperCase()}`
  return Either.left(ConfigError.InvalidData([name], `Expected it to be ${misfit.expected}`))
}))
