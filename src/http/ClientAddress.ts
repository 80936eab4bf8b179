/**
 * The address of whoever sent a request, seen through the proxies that are trusted and no others.
 *
 * `X-Forwarded-For` and `Forwarded` are written by anybody who likes. Each proxy appends the address that it has seen, so only
 * the right end of the list, as far as it was written by proxies of one's own, says the truth. It is read from the right, and
 * the first address that is not one of a trusted proxy is the client.
 *
 * @since 0.1.0
 */
import * as HttpServerRequest from "@effect/platform/HttpServerRequest"
import * as Effect from "effect/Effect"
import * as Either from "effect/Either"
import * as Option from "effect/Option"
import { BlockList, isIPv4, isIPv6 } from "node:net"
import { inputError } from "../internal/input.js"
import type { RedisInputError } from "../RedisError.js"

// ---------------------------------------------------------------------------------------------------------------------
// Models
// ---------------------------------------------------------------------------------------------------------------------

/**
 * Which proxies are trusted: none, those of some addresses, or so many.
 *
 * @since 0.1.0
 * @category models
 */
export type Options =
  & {
    /** The header that the proxies write; `"x-forwarded-for"` by default. The other one is never looked at. */
    readonly header?: "x-forwarded-for" | "forwarded" | undefined
    /**
     * How many bits of an IPv6 address tell clients apart; 64 by default, because each customer of a provider has at least
     * so many addresses. With 128 all of it counts.
     */
    readonly ipv6Prefix?: number | undefined
  }
  & (
    | {
      /** Addresses, and ranges as in `"10.0.0.0/8"`. */
      readonly trustedProxies?: ReadonlyArray<string> | undefined
      readonly hops?: undefined
    }
    | {
      readonly trustedProxies?: undefined
      /**
       * How many proxies there are in front of the server, whatever their addresses. Every request must come through all of
       * them, or it is believed what it says.
       */
      readonly hops: number
    }
  )

/**
 * The address that a request came from. `peer` is the other end of the connection.
 *
 * @since 0.1.0
 * @category models
 */
export type Resolver = (
  headers: Readonly<Record<string, string | undefined>>,
  peer: Option.Option<string>
) => Option.Option<string>

// ---------------------------------------------------------------------------------------------------------------------
// Constructors
// ---------------------------------------------------------------------------------------------------------------------

interface Address {
  readonly family: "ipv4" | "ipv6"
  readonly text: string
}

/** The shortest spelling of an IPv6 address. */
const compress = (address: string): string => new URL(`http://[${address}]/`).hostname.slice(1, -1)

const MAPPED = /^::ffff:([0-9a-f]{1,4}):([0-9a-f]{1,4})$/

/** An address in its one spelling. IPv4 inside of IPv6 is IPv4, and the zone of an address is left out. */
const parse = (text: string): Address | undefined => {
  if (isIPv4(text)) return { family: "ipv4", text }
  if (!isIPv6(text)) return undefined
  const zone = text.indexOf("%")
  const short = compress(zone === -1 ? text : text.slice(0, zone))
  const mapped = MAPPED.exec(short)
  if (mapped === null) return { family: "ipv6", text: short }
  const [high, low] = [parseInt(mapped[1]!, 16), parseInt(mapped[2]!, 16)]
  return { family: "ipv4", text: `${high >> 8}.${high & 255}.${low >> 8}.${low & 255}` }
}

/** The first `bits` of an IPv6 address, as a range. */
const network = (address: string, bits: number): string => {
  if (bits === 128) return address
  const [left = "", right] = address.split("::")
  const head = left === "" ? [] : left.split(":")
  const tail = right === undefined || right === "" ? [] : right.split(":")
  const groups = [...head, ...new Array<string>(8 - head.length - tail.length).fill("0"), ...tail]
  const masked = groups.map((group, i) => {
    const kept = Math.min(16, Math.max(0, bits - i * 16))
    return (parseInt(group, 16) & (0xffff << (16 - kept)) & 0xffff).toString(16)
  })
  return `${compress(masked.join(":"))}/${bits}`
}

const PORT = /^:\d{1,5}$/

/** What proxies write for an address: it may come with a port, and an IPv6 address then has brackets. */
const parseNode = (text: string): Address | undefined => {
  if (text.startsWith("[")) {
    const end = text.indexOf("]")
    const rest = text.slice(end + 1)
    return end !== -1 && (rest === "" || PORT.test(rest)) ? parse(text.slice(1, end)) : undefined
  }
  const colon = text.indexOf(":")
  return colon !== -1 && colon === text.lastIndexOf(":") && PORT.test(text.slice(colon))
    ? parse(text.slice(0, colon))
    : parse(text)
}

const TOKEN = "[!#$%&'*+.^_`|~0-9A-Za-z-]+"

const PARAMETER = new RegExp(`^(${TOKEN})=(?:(${TOKEN})|"([^"\\\\]*)")$`)

/**
 * The address in one element of `Forwarded`. Elements are told apart by their commas alone: reading from the left, an
 * unmatched quote of the client would swallow what the proxy has appended.
 */
const parseForwarded = (element: string): Address | undefined => {
  let found: string | undefined
  for (const part of element.split(";")) {
    const parameter = PARAMETER.exec(part.trim())
    if (parameter === null) return undefined
    const [, name, token, quoted] = parameter
    if (name!.toLowerCase() !== "for") continue
    if (found !== undefined) return undefined
    found = token ?? quoted
  }
  return found === undefined ? undefined : parseNode(found)
}

const readers = {
  "x-forwarded-for": (entry: string) => parseNode(entry.trim()),
  "forwarded": parseForwarded
} as const

/** Does somebody trust this proxy? It is the `hop`-th one, counted from the server. */
type Trusts = (proxy: Address | undefined, hop: number) => boolean

const trustsOf = ({ hops, trustedProxies = [] }: Options): Either.Either<Trusts, RedisInputError> => {
  if (hops !== undefined) {
    if (trustedProxies.length > 0) {
      return Either.left(inputError("ClientAddress", "hops", "left out where trustedProxies are given", hops))
    }
    return Number.isSafeInteger(hops) && hops >= 0
      ? Either.right((_, hop) => hop < hops)
      : Either.left(inputError("ClientAddress", "hops", "a whole number of zero or more", hops))
  }
  if (trustedProxies.length === 0) return Either.right(() => false)
  const list = new BlockList()
  for (const range of trustedProxies) {
    const expected = "addresses, and ranges as in 10.0.0.0/8"
    const bad = () => Either.left(inputError("ClientAddress", "trustedProxies", expected, range))
    if (typeof range !== "string") return bad()
    const slash = range.indexOf("/")
    const base = slash === -1 ? range : range.slice(0, slash)
    const address = parse(base)
    if (address === undefined) return bad()
    const spelt = isIPv4(base) ? 32 : 128
    const text = slash === -1 ? String(spelt) : range.slice(slash + 1)
    if (!/^\d{1,3}$/.test(text) || Number(text) > spelt) return bad()
    // A range of IPv4 that is spelt as IPv6 has 96 bits before it.
    const bits = address.family === "ipv4" && spelt === 128 ? Number(text) - 96 : Number(text)
    if (bits < 0) return bad()
    list.addSubnet(address.text, bits, address.family)
  }
  return Either.right((proxy) => proxy !== undefined && list.check(proxy.text, proxy.family))
}

/**
 * How to find the address of a client. It fails when a range is none.
 *
 * An entry of the list that is no address ends the search: the client is then the proxy that wrote it, so nobody gets a name
 * of their choice by writing nonsense.
 *
 * @example
 * ```ts
 * import { Either, Option } from "effect"
 * import { ClientAddress } from "effect-redis-kit/http"
 *
 * const resolve = Either.getOrThrow(ClientAddress.make({ trustedProxies: ["10.0.0.0/8"] }))
 *
 * // "203.0.113.7": what stands left of it was written by the client.
 * const address = resolve({ "x-forwarded-for": "127.0.0.1, 203.0.113.7, 10.0.0.2" }, Option.some("10.0.0.1"))
 * ```
 *
 * @since 0.1.0
 * @category constructors
 */
export const make = (options: Options = {}): Either.Either<Resolver, RedisInputError> => {
  const { header = "x-forwarded-for", ipv6Prefix = 64 } = options
  if (!Number.isSafeInteger(ipv6Prefix) || ipv6Prefix < 1 || ipv6Prefix > 128) {
    return Either.left(inputError("ClientAddress", "ipv6Prefix", "a whole number from 1 to 128", ipv6Prefix))
  }
  const read = readers[header]
  if (read === undefined) {
    return Either.left(inputError("ClientAddress", "header", `"x-forwarded-for" or "forwarded"`, header))
  }
  return Either.map(trustsOf(options), (trusts) => (headers, peer) => {
    let client = Option.isNone(peer) ? undefined : parse(peer.value)
    const list = headers[header] ?? ""
    let end = list.length
    for (let hop = 0; end > 0 && trusts(client, hop); hop++) {
      const comma = list.lastIndexOf(",", end - 1)
      const entry = read(list.slice(comma + 1, end))
      if (entry === undefined) break
      client = entry
      end = comma
    }
    if (client === undefined) return Option.none()
    return Option.some(client.family === "ipv4" ? client.text : network(client.text, ipv6Prefix))
  })
}

/**
 * The networks that are never reached from the internet, for `trustedProxies` where only one's own proxies are in them.
 *
 * @since 0.1.0
 * @category constructors
 */
export const privateNetworks: ReadonlyArray<string> = [
  "127.0.0.0/8",
  "10.0.0.0/8",
  "172.16.0.0/12",
  "192.168.0.0/16",
  "169.254.0.0/16",
  "::1/128",
  "fc00::/7",
  "fe80::/10"
]

// ---------------------------------------------------------------------------------------------------------------------
// Accessors
// ---------------------------------------------------------------------------------------------------------------------

/**
 * The address of whoever sent the request of the environment. Without options no header is believed, and it is the other end
 * of the connection. Where there is none, as on a Unix socket, it is `"unknown"`, one name for all.
 *
 * `HttpMiddleware.xForwardedHeaders` overwrites the other end of the connection with what any client says. Don't use both.
 *
 * @example
 * ```ts
 * import { Effect } from "effect"
 * import { ClientAddress } from "effect-redis-kit/http"
 *
 * const client = ClientAddress.fromRequest({ trustedProxies: ClientAddress.privateNetworks })
 *
 * const program = Effect.flatMap(client, (address) => Effect.log(`a request of ${address}`))
 * ```
 *
 * @since 0.1.0
 * @category accessors
 */
export const fromRequest = (
  options?: Options
): Effect.Effect<string, RedisInputError, HttpServerRequest.HttpServerRequest> =>
  Either.match(make(options), {
    onLeft: Effect.fail,
    onRight: (resolve) =>
      Effect.map(
        HttpServerRequest.HttpServerRequest,
        (request) => Option.getOrElse(resolve(request.headers, request.remoteAddress), () => "unknown")
      )
  })
