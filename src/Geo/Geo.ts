/**
 * Places over Redis: members with a position and, if wanted, a value of their own, found by distance.
 *
 * @since 0.1.0
 */
import * as Context from "effect/Context"
import type * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Either from "effect/Either"
import * as Layer from "effect/Layer"
import * as Option from "effect/Option"
import * as Redacted from "effect/Redacted"
import * as Schema from "effect/Schema"
import { checkWhole, inputError } from "../internal/input.js"
import { checkName, roomKey } from "../internal/rooms.js"
import { withSpan } from "../internal/telemetry.js"
import { type Texts, textsOf } from "../internal/texts.js"
import { lifeOf } from "../internal/windows.js"
import { type RedisArg, RedisClient, type Reply } from "../RedisClient.js"
import { RedisDecodeError, type RedisError, type RedisInputError } from "../RedisError.js"
import * as RedisScript from "../RedisScript.js"
import { layer as testServer, type RedisTestServer } from "../RedisTestServer.js"
import * as scripts from "./scripts.js"

// ---------------------------------------------------------------------------------------------------------------------
// Models
// ---------------------------------------------------------------------------------------------------------------------

/**
 * A set of places, with what is known of each.
 *
 * @since 0.1.0
 * @category models
 */
export interface Definition<in out M, in out V> {
  readonly name: string
  readonly member: Schema.Schema<M, string>
  readonly value: Option.Option<Schema.Schema<V, string>>
  readonly ttl: Duration.DurationInput
}

/**
 * In degrees: a longitude from -180 to 180, and a latitude from -85.05112878 to 85.05112878.
 *
 * @since 0.1.0
 * @category models
 */
export interface Position {
  readonly longitude: number
  readonly latitude: number
}

/**
 * A member to put at a position; with a value, when the definition has one.
 *
 * @since 0.1.0
 * @category models
 */
export type Entry<M, V> =
  & Position
  & { readonly member: M }
  & ([void] extends [V] ? unknown : { readonly value: V })

/**
 * A member that is there. Redis keeps positions to about half a metre.
 *
 * @since 0.1.0
 * @category models
 */
export interface Place<out M, out V> extends Position {
  readonly member: M
  /** `None` when there is none, or the present schema can't read it. */
  readonly value: Option.Option<V>
}

/**
 * A member that was found.
 *
 * @since 0.1.0
 * @category models
 */
export interface Found<out M, out V> extends Place<M, V> {
  /** From the centre of the search, in its unit. */
  readonly distance: number
  /** Its place in the order, from 1. */
  readonly rank: number
}

/**
 * Metres, kilometres, miles or feet.
 *
 * @since 0.1.0
 * @category models
 */
export type Unit = "m" | "km" | "mi" | "ft"

/**
 * What to search for: what is `around` a position or a member, within a radius, or in a box whose sides run from west to
 * east and from south to north.
 *
 * @since 0.1.0
 * @category options
 */
export type Search<M> =
  & {
    readonly around:
      | (Position & { readonly member?: undefined })
      | { readonly member: M; readonly longitude?: undefined; readonly latitude?: undefined }
    /** Of the radius or the box, and of the distances that are found; metres by default. */
    readonly unit?: Unit | undefined
    /** The nearest first by default. Those at the same distance come in the order of their texts. */
    readonly order?: "nearest" | "farthest" | undefined
    /** How many at most; all by default. */
    readonly limit?: number | undefined
    /**
     * Only what comes behind this one: the last of the page before, found by the same search. Nothing comes twice or is
     * left out when others are added or removed meanwhile.
     */
    readonly after?: {
      readonly member: M
      readonly distance: number
      /** Where it was makes the search faster. */
      readonly rank?: number | undefined
    } | undefined
  }
  & (
    | { readonly radius: number; readonly width?: undefined; readonly height?: undefined }
    | { readonly width: number; readonly height: number; readonly radius?: undefined }
  )

/**
 * @since 0.1.0
 * @category models
 */
export interface Service {
  /**
   * Puts members at positions, all or none, at most 10,000; who is there already is moved. Returns how many were not
   * there; when the reply was lost and the command was sent again, those that it had added count as there.
   */
  readonly add: <M, V>(
    definition: Definition<M, V>,
    entries: ReadonlyArray<Entry<M, V>>
  ) => Effect.Effect<number, RedisError>
  /** Removes members and their values, at most 10,000, and returns how many were there. */
  readonly remove: <M, V>(
    definition: Definition<M, V>,
    ...members: ReadonlyArray<M>
  ) => Effect.Effect<number, RedisError>
  /** Where a member is. */
  readonly position: <M, V>(
    definition: Definition<M, V>,
    member: M
  ) => Effect.Effect<Option.Option<Position>, RedisError>
  /** Where a member is, and its value. */
  readonly get: <M, V>(
    definition: Definition<M, V>,
    member: M
  ) => Effect.Effect<Option.Option<Place<M, V>>, RedisError>
  /** The same of many, at most 10,000, in their order. */
  readonly getMany: <M, V>(
    definition: Definition<M, V>,
    members: ReadonlyArray<M>
  ) => Effect.Effect<ReadonlyArray<Option.Option<Place<M, V>>>, RedisError>
  /** How far two members are from each other, in metres or another unit; `None` where one of them is not there. */
  readonly distance: <M, V>(
    definition: Definition<M, V>,
    from: M,
    to: M,
    unit?: Unit
  ) => Effect.Effect<Option.Option<number>, RedisError>
  /** Members by distance. A member that the present schema can't read is left out. */
  readonly search: <M, V>(
    definition: Definition<M, V>,
    search: Search<M>
  ) => Effect.Effect<ReadonlyArray<Found<M, V>>, RedisError | GeoMemberNotFound>
  /** How many members there are. */
  readonly count: <M, V>(definition: Definition<M, V>) => Effect.Effect<number, RedisError>
  /** Removes all members. */
  readonly clear: <M, V>(definition: Definition<M, V>) => Effect.Effect<void, RedisError>
}

/**
 * @since 0.1.0
 * @category tags
 */
export class Geo extends Context.Tag("effect-redis-kit/Geo")<Geo, Service>() {}

// ---------------------------------------------------------------------------------------------------------------------
// Errors
// ---------------------------------------------------------------------------------------------------------------------

/**
 * A search was around a member that is not there.
 *
 * @since 0.1.0
 * @category errors
 */
export class GeoMemberNotFound
  extends Schema.TaggedError<GeoMemberNotFound>("effect-redis-kit/Geo/GeoMemberNotFound")("GeoMemberNotFound", {
    name: Schema.String,
    member: Schema.String
  })
{
  /** @since 0.1.0 */
  override get message(): string {
    return `${this.name}: "${this.member}" is not there`
  }
}

// ---------------------------------------------------------------------------------------------------------------------
// Constructors
// ---------------------------------------------------------------------------------------------------------------------

/**
 * Describes a set of places.
 *
 * - `member`: who or what is at a place, as a schema that makes a text of it
 * - `value`: what is known of each member, if anything; it is stored as JSON, and removed with its member
 * - `ttl`: for how long the set is kept after something was last added to it. By default, and with `Infinity`, it stays:
 *   whoever adds members removes them, or calls `clear`
 *
 * @example
 * ```ts
 * import { Effect, Schema } from "effect"
 * import { Geo } from "effect-redis-kit"
 *
 * const Shops = Geo.define({
 *   name: "shops",
 *   member: Schema.String,
 *   value: Schema.Struct({ opens: Schema.String })
 * })
 *
 * const program = Effect.gen(function*() {
 *   yield* Geo.add(Shops, [
 *     { member: "harbour", longitude: 9.98, latitude: 53.54, value: { opens: "08:00" } }
 *   ])
 *   const near = yield* Geo.search(Shops, {
 *     around: { longitude: 10, latitude: 53.55 },
 *     radius: 5,
 *     unit: "km",
 *     limit: 10
 *   })
 *   return near.map(({ distance, member }) => `${member}: ${distance} km`)
 * })
 * ```
 *
 * @since 0.1.0
 * @category constructors
 */
export const define: {
  <M, V, I>(options: {
    readonly name: string
    readonly member: Schema.Schema<M, string>
    readonly value: Schema.Schema<V, I>
    readonly ttl?: Duration.DurationInput | undefined
  }): Definition<M, V>
  <M>(options: {
    readonly name: string
    readonly member: Schema.Schema<M, string>
    readonly ttl?: Duration.DurationInput | undefined
  }): Definition<M, void>
} = <M, V, I>(options: {
  readonly name: string
  readonly member: Schema.Schema<M, string>
  readonly value?: Schema.Schema<V, I>
  readonly ttl?: Duration.DurationInput | undefined
}): Definition<M, any> => ({
  name: options.name,
  member: options.member,
  value: Option.map(Option.fromNullable(options.value), (value) => Schema.parseJson(value)),
  ttl: options.ttl ?? Infinity
})

/** Of one script. */
const MOST = 10_000

const MAX_LATITUDE = 85.05112878

interface Settings<M, V> {
  readonly keys: scripts.Keys
  readonly members: Texts<M>
  readonly value: {
    readonly encode: (operation: string, value: V) => Either.Either<string, RedisInputError>
    readonly decode: (text: string) => Option.Option<V>
  } | undefined
  /** Milliseconds; 0 for no end. */
  readonly life: number
}

const valuesOf = <V>(schema: Schema.Schema<V, string>): NonNullable<Settings<any, V>["value"]> => {
  const encode = Schema.encodeEither(schema)
  return {
    encode: (operation, value) =>
      // What is wrong may be a secret.
      Either.mapLeft(encode(value), () => inputError(operation, "value", String(schema.ast), Redacted.make(""))),
    decode: Schema.decodeOption(schema)
  }
}

const checked = new WeakMap<Definition<any, any>, Either.Either<Settings<any, any>, RedisInputError>>()

const settingsOf = <M, V>(definition: Definition<M, V>): Either.Either<Settings<M, V>, RedisInputError> => {
  let known = checked.get(definition)
  if (known === undefined) {
    known = Either.gen(function*() {
      const bad = checkName("Geo.define", "name", definition.name)
      if (bad !== undefined) return yield* Either.left(bad)
      const key = roomKey("geo", definition.name, "places")
      return {
        keys: { places: key, values: `${key}:values` },
        members: textsOf(definition.member),
        value: Option.isSome(definition.value) ? valuesOf(definition.value.value) : undefined,
        life: yield* lifeOf("Geo.define", "ttl", definition.ttl)
      }
    })
    checked.set(definition, known)
  }
  return known
}

/**
 * A position as the server can keep it. At exactly 180 degrees, and at the northern edge, it makes a geohash that is not
 * on the map, and does not find what is there: the first is the same as -180, and the second is a tenth of a millimetre
 * away.
 */
const positionOf = (operation: string, { latitude, longitude }: Position): Either.Either<Position, RedisInputError> => {
  if (!(longitude >= -180 && longitude <= 180)) {
    return Either.left(inputError(operation, "longitude", "a number from -180 to 180", longitude))
  }
  if (!(latitude >= -MAX_LATITUDE && latitude <= MAX_LATITUDE)) {
    return Either.left(inputError(operation, "latitude", `a number from -${MAX_LATITUDE} to ${MAX_LATITUDE}`, latitude))
  }
  return Either.right({
    longitude: longitude + 180 >= 360 ? -180 : longitude,
    latitude: Math.min(latitude, MAX_LATITUDE - 1e-9)
  })
}

const isUnit = (unit: string): unit is Unit => unit === "m" || unit === "km" || unit === "mi" || unit === "ft"

const checkUnit = (operation: string, unit: string): RedisInputError | undefined =>
  isUnit(unit) ? undefined : inputError(operation, "unit", "m, km, mi or ft", unit)

const checkLength = (field: string, length: number): RedisInputError | undefined =>
  length >= 0 && length < Infinity
    ? undefined
    : inputError("Geo.search", field, "a finite number of zero or more", length)

const checkSearch = <M>({ after, height, limit, order, radius, unit, width }: Search<M>): RedisInputError | undefined =>
  (unit === undefined ? undefined : checkUnit("Geo.search", unit)) ??
    (limit === undefined ? undefined : checkWhole("Geo.search", "limit", 1, Number.MAX_SAFE_INTEGER, limit)) ??
    (radius === undefined
      ? checkLength("width", width) ?? checkLength("height", height)
      : checkLength("radius", radius)) ??
    (after === undefined
      ? undefined
      : checkLength("after.distance", after.distance) ??
        checkWhole("Geo.search", "after.rank", 0, Number.MAX_SAFE_INTEGER, after.rank ?? 0)) ??
    (order === undefined || order === "nearest" || order === "farthest"
      ? undefined
      : inputError("Geo.search", "order", "nearest or farthest", order))

const queryOf = <M>({ members, value }: Settings<M, any>, search: Search<M>): Either.Either<Query, RedisInputError> => {
  const bad = checkSearch(search)
  if (bad !== undefined) return Either.left(bad)
  const { after, around, height, limit, radius, unit = "m", width } = search
  const shape: Array<RedisArg> = []
  let member: string | undefined
  if (around.longitude === undefined) {
    const encoded = members.encode("Geo.search", "around", around.member)
    if (Either.isLeft(encoded)) return Either.left(encoded.left)
    member = encoded.right
    shape.push("FROMMEMBER", member)
  } else {
    const centre = positionOf("Geo.search", around)
    if (Either.isLeft(centre)) return Either.left(centre.left)
    shape.push("FROMLONLAT", centre.right.longitude, centre.right.latitude)
  }
  if (radius === undefined) shape.push("BYBOX", width, height, unit)
  else shape.push("BYRADIUS", radius, unit)
  const last = after === undefined
    ? Either.right(undefined)
    : members.encode("Geo.search", "after.member", after.member)
  return Either.map(last, (last) => ({
    shape,
    around: member,
    order: search.order === "farthest" ? "DESC" : "ASC",
    limit: limit ?? (after === undefined ? 0 : Number.MAX_SAFE_INTEGER),
    after: after === undefined ? undefined : { distance: after.distance, seen: after.rank ?? 0 },
    last,
    valued: value !== undefined
  }))
}

type Query = scripts.Query & { readonly last: string | undefined }

/**
 * Those behind the end of the last page, in order. The server tells all that are at the same distance, in no order.
 */
const ordered = (
  found: ReadonlyArray<scripts.Found>,
  { after, last, limit, order }: Query
): ReadonlyArray<scripts.Found> => {
  const sign = order === "ASC" ? 1 : -1
  const all = found.some(({ distance }, i) => i > 0 && distance === found[i - 1]!.distance)
    ? found.toSorted((a, b) => sign * (a.distance - b.distance) || (a.member < b.member ? -1 : 1))
    : found
  const behind = after === undefined
    ? all
    : all.filter(({ distance, member }) => distance !== after.distance || member > last!)
  return limit === 0 || behind.length <= limit ? behind : behind.slice(0, limit)
}

/**
 * Places over the client of the environment.
 *
 * @since 0.1.0
 * @category constructors
 */
export const make: Effect.Effect<Service, never, RedisClient> = Effect.gen(function*() {
  const client = yield* RedisClient

  const within = <M, V, A, E>(
    operation: string,
    definition: Definition<M, V>,
    use: (settings: Settings<M, V>) => Either.Either<Effect.Effect<A, E | RedisError>, RedisInputError>
  ): Effect.Effect<A, E | RedisError> => {
    const effect = Either.flatMap(settingsOf(definition), use)
    return Either.isLeft(effect)
      ? Effect.fail(effect.left)
      : withSpan(effect.right, `geo.${operation}`, () => ({ "effect_redis.geo.name": definition.name }))
  }

  const encodeAll = <M>(
    operation: string,
    { members }: Settings<M, any>,
    all: ReadonlyArray<M>,
    min: number
  ): Either.Either<ReadonlyArray<string>, RedisInputError> =>
    Either.gen(function*() {
      const bad = checkWhole(operation, "members", min, MOST, all.length)
      if (bad !== undefined) return yield* Either.left(bad)
      const texts: Array<string> = []
      for (const member of all) texts.push(yield* members.encode(operation, "member", member))
      return texts
    })

  const valueOf = <V>({ value }: Settings<any, V>, known: scripts.Known): Option.Option<V> =>
    value === undefined || known.value === undefined ? Option.none() : value.decode(known.value)

  const getMany = <M, V>(
    operation: string,
    definition: Definition<M, V>,
    members: ReadonlyArray<M>,
    withValues: boolean
  ): Effect.Effect<ReadonlyArray<Option.Option<Place<M, V>>>, RedisError> =>
    within(
      operation,
      definition,
      (settings) =>
        Either.map(encodeAll(`Geo.${operation}`, settings, members, 0), (texts) =>
          texts.length === 0 ? Effect.succeed([]) : Effect.map(
            client.eval(scripts.get, settings.keys, withValues && settings.value !== undefined, texts),
            (all) =>
              all.map((known, i) =>
                known === undefined ? Option.none() : Option.some({
                  member: members[i]!,
                  longitude: known.longitude,
                  latitude: known.latitude,
                  value: valueOf(settings, known)
                })
              )
          ))
    )

  /**
   * What is one command anyway costs half as much without a script around it. A script is sent again when its reply was
   * lost, and tells why a member has no answer: so it is asked where the command gets none.
   */
  const directly = <A>(
    decode: (reply: Reply) => Either.Either<A, string>,
    script: () => Effect.Effect<A, RedisError>,
    command: string,
    args: ReadonlyArray<RedisArg>
  ): Effect.Effect<A, RedisError> =>
    Effect.matchEffect(client.send(command, ...args), {
      onSuccess: (reply) =>
        Either.mapLeft(
          decode(reply),
          (expected) => new RedisDecodeError({ command, detail: `expected ${expected}` })
        ),
      onFailure: (error) =>
        error._tag === "RedisReplyError" ||
          (error._tag === "RedisOutcomeUnknownError" && error.reason === "disconnected")
          ? script()
          : Effect.fail(error)
    })

  const find = (
    keys: scripts.Keys,
    query: Query
  ): Effect.Effect<ReadonlyArray<scripts.Found> | undefined, RedisError> => {
    const all = () => client.eval(scripts.search, keys, query)
    const { after, around, limit, order, shape, valued } = query
    if (valued || after !== undefined) return all()
    const args = [client.key(keys.places), ...shape, order, "WITHDIST", "WITHCOORD"]
    // One more than wanted tells whether others are at the distance of the last one, and then all of those are needed.
    if (limit > 0) args.push("COUNT", limit + 1)
    return Effect.flatMap(directly(scripts.foundOf, all, "GEOSEARCH", args), (found) => {
      if (found === undefined || (found.length === 0 && around !== undefined)) return Effect.succeed(undefined)
      return limit > 0 && found.length > limit && found[limit]!.distance === found[limit - 1]!.distance
        ? all()
        : Effect.succeed(found)
    })
  }

  /** All of it, or the first thing that is wrong with it. */
  const entriesOf = <M, V>(
    { members, value: values }: Settings<M, V>,
    entries: ReadonlyArray<Entry<M, V>>
  ): Either.Either<ReadonlyArray<scripts.Entry>, RedisInputError> => {
    const bad = checkWhole("Geo.add", "entries", 1, MOST, entries.length)
    if (bad !== undefined) return Either.left(bad)
    const all: Array<scripts.Entry> = []
    for (const entry of entries) {
      const position = positionOf("Geo.add", entry)
      if (Either.isLeft(position)) return Either.left(position.left)
      const member = members.encode("Geo.add", "member", entry.member)
      if (Either.isLeft(member)) return Either.left(member.left)
      const { latitude, longitude } = position.right
      let value: string | undefined
      if (values !== undefined) {
        const encoded = values.encode("Geo.add", "value" in entry ? entry.value as V : undefined as V)
        if (Either.isLeft(encoded)) return Either.left(encoded.left)
        value = encoded.right
      }
      all.push({ longitude, latitude, member: member.right, value })
    }
    return Either.right(all)
  }

  const add: Service["add"] = (definition, entries) =>
    within("add", definition, (settings) =>
      Either.map(entriesOf(settings, entries), (all) => {
        const { keys, life, value } = settings
        const script = () => client.eval(scripts.add, keys, life, value !== undefined, all)
        if (value !== undefined || life > 0) return script()
        const args: Array<RedisArg> = [client.key(keys.places)]
        for (const { latitude, longitude, member } of all) args.push(longitude, latitude, member)
        return directly(RedisScript.number, script, "GEOADD", args)
      }))

  const search: Service["search"] = (definition, search) =>
    within(
      "search",
      definition,
      (settings) =>
        Either.map(queryOf(settings, search), (query) =>
          Effect.flatMap(find(settings.keys, query), (found) => {
            if (found === undefined) {
              // Without the key nobody is there.
              return Effect.fail(new GeoMemberNotFound({ name: definition.name, member: query.around ?? "" }))
            }
            const all: Array<Found<any, any>> = []
            let rank = query.after?.seen ?? 0
            for (const one of ordered(found, query)) {
              rank++
              const member = settings.members.decode(one.member)
              if (Either.isLeft(member)) continue
              all.push({
                member: member.right,
                longitude: one.longitude,
                latitude: one.latitude,
                value: valueOf(settings, one),
                distance: one.distance,
                rank
              })
            }
            return Effect.succeed(all)
          }))
    )

  return {
    add,
    remove: (definition, ...members) =>
      within(
        "remove",
        definition,
        (settings) =>
          Either.map(
            encodeAll("Geo.remove", settings, members, 1),
            (texts) => client.eval(scripts.remove, settings.keys, texts)
          )
      ),
    position: (definition, member) =>
      Effect.map(
        getMany("position", definition, [member], false),
        ([place]) => Option.map(place!, ({ latitude, longitude }) => ({ longitude, latitude }))
      ),
    get: (definition, member) => Effect.map(getMany("get", definition, [member], true), ([place]) => place!),
    getMany: (definition, members) => getMany("getMany", definition, members, true),
    distance: (definition, from, to, unit = "m") =>
      within("distance", definition, ({ keys, members }) => {
        const bad = checkUnit("Geo.distance", unit)
        if (bad !== undefined) return Either.left(bad)
        const first = members.encode("Geo.distance", "from", from)
        if (Either.isLeft(first)) return Either.left(first.left)
        const second = members.encode("Geo.distance", "to", to)
        if (Either.isLeft(second)) return Either.left(second.left)
        return Either.right(Effect.map(
          directly(
            scripts.distanceOf,
            () => client.eval(scripts.distance, keys, first.right, second.right, unit),
            "GEODIST",
            [client.key(keys.places), first.right, second.right, unit]
          ),
          Option.fromNullable
        ))
      }),
    search,
    count: (definition) => within("count", definition, ({ keys }) => Either.right(client.zcard(keys.places))),
    clear: (definition) =>
      within("clear", definition, ({ keys }) => Either.right(Effect.asVoid(client.unlink(keys.places, keys.values))))
  }
})

// ---------------------------------------------------------------------------------------------------------------------
// Layers
// ---------------------------------------------------------------------------------------------------------------------

/**
 * @since 0.1.0
 * @category layers
 */
export const layer: Layer.Layer<Geo, never, RedisClient> = Layer.effect(Geo, make)

/**
 * Places on a server in memory, with the server and its client beside them.
 *
 * @since 0.1.0
 * @category layers
 */
export const layerTest: Layer.Layer<Geo | RedisClient | RedisTestServer> = Layer.provideMerge(layer, testServer)

// ---------------------------------------------------------------------------------------------------------------------
// Accessors
// ---------------------------------------------------------------------------------------------------------------------

/**
 * Puts members at positions, and returns how many were not there before.
 *
 * @since 0.1.0
 * @category accessors
 */
export const add = <M, V>(
  definition: Definition<M, V>,
  entries: ReadonlyArray<Entry<M, V>>
): Effect.Effect<number, RedisError, Geo> => Effect.flatMap(Geo, (service) => service.add(definition, entries))

/**
 * Removes members and their values, and returns how many were there.
 *
 * @since 0.1.0
 * @category accessors
 */
export const remove = <M, V>(
  definition: Definition<M, V>,
  ...members: ReadonlyArray<M>
): Effect.Effect<number, RedisError, Geo> => Effect.flatMap(Geo, (service) => service.remove(definition, ...members))

/**
 * Where a member is.
 *
 * @since 0.1.0
 * @category accessors
 */
export const position = <M, V>(
  definition: Definition<M, V>,
  member: M
): Effect.Effect<Option.Option<Position>, RedisError, Geo> =>
  Effect.flatMap(Geo, (service) => service.position(definition, member))

/**
 * Where a member is, and its value.
 *
 * @since 0.1.0
 * @category accessors
 */
export const get = <M, V>(
  definition: Definition<M, V>,
  member: M
): Effect.Effect<Option.Option<Place<M, V>>, RedisError, Geo> =>
  Effect.flatMap(Geo, (service) => service.get(definition, member))

/**
 * Where members are, and their values, in their order.
 *
 * @since 0.1.0
 * @category accessors
 */
export const getMany = <M, V>(
  definition: Definition<M, V>,
  members: ReadonlyArray<M>
): Effect.Effect<ReadonlyArray<Option.Option<Place<M, V>>>, RedisError, Geo> =>
  Effect.flatMap(Geo, (service) => service.getMany(definition, members))

/**
 * How far two members are from each other, in metres or another unit; `None` where one of them is not there.
 *
 * @since 0.1.0
 * @category accessors
 */
export const distance = <M, V>(
  definition: Definition<M, V>,
  from: M,
  to: M,
  unit?: Unit
): Effect.Effect<Option.Option<number>, RedisError, Geo> =>
  Effect.flatMap(Geo, (service) => service.distance(definition, from, to, unit))

/**
 * Members by distance from a position or another member, within a radius or a box.
 *
 * @since 0.1.0
 * @category accessors
 */
export const search = <M, V>(
  definition: Definition<M, V>,
  search: Search<M>
): Effect.Effect<ReadonlyArray<Found<M, V>>, RedisError | GeoMemberNotFound, Geo> =>
  Effect.flatMap(Geo, (service) => service.search(definition, search))

/**
 * How many members there are.
 *
 * @since 0.1.0
 * @category accessors
 */
export const count = <M, V>(definition: Definition<M, V>): Effect.Effect<number, RedisError, Geo> =>
  Effect.flatMap(Geo, (service) => service.count(definition))

/**
 * Removes all members.
 *
 * @since 0.1.0
 * @category accessors
 */
export const clear = <M, V>(definition: Definition<M, V>): Effect.Effect<void, RedisError, Geo> =>
  Effect.flatMap(Geo, (service) => service.clear(definition))
