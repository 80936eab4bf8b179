/**
 * One open cache: how its entries are read, looked up, refreshed, written and invalidated.
 */
import * as Cause from "effect/Cause"
import * as Effect from "effect/Effect"
import * as Either from "effect/Either"
import * as Exit from "effect/Exit"
import * as Fiber from "effect/Fiber"
import * as Option from "effect/Option"
import * as RuntimeFlags from "effect/RuntimeFlags"
import * as Stream from "effect/Stream"
import { Buffer } from "node:buffer"
import { checkInteger } from "../internal/commands/args.js"
import { escapeGlob } from "../internal/commands/glob.js"
import { inputError } from "../internal/input.js"
import { isTraced, withSpan } from "../internal/telemetry.js"
import type * as RedisClient from "../RedisClient.js"
import { RedisConnectionError, RedisDecodeError, type RedisError, type RedisInputError } from "../RedisError.js"
import * as RedisScript from "../RedisScript.js"
import type { CacheError, Definition, Handle, SetOptions } from "./Cache.js"
import { CacheLookupTimeout, CacheValueTooLarge } from "./CacheError.js"
import * as Entries from "./entry.js"
import * as Metrics from "./metrics.js"
import { NearStore, type Read } from "./NearStore.js"
import * as scripts from "./scripts.js"
import { settingsOf } from "./settings.js"
import {
  checked,
  endOf,
  type Held,
  keyed,
  keyWriter,
  lifeOf,
  parseAll,
  prefixOf,
  type Shared,
  valueDecoder,
  valueReader,
  valueWriter
} from "./Shared.js"
import * as SingleFlight from "./SingleFlight.js"
import * as Tags from "./Tags.js"
import * as Watch from "./Watch.js"

/** What an entry says. */
type Outcome<A, E> =
  | { readonly kind: "V"; readonly value: A }
  | { readonly kind: "N" }
  | { readonly kind: "F"; readonly error: E }

const NOTHING = { kind: "N" } as const

/** An entry that is near. */
interface Kept<A, E> {
  readonly entry: Entries.Entry
  readonly outcome: Outcome<A, E>
  readonly get: Exit.Exit<Option.Option<A>>
  readonly found: Exit.Exit<A, E> | undefined
  /** What was known of tags when it was found valid. */
  checked: number
}

/** What a read has found. */
type Found<A, E> =
  /** Nothing, or something to be replaced that begins with what was `seen`. */
  | { readonly _tag: "Missing"; readonly seen: Uint8Array | undefined }
  /** Somebody looks it up. */
  | { readonly _tag: "Leased" }
  | { readonly _tag: "Fresh" | "Stale"; readonly entry: Entries.Entry; readonly outcome: Outcome<A, E> }
  /** The server must be asked for its tags. */
  | { readonly _tag: "Ask"; readonly tags: ReadonlyArray<string> }

const MISSING = { _tag: "Missing", seen: undefined } as const
const LEASED = { _tag: "Leased" } as const

/** An entry that was written, and for how long it lives. */
interface Written {
  readonly bytes: string | Uint8Array
  readonly life: number
}

/**
 * How long whoever waits for another process's lookup does not ask, in milliseconds: a part of the time that it has waited
 * for already, so the answer is late by that part, and the questions are few.
 */
const SHORTEST_WAIT = 3
const LONGEST_WAIT = 250
const WAIT_SHARE = 1 / 20

/** A cache that nobody has used for so long, or up to twice as long, does not listen any more. */
const IDLE = "1 minute"

/** How long a failure waits until its lease was given back. */
const HAND_BACK = "500 millis"

/** What was read is given to many: nobody shall change it for the others. What is not plain is left as it is. */
const freeze = (u: unknown): void => {
  if (typeof u !== "object" || u === null || Object.isFrozen(u)) return
  if (Array.isArray(u)) u.forEach(freeze)
  else if (Object.getPrototypeOf(u) === Object.prototype) Object.values(u).forEach(freeze)
  else return
  Object.freeze(u)
}

const isBytes = (u: unknown): u is Uint8Array => u instanceof Uint8Array

export const make = <K, A, E>(
  shared: Shared,
  definition: Definition<K, A, E>
): Effect.Effect<Handle<K, A, E>, RedisInputError> =>
  Effect.gen(function*() {
    const settings = yield* settingsOf(definition)
    const { codec, name, onUnavailable } = definition
    const { breaker, client, random, run, scope } = shared
    const prefix = prefixOf(name)
    const entryPrefix = `${prefix}e:`
    const tagsKey = `${prefix}tags`
    const counts = Metrics.make(name)
    const writeKey = keyWriter(definition.key)
    const writeValue = valueWriter(definition.value)
    const decodeValue = valueDecoder(definition.value)
    const errorSchema = definition.negative?.error
    const errors = errorSchema === undefined
      ? undefined
      : { write: valueWriter(errorSchema), read: valueReader(errorSchema) }

    const flights = SingleFlight.make<string>(scope)
    const near = settings.near === undefined ? undefined : new NearStore<Kept<A, E>>(settings.near)
    const tags = Tags.make(client, shared.clock, tagsKey, SingleFlight.make<string>(scope))
    /** What is near is there by its own text: a text that is made anew for each read would be hashed each time. */
    const textOf = (key: string): string => key.slice(entryPrefix.length)
    /** Those who wait for the lookup of another process, by its entry. */
    const waiters = new Map<string, () => void>()
    const refreshing = new Set<string>()
    let listening = false

    const wakeAll = () => waiters.forEach((wake) => wake())
    const stopListening = () => {
      listening = false
      tags.listen(false)
      wakeAll()
    }
    const watch = Watch.make(client, {
      prefixes: near === undefined ? [tagsKey] : [entryPrefix, tagsKey],
      process: shared.process,
      channel: `${prefix}changes`,
      listener: {
        up: () => {
          near?.clear()
          listening = true
          tags.listen(true)
          wakeAll()
        },
        down: stopListening,
        changed: (key) => {
          if (key === tagsKey) return tags.changed()
          near?.delete(textOf(key))
          waiters.get(key)?.()
        },
        all: () => {
          near?.clear()
          tags.changed()
          wakeAll()
        }
      }
    })
    let inUse = false
    let watching = false
    const idle: Effect.Effect<void> = Effect.flatMap(Effect.sleep(IDLE), () => {
      if (!inUse) return Effect.void
      inUse = false
      return idle
    })
    /** Listens, for as long as there is something to listen for. */
    const use = () => {
      inUse = true
      if (watching) return
      watching = true
      run(Effect.ensuring(
        Effect.raceFirst(watch.run, idle),
        Effect.sync(() => {
          watching = false
          if (listening) stopListening()
        })
      ))
    }

    // -------------------------------------------------------------------------------------------------------------
    // Reading
    // -------------------------------------------------------------------------------------------------------------

    const outcomeOf = (entry: Entries.Entry, parsed?: unknown): Outcome<A, E> | undefined => {
      const { buffer, encoded, kind, start } = entry
      if (kind === "N") return NOTHING
      try {
        if (kind === "V" && parsed !== undefined) return outcomeOfValue(parsed)
        const json = encoded ? codec?.decode(buffer.subarray(start)) : Entries.textOf(entry)
        if (json === undefined) return undefined
        if (kind === "V") return outcomeOfValue(JSON.parse(json))
        const error = errors?.read(json)
        return error !== undefined && Either.isRight(error) ? { kind, error: error.right } : undefined
      } catch {
        return undefined
      }
    }

    const outcomeOfValue = (parsed: unknown): Outcome<A, E> | undefined => {
      const value = decodeValue(parsed)
      return Either.isRight(value) ? { kind: "V", value: value.right } : undefined
    }

    const undecodable = (key: string, bytes: Uint8Array): Found<A, E> => {
      counts.undecodable.add()
      run(
        Effect.logWarning(`an entry of the cache "${name}" can't be read, and counts as missing`).pipe(
          Effect.annotateLogs({ key: textOf(key) })
        )
      )
      return { _tag: "Missing", seen: Entries.headOf(bytes) }
    }

    const keep = (found: Found<A, E>, bytes: Uint8Array, reading: Read<Kept<A, E>>, now: number): void => {
      if (near === undefined || found._tag !== "Fresh") return
      const { entry, outcome } = found
      if (outcome.kind === "V") freeze(outcome.value)
      const before = near.evictions
      reading.store({
        entry,
        outcome,
        get: Exit.succeed(outcome.kind === "V" ? Option.some(outcome.value) : Option.none()),
        found: outcome.kind === "V"
          ? Exit.succeed(outcome.value)
          : outcome.kind === "F"
          ? Exit.fail(outcome.error)
          : undefined,
        checked: tags.version()
      }, {
        expiresAt: Math.min(entry.soft, now + (settings.near?.ttl ?? 0)),
        bytes: bytes.length
      })
      if (near.evictions > before) counts.evicted.add(near.evictions - before)
    }

    const look = (
      key: string,
      bytes: Uint8Array | undefined,
      reading: Read<Kept<A, E>> | undefined,
      now = tags.now(),
      entry = bytes === undefined ? undefined : Entries.read(bytes),
      parsed?: unknown
    ): Found<A, E> => {
      if (bytes === undefined) return MISSING
      if (Entries.isLease(bytes)) return LEASED
      if (entry === undefined) return undecodable(key, bytes)
      const valid = tags.isValid(entry.tags, entry.epoch)
      if (valid === undefined) return { _tag: "Ask", tags: entry.tags }
      if (!valid) return { _tag: "Missing", seen: Entries.headOf(bytes) }
      const outcome = outcomeOf(entry, parsed)
      if (outcome === undefined) return undecodable(key, bytes)
      const found: Found<A, E> = { _tag: now < entry.soft ? "Fresh" : "Stale", entry, outcome }
      if (listening && reading !== undefined) keep(found, bytes, reading, now)
      return found
    }

    /** What is known of tags is as new as what was read. */
    const withTags = <B>(read: Effect.Effect<B, RedisError>): Effect.Effect<B, RedisError> => {
      use()
      return tags.isCurrent() ? read : Effect.zipLeft(read, tags.sync, { concurrent: true })
    }

    const open = Effect.suspend(() =>
      Effect.fail(
        new RedisConnectionError({
          target: client.target,
          reason: "unavailable",
          detail: "it did not answer a moment ago, and was not asked again"
        })
      )
    )

    const fetch = (key: string): Effect.Effect<Found<A, E>, RedisError> => {
      const reading = near?.beginRead(textOf(key))
      return Effect.flatMap(breaker.run(withTags(client.getBytes(key)), open), (bytes) => {
        const found = look(key, Option.getOrUndefined(bytes), reading)
        return found._tag === "Ask"
          ? Effect.map(tags.ask(found.tags), () => look(key, Option.getOrUndefined(bytes), reading))
          : Exit.succeed(found)
      })
    }

    const counted = (found: Found<A, E>): void => {
      if (found._tag === "Fresh") counts.hit.add()
      else if (found._tag === "Stale") counts.stale.add()
      else counts.miss.add()
    }

    /** A read, and those who asked for the same until they were told. Nothing is found when it fails. */
    interface Reading {
      joiners: Array<{ readonly told: (found: Found<A, E> | undefined) => void }> | undefined
      found: Found<A, E> | undefined
    }
    const reads = new Map<string, Reading>()

    /** What is near and, as far as the server tells, as it is there. */
    const nearby = (text: string): Kept<A, E> | undefined => {
      if (near === undefined || !tags.isCurrent()) return undefined
      inUse = true
      const kept = near.get(text, tags.lately())?.value
      if (kept === undefined) return undefined
      const version = tags.version()
      if (kept.checked !== version) {
        const valid = tags.isValid(kept.entry.tags, kept.entry.epoch)
        if (valid === false) near.delete(text)
        if (valid !== true) return undefined
        kept.checked = version
      }
      return kept
    }

    /** What was near before the server could not be asked any more. */
    const leftNear = (text: string): Kept<A, E> | undefined => {
      counts.unavailable.add()
      if (onUnavailable === "fail") return undefined
      const kept = near?.get(text, tags.now())?.value
      return kept !== undefined && tags.isValid(kept.entry.tags, kept.entry.epoch) === true ? kept : undefined
    }

    const valueOf = (found: Found<A, E>, stale: boolean): Option.Option<A> =>
      (found._tag === "Fresh" || (stale && found._tag === "Stale")) && found.outcome.kind === "V"
        ? Option.some(found.outcome.value)
        : Option.none()

    const get: Handle<K, A, E>["get"] = (key, options) =>
      Effect.suspend(() => {
        const text = writeKey("Cache.get", key)
        if (typeof text !== "string") return Effect.fail(text)
        const kept = nearby(text)
        if (kept !== undefined) {
          counts.nearHit.add()
          return kept.get
        }
        if (near !== undefined) counts.nearMiss.add()
        return span(
          "cache.get",
          Effect.matchEffect(fetch(entryPrefix + text), {
            onFailure: (error) => leftNear(text)?.get ?? Effect.fail(error),
            onSuccess: (found) => {
              counted(found)
              return Exit.succeed(valueOf(found, options?.stale === true))
            }
          })
        )
      })

    // -------------------------------------------------------------------------------------------------------------
    // Writing
    // -------------------------------------------------------------------------------------------------------------

    const span = <B, E2, R>(operation: string, effect: Effect.Effect<B, E2, R>): Effect.Effect<B, E2, R> =>
      withSpan(effect, operation, attributes)
    const attributes = () => ({ "effect_redis.cache.name": name })

    const checkTags = (operation: string, names: ReadonlyArray<string>): RedisInputError | undefined => {
      for (const tag of names) {
        if (typeof tag !== "string" || tag === "") return inputError(operation, "tags", "non-empty strings", tag)
      }
      return undefined
    }

    /** `undefined` when it has no life to be stored for. */
    const write = (
      operation: string,
      outcome: Outcome<A, E>,
      key: K,
      options: SetOptions | undefined,
      epoch: number,
      compute: number
    ): Either.Either<Written | undefined, RedisInputError | CacheValueTooLarge> => {
      if (outcome.kind === "N") return pack("N", epoch, compute, settings.negative ?? 0, 0, "", "")
      if (outcome.kind === "F") {
        const json = errors?.write(operation, outcome.error, "error")
        if (json === undefined) return Either.right(undefined)
        return Either.isLeft(json)
          ? Either.left(json.left)
          : pack("F", epoch, compute, settings.negative ?? 0, 0, "", json.right)
      }
      const { value } = outcome
      const life = options?.ttl === undefined ? settings.life(value, key) : lifeOf(operation, "ttl", options.ttl)
      if (Either.isLeft(life)) return Either.left(life.left)
      const names = options?.tags ?? definition.tags?.(value, key) ?? []
      const bad = checkTags(operation, names)
      if (bad !== undefined) return Either.left(bad)
      const lines = Entries.tagsOf(names)
      // No character takes more than three bytes.
      if (lines.length * 3 > Entries.TAGS_LIMIT && Buffer.byteLength(lines) > Entries.TAGS_LIMIT) {
        return Either.left(inputError(operation, "tags", `at most ${Entries.TAGS_LIMIT} bytes`, names.length))
      }
      const json = writeValue(operation, value)
      return Either.isLeft(json)
        ? Either.left(json.left)
        : pack("V", epoch, compute, life.right, settings.grace, lines, json.right)
    }

    const pack = (
      kind: Entries.Kind,
      epoch: number,
      compute: number,
      life: number,
      grace: number,
      lines: string,
      json: string
    ): Either.Either<Written | undefined, CacheValueTooLarge> => {
      if (life === 0) return Either.right(undefined)
      const fresh = settings.jitter === 0 || life === Infinity
        ? life
        : Math.max(1, Math.ceil(life * (1 - random() * settings.jitter)))
      const packed = codec?.encode(json)
      const bytes = Entries.write({
        kind,
        epoch,
        compute,
        soft: tags.now() + fresh,
        mark: shared.mark(),
        tags: lines,
        encoded: packed !== undefined,
        payload: packed ?? json
      })
      const size = settings.maxBytes === Infinity ? 0 : scripts.byteLength(bytes)
      return size > settings.maxBytes
        ? Either.left(new CacheValueTooLarge({ name, bytes: size, maxBytes: settings.maxBytes }))
        : Either.right({ bytes, life: fresh + grace })
    }

    const forget = (key: string): void => {
      near?.delete(textOf(key))
      reads.delete(key)
      flights.invalidate(key)
    }

    const forgetRuns = () => {
      reads.clear()
      flights.invalidateAll()
    }

    /** From here on callers get what comes after a write, also when its outcome is not known. */
    const forgetting = <B, E2>(keys: ReadonlyArray<string>, effect: Effect.Effect<B, E2>): Effect.Effect<B, E2> => {
      const all = Effect.sync(() => keys.forEach(forget))
      return Effect.ensuring(effect, all)
    }

    type Command = readonly [command: string, ...args: ReadonlyArray<RedisClient.RedisArg>]

    const setting = ({ bytes, life }: Written): Command =>
      life === Infinity ? ["SET", bytes] : ["SET", bytes, "PX", life]

    /** A write of one key, told where the server does not do that. */
    const send = (key: string, [command, ...args]: Command): Effect.Effect<RedisClient.BytesReply, RedisError> => {
      const notice = watch.notice(key)
      return forgetting(
        [key],
        notice.channel === ""
          ? client.sendBytes(command, client.key(key), ...args)
          : client.eval(scripts.change, key, notice, command, ...args)
      )
    }

    const sendAll = (
      writes: ReadonlyArray<readonly [key: string, command: Command]>
    ): Effect.Effect<void, RedisError> =>
      writes.length === 0 ? Effect.void : forgetting(
        writes.map(([key]) => key),
        Effect.flatMap(
          client.pipeline(writes.map(([key, [command, ...args]]) => {
            const notice = watch.notice(key)
            return notice.channel === ""
              ? [command, client.key(key), ...args] as const
              : RedisScript.call(scripts.change, key, notice, command, ...args)
          })),
          (replies) => {
            for (const reply of replies) if (Either.isLeft(reply)) return Effect.fail(reply.left)
            return Effect.void
          }
        )
      )

    /** Whoever writes on his own knows nothing of what was invalidated before, unless he asks. */
    const knowing = <B, E2>(effect: Effect.Effect<B, E2>): Effect.Effect<B, E2 | RedisError> => {
      use()
      return tags.isCurrent() ? effect : Effect.zipRight(tags.sync, effect)
    }

    const set: Handle<K, A, E>["set"] = (key, value, options) =>
      Effect.suspend(() =>
        keyed(writeKey("Cache.set", key), (text) =>
          span(
            "cache.set",
            knowing(Effect.suspend((): Effect.Effect<unknown, RedisError | CacheValueTooLarge> => {
              const written = write("Cache.set", { kind: "V", value }, key, options, tags.epoch(), 0)
              return Either.isLeft(written)
                ? Effect.fail(written.left)
                : send(entryPrefix + text, written.right === undefined ? ["UNLINK"] : setting(written.right))
            }))
          ))
      )

    // -------------------------------------------------------------------------------------------------------------
    // Lookups
    // -------------------------------------------------------------------------------------------------------------

    type Lookup<E2, R> = Effect.Effect<Outcome<A, E>, E2, R>

    /** What is to be found. */
    interface Wanted<E2, R> {
      readonly key: string
      readonly original: K
      readonly lookup: Lookup<E2, R>
      readonly accepts: (outcome: Outcome<A, E>) => boolean
    }

    const wait = (key: string, millis: number): Effect.Effect<void> =>
      Effect.async<void>((resume) => {
        const wake = () => resume(Effect.void)
        waiters.set(key, wake)
        return Effect.sync(() => {
          if (waiters.get(key) === wake) waiters.delete(key)
        })
      }).pipe(Effect.timeoutOption(millis), Effect.asVoid)

    /** Puts a lease where nothing is; nothing comes back when that was done. */
    const lease = (key: string, seen: Uint8Array | undefined, token: string) =>
      seen === undefined
        ? Effect.flatMap(
          client.sendBytes("SET", client.key(key), token, "NX", "GET", "PX", settings.lease),
          (reply): Effect.Effect<Uint8Array | undefined, RedisError> =>
            reply === null
              ? Effect.succeed(undefined)
              : isBytes(reply)
              ? Effect.succeed(reply)
              : Effect.fail(new RedisDecodeError({ command: "SET", detail: "expected bytes or nothing" }))
        )
        : client.eval(scripts.replace, key, seen, token, settings.lease)

    type Step =
      | { readonly _tag: "Fresh" | "Stale"; readonly entry: Entries.Entry; readonly outcome: Outcome<A, E> }
      | { readonly _tag: "Ours"; readonly epoch: number }
      /** Another process looks it up, and may wait for this one. */
      | { readonly _tag: "Alone" }

    /** Goes on from what was read until something is found, or the lookup is ours. */
    const acquire = (
      found: Found<A, E>,
      claim: Held,
      accepts: (outcome: Outcome<A, E>) => boolean
    ): Effect.Effect<Step, RedisError> => {
      const { key } = claim
      const began = tags.own()
      const onFound = (found: Found<A, E>): Effect.Effect<Step, RedisError> => {
        if (found._tag === "Fresh" && accepts(found.outcome)) return Exit.succeed({ ...found, _tag: "Fresh" })
        if (found._tag === "Stale" && found.outcome.kind === "V") return Exit.succeed({ ...found, _tag: "Stale" })
        if (found._tag === "Leased") {
          const waited = tags.own() - began
          const pause = Math.min(Math.max(SHORTEST_WAIT, waited * WAIT_SHARE), LONGEST_WAIT)
          const more = Effect.zipRight(wait(key, Math.ceil(pause * (0.5 + random()))), again)
          if (waited < settings.lease) return more
          // Lookups of two processes may need each other's.
          return Effect.flatMap(SingleFlight.isNeeded, (needed) => needed ? Exit.succeed({ _tag: "Alone" }) : more)
        }
        const seen = found._tag === "Missing"
          ? found.seen
          : "entry" in found
          ? Entries.headOf(found.entry.buffer)
          : undefined
        const epoch = tags.epoch()
        claim.sent = true
        return Effect.flatMap(lease(key, seen, claim.held), (there) => {
          if (there === undefined) return Exit.succeed({ _tag: "Ours", epoch })
          claim.sent = false
          return Entries.isLease(there) ? onFound(LEASED) : again
        })
      }
      const again = Effect.flatMap(Effect.suspend(() => fetch(key)), onFound)
      return onFound(found)
    }

    const giveBack = (claim: Held): Effect.Effect<void> => {
      claim.settled = true
      return Effect.asVoid(Effect.ignore(client.eval(scripts.release, claim.key, claim.held)))
    }

    /** Runs a lookup, and stores what it finds if that is still wanted. */
    const lookUp = <E2, R>(
      lookup: Lookup<E2, R>,
      original: K,
      epoch: number,
      held: Held
    ): Effect.Effect<Outcome<A, E>, E2 | RedisError, R> =>
      Effect.suspend(() => {
        const began = tags.own()
        shared.hold(held)
        return Effect.flatMap(lookup, (outcome) => {
          const compute = tags.own() - began
          shared.letGo(held)
          const written = write("Cache.getOrSet", outcome, original, undefined, epoch, compute)
          if (Either.isLeft(written) && written.left._tag === "RedisInputError") return Effect.fail(written.left)
          const entry = Either.getOrUndefined(written)
          if (entry === undefined) return Effect.as(held.next === undefined ? giveBack(held) : Effect.void, outcome)
          const sent = tags.own()
          return Effect.match(
            breaker.run(
              client.eval(
                scripts.fill,
                held.key,
                held.held,
                entry.bytes,
                endOf(entry.life),
                watch.notice(held.key)
              ),
              open
            ),
            {
              onFailure: () => {
                counts.unavailable.add()
                return outcome
              },
              onSuccess: ({ filled, time }) => {
                held.settled = true
                tags.clockWas(time, sent)
                if (!filled) counts.refused.add()
                return outcome
              }
            }
          )
        })
      })

    /** Counts what becomes of a lookup, and makes an outcome of an error that is to be remembered. */
    const observed = <E2, R>(lookup: Lookup<E2, R>): Lookup<E2, R> =>
      Effect.matchCauseEffect(lookup, {
        onFailure: (cause) => {
          if (cause._tag !== "Interrupt") counts.failed.add()
          return Effect.failCause(cause)
        },
        onSuccess: (outcome) => {
          counts.loaded.add()
          return Exit.succeed(outcome)
        }
      })

    const remembering = <E2, R>(lookup: Lookup<E2, R>): Lookup<E2, R> => {
      if (errors === undefined) return observed(lookup)
      return Effect.catchAll(observed(lookup), (error) => {
        // Only what the schema can write is of its type.
        const written = errors.write("Cache.getOrSet", error as unknown as E, "error")
        return Either.isRight(written)
          ? Exit.succeed<Outcome<A, E>>({ kind: "F", error: error as unknown as E })
          : Exit.fail(error)
      })
    }

    /** Elects itself to refresh an entry, and then does. */
    const refresh = <E2, R>(
      { key, lookup, original }: Wanted<E2, R>,
      entry: Entries.Entry,
      early: boolean
    ): Effect.Effect<Option.Option<Outcome<A, E>>, E2 | RedisError, R> =>
      Effect.suspend(() => {
        if (refreshing.has(key)) return Effect.succeedNone
        refreshing.add(key)
        const end = () => Entries.patch(0, early ? entry.soft : tags.now() + settings.backoff, shared.mark())
        const epoch = tags.epoch()
        const head = Entries.headerOf(entry)
        const patch = end()
        return Effect.flatMap(client.eval(scripts.elect, key, head, patch), (elected) => {
          if (!elected) return Effect.succeedNone
          const held: Held = {
            key,
            held: Entries.patched(head, patch),
            length: settings.backoff,
            next: () => Entries.patched(head, end()),
            renewAt: Infinity,
            sent: true,
            settled: false
          }
          return Effect.ensuring(
            Effect.asSome(lookUp(lookup, original, epoch, held)),
            Effect.sync(() => shared.letGo(held))
          )
        }).pipe(Effect.ensuring(Effect.sync(() => refreshing.delete(key))))
      })

    /** What is there, and a refresh of it that goes on in the background. */
    const refreshed = <E2, R>(
      wanted: Wanted<E2, R>,
      { entry, outcome }: { readonly entry: Entries.Entry; readonly outcome: Outcome<A, E> },
      early: boolean
    ): Effect.Effect<Outcome<A, E>, never, R> =>
      Effect.flatMap(
        Effect.forkIn(
          Effect.interruptible(
            Effect.catchAllCause(refresh(wanted, entry, early), (cause) =>
              Effect.as(
                Effect.logWarning(`an entry of the cache "${name}" could not be refreshed`, cause),
                Option.none<Outcome<A, E>>()
              ))
          ),
          scope
        ),
        (fiber) =>
          early || settings.soft === 0
            ? Effect.succeed(outcome)
            : Effect.map(
              Effect.timeoutOption(Fiber.join(fiber), settings.soft),
              (fresh) => Option.getOrElse(Option.flatten(fresh), () => outcome)
            )
      )

    /** Whether it is time to refresh an entry before its end: the closer that is, the more likely. */
    const isDue = (entry: Entries.Entry): boolean =>
      settings.beta !== undefined && entry.compute > 0 &&
      tags.now() - entry.compute * settings.beta * Math.log(random()) >= entry.soft

    const withoutServer = <E2, R>(
      error: RedisError,
      { accepts, key, lookup, original }: Wanted<E2, R>,
      reading: Read<Kept<A, E>> | undefined
    ): Effect.Effect<Outcome<A, E>, E2 | RedisError, R> => {
      const kept = leftNear(textOf(key))
      if (kept !== undefined && accepts(kept.outcome)) return Effect.succeed(kept.outcome)
      if (onUnavailable === "fail" || error._tag === "RedisInputError") return Effect.fail(error)
      return Effect.map(lookup, (outcome) => {
        // Near, it spares the next ones a lookup, until the server tells again.
        if (near === undefined || reading === undefined || listening) return outcome
        const written = write("Cache.getOrSet", outcome, original, undefined, tags.epoch(), 0)
        if (Either.isLeft(written) || written.right === undefined) return outcome
        const bytes = Buffer.from(written.right.bytes)
        const entry = Entries.read(bytes)
        const copy = entry === undefined ? undefined : outcomeOf(entry)
        if (entry !== undefined && copy !== undefined) {
          keep({ _tag: "Fresh", entry, outcome: copy }, bytes, reading, tags.now())
        }
        return outcome
      })
    }

    const load = <E2, R>(
      read: Either.Either<Found<A, E>, RedisError>,
      wanted: Wanted<E2, R>
    ): Effect.Effect<Outcome<A, E>, E2 | RedisError, R> =>
      Effect.suspend(() => {
        const { accepts, key, lookup, original } = wanted
        const reading = near?.beginRead(textOf(key))
        const without = (error: RedisError) => withoutServer(error, wanted, reading)
        if (Either.isLeft(read)) return without(read.left)
        const claim: Held = {
          key,
          held: shared.leaseToken(),
          length: settings.lease,
          next: undefined,
          renewAt: Infinity,
          sent: false,
          settled: false
        }
        return Effect.matchEffect(acquire(read.right, claim, accepts), {
          onFailure: without,
          onSuccess: (step): Effect.Effect<Outcome<A, E>, E2 | RedisError, R> => {
            switch (step._tag) {
              case "Fresh":
                return isDue(step.entry) ? refreshed(wanted, step, true) : Exit.succeed(step.outcome)
              case "Stale":
                return refreshed(wanted, step, false)
              case "Ours":
                return lookUp(lookup, original, step.epoch, claim)
              case "Alone":
                return lookup
            }
          }
        }).pipe(Effect.onExit((exit) => {
          shared.letGo(claim)
          if (!claim.sent || claim.settled) return Effect.void
          // Others shall not wait for a lookup that nobody runs any more.
          const back = Effect.forkIn(Effect.interruptible(giveBack(claim)), scope)
          return Exit.isSuccess(exit) || Exit.isInterrupted(exit)
            ? Effect.asVoid(back)
            : Effect.asVoid(Effect.flatMap(back, (fiber) => Effect.timeoutOption(Fiber.await(fiber), HAND_BACK)))
        }))
      })

    /** A call of `getOrSet`. */
    interface Call<L, B, E2, R> {
      readonly key: string
      readonly original: K
      readonly lookup: Effect.Effect<L, E2, R>
      readonly form: Form<L, B>
    }

    /** How values come from lookups and go to callers. */
    interface Form<L, B> {
      readonly outcome: (found: L) => Outcome<A, E>
      readonly accepts: (outcome: Outcome<A, E>) => boolean
      readonly settle: <E2, R>(
        outcome: Outcome<A, E>,
        call: Call<L, B, E2, R>
      ) => Effect.Effect<B, E | E2 | CacheError, R>
    }

    const flown = <L, B, E2, R>(
      read: Either.Either<Found<A, E>, RedisError>,
      { form, key, lookup, original }: Call<L, B, E2, R>,
      /** Called when others can join it. */
      joinable?: () => void
    ): Effect.Effect<Outcome<A, E>, E2 | CacheError, R> => {
      const remembered = remembering(Effect.map(lookup, form.outcome))
      const wanted = { key, original, lookup: remembered, accepts: form.accepts }
      // A lookup that needs its own key gets there what is looked up, as if there were no cache.
      const flight = flights.run(key, load(read, wanted), remembered, joinable)
      const { hard } = settings
      return hard === undefined ?
        flight :
        Effect.uninterruptibleMask((restore) =>
          Effect.flatMap(Effect.forkIn(Effect.interruptible(flight), scope), (fiber) =>
            // Who has waited for too long leaves the lookup to the background.
            restore(Effect.timeoutOption(Fiber.join(fiber), hard)).pipe(
              Effect.onInterrupt(() => Fiber.interrupt(fiber)),
              Effect.flatMap(Option.match({
                onNone: () => Effect.fail(new CacheLookupTimeout({ name, timeout: hard })),
                onSome: Effect.succeed
              }))
            ))
        )
    }

    /** What was found, if it needs no lookup. */
    const enough = (found: Found<A, E>, accepts: (outcome: Outcome<A, E>) => boolean): Outcome<A, E> | undefined =>
      found._tag === "Fresh" && accepts(found.outcome) && !isDue(found.entry) ? found.outcome : undefined

    /** One that asks for what is being read gets it, or what is looked up because of it, and runs only when it is there. */
    class Joiner<L, B, E2, R> implements SingleFlight.Waiter {
      flight: SingleFlight.Waiter["flight"]
      private proceed: ((effect: Effect.Effect<B, E | E2 | CacheError, R>) => void) | undefined

      constructor(
        private readonly reading: Reading,
        private readonly call: Call<L, B, E2, R>,
        readonly within: SingleFlight.Waiter["within"]
      ) {}

      begin(proceed: (effect: Effect.Effect<B, E | E2 | CacheError, R>) => void): void {
        this.proceed = proceed
        // It may have ended since it was found.
        if (this.reading.joiners === undefined) this.told(this.reading.found)
        else this.reading.joiners.push(this)
      }

      told(found: Found<A, E> | undefined): void {
        const { call, proceed } = this
        if (proceed === undefined) return
        if (found === undefined) return proceed(findAgain(call))
        const outcome = enough(found, call.form.accepts)
        if (outcome !== undefined) return proceed(call.form.settle(outcome, call))
        // Who waits only for so long does that on a fiber of its own.
        if (settings.hard !== undefined || !flights.join(call.key, this)) {
          proceed(Effect.flatMap(flown(Either.right(found), call), (outcome) => call.form.settle(outcome, call)))
        }
      }

      resume(exit: Exit.Exit<Outcome<A, E>, E2 | CacheError>): void {
        this.proceed?.(Exit.isSuccess(exit) ? this.call.form.settle(exit.value, this.call) : Exit.failCause(exit.cause))
      }

      leave(): Effect.Effect<unknown> {
        this.proceed = undefined
        return flights.leave(this.call.key, this)
      }
    }

    const join = <L, B, E2, R>(
      joiner: Joiner<L, B, E2, R>,
      interruptible: boolean
    ): Effect.Effect<B, E | E2 | CacheError, R> => {
      const waiting = Effect.async<B, E | E2 | CacheError, R>((resume) => joiner.begin(resume))
      return interruptible
        ? Effect.uninterruptible(
          Effect.catchAllCause(
            Effect.interruptible(waiting),
            (cause) => Effect.zipRight(joiner.leave(), Effect.failCause(cause))
          )
        )
        : waiting
    }

    /** One read for all who ask at the same time. What is there and needs no lookup costs that, and no run. */
    const lead = <L, B, E2, R>(call: Call<L, B, E2, R>): Effect.Effect<Outcome<A, E>, E2 | CacheError, R> =>
      // A read that others can join also ends for them.
      Effect.uninterruptibleMask((restore) => {
        const { form, key } = call
        const reading: Reading = { joiners: [], found: undefined }
        reads.set(key, reading)
        const end = (): void => {
          if (reads.get(key) === reading) reads.delete(key)
        }
        const tell = (found: Found<A, E> | undefined): void => {
          const { joiners } = reading
          reading.joiners = undefined
          reading.found = found
          for (const joiner of joiners ?? []) joiner.told(found)
        }
        return Effect.matchCauseEffect(restore(fetch(key)), {
          onFailure: (cause): Effect.Effect<Outcome<A, E>, E2 | CacheError, R> => {
            end()
            tell(undefined)
            return Either.match(Cause.failureOrCause(cause), {
              onLeft: (error) => restore(flown(Either.left(error), call)),
              onRight: Effect.failCause
            })
          },
          onSuccess: (found) => {
            end()
            counted(found)
            const outcome = enough(found, form.accepts)
            if (outcome !== undefined) {
              tell(found)
              return Exit.succeed(outcome)
            }
            const told = () => tell(found)
            return Effect.ensuring(
              restore(flown(Either.right(found), call, told)),
              Effect.sync(told)
            )
          }
        })
      })

    const find = <L, B, E2, R>(
      call: Call<L, B, E2, R>,
      caller: Fiber.RuntimeFiber<unknown, unknown>,
      flags: RuntimeFlags.RuntimeFlags
    ): Effect.Effect<B, E | E2 | CacheError, R> => {
      const reading = reads.get(call.key)
      return reading === undefined
        ? Effect.flatMap(lead(call), (outcome) => call.form.settle(outcome, call))
        : join(new Joiner(reading, call, SingleFlight.flightOf(caller)), RuntimeFlags.interruptible(flags))
    }

    const findAgain = <L, B, E2, R>(call: Call<L, B, E2, R>): Effect.Effect<B, E | E2 | CacheError, R> =>
      Effect.withFiberRuntime((caller, { runtimeFlags }) => find(call, caller, runtimeFlags))

    const settle = (outcome: Outcome<A, E>): Exit.Exit<Option.Option<A>, E> =>
      outcome.kind === "V"
        ? Exit.succeed(Option.some(outcome.value))
        : outcome.kind === "F"
        ? Exit.fail(outcome.error)
        : Exit.succeed(Option.none())

    const VALUE: Form<A, A> = {
      outcome: (value) => ({ kind: "V", value }),
      accepts: (outcome) => outcome.kind !== "N",
      settle: (outcome, call) =>
        outcome.kind === "V"
          ? Exit.succeed(outcome.value)
          : outcome.kind === "F"
          ? Exit.fail(outcome.error)
          // It joined a lookup that may find nothing, and its own can't.
          : findAgain(call)
    }

    const OPTION: Form<Option.Option<A>, Option.Option<A>> = {
      outcome: (value) => Option.isSome(value) ? { kind: "V", value: value.value } : NOTHING,
      accepts: () => true,
      settle
    }

    const getOrSet = <E2, R>(key: K, lookup: Effect.Effect<A, E2, R>): Effect.Effect<A, E | E2 | CacheError, R> =>
      near === undefined
        ? Effect.withFiberRuntime((caller, { runtimeFlags }) => {
          const text = writeKey("Cache.getOrSet", key)
          if (typeof text !== "string") return Effect.fail(text)
          const run = find({ key: entryPrefix + text, original: key, lookup, form: VALUE }, caller, runtimeFlags)
          return isTraced(caller) ? span("cache.getOrSet", run) : run
        })
        // What is near needs no fiber.
        : Effect.suspend((): Effect.Effect<A, E | E2 | CacheError, R> => {
          const text = writeKey("Cache.getOrSet", key)
          if (typeof text !== "string") return Effect.fail(text)
          const kept = nearby(text)
          if (kept !== undefined && kept.found !== undefined && !isDue(kept.entry)) {
            counts.nearHit.add()
            return kept.found
          }
          counts.nearMiss.add()
          return span("cache.getOrSet", findAgain({ key: entryPrefix + text, original: key, lookup, form: VALUE }))
        })

    const getOrSetOption: Handle<K, A, E>["getOrSetOption"] = (key, lookup) =>
      Effect.suspend(() =>
        keyed(writeKey("Cache.getOrSetOption", key), (text) => {
          const kept = nearby(text)
          if (kept !== undefined && !isDue(kept.entry)) {
            counts.nearHit.add()
            return settle(kept.outcome)
          }
          if (near !== undefined) counts.nearMiss.add()
          return span(
            "cache.getOrSetOption",
            findAgain({ key: entryPrefix + text, original: key, lookup, form: OPTION })
          )
        })
      )

    // -------------------------------------------------------------------------------------------------------------
    // Several keys
    // -------------------------------------------------------------------------------------------------------------

    const textsOf = (operation: string, keys: Iterable<K>): Either.Either<Array<string>, RedisInputError> => {
      const texts: Array<string> = []
      for (const key of keys) {
        const text = writeKey(operation, key)
        if (typeof text !== "string") return Either.left(text)
        texts.push(text)
      }
      return Either.right(texts)
    }

    const mget = (keys: ReadonlyArray<string>): Effect.Effect<ReadonlyArray<RedisClient.BytesReply>, RedisError> =>
      Effect.flatMap(client.sendBytes("MGET", ...keys.map(client.key)), (reply) =>
        Array.isArray(reply) && reply.length === keys.length
          ? Exit.succeed<ReadonlyArray<RedisClient.BytesReply>>(reply)
          : Exit.fail(new RedisDecodeError({ command: "MGET", detail: "expected as many values as keys" })))

    /** On a Cluster, one command for each slot. */
    const mgetAnywhere = (
      keys: ReadonlyArray<string>
    ): Effect.Effect<ReadonlyArray<RedisClient.BytesReply>, RedisError> => {
      if (client.mode !== "cluster" || keys.length === 1) {
        return mget(keys)
      }
      const slots = new Map<number, Array<number>>()
      keys.forEach((key, i) => {
        const slot = client.slot(key)
        const others = slots.get(slot)
        if (others === undefined) {
          slots.set(slot, [i])
        } else others.push(i)
      })
      const groups = Array.from(slots.values())
      return Effect.map(
        Effect.all(
          groups.map((group) =>
            mget(group.map((i) => keys[i]!))
          ),
          { concurrency: "unbounded" }
        ),
        (parts) => {
          const all = new Array<RedisClient.BytesReply>(keys.length).fill(null)
          groups.forEach((group, g) =>
            group.forEach((i, n) => all[i] = parts[g]![n]!)
          )
          return all
        }
      )
    }

    /** The values that are JSON, by their places. */
    const valuesOf = (entries: ReadonlyArray<Entries.Entry | undefined>): ReadonlyArray<unknown> => {
      const texts: Array<string> = []
      const places: Array<number> = []
      entries.forEach((entry, i) => {
        if (entry === undefined || entry.kind !== "V" || entry.encoded) return
        texts.push(Entries.textOf(entry))
        places.push(i)
      })
      const values = new Array<unknown>(entries.length)
      parseAll(texts)?.forEach((value, n) => values[places[n]!] = value)
      return values
    }

    const getMany: Handle<K, A, E>["getMany"] = (keys) =>
      Effect.suspend(() =>
        checked(textsOf("Cache.getMany", keys), (texts) => {
          const out = new Array<Option.Option<A>>(texts.length).fill(Option.none())
          /** What is not near, and which of all it is. */
          const rest: Array<string> = []
          const places: Array<number> = []
          for (let i = 0; i < texts.length; i++) {
            const text = texts[i]!
            const kept = nearby(text)
            if (kept === undefined) {
              rest.push(entryPrefix + text)
              places.push(i)
            } else if (kept.outcome.kind === "V") out[i] = Option.some(kept.outcome.value)
          }
          if (rest.length < texts.length) counts.nearHit.add(texts.length - rest.length)
          if (rest.length === 0) return Effect.succeed(out)
          if (near !== undefined) counts.nearMiss.add(rest.length)
          const readings = near === undefined ? undefined : places.map((i) => near.beginRead(texts[i]!))
          return span(
            "cache.getMany",
            Effect.matchEffect(breaker.run(withTags(mgetAnywhere(rest)), open), {
              onFailure: (error) => {
                for (const i of places) {
                  const kept = leftNear(texts[i]!)
                  if (kept === undefined) return Effect.fail(error)
                  if (kept.outcome.kind === "V") out[i] = Option.some(kept.outcome.value)
                }
                return Effect.succeed(out)
              },
              onSuccess: (replies) => {
                const now = tags.now()
                let hits = 0
                let stale = 0
                const unknown = new Set<string>()
                const asked: Array<number> = []
                const entries = replies.map((reply) => isBytes(reply) ? Entries.read(reply) : undefined)
                const values = valuesOf(entries)
                const take = (i: number): void => {
                  const reply = replies[i]!
                  const bytes = isBytes(reply) ? reply : undefined
                  const found = look(rest[i]!, bytes, readings?.[i], now, entries[i], values[i])
                  if (found._tag === "Fresh") {
                    hits++
                    if (found.outcome.kind === "V") out[places[i]!] = Option.some(found.outcome.value)
                  } else if (found._tag === "Stale") stale++
                  else if (found._tag === "Ask") {
                    asked.push(i)
                    for (const tag of found.tags) unknown.add(tag)
                  }
                }
                const done = () => {
                  counts.hit.add(hits)
                  counts.stale.add(stale)
                  counts.miss.add(rest.length - hits - stale)
                  return out
                }
                for (let i = 0; i < rest.length; i++) take(i)
                return asked.length === 0 ? Exit.succeed(done()) : Effect.map(tags.ask(Array.from(unknown)), () => {
                  asked.forEach(take)
                  return done()
                })
              }
            })
          )
        })
      )

    const setMany: Handle<K, A, E>["setMany"] = (entries) =>
      Effect.suspend(() => {
        const all = Array.from(entries)
        return all.length === 0 ? Effect.void : span(
          "cache.setMany",
          knowing(Effect.suspend((): Effect.Effect<void, RedisError | CacheValueTooLarge> => {
            const writes: Array<readonly [string, Command]> = []
            for (const [key, value, options] of all) {
              const text = writeKey("Cache.setMany", key)
              if (typeof text !== "string") return Effect.fail(text)
              const written = write("Cache.setMany", { kind: "V", value }, key, options, tags.epoch(), 0)
              if (Either.isLeft(written)) return Effect.fail(written.left)
              writes.push([
                entryPrefix + text,
                written.right === undefined ? ["UNLINK"] : setting(written.right)
              ])
            }
            return sendAll(writes)
          }))
        )
      })

    // -------------------------------------------------------------------------------------------------------------
    // Invalidation
    // -------------------------------------------------------------------------------------------------------------

    const sweep = (floor: number) => {
      return client.scan({ match: `${escapeGlob(entryPrefix)}*`, type: "string" }).pipe(
        Stream.grouped(500),
        Stream.runForEach((keys) =>
          client.pipeline(Array.from(keys, (key) => RedisScript.call(scripts.sweep, key, floor)))
        ),
        Effect.catchAll((error) =>
          Effect.logWarning(`what was cleared of the cache "${name}" could not all be removed`, error)
        )
      )
    }

    const countOf = (
      operation: string,
      key: K,
      by: number,
      ttl: Duration | undefined
    ): Effect.Effect<number, RedisError> => {
      const bad = checkInteger(operation, "by", by)
      if (bad !== undefined) return Effect.fail(bad)
      const { ttl: own } = definition
      const life = ttl !== undefined
        ? lifeOf(operation, "ttl", ttl)
        : typeof own === "function"
        ? Either.left(inputError(operation, "ttl", "given, as that of the cache is a function", undefined))
        : lifeOf(operation, "ttl", own)
      return keyed(writeKey(operation, key), (text) =>
        checked(life, (life) =>
          life === 0
            ? Effect.fail(inputError(operation, "ttl", "longer than zero", 0))
            : span(
              operation === "Cache.increment" ? "cache.increment" : "cache.decrement",
              client.eval(scripts.count, `${prefix}n:${text}`, operation === "Cache.increment" ? by : -by, endOf(life))
            )))
    }

    type Duration = NonNullable<SetOptions["ttl"]>

    return {
      name,
      get,
      has: (key) => Effect.map(get(key), Option.isSome),
      getOrSet,
      getOrSetOption,
      set,
      delete: (key) =>
        Effect.suspend(() =>
          keyed(
            writeKey("Cache.delete", key),
            (text) => span("cache.delete", Effect.asVoid(send(entryPrefix + text, ["UNLINK"])))
          )
        ),
      take: (key) =>
        Effect.suspend(() =>
          keyed(writeKey("Cache.take", key), (text) => {
            const name = entryPrefix + text
            return span(
              "cache.take",
              Effect.flatMap(withTags(Effect.suspend(() => send(name, ["GETDEL"]))), (reply) => {
                const bytes = isBytes(reply) ? reply : undefined
                const found = look(name, bytes, undefined)
                return found._tag === "Ask"
                  ? Effect.map(tags.ask(found.tags), () => valueOf(look(name, bytes, undefined), false))
                  : Effect.succeed(valueOf(found, false))
              })
            )
          })
        ),
      getMany,
      setMany,
      deleteMany: (keys) =>
        Effect.suspend(() =>
          checked(
            textsOf("Cache.deleteMany", keys),
            (texts) => span("cache.deleteMany", sendAll(texts.map((text) => [entryPrefix + text, ["UNLINK"]] as const)))
          )
        ),
      invalidateTags: (...names) =>
        Effect.suspend(() => {
          const bad = checkTags("Cache.invalidateTags", names)
          return bad !== undefined ? Effect.fail(bad) : names.length === 0 ? Effect.void : span(
            "cache.invalidateTags",
            Effect.ensuring(
              tags.invalidate(names, settings.longest, watch.notice(tagsKey)),
              Effect.sync(forgetRuns)
            )
          )
        }),
      clear: Effect.suspend(() =>
        span(
          "cache.clear",
          Effect.map(tags.clear(watch.noticeAll()), (floor) => {
            near?.clear()
            run(sweep(floor))
          }).pipe(Effect.ensuring(Effect.sync(forgetRuns)))
        )
      ),
      clearPattern: (pattern) =>
        Effect.suspend(() =>
          span(
            "cache.clearPattern",
            Effect.flatMap(client.unlinkMatching(escapeGlob(entryPrefix) + pattern), (n) => {
              near?.clear()
              forgetRuns()
              const { channel, message } = watch.noticeAll()
              return channel === "" ? Effect.succeed(n) : Effect.as(client.send("PUBLISH", channel, message), n)
            })
          )
        ),
      increment: (key, by = 1, options) => Effect.suspend(() => countOf("Cache.increment", key, by, options?.ttl)),
      decrement: (key, by = 1, options) => Effect.suspend(() => countOf("Cache.decrement", key, by, options?.ttl)),
      count: (key) =>
        Effect.suspend(() =>
          keyed(
            writeKey("Cache.count", key),
            (text) => Effect.map(client.get(`${prefix}n:${text}`), Option.map(Number))
          )
        ),
      resetCount: (key) =>
        Effect.suspend(() =>
          keyed(writeKey("Cache.resetCount", key), (text) => Effect.asVoid(client.unlink(`${prefix}n:${text}`)))
        ),
      stats: Effect.sync(() => ({
        near: {
          hits: counts.nearHit.value(),
          misses: counts.nearMiss.value(),
          evictions: counts.evicted.value(),
          size: near?.size ?? 0,
          bytes: near?.bytes ?? 0
        },
        redis: {
          hits: counts.hit.value(),
          misses: counts.miss.value(),
          stale: counts.stale.value(),
          unavailable: counts.unavailable.value(),
          undecodable: counts.undecodable.value()
        },
        lookups: {
          succeeded: counts.loaded.value(),
          failed: counts.failed.value(),
          refused: counts.refused.value()
        }
      }))
    }
  })
