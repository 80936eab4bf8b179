/**
 * What the server keeps of an entry: one string, a header of a fixed width, the tags, and the payload.
 *
 * | bytes | what |
 * |---|---|
 * | 0 | `V` a value, `N` the lookup found nothing, `F` it failed with a declared error, `L` a lookup is under way |
 * | 1 | the format, `1` |
 * | 2 | how the payload is written: `j` JSON, `c` by the codec of the cache |
 * | 3 to 13 | the epoch that was known before the lookup began, in microseconds |
 * | 14 to 16 | the length of the tags in bytes |
 * | 17 to 20 | how long the lookup took, in milliseconds; 0 once it is being refreshed |
 * | 21 to 29 | when it is soft-expired, in milliseconds by the clock of the server |
 * | 30 to 35 | a mark that differs with each write |
 *
 * Numbers are written to the base of 36, so that they stay readable and take few bytes.
 *
 * Nothing but a lease begins with `L`, and it has a mark of its own behind that. So the header tells any two writes apart,
 * and scripts compare it alone.
 */
import { Buffer } from "node:buffer"

export const HEADER = 36

/** From here on the header is overwritten by whoever is to refresh the entry. */
export const PATCH = 17

/** Where the epoch begins and ends. Texts of equal length are in the order of the numbers. */
export const EPOCH = [3, 14] as const

/** How many bytes the tags of an entry may take. */
export const TAGS_LIMIT = 36 ** 3 - 1

const FORMAT = "1"

/** As late as the header can say; an entry of this soft expiry has none. */
const NEVER = 36 ** 9 - 1

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

const base36 = (n: number, width: number): string => n.toString(36).padStart(width, "0")

/** What a header ends with. */
export const patch = (compute: number, soft: number, mark: string): string =>
  base36(Math.min(Math.round(compute), COMPUTE_LIMIT), 4) + base36(Math.min(Math.ceil(soft), NEVER), 9) + mark

/** A moment in microseconds, as entries have it. */
export const epochOf = (micros: number): string => base36(micros, 11)

/** Tags as an entry has them. */
export const tagsOf = (tags: ReadonlyArray<string>): string => tags.length === 0 ? "" : tags.map(writeTag).join("\n")

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
  /** By `tagsOf`; no longer than the limit. */
  readonly tags: string
  readonly encoded: boolean
  readonly payload: string | Uint8Array
}): string | Uint8Array => {
  const { tags } = entry
  const head = entry.kind + FORMAT + (entry.encoded ? "c" : "j") + epochOf(entry.epoch) +
    base36(Buffer.byteLength(tags), 3) + patch(entry.compute, entry.soft, entry.mark) + tags
  return typeof entry.payload === "string"
    ? head + entry.payload
    : Buffer.concat([Buffer.from(head), entry.payload])
}

const toBuffer = (bytes: Uint8Array): Buffer =>
  Buffer.isBuffer(bytes) ? bytes : Buffer.from(bytes.buffer, bytes.byteOffset, bytes.byteLength)

/** What scripts compare to know that a key still holds these bytes. */
export const headOf = (bytes: Uint8Array): Uint8Array => bytes.subarray(0, HEADER)

const L = "L".charCodeAt(0)
const V = "V".charCodeAt(0)
const N = "N".charCodeAt(0)
const F = "F".charCodeAt(0)
const ONE = FORMAT.charCodeAt(0)
const J = "j".charCodeAt(0)
const C = "c".charCodeAt(0)

export const isLease = (bytes: Uint8Array): boolean => bytes[0] === L

const digit = (byte: number): number =>
  byte >= 48 && byte <= 57 ? byte - 48 : byte >= 97 && byte <= 122 ? byte - 87 : NaN

const number = (bytes: Uint8Array, from: number, to: number): number => {
  let n = 0
  for (let i = from; i < to; i++) n = n * 36 + digit(bytes[i]!)
  return n
}

/** `undefined` when it is nothing that this module has written. */
export const read = (bytes: Uint8Array): Entry | undefined => {
  if (bytes.length < HEADER) return undefined
  const first = bytes[0]
  const encoding = bytes[2]
  const kind = first === V ? "V" : first === N ? "N" : first === F ? "F" : undefined
  if (kind === undefined || bytes[1] !== ONE || (encoding !== J && encoding !== C)) return undefined
  const epoch = number(bytes, EPOCH[0], EPOCH[1])
  const length = number(bytes, EPOCH[1], PATCH)
  const compute = number(bytes, PATCH, 21)
  const soft = number(bytes, 21, 30)
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
