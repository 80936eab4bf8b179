/**
 * What the server keeps of an entry: one string, a header of a fixed width, the tags, and the payload.
 *
 * | bytes | what |
 * |---|---|
 * | 0 | `V` a value, `N` the lookup found nothing, `F` it failed with a declared error; small when the codec of the cache has written the payload, which is JSON otherwise. `L` a lookup is under way |
 * | 1 to 9 | the epoch that was known before the lookup began, in microseconds |
 * | 10 to 12 | the length of the tags in bytes |
 * | 13 to 16 | how long the lookup took, in milliseconds; 0 once it is being refreshed |
 * | 17 to 24 | when it is soft-expired, in milliseconds by the clock of the server |
 * | 25 to 29 | a mark that differs with each write |
 *
 * Numbers are written to the base of 62, so that they stay readable and take few bytes. Another format has other letters.
 *
 * Nothing but a lease begins with `L`, and it has a mark of its own behind that. So the header tells any two writes apart,
 * and scripts compare it alone.
 */
import { Buffer } from "node:buffer"

export const HEADER = 30

/** From here on the header is overwritten by whoever is to refresh the entry. */
export const PATCH = 13

const SOFT = 17

const MARK = 25

/** Where the epoch begins and ends. Texts of equal length are in the order of the numbers. */
export const EPOCH = [1, 10] as const

const BASE = 62

/** How many bytes the tags of an entry may take. */
export const TAGS_LIMIT = BASE ** (PATCH - EPOCH[1]) - 1

/** As late as the header can say; an entry of this soft expiry has none. */
const NEVER = BASE ** (MARK - SOFT) - 1

const COMPUTE_LIMIT = BASE ** (SOFT - PATCH) - 1

/** How many marks there are. */
export const MARKS = BASE ** (HEADER - MARK)

export type Kind = "V" | "N" | "F"

export interface Entry {
  readonly kind: Kind
  readonly epoch: number
  /** Milliseconds. */
  readonly compute: number
  /** Milliseconds by the clock of the server; `Infinity` when it is never stale. */
  readonly soft: number
  readonly tags: ReadonlyArray<string>
  readonly encoded: boolean
  readonly buffer: Buffer
  /** Where the payload begins. */
  readonly start: number
}

const noTags: ReadonlyArray<string> = []
const RESERVED = /[%\n]/

/** Tags are written one to a line. */
const writeTag = (tag: string): string => RESERVED.test(tag) ? tag.replace(/[%\n]/g, encodeURIComponent) : tag
const readTag = (text: string): string => text.includes("%") ? decodeURIComponent(text) : text

/** In the order of their codes. */
const DIGITS = "0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz"

const digits = (n: number, width: number): string => {
  let text = ""
  for (; width > 0; width--) {
    const rest = Math.floor(n / BASE)
    text = DIGITS[n - rest * BASE] + text
    n = rest
  }
  return text
}

/** What a header ends with. */
export const patch = (compute: number, soft: number, mark: string): string =>
  digits(Math.min(Math.round(compute), COMPUTE_LIMIT), SOFT - PATCH) +
  digits(Math.min(Math.ceil(soft), NEVER), MARK - SOFT) + mark

/** A moment in microseconds, as entries have it. */
export const epochOf = (micros: number): string => digits(micros, EPOCH[1] - EPOCH[0])

/** Tags as an entry has them. */
export const tagsOf = (tags: ReadonlyArray<string>): string => tags.length === 0 ? "" : tags.map(writeTag).join("\n")

/** A mark from a counter. */
export const markOf = (n: number): string => digits(n % MARKS, HEADER - MARK)

/** The header after its end was overwritten. */
export const patched = (head: string, patch: string): string => head.slice(0, PATCH) + patch

export const write = (entry: {
  readonly kind: Kind
  readonly epoch: number
  readonly compute: number
  readonly soft: number
  readonly mark: string
  /** By `tagsOf`; no longer than the limit. */
  readonly tags: string
  readonly encoded: boolean
  readonly payload: string | Uint8Array
}): string | Uint8Array => {
  const { tags } = entry
  const head = (entry.encoded ? entry.kind.toLowerCase() : entry.kind) + epochOf(entry.epoch) +
    digits(Buffer.byteLength(tags), PATCH - EPOCH[1]) + patch(entry.compute, entry.soft, entry.mark) + tags
  return typeof entry.payload === "string"
    ? head + entry.payload
    : Buffer.concat([Buffer.from(head), entry.payload])
}

const toBuffer = (bytes: Uint8Array): Buffer =>
  Buffer.isBuffer(bytes) ? bytes : Buffer.from(bytes.buffer, bytes.byteOffset, bytes.byteLength)

/** What scripts compare to know that a key still holds these bytes. */
export const headOf = (bytes: Uint8Array): Uint8Array => bytes.subarray(0, HEADER)

const L = "L".charCodeAt(0)

/** By the code of the first letter. */
const kinds: ReadonlyArray<readonly [kind: Kind, encoded: boolean] | undefined> = Array.from(
  { length: 256 },
  (_, code) => {
    const letter = String.fromCharCode(code)
    const kind = letter.toUpperCase()
    return kind === "V" || kind === "N" || kind === "F" ? [kind, letter !== kind] as const : undefined
  }
)

/** What a code is worth as a digit; no number when it is none. */
const values = Float64Array.from({ length: 256 }, (_, code) => {
  const value = DIGITS.indexOf(String.fromCharCode(code))
  return value < 0 ? NaN : value
})

export const isLease = (bytes: Uint8Array): boolean => bytes[0] === L

const number = (bytes: Uint8Array, from: number, to: number): number => {
  let n = 0
  for (let i = from; i < to; i++) n = n * BASE + values[bytes[i]!]!
  return n
}

/** `undefined` when it is nothing that this module has written. */
export const read = (bytes: Uint8Array): Entry | undefined => {
  if (bytes.length < HEADER) return undefined
  const first = kinds[bytes[0]!]
  if (first === undefined) return undefined
  const epoch = number(bytes, EPOCH[0], EPOCH[1])
  const length = number(bytes, EPOCH[1], PATCH)
  const compute = number(bytes, PATCH, SOFT)
  const soft = number(bytes, SOFT, MARK)
  const start = HEADER + length
  // What is no number is not at least zero.
  if (!(epoch >= 0 && compute >= 0 && soft >= 0 && start <= bytes.length)) return undefined
  const buffer = toBuffer(bytes)
  let tags = noTags
  if (length > 0) {
    try {
      tags = buffer.toString("utf8", HEADER, start).split("\n").map(readTag)
    } catch {
      return undefined
    }
  }
  return {
    kind: first[0],
    epoch,
    compute,
    soft: soft === NEVER ? Infinity : soft,
    tags,
    encoded: first[1],
    buffer,
    start
  }
}

/** A payload that no codec has written. */
export const textOf = ({ buffer, start }: Entry): string => buffer.toString("utf8", start)

/** The header, by which scripts know this very write. */
export const headerOf = ({ buffer }: Entry): string => buffer.toString("latin1", 0, HEADER)
