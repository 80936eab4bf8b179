/**
 * The commands of Redis as typed functions, grouped by data type. They are members of every `RedisClient` and of every
 * reserved connection.
 *
 * Four rules hold for all of them:
 *
 * - Keys and channels get the client's prefix, and it is taken off again where a reply holds them.
 * - What is absent is `Option.none`. A value is text; for bytes there are `getBytes` and `sendBytes`.
 * - An argument that cannot be right fails with `RedisInputError`, and nothing is sent. That includes an empty list of
 *   things to write; an empty list of things to read or to remove by key gives an empty result without asking the server.
 * - A reply of another shape fails with `RedisDecodeError`. That includes an integer past 2^53, which a number of
 *   JavaScript cannot hold.
 *
 * Commands that only read are sent again after a lost reply, by the client's retry schedule; all others never are.
 *
 * On a Cluster the keys of one command must be in one slot: give them a common `{hash tag}`. `mget`, `mset`, `del`,
 * `unlink`, `exists` and `touch` take any keys: they are sent as one command for each slot, so they are not atomic then.
 * When a part of one that writes fails and another does not, it fails with `RedisOutcomeUnknownError` (`partial`).
 * Commands about a whole server (`dbSize`, `flushDb`, `scriptLoad`, `scriptExists`, `scriptFlush`, `pubsubChannels`,
 * `pubsubNumSub`) ask every master.
 *
 * @since 0.1.0
 */
import type * as DateTime from "effect/DateTime"
import type * as Duration from "effect/Duration"
import type * as Effect from "effect/Effect"
import type * as Option from "effect/Option"
import type * as Stream from "effect/Stream"
import * as Bitmaps from "./internal/commands/bitmaps.js"
import * as Blocking from "./internal/commands/blocking.js"
import * as Decode from "./internal/commands/decode.js"
import { makeEnv } from "./internal/commands/env.js"
import * as Geo from "./internal/commands/geo.js"
import * as Glob from "./internal/commands/glob.js"
import * as Hashes from "./internal/commands/hashes.js"
import * as HyperLogLogs from "./internal/commands/hyperLogLogs.js"
import * as Keys from "./internal/commands/keys.js"
import * as Lists from "./internal/commands/lists.js"
import { scanPages } from "./internal/commands/scan.js"
import * as Server from "./internal/commands/server.js"
import * as Sets from "./internal/commands/sets.js"
import * as SortedSets from "./internal/commands/sortedSets.js"
import * as Streams from "./internal/commands/streams.js"
import * as Strings from "./internal/commands/strings.js"
import type { Connection, Encoding, Executor, RedisArg, Reply } from "./RedisClient.js"
import type { RedisError, RedisOutcomeUnknownError } from "./RedisError.js"

// ---------------------------------------------------------------------------------------------------------------------
// Models
// ---------------------------------------------------------------------------------------------------------------------

/**
 * @since 0.1.0
 * @category models
 */
export type KeyType = "string" | "list" | "set" | "zset" | "hash" | "stream"

/**
 * Names with values: a record, a `Map`, or any iterable of pairs.
 *
 * @since 0.1.0
 * @category models
 */
export type Entries<A> = Readonly<Record<string, A>> | Iterable<readonly [name: string, value: A]>

/**
 * A point in time; Redis keeps it in milliseconds.
 *
 * @since 0.1.0
 * @category models
 */
export type Instant = Date | DateTime.DateTime

/**
 * One end of a list.
 *
 * @since 0.1.0
 * @category models
 */
export type ListEnd = "left" | "right"

/**
 * @since 0.1.0
 * @category models
 */
export type ScoredMember = readonly [member: string, score: number]

/**
 * A score that belongs to the range, or one that is just outside.
 *
 * @since 0.1.0
 * @category models
 */
export type ScoreBound = number | { readonly exclusive: number }

/**
 * A bound that is left out is infinite.
 *
 * @since 0.1.0
 * @category models
 */
export interface ScoreRange {
  readonly min?: ScoreBound | undefined
  readonly max?: ScoreBound | undefined
}

/**
 * A member that belongs to the range, or one that is just outside.
 *
 * @since 0.1.0
 * @category models
 */
export type LexBound = string | { readonly exclusive: string }

/**
 * Members in the order of their bytes; it makes sense where all scores are equal. A bound that is left out is open.
 *
 * @since 0.1.0
 * @category models
 */
export interface LexRange {
  readonly min?: LexBound | undefined
  readonly max?: LexBound | undefined
}

/**
 * @since 0.1.0
 * @category models
 */
export interface Limit {
  /** How many to pass over; 0 by default. */
  readonly offset?: number | undefined
  /** How many at most; all by default. */
  readonly count?: number | undefined
}

/**
 * A range by position, first and last included; negative positions count from the end. All by default.
 *
 * @since 0.1.0
 * @category models
 */
export interface IndexRange {
  readonly by?: "index" | undefined
  readonly start?: number | undefined
  readonly stop?: number | undefined
  /** From the highest score down: position 0 is then the highest. */
  readonly rev?: boolean | undefined
  // What belongs to the other ranges would be passed over without a word.
  readonly min?: undefined
  readonly max?: undefined
  readonly limit?: undefined
}

/**
 * A range by score. `min` is the lower bound also with `rev`.
 *
 * @since 0.1.0
 * @category models
 */
export interface ByScoreRange extends ScoreRange {
  readonly by: "score"
  readonly rev?: boolean | undefined
  readonly limit?: Limit | undefined
}

/**
 * A range by the bytes of the members. `min` is the lower bound also with `rev`.
 *
 * @since 0.1.0
 * @category models
 */
export interface ByLexRange extends LexRange {
  readonly by: "lex"
  readonly rev?: boolean | undefined
  readonly limit?: Limit | undefined
}

/**
 * @since 0.1.0
 * @category models
 */
export type SortedSetRange = IndexRange | ByScoreRange | ByLexRange

/**
 * How a command sets the life of a key; at most one of them.
 *
 * @since 0.1.0
 * @category options
 */
export interface Expiry {
  /** From now on; at least a millisecond, and rounded up to whole ones. */
  readonly ttl?: Duration.DurationInput | undefined
  /** At an instant after the epoch. */
  readonly expireAt?: Instant | undefined
  /** As it was. */
  readonly keepTtl?: boolean | undefined
  /** None: the key stays. */
  readonly persist?: boolean | undefined
}

/**
 * At most one of `ttl`, `expireAt` and `keepTtl`; without them the key has no expiry, whatever it had before.
 *
 * @since 0.1.0
 * @category options
 */
export interface SetOptions extends Omit<Expiry, "persist"> {
  /** Only where the key does not exist, or only where it does. */
  readonly onlyIf?: "absent" | "present" | undefined
}

/**
 * @since 0.1.0
 * @category options
 */
export type GetExOptions =
  | { readonly ttl: Duration.DurationInput }
  | { readonly expireAt: Instant }
  | { readonly persist: true }

/**
 * @since 0.1.0
 * @category options
 */
export interface ExpireOptions {
  /**
   * Only where the key has no expiry, only where it has some, or only where the new one is later or earlier than the old
   * one; no expiry counts as later than all.
   */
  readonly onlyIf?: "none" | "some" | "greater" | "less" | undefined
}

/**
 * @since 0.1.0
 * @category options
 */
export interface ScanPageOptions {
  /** A glob; all by default. */
  readonly match?: string | undefined
  /** How many elements the server looks at in one step; its default is 10. */
  readonly count?: number | undefined
}

/**
 * @since 0.1.0
 * @category options
 */
export interface LposOptions {
  /** 1 is the first match, 2 the second; negative ones count from the tail. */
  readonly rank?: number | undefined
  /** How many elements are looked at. */
  readonly maxLength?: number | undefined
}

/**
 * @since 0.1.0
 * @category options
 */
export interface ZaddOptions {
  /**
   * `absent`: only new members; `present`: only members that are there; `greater`, `less`: new members, and those whose
   * score becomes greater or less by it.
   */
  readonly onlyIf?: "absent" | "present" | "greater" | "less" | undefined
  /** Count the members whose score changed, too. */
  readonly changed?: boolean | undefined
}

/**
 * @since 0.1.0
 * @category options
 */
export interface CombineOptions {
  /** One factor for each key, for its scores; 1 by default. */
  readonly weights?: ReadonlyArray<number> | undefined
  /** What becomes of the scores of a member that is in several; `sum` by default. */
  readonly aggregate?: "sum" | "min" | "max" | undefined
}

/**
 * An entry of a stream. Fields are pairs, because a name can occur twice; an entry that was removed has none.
 *
 * @since 0.1.0
 * @category models
 */
export interface StreamEntry {
  readonly id: string
  readonly fields: ReadonlyArray<readonly [name: string, value: string]>
}

/**
 * An id that belongs to the range, or one that is just outside.
 *
 * @since 0.1.0
 * @category models
 */
export type StreamBound = string | { readonly exclusive: string }

/**
 * Entries by their ids. `start` is the lower bound also of `xrevRange`; a bound that is left out is open.
 *
 * @since 0.1.0
 * @category models
 */
export interface StreamRange {
  readonly start?: StreamBound | undefined
  readonly end?: StreamBound | undefined
  /** How many at most; all by default. */
  readonly count?: number | undefined
}

/**
 * What a stream keeps: so many entries, or those from an id on; one of both.
 *
 * @since 0.1.0
 * @category options
 */
export interface StreamTrim {
  readonly maxLength?: number | undefined
  readonly minId?: string | undefined
  /** Some more may stay, where that costs less. */
  readonly approximate?: boolean | undefined
  /** How many entries at most are removed, with `approximate`; 0 removes all. */
  readonly limit?: number | undefined
}

/**
 * @since 0.1.0
 * @category options
 */
export interface XaddOptions {
  /** By default the server makes one of its time. */
  readonly id?: string | undefined
  /** Removes entries with the same step. */
  readonly trim?: StreamTrim | undefined
}

/**
 * Which pending entries.
 *
 * @since 0.1.0
 * @category options
 */
export interface PendingRange extends StreamRange {
  readonly count: number
  readonly consumer?: string | undefined
  /** Only those that were delivered at least so long ago. */
  readonly minIdle?: Duration.DurationInput | undefined
}

/**
 * Who claims entries, and how long ago they must have been delivered at least.
 *
 * @since 0.1.0
 * @category options
 */
export interface StreamClaim {
  readonly group: string
  readonly consumer: string
  readonly minIdle: Duration.DurationInput
}

/**
 * An entry that was delivered and not acknowledged.
 *
 * @since 0.1.0
 * @category models
 */
export interface PendingEntry {
  readonly id: string
  readonly consumer: string
  /** Since the last delivery. */
  readonly idle: Duration.Duration
  readonly deliveries: number
}

/**
 * @since 0.1.0
 * @category models
 */
export interface PendingSummary {
  readonly count: number
  readonly first: Option.Option<string>
  readonly last: Option.Option<string>
  readonly consumers: ReadonlyArray<readonly [consumer: string, count: number]>
}

/**
 * @since 0.1.0
 * @category models
 */
export interface StreamInfo {
  readonly length: number
  readonly groups: number
  readonly lastGeneratedId: string
  readonly entriesAdded: Option.Option<number>
  readonly first: Option.Option<StreamEntry>
  readonly last: Option.Option<StreamEntry>
}

/**
 * `entriesRead` and `lag` are none where the server can't tell.
 *
 * @since 0.1.0
 * @category models
 */
export interface StreamGroupInfo {
  readonly name: string
  readonly consumers: number
  /** How many entries were given to consumers and are not acknowledged. */
  readonly pending: number
  readonly lastDeliveredId: string
  /** Unknown when entries were deleted, or the group did not begin at the start. */
  readonly entriesRead: Option.Option<number>
  /** How many entries were not given to anybody yet. Unknown as `entriesRead` is. */
  readonly lag: Option.Option<number>
}

/**
 * @since 0.1.0
 * @category models
 */
export interface StreamConsumerInfo {
  readonly name: string
  readonly pending: number
  /** Since when nothing was heard of it. */
  readonly idle: Duration.Duration
}

/**
 * In degrees.
 *
 * @since 0.1.0
 * @category models
 */
export interface GeoPosition {
  /** From -180 to 180. */
  readonly longitude: number
  /** From -85.05112878 to 85.05112878. */
  readonly latitude: number
}

/**
 * @since 0.1.0
 * @category models
 */
export interface GeoMember extends GeoPosition {
  readonly member: string
}

/**
 * `distance` is in the unit of the query.
 *
 * @since 0.1.0
 * @category models
 */
export interface GeoFound extends GeoMember {
  readonly distance: number
}

/**
 * Meters, kilometers, miles or feet.
 *
 * @since 0.1.0
 * @category models
 */
export type GeoUnit = "m" | "km" | "mi" | "ft"

/**
 * Members within a circle or a box around a place.
 *
 * @since 0.1.0
 * @category options
 */
export interface GeoQuery {
  readonly from: GeoPosition | { readonly member: string }
  readonly by:
    | { readonly radius: number; readonly unit: GeoUnit }
    | { readonly width: number; readonly height: number; readonly unit: GeoUnit }
  /** None by default; but with `count` the nearest come first. */
  readonly order?: "nearest" | "farthest" | undefined
  readonly count?: number | undefined
  /** The first `count` that are found, which need not be the nearest. */
  readonly any?: boolean | undefined
}

/**
 * A part of a value, first and last included; negative positions count from the end.
 *
 * @since 0.1.0
 * @category options
 */
export interface BitRange {
  readonly start?: number | undefined
  readonly end?: number | undefined
  /** What positions count; bytes by default. */
  readonly unit?: "byte" | "bit" | undefined
}

/**
 * Sends one command, and makes a result of its reply. `idempotent` commands may be sent again by the client: `read`
 * changes nothing, `write` comes to the same when it is executed twice.
 *
 * @since 0.1.0
 * @category models
 */
export type Run = <A>(
  command: string,
  args: ReadonlyArray<RedisArg>,
  onReply: (reply: any) => Effect.Effect<A, RedisError>,
  options?: { readonly encoding?: Encoding; readonly idempotent?: "read" | "write" }
) => Effect.Effect<A, RedisError>

/**
 * What commands for several nodes need to know of a Cluster.
 *
 * @since 0.1.0
 * @category models
 */
export interface Nodes {
  /** The slot of a key with its prefix. */
  readonly slot: (key: string) => number
  /** How to send a command to each master. */
  readonly masters: Effect.Effect<ReadonlyArray<Run>, RedisError>
  /** What a command fails with that was executed in parts. */
  readonly partial: (command: string) => RedisOutcomeUnknownError
}

// ---------------------------------------------------------------------------------------------------------------------
// Commands
// ---------------------------------------------------------------------------------------------------------------------

/**
 * @since 0.1.0
 * @category commands
 */
export interface StringCommands {
  /** `GET`: the value of a key. */
  readonly get: (key: string) => Effect.Effect<Option.Option<string>, RedisError>
  /** `GET`: the value of a key, byte by byte. */
  readonly getBytes: (key: string) => Effect.Effect<Option.Option<Uint8Array>, RedisError>
  /** `SET`: replaces whatever the key holds. `false` when `onlyIf` did not apply and nothing was written. */
  readonly set: (key: string, value: RedisArg, options?: SetOptions) => Effect.Effect<boolean, RedisError>
  /**
   * `SET … GET`: as `set`, with the value that was there before. With `onlyIf` this value also tells whether it was
   * written: `absent` wrote where it is none, `present` where it is some.
   */
  readonly setGet: (
    key: string,
    value: RedisArg,
    options?: SetOptions
  ) => Effect.Effect<Option.Option<string>, RedisError>
  /** `GETDEL`: the value of a key that is removed with the same step. */
  readonly getDel: (key: string) => Effect.Effect<Option.Option<string>, RedisError>
  /** `GETEX`: the value of a key whose life is set with the same step. */
  readonly getEx: (key: string, options: GetExOptions) => Effect.Effect<Option.Option<string>, RedisError>
  /** `MGET`: one value for each key, in their order. On a Cluster slot by slot, and not at one moment. */
  readonly mget: (keys: ReadonlyArray<string>) => Effect.Effect<Array<Option.Option<string>>, RedisError>
  /** `MSET`: sets all keys in one step, or on a Cluster in one step for each slot. */
  readonly mset: (entries: Entries<RedisArg>) => Effect.Effect<void, RedisError>
  /** `MSETNX`: sets all keys, or none when any of them exists. On a Cluster they must be in one slot. */
  readonly msetNx: (entries: Entries<RedisArg>) => Effect.Effect<boolean, RedisError>
  /** `INCR`: adds one, and gives the new value. A key that does not exist counts as 0. */
  readonly incr: (key: string) => Effect.Effect<number, RedisError>
  /** `INCRBY`: adds a whole number. */
  readonly incrBy: (key: string, increment: number) => Effect.Effect<number, RedisError>
  /** `INCRBYFLOAT`: adds any finite number. */
  readonly incrByFloat: (key: string, increment: number) => Effect.Effect<number, RedisError>
  /** `DECR`: takes one away. */
  readonly decr: (key: string) => Effect.Effect<number, RedisError>
  /** `DECRBY`: takes a whole number away. */
  readonly decrBy: (key: string, decrement: number) => Effect.Effect<number, RedisError>
  /** `APPEND`: puts a value after the one that is there, and gives the new length in bytes. */
  readonly append: (key: string, value: RedisArg) => Effect.Effect<number, RedisError>
  /** `STRLEN`: the length in bytes, 0 for a key that does not exist. */
  readonly strlen: (key: string) => Effect.Effect<number, RedisError>
  /** `GETRANGE`: a part of the value by bytes, first and last included; negative positions count from the end. */
  readonly getRange: (key: string, start: number, end: number) => Effect.Effect<string, RedisError>
  /** `SETRANGE`: overwrites a part of the value, filled up with zero bytes, and gives the new length in bytes. */
  readonly setRange: (key: string, offset: number, value: RedisArg) => Effect.Effect<number, RedisError>
}

/**
 * @since 0.1.0
 * @category commands
 */
export interface KeyCommands {
  /** `DEL`: removes keys, and gives how many there were. On a Cluster slot by slot. */
  readonly del: (...keys: ReadonlyArray<string>) => Effect.Effect<number, RedisError>
  /** `UNLINK`: as `del`, and slot by slot too, but large values are freed in the background. */
  readonly unlink: (...keys: ReadonlyArray<string>) => Effect.Effect<number, RedisError>
  /** `EXISTS`: how many of the keys exist; one that is named twice counts twice. On a Cluster slot by slot. */
  readonly exists: (...keys: ReadonlyArray<string>) => Effect.Effect<number, RedisError>
  /** `PEXPIRE`: gives a key a life from now on. `false` when there is no such key, or `onlyIf` did not apply. */
  readonly expire: (
    key: string,
    ttl: Duration.DurationInput,
    options?: ExpireOptions
  ) => Effect.Effect<boolean, RedisError>
  /** `PEXPIREAT`: gives a key a life until an instant; one that has passed removes it. */
  readonly expireAt: (key: string, at: Instant, options?: ExpireOptions) => Effect.Effect<boolean, RedisError>
  /** `PERSIST`: takes the expiry away. `false` when there is no such key, or it had none. */
  readonly persist: (key: string) => Effect.Effect<boolean, RedisError>
  /** `PTTL`: the remaining life; `Duration.infinity` without expiry, none when there is no such key. */
  readonly ttl: (key: string) => Effect.Effect<Option.Option<Duration.Duration>, RedisError>
  /** `TYPE`: what a key holds. */
  readonly type: (key: string) => Effect.Effect<Option.Option<KeyType>, RedisError>
  /** `RENAME`: replaces what has the new name; a key that does not exist is an error of the server. */
  readonly rename: (key: string, newKey: string) => Effect.Effect<void, RedisError>
  /** `RENAMENX`: `false` when the new name is taken. */
  readonly renameNx: (key: string, newKey: string) => Effect.Effect<boolean, RedisError>
  /** `COPY`: with its expiry. `false` when there is no such key, or the destination is taken and `replace` not set. */
  readonly copy: (
    source: string,
    destination: string,
    options?: { readonly replace?: boolean | undefined }
  ) => Effect.Effect<boolean, RedisError>
  /** `TOUCH`: marks keys as used, and gives how many exist. On a Cluster slot by slot. */
  readonly touch: (...keys: ReadonlyArray<string>) => Effect.Effect<number, RedisError>
}

/**
 * @since 0.1.0
 * @category commands
 */
export interface HashCommands {
  /** `HSET`: sets fields, and gives how many of them are new. */
  readonly hset: (key: string, fields: Entries<RedisArg>) => Effect.Effect<number, RedisError>
  /** `HSETNX`: `false` when the field exists. */
  readonly hsetNx: (key: string, field: string, value: RedisArg) => Effect.Effect<boolean, RedisError>
  /** `HGET` */
  readonly hget: (key: string, field: string) => Effect.Effect<Option.Option<string>, RedisError>
  /** `HMGET`: one value for each field, in their order. */
  readonly hmget: (
    key: string,
    fields: ReadonlyArray<string>
  ) => Effect.Effect<Array<Option.Option<string>>, RedisError>
  /** `HGETALL`: empty when there is no such key. O(n). */
  readonly hgetAll: (key: string) => Effect.Effect<Record<string, string>, RedisError>
  /** `HDEL`: removes fields, and gives how many there were. */
  readonly hdel: (key: string, ...fields: ReadonlyArray<string>) => Effect.Effect<number, RedisError>
  /** `HEXISTS` */
  readonly hexists: (key: string, field: string) => Effect.Effect<boolean, RedisError>
  /** `HKEYS`. O(n). */
  readonly hkeys: (key: string) => Effect.Effect<Array<string>, RedisError>
  /** `HVALS`. O(n). */
  readonly hvals: (key: string) => Effect.Effect<Array<string>, RedisError>
  /** `HLEN` */
  readonly hlen: (key: string) => Effect.Effect<number, RedisError>
  /** `HSTRLEN`: the length of a value in bytes, 0 when it does not exist. */
  readonly hstrlen: (key: string, field: string) => Effect.Effect<number, RedisError>
  /** `HINCRBY`: adds a whole number to a field, and gives the new value. */
  readonly hincrBy: (key: string, field: string, increment: number) => Effect.Effect<number, RedisError>
  /** `HINCRBYFLOAT`: adds any finite number to a field, and gives the new value. */
  readonly hincrByFloat: (key: string, field: string, increment: number) => Effect.Effect<number, RedisError>
  /** `HRANDFIELD`: the name of a field. */
  readonly hrandField: (key: string) => Effect.Effect<Option.Option<string>, RedisError>
  /** `HRANDFIELD`: that many different fields; a negative count may repeat them. */
  readonly hrandFieldCount: (key: string, count: number) => Effect.Effect<Array<string>, RedisError>
  /** `HSCAN`: every field with its value, step by step. A field can come more than once. */
  readonly hscan: (
    key: string,
    options?: ScanPageOptions
  ) => Stream.Stream<readonly [field: string, value: string], RedisError>
}

/**
 * @since 0.1.0
 * @category commands
 */
export interface ListCommands {
  /** `LPUSH`: puts values before the head, one after the other, and gives the new length. */
  readonly lpush: (key: string, ...values: ReadonlyArray<RedisArg>) => Effect.Effect<number, RedisError>
  /** `RPUSH`: puts values after the tail, and gives the new length. */
  readonly rpush: (key: string, ...values: ReadonlyArray<RedisArg>) => Effect.Effect<number, RedisError>
  /** `LPUSHX`: as `lpush`, but only to a list that exists: else 0. */
  readonly lpushX: (key: string, ...values: ReadonlyArray<RedisArg>) => Effect.Effect<number, RedisError>
  /** `RPUSHX`: as `rpush`, but only to a list that exists: else 0. */
  readonly rpushX: (key: string, ...values: ReadonlyArray<RedisArg>) => Effect.Effect<number, RedisError>
  /** `LPOP`: takes the head. */
  readonly lpop: (key: string) => Effect.Effect<Option.Option<string>, RedisError>
  /** `LPOP`: takes up to that many from the head. */
  readonly lpopCount: (key: string, count: number) => Effect.Effect<Array<string>, RedisError>
  /** `RPOP`: takes the tail. */
  readonly rpop: (key: string) => Effect.Effect<Option.Option<string>, RedisError>
  /** `RPOP`: takes up to that many from the tail, the last one first. */
  readonly rpopCount: (key: string, count: number) => Effect.Effect<Array<string>, RedisError>
  /** `LLEN` */
  readonly llen: (key: string) => Effect.Effect<number, RedisError>
  /** `LRANGE`: by position, first and last included; negative ones count from the tail. */
  readonly lrange: (key: string, start: number, stop: number) => Effect.Effect<Array<string>, RedisError>
  /** `LINDEX`: O(n), but O(1) at both ends. */
  readonly lindex: (key: string, index: number) => Effect.Effect<Option.Option<string>, RedisError>
  /** `LSET`: a position that does not exist is an error of the server. */
  readonly lset: (key: string, index: number, value: RedisArg) => Effect.Effect<void, RedisError>
  /** `LINSERT`: the new length; none when the list or the pivot does not exist. O(n). */
  readonly linsert: (
    key: string,
    where: "before" | "after",
    pivot: RedisArg,
    value: RedisArg
  ) => Effect.Effect<Option.Option<number>, RedisError>
  /** `LREM`: removes the first (a negative count: the last) so many equal values, 0 removes all. O(n). */
  readonly lrem: (key: string, count: number, value: RedisArg) => Effect.Effect<number, RedisError>
  /** `LTRIM`: keeps only what is within the range. */
  readonly ltrim: (key: string, start: number, stop: number) => Effect.Effect<void, RedisError>
  /** `LMOVE`: takes from one end of a list, and puts it to one end of another, or of the same. */
  readonly lmove: (
    source: string,
    destination: string,
    options: { readonly from: ListEnd; readonly to: ListEnd }
  ) => Effect.Effect<Option.Option<string>, RedisError>
  /** `LPOS`: the position of a value. O(n). */
  readonly lpos: (
    key: string,
    value: RedisArg,
    options?: LposOptions
  ) => Effect.Effect<Option.Option<number>, RedisError>
  /** `LPOS`: up to that many positions of a value, 0 for all of them. O(n). */
  readonly lposCount: (
    key: string,
    value: RedisArg,
    count: number,
    options?: LposOptions
  ) => Effect.Effect<Array<number>, RedisError>
}

/**
 * @since 0.1.0
 * @category commands
 */
export interface SetCommands {
  /** `SADD`: how many of the members are new. */
  readonly sadd: (key: string, ...members: ReadonlyArray<RedisArg>) => Effect.Effect<number, RedisError>
  /** `SREM`: how many of the members there were. */
  readonly srem: (key: string, ...members: ReadonlyArray<RedisArg>) => Effect.Effect<number, RedisError>
  /** `SMEMBERS`, in no order. O(n). */
  readonly smembers: (key: string) => Effect.Effect<Array<string>, RedisError>
  /** `SISMEMBER` */
  readonly sismember: (key: string, member: RedisArg) => Effect.Effect<boolean, RedisError>
  /** `SMISMEMBER`: one answer for each member, in their order. */
  readonly smismember: (key: string, members: ReadonlyArray<RedisArg>) => Effect.Effect<Array<boolean>, RedisError>
  /** `SCARD` */
  readonly scard: (key: string) => Effect.Effect<number, RedisError>
  /** `SPOP`: takes any member. */
  readonly spop: (key: string) => Effect.Effect<Option.Option<string>, RedisError>
  /** `SPOP`: takes up to that many members. */
  readonly spopCount: (key: string, count: number) => Effect.Effect<Array<string>, RedisError>
  /** `SRANDMEMBER`: any member. */
  readonly srandMember: (key: string) => Effect.Effect<Option.Option<string>, RedisError>
  /** `SRANDMEMBER`: that many different members; a negative count may repeat them. */
  readonly srandMemberCount: (key: string, count: number) => Effect.Effect<Array<string>, RedisError>
  /** `SMOVE`: `false` when the source has no such member. */
  readonly smove: (source: string, destination: string, member: RedisArg) => Effect.Effect<boolean, RedisError>
  /** `SUNION`. O(n) of all members. */
  readonly sunion: (keys: ReadonlyArray<string>) => Effect.Effect<Array<string>, RedisError>
  /** `SINTER`. O(n) of the smallest set, times the number of sets. */
  readonly sinter: (keys: ReadonlyArray<string>) => Effect.Effect<Array<string>, RedisError>
  /** `SDIFF`: what is in the first set and in none of the others. O(n) of all members. */
  readonly sdiff: (keys: ReadonlyArray<string>) => Effect.Effect<Array<string>, RedisError>
  /** `SUNIONSTORE`: how many members the destination has. An empty result removes it. */
  readonly sunionStore: (destination: string, keys: ReadonlyArray<string>) => Effect.Effect<number, RedisError>
  /** `SINTERSTORE`: how many members the destination has. An empty result removes it. */
  readonly sinterStore: (destination: string, keys: ReadonlyArray<string>) => Effect.Effect<number, RedisError>
  /** `SDIFFSTORE`: how many members the destination has. An empty result removes it. */
  readonly sdiffStore: (destination: string, keys: ReadonlyArray<string>) => Effect.Effect<number, RedisError>
  /** `SINTERCARD`: how many members all sets share; counting ends at `limit`. */
  readonly sinterCard: (
    keys: ReadonlyArray<string>,
    options?: { readonly limit?: number | undefined }
  ) => Effect.Effect<number, RedisError>
  /** `SSCAN`: every member, step by step. A member can come more than once. */
  readonly sscan: (key: string, options?: ScanPageOptions) => Stream.Stream<string, RedisError>
}

/**
 * @since 0.1.0
 * @category commands
 */
export interface SortedSetCommands {
  /** `ZADD`: how many of the members are new; with `changed` also those whose score changed. O(log n) each. */
  readonly zadd: (
    key: string,
    entries: Entries<number> | Iterable<readonly [member: RedisArg, score: number]>,
    options?: ZaddOptions
  ) => Effect.Effect<number, RedisError>
  /** `ZINCRBY`: adds to the score of a member, and gives the new one. */
  readonly zincrBy: (key: string, increment: number, member: RedisArg) => Effect.Effect<number, RedisError>
  /** `ZREM`: how many of the members there were. */
  readonly zrem: (key: string, ...members: ReadonlyArray<RedisArg>) => Effect.Effect<number, RedisError>
  /** `ZSCORE` */
  readonly zscore: (key: string, member: RedisArg) => Effect.Effect<Option.Option<number>, RedisError>
  /** `ZMSCORE`: one score for each member, in their order. */
  readonly zmscore: (
    key: string,
    members: ReadonlyArray<RedisArg>
  ) => Effect.Effect<Array<Option.Option<number>>, RedisError>
  /** `ZRANK`: the position from the lowest score, which is 0. */
  readonly zrank: (key: string, member: RedisArg) => Effect.Effect<Option.Option<number>, RedisError>
  /** `ZREVRANK`: the position from the highest score, which is 0. */
  readonly zrevRank: (key: string, member: RedisArg) => Effect.Effect<Option.Option<number>, RedisError>
  /** `ZCARD` */
  readonly zcard: (key: string) => Effect.Effect<number, RedisError>
  /** `ZCOUNT`: how many scores are within a range. O(log n). */
  readonly zcount: (key: string, range?: ScoreRange) => Effect.Effect<number, RedisError>
  /** `ZLEXCOUNT`: how many members are within a range of bytes. O(log n). */
  readonly zlexCount: (key: string, range?: LexRange) => Effect.Effect<number, RedisError>
  /** `ZRANGE`: by position, score or bytes; everything by default. O(log n + m). */
  readonly zrange: (key: string, range?: SortedSetRange) => Effect.Effect<Array<string>, RedisError>
  /** `ZRANGE … WITHSCORES`, which the server does not offer by bytes. */
  readonly zrangeWithScores: (
    key: string,
    range?: IndexRange | ByScoreRange
  ) => Effect.Effect<Array<ScoredMember>, RedisError>
  /** `ZRANGESTORE`: how many members the destination has. An empty result removes it. */
  readonly zrangeStore: (
    destination: string,
    source: string,
    range: SortedSetRange
  ) => Effect.Effect<number, RedisError>
  /** `ZPOPMIN`: takes the member with the lowest score. */
  readonly zpopMin: (key: string) => Effect.Effect<Option.Option<ScoredMember>, RedisError>
  /** `ZPOPMIN`: takes up to that many, the lowest first. */
  readonly zpopMinCount: (key: string, count: number) => Effect.Effect<Array<ScoredMember>, RedisError>
  /** `ZPOPMAX`: takes the member with the highest score. */
  readonly zpopMax: (key: string) => Effect.Effect<Option.Option<ScoredMember>, RedisError>
  /** `ZPOPMAX`: takes up to that many, the highest first. */
  readonly zpopMaxCount: (key: string, count: number) => Effect.Effect<Array<ScoredMember>, RedisError>
  /** `ZREMRANGEBYRANK`: removes by position, and gives how many there were. */
  readonly zremRangeByRank: (key: string, start: number, stop: number) => Effect.Effect<number, RedisError>
  /** `ZREMRANGEBYSCORE`: removes by score; both bounds have to be given, infinite ones too. */
  readonly zremRangeByScore: (
    key: string,
    range: { readonly min: ScoreBound; readonly max: ScoreBound }
  ) => Effect.Effect<number, RedisError>
  /** `ZREMRANGEBYLEX`: removes by bytes; a bound that is left out is open. */
  readonly zremRangeByLex: (key: string, range: LexRange) => Effect.Effect<number, RedisError>
  /** `ZUNION`, in the order of the resulting scores. */
  readonly zunion: (
    keys: ReadonlyArray<string>,
    options?: CombineOptions
  ) => Effect.Effect<Array<string>, RedisError>
  /** `ZUNION … WITHSCORES` */
  readonly zunionWithScores: (
    keys: ReadonlyArray<string>,
    options?: CombineOptions
  ) => Effect.Effect<Array<ScoredMember>, RedisError>
  /** `ZUNIONSTORE`: how many members the destination has. An empty result removes it. */
  readonly zunionStore: (
    destination: string,
    keys: ReadonlyArray<string>,
    options?: CombineOptions
  ) => Effect.Effect<number, RedisError>
  /** `ZINTER`, in the order of the resulting scores. */
  readonly zinter: (
    keys: ReadonlyArray<string>,
    options?: CombineOptions
  ) => Effect.Effect<Array<string>, RedisError>
  /** `ZINTER … WITHSCORES` */
  readonly zinterWithScores: (
    keys: ReadonlyArray<string>,
    options?: CombineOptions
  ) => Effect.Effect<Array<ScoredMember>, RedisError>
  /** `ZINTERSTORE`: how many members the destination has. An empty result removes it. */
  readonly zinterStore: (
    destination: string,
    keys: ReadonlyArray<string>,
    options?: CombineOptions
  ) => Effect.Effect<number, RedisError>
  /** `ZDIFF`: what is in the first set and in none of the others. */
  readonly zdiff: (keys: ReadonlyArray<string>) => Effect.Effect<Array<string>, RedisError>
  /** `ZDIFF … WITHSCORES` */
  readonly zdiffWithScores: (keys: ReadonlyArray<string>) => Effect.Effect<Array<ScoredMember>, RedisError>
  /** `ZDIFFSTORE`: how many members the destination has. An empty result removes it. */
  readonly zdiffStore: (destination: string, keys: ReadonlyArray<string>) => Effect.Effect<number, RedisError>
  /** `ZINTERCARD`: how many members all sets share; counting ends at `limit`. */
  readonly zinterCard: (
    keys: ReadonlyArray<string>,
    options?: { readonly limit?: number | undefined }
  ) => Effect.Effect<number, RedisError>
  /** `ZRANDMEMBER`: any member. */
  readonly zrandMember: (key: string) => Effect.Effect<Option.Option<string>, RedisError>
  /** `ZRANDMEMBER`: that many different members; a negative count may repeat them. */
  readonly zrandMemberCount: (key: string, count: number) => Effect.Effect<Array<string>, RedisError>
  /** `ZSCAN`: every member with its score, step by step. A member can come more than once. */
  readonly zscan: (key: string, options?: ScanPageOptions) => Stream.Stream<ScoredMember, RedisError>
}

/**
 * Reading that waits for entries, consumer groups as workers, and typed entries are in `Stream` and `ConsumerGroup`.
 *
 * @since 0.1.0
 * @category commands
 */
export interface StreamCommands {
  /** `XADD`: appends an entry, and gives its id. */
  readonly xadd: (
    key: string,
    fields: Entries<RedisArg>,
    options?: XaddOptions
  ) => Effect.Effect<string, RedisError>
  /** `XADD … NOMKSTREAM`: the same, but only to a stream that exists. */
  readonly xaddNoMkStream: (
    key: string,
    fields: Entries<RedisArg>,
    options?: XaddOptions
  ) => Effect.Effect<Option.Option<string>, RedisError>
  /** `XLEN` */
  readonly xlen: (key: string) => Effect.Effect<number, RedisError>
  /** `XRANGE`: the oldest first; everything by default. */
  readonly xrange: (key: string, range?: StreamRange) => Effect.Effect<Array<StreamEntry>, RedisError>
  /** `XREVRANGE`: the newest first; everything by default. */
  readonly xrevRange: (key: string, range?: StreamRange) => Effect.Effect<Array<StreamEntry>, RedisError>
  /**
   * `XREAD`: entries of several streams behind an id of each. It does not wait, and streams without such entries are left
   * out.
   */
  readonly xread: (
    after: Entries<string>,
    options?: { readonly count?: number | undefined }
  ) => Effect.Effect<Array<readonly [key: string, entries: ReadonlyArray<StreamEntry>]>, RedisError>
  /** `XDEL`: how many of the entries there were. */
  readonly xdel: (key: string, ...ids: ReadonlyArray<string>) => Effect.Effect<number, RedisError>
  /** `XTRIM`: how many entries were removed. */
  readonly xtrim: (key: string, trim: StreamTrim) => Effect.Effect<number, RedisError>
  /** `XGROUP CREATE`: with `start: "0"` the group gets all that is there, with `"$"` only what comes. */
  readonly xgroupCreate: (
    key: string,
    group: string,
    options: { readonly start: string; readonly mkStream?: boolean | undefined }
  ) => Effect.Effect<void, RedisError>
  /** `XGROUP SETID`: which entry was the last one delivered. */
  readonly xgroupSetId: (key: string, group: string, id: string) => Effect.Effect<void, RedisError>
  /** `XGROUP DESTROY`: `false` when there was none. */
  readonly xgroupDestroy: (key: string, group: string) => Effect.Effect<boolean, RedisError>
  /** `XGROUP CREATECONSUMER`: `false` when there is one. */
  readonly xgroupCreateConsumer: (key: string, group: string, consumer: string) => Effect.Effect<boolean, RedisError>
  /** `XGROUP DELCONSUMER`: how many pending entries it had, which **nobody gets any more**. */
  readonly xgroupDelConsumer: (key: string, group: string, consumer: string) => Effect.Effect<number, RedisError>
  /** `XREADGROUP`: with the id `>` entries that nobody got yet, else those that this consumer has not acknowledged. */
  readonly xreadGroup: (
    reader: { readonly group: string; readonly consumer: string },
    after: Entries<string>,
    options?: { readonly count?: number | undefined; readonly noAck?: boolean | undefined }
  ) => Effect.Effect<Array<readonly [key: string, entries: ReadonlyArray<StreamEntry>]>, RedisError>
  /** `XACK`: how many of the entries were pending. */
  readonly xack: (key: string, group: string, ...ids: ReadonlyArray<string>) => Effect.Effect<number, RedisError>
  /** `XPENDING`: how many entries are pending, and with whom. */
  readonly xpending: (key: string, group: string) => Effect.Effect<PendingSummary, RedisError>
  /** `XPENDING`: some of the pending entries. */
  readonly xpendingRange: (
    key: string,
    group: string,
    range: PendingRange
  ) => Effect.Effect<Array<PendingEntry>, RedisError>
  /** `XCLAIM`: takes over pending entries, those of them that were delivered long enough ago. */
  readonly xclaim: (
    key: string,
    claim: StreamClaim,
    ...ids: ReadonlyArray<string>
  ) => Effect.Effect<Array<StreamEntry>, RedisError>
  /** `XCLAIM … JUSTID`: the same, which does not count as a delivery. */
  readonly xclaimJustId: (
    key: string,
    claim: StreamClaim,
    ...ids: ReadonlyArray<string>
  ) => Effect.Effect<Array<string>, RedisError>
  /**
   * `XAUTOCLAIM`: takes over up to `count` pending entries (100 by default) from `start` on. `next` is where to go on,
   * `0-0` at the end; `deleted` are entries that were removed from the stream, and are pending no longer.
   */
  readonly xautoClaim: (
    key: string,
    claim: StreamClaim,
    options?: { readonly start?: string | undefined; readonly count?: number | undefined }
  ) => Effect.Effect<
    {
      readonly next: string
      readonly entries: ReadonlyArray<StreamEntry>
      readonly deleted: ReadonlyArray<string>
    },
    RedisError
  >
  /** `XAUTOCLAIM … JUSTID`: the same, which does not count as a delivery. */
  readonly xautoClaimJustId: (
    key: string,
    claim: StreamClaim,
    options?: { readonly start?: string | undefined; readonly count?: number | undefined }
  ) => Effect.Effect<
    { readonly next: string; readonly ids: ReadonlyArray<string>; readonly deleted: ReadonlyArray<string> },
    RedisError
  >
  /** `XINFO STREAM`: a stream that does not exist is an error of the server. */
  readonly xinfoStream: (key: string) => Effect.Effect<StreamInfo, RedisError>
  /** `XINFO GROUPS` */
  readonly xinfoGroups: (key: string) => Effect.Effect<Array<StreamGroupInfo>, RedisError>
  /** `XINFO CONSUMERS` */
  readonly xinfoConsumers: (key: string, group: string) => Effect.Effect<Array<StreamConsumerInfo>, RedisError>
}

/**
 * @since 0.1.0
 * @category commands
 */
export interface GeoCommands {
  /** `GEOADD`: how many of the members are new; with `changed` also those that moved. */
  readonly geoAdd: (
    key: string,
    members: Iterable<GeoMember>,
    options?: { readonly onlyIf?: "absent" | "present" | undefined; readonly changed?: boolean | undefined }
  ) => Effect.Effect<number, RedisError>
  /** `GEOPOS`: one position for each member, in their order, at most 0.6 meters from what was added. */
  readonly geoPos: (
    key: string,
    ...members: ReadonlyArray<string>
  ) => Effect.Effect<Array<Option.Option<GeoPosition>>, RedisError>
  /** `GEOHASH`: one geohash of 11 letters for each member, in their order. */
  readonly geoHash: (
    key: string,
    ...members: ReadonlyArray<string>
  ) => Effect.Effect<Array<Option.Option<string>>, RedisError>
  /** `GEODIST`: in meters unless told otherwise; none when one of both is no member. */
  readonly geoDist: (
    key: string,
    from: string,
    to: string,
    unit?: GeoUnit
  ) => Effect.Effect<Option.Option<number>, RedisError>
  /** `GEOSEARCH`. A place `from` a member that does not exist is an error of the server. */
  readonly geoSearch: (key: string, query: GeoQuery) => Effect.Effect<Array<string>, RedisError>
  /** `GEOSEARCH … WITHDIST WITHCOORD`: with how far they are, and where. */
  readonly geoSearchWithDistances: (key: string, query: GeoQuery) => Effect.Effect<Array<GeoFound>, RedisError>
  /**
   * `GEOSEARCHSTORE`: how many members the destination has. With `storeDistances` it is a sorted set by distance. An
   * empty result removes it.
   */
  readonly geoSearchStore: (
    destination: string,
    source: string,
    query: GeoQuery,
    options?: { readonly storeDistances?: boolean | undefined }
  ) => Effect.Effect<number, RedisError>
}

/**
 * @since 0.1.0
 * @category commands
 */
export interface HyperLogLogCommands {
  /** `PFADD`: whether the count may be another one now. Without elements it makes an empty one. */
  readonly pfAdd: (key: string, ...elements: ReadonlyArray<RedisArg>) => Effect.Effect<boolean, RedisError>
  /** `PFCOUNT`: how many different elements all of the keys have together, with an error of 0.81 percent. */
  readonly pfCount: (...keys: ReadonlyArray<string>) => Effect.Effect<number, RedisError>
  /** `PFMERGE`: adds the elements of others to a destination. */
  readonly pfMerge: (destination: string, keys: ReadonlyArray<string>) => Effect.Effect<void, RedisError>
}

/**
 * @since 0.1.0
 * @category commands
 */
export interface BitmapCommands {
  /** `SETBIT`: the bit that was there before. */
  readonly setBit: (key: string, offset: number, value: boolean) => Effect.Effect<boolean, RedisError>
  /** `GETBIT` */
  readonly getBit: (key: string, offset: number) => Effect.Effect<boolean, RedisError>
  /** `BITCOUNT`: how many bits are set. O(n). */
  readonly bitCount: (key: string, range?: BitRange) => Effect.Effect<number, RedisError>
  /**
   * `BITPOS`: the first bit of this value. Behind the end of the value there are zeros, unless a range is given. O(n).
   */
  readonly bitPos: (
    key: string,
    value: boolean,
    range?: BitRange
  ) => Effect.Effect<Option.Option<number>, RedisError>
  /** `BITOP`: the length of the destination in bytes; `not` takes one key. An empty result removes it. O(n). */
  readonly bitOp: (
    operation: "and" | "or" | "xor" | "not",
    destination: string,
    keys: ReadonlyArray<string>
  ) => Effect.Effect<number, RedisError>
}

/**
 * @since 0.1.0
 * @category commands
 */
export interface ServerCommands {
  // Scripts

  /** `SCRIPT LOAD`: the SHA of the script. `eval` does it by itself. */
  readonly scriptLoad: (lua: string) => Effect.Effect<string, RedisError>
  /** `SCRIPT EXISTS`: one answer for each SHA, in their order; on a Cluster whether all masters know it. */
  readonly scriptExists: (shas: ReadonlyArray<string>) => Effect.Effect<Array<boolean>, RedisError>
  /** `SCRIPT FLUSH`: the server forgets the scripts of everybody. */
  readonly scriptFlush: Effect.Effect<void, RedisError>

  // Pub/sub

  /** `PUBLISH`: how many subscribers it reached; on a Cluster those of one node, although it goes to all. */
  readonly publish: (channel: string, message: RedisArg) => Effect.Effect<number, RedisError>
  /** `SPUBLISH`: to a shard channel, which lives in the slot of its name. */
  readonly spublish: (shardChannel: string, message: RedisArg) => Effect.Effect<number, RedisError>
  /** `PUBSUB CHANNELS`: the channels of this prefix that anybody is subscribed to, and that match a glob. */
  readonly pubsubChannels: (pattern?: string) => Effect.Effect<Array<string>, RedisError>
  /** `PUBSUB NUMSUB`: how many subscribers each channel has, without those by pattern. */
  readonly pubsubNumSub: (channels: ReadonlyArray<string>) => Effect.Effect<Record<string, number>, RedisError>

  // Server

  /** `PING` */
  readonly ping: Effect.Effect<void, RedisError>
  /** `TIME`: the server's clock in microseconds since the epoch. */
  readonly time: Effect.Effect<bigint, RedisError>
  /** `DBSIZE`: how many keys the database has, of all prefixes. */
  readonly dbSize: Effect.Effect<number, RedisError>
  /** `FLUSHDB`: removes **every** key of the database, also what is outside the client's prefix. */
  readonly flushDb: Effect.Effect<void, RedisError>
}

/**
 * The typed commands.
 *
 * @since 0.1.0
 * @category commands
 */
export interface Commands
  extends
    StringCommands,
    KeyCommands,
    HashCommands,
    ListCommands,
    SetCommands,
    SortedSetCommands,
    StreamCommands,
    GeoCommands,
    HyperLogLogCommands,
    BitmapCommands,
    ServerCommands
{}

/**
 * Commands that wait on the server, so only a reserved connection has them. They answer none when the time is over;
 * `Duration.infinity` waits for ever.
 *
 * Interrupting one of them loses nothing: an element that had arrived by then goes back to where it was taken from.
 *
 * @since 0.1.0
 * @category commands
 */
export interface BlockingCommands {
  /** `BLPOP`: the head of the first list that has one, with the key of that list. */
  readonly blpop: (
    keys: ReadonlyArray<string>,
    timeout: Duration.DurationInput
  ) => Effect.Effect<Option.Option<readonly [key: string, value: string]>, RedisError>
  /** `BRPOP`: the tail of the first list that has one, with the key of that list. */
  readonly brpop: (
    keys: ReadonlyArray<string>,
    timeout: Duration.DurationInput
  ) => Effect.Effect<Option.Option<readonly [key: string, value: string]>, RedisError>
  /** `BLMOVE`: takes from one end of a list, and puts it to one end of another, or of the same. */
  readonly blmove: (
    source: string,
    destination: string,
    options: { readonly from: ListEnd; readonly to: ListEnd; readonly timeout: Duration.DurationInput }
  ) => Effect.Effect<Option.Option<string>, RedisError>
  /** `BLMPOP`: up to `count` elements (1 by default) of the first list that has any, with the key of that list. */
  readonly blmpop: (
    keys: ReadonlyArray<string>,
    options: {
      readonly from: ListEnd
      readonly timeout: Duration.DurationInput
      readonly count?: number | undefined
    }
  ) => Effect.Effect<Option.Option<readonly [key: string, values: ReadonlyArray<string>]>, RedisError>
  /** `BZPOPMIN`: the lowest member of the first sorted set that has one, with the key of that set. */
  readonly bzpopMin: (
    keys: ReadonlyArray<string>,
    timeout: Duration.DurationInput
  ) => Effect.Effect<Option.Option<readonly [key: string, member: string, score: number]>, RedisError>
  /** `BZPOPMAX`: the highest member of the first sorted set that has one, with the key of that set. */
  readonly bzpopMax: (
    keys: ReadonlyArray<string>,
    timeout: Duration.DurationInput
  ) => Effect.Effect<Option.Option<readonly [key: string, member: string, score: number]>, RedisError>
}

// ---------------------------------------------------------------------------------------------------------------------
// Constructors
// ---------------------------------------------------------------------------------------------------------------------

/**
 * @since 0.1.0
 * @category constructors
 */
export const make = (run: Run, prefix: string, nodes?: Nodes): Commands => {
  const env = makeEnv(run, prefix, nodes)
  return {
    ...Strings.make(env),
    ...Keys.make(env),
    ...Hashes.make(env),
    ...Lists.make(env),
    ...Sets.make(env),
    ...SortedSets.make(env),
    ...Streams.make(env),
    ...Geo.make(env),
    ...HyperLogLogs.make(env),
    ...Bitmaps.make(env),
    ...Server.make(env)
  }
}

/**
 * @since 0.1.0
 * @category constructors
 */
export const makeBlocking = (
  send: Connection["sendBlocking"],
  executor: Executor,
  prefix: string
): BlockingCommands => Blocking.make(send, executor, prefix)

// ---------------------------------------------------------------------------------------------------------------------
// Helpers
// ---------------------------------------------------------------------------------------------------------------------

/**
 * A glob that matches exactly this text.
 *
 * @since 0.1.0
 * @category helpers
 */
export const escapeGlob = (text: string): string => Glob.escapeGlob(text)

/**
 * For commands that answer `OK`.
 *
 * @since 0.1.0
 * @category helpers
 */
export const asVoid = (command: string): (reply: Reply) => Effect.Effect<void, RedisError> => Decode.ok(command)

/**
 * Everything that a command with a cursor gives, page by page.
 *
 * @since 0.1.0
 * @category helpers
 */
export const scanWith = (
  run: Run,
  command: string,
  head: ReadonlyArray<RedisArg>,
  tail: ReadonlyArray<RedisArg>
): Stream.Stream<string, RedisError> => scanPages(run, command, head, tail, Decode.asArray(Decode.asText))
