/**
 * What the server keeps of an entry: one string, a header of a fixed width, the tags, and the payload.
 *
 * | bytes | what |
 * |---|---|
 * | 0 | `V` a value, `N` the lookup found nothing, `F` it failed with a declared error, `L` a lookup is under way |
 * | 1 | the format, `1` |
 * | 2 | how the payload is written: `j` JSON, `c` by the codec of the cache |
 * | 3 to 18 | the epoch that was known before the lookup began, in microseconds |
 * | 19 to 22 | the length of the tags in bytes, to the base of 36 |
 * | 23 to 26 | how long the lookup took, in milliseconds, to the base of 36; 0 once it is being refreshed |
 * | 27 to 39 | when it is soft-expired, in milliseconds by the clock of the server |
 * | 40 to 45 | a mark that differs with each write |
 *
 * Nothing but a lease begins with `L`, and it has a mark of its own behind that. So the header tells any two writes apart,
 * and scripts compare it alone.
 */
import { Buffer } from "node:buffer"

export const HEADER = 46

/** From here on the header is overwritten by whoever is to refresh the entry. */
export const PATCH = 23

const FORMAT = "1"

/** As late as the header can say; an entry of this soft expiry has none. */
const NEVER = 9_999_999_999_999

const COMPUTE_LIMIT = 36 ** 4 - 1

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

const digits = (n: number, width: number): string => String(n).padStart(width, "0")
const base36 = (n: number, width: number): string => n.toString(36).padStart(width, "0")

/** What a header ends with. */
export const patch = (compute: number, soft: number, mark: string): string =>
  base36(Math.min(Math.round(compute), COMPUTE_LIMIT), 4) + digits(Math.min(Math.ceil(soft), NEVER), 13) + mark

/** A mark from a counter. */
export const markOf = (n: number): string => base36(n % 36 ** 6, 6)

/** The header after its end was overwritten. */
export const patched = (head: string, patch: string): string => head.slice(0, PATCH) + patch

export const write = (entry: {
  readonly kind: Kind
  readonly epoch: number
  readonly compute: number
  readonly soft: number
  readonly mark: string
  readonly tags: ReadonlyArray<string>
  readonly encoded: boolean
  readonly payload: string | Uint8Array
}): string | Uint8Array => {
  const tags = entry.tags.length === 0 ? "" : entry.tags.map(writeTag).join("\n")
  const head = entry.kind + FORMAT + (entry.encoded ? "c" : "j") + digits(entry.epoch, 16) +
    base36(Buffer.byteLength(tags), 4) + patch(entry.compute, entry.soft, entry.mark) + tags
  return typeof entry.payload === "string"
    ? head + entry.payload
    : Buffer.concat([Buffer.from(head), entry.payload])
}

const toBuffer = (bytes: Uint8Array): Buffer =>
  Buffer.isBuffer(bytes) ? bytes : Buffer.from(bytes.buffer, bytes.byteOffset, bytes.byteLength)

/** What scripts compare to know that a key still holds these bytes. */
export const headOf = (bytes: Uint8Array): Uint8Array => bytes.subarray(0, HEADER)

const L = "L".charCodeAt(0)
const J = "j".charCodeAt(0)
const C = "c".charCodeAt(0)

export const isLease = (bytes: Uint8Array): boolean => bytes[0] === L

const digit = (byte: number): number =>
  byte >= 48 && byte <= 57 ? byte - 48 : byte >= 97 && byte <= 122 ? byte - 87 : NaN

const number = (bytes: Uint8Array, from: number, to: number, base: number): number => {
  let n = 0
  for (let i = from; i < to; i++) n = n * base + digit(bytes[i]!)
  return n
}

const isKind = (kind: string): kind is Kind => kind === "V" || kind === "N" || kind === "F"

/** `undefined` when it is nothing that this module has written. */
export const read = (bytes: Uint8Array): Entry | undefined => {
  if (bytes.length < HEADER) return undefined
  const kind = String.fromCharCode(bytes[0]!)
  const encoding = bytes[2]
  if (!isKind(kind) || bytes[1] !== FORMAT.charCodeAt(0) || (encoding !== J && encoding !== C)) return undefined
  const epoch = number(bytes, 3, 19, 10)
  const length = number(bytes, 19, PATCH, 36)
  const compute = number(bytes, PATCH, 27, 36)
  const soft = number(bytes, 27, 40, 10)
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
    kind,
    epoch,
    compute,
    soft: soft === NEVER ? Infinity : soft,
    tags,
    encoded: encoding === C,
    buffer,
    start
  }
}

/** The header, by which scripts know this very write. */
export const headerOf = ({ buffer }: Entry): string => buffer.toString("latin1", 0, HEADER)
