/**
 * Places, which are members of sorted sets.
 */
import { type Argv, double, fail, firstKey, integer, is, type Keys, type Run, type Table, twoKeys } from "../command.js"
import type { Engine } from "../Engine.js"
import { geohashOf, isPlace, type Place, placeOf, rangesAround, scoreOf } from "../geohash.js"
import { formatFixed, formatPrecisely } from "../numbers.js"
import { type EngineReply, ErrorReply } from "../reply.js"
import { distance } from "../sphere.js"
import { SortedSet, SYNTAX } from "../values.js"
import { add, store } from "./sortedSets.js"

const parsePlace = (longitudeText: string, latitudeText: string): Place => {
  const longitude = double(longitudeText)
  const latitude = double(latitudeText)
  return isPlace(longitude, latitude)
    ? { longitude, latitude }
    : fail(`ERR invalid longitude,latitude pair ${formatFixed(longitude, 6)},${formatFixed(latitude, 6)}`)
}

const UNITS: Readonly<Record<string, number>> = { M: 1, KM: 1000, FT: 0.3048, MI: 1609.34 }

/** How many metres it has. */
const parseUnit = (text: string): number =>
  UNITS[text.toUpperCase()] ?? fail("ERR unsupported unit provided. please use M, KM, FT, MI")

const between = (from: Place, to: Place): number => distance(from.longitude, from.latitude, to.longitude, to.latitude)

const showDistance = (metres: number, unit: number): string => formatFixed(metres / unit, 4)

const showPlace = ({ latitude, longitude }: Place): EngineReply => [
  formatPrecisely(longitude),
  formatPrecisely(latitude)
]

/** Something about each member's score, or nothing where there is no such member. */
const each = (show: (score: number) => EngineReply): Run => (engine, argv) => {
  const set = engine.sortedSet(argv[1]!)
  return argv.slice(2).map((member) => {
    const node = set?.members.get(member)
    return node === undefined ? null : show(node.score)
  })
}

// ---------------------------------------------------------------------------------------------------------------------
// Searching
// ---------------------------------------------------------------------------------------------------------------------

/** A circle or a box, with lengths in a unit. */
type Shape =
  & { readonly unit: number }
  & ({ readonly radius: number } | { readonly width: number; readonly height: number })

interface Found {
  readonly member: string
  readonly score: number
  readonly place: Place
  readonly metres: number
}

const parseRadius = (text: string, unitText: string): Shape => {
  const radius = double(text, new ErrorReply("ERR need numeric radius"))
  if (radius < 0) return fail("ERR radius cannot be negative")
  return { unit: parseUnit(unitText), radius }
}

const parseBox = (widthText: string, heightText: string, unitText: string): Shape => {
  const width = double(widthText, new ErrorReply("ERR need numeric width"))
  const height = double(heightText, new ErrorReply("ERR need numeric height"))
  if (width < 0 || height < 0) return fail("ERR height or width cannot be negative")
  return { unit: parseUnit(unitText), width, height }
}

/** How far a place is from the centre, or `undefined` when it is outside. */
const within = (centre: Place, shape: Shape, place: Place): number | undefined => {
  if ("radius" in shape) {
    const metres = between(centre, place)
    return metres > shape.radius * shape.unit ? undefined : metres
  }
  const { latitude, longitude } = place
  if (
    distance(longitude, latitude, centre.longitude, latitude) > shape.width * shape.unit / 2 ||
    distance(longitude, latitude, longitude, centre.latitude) > shape.height * shape.unit / 2
  ) return undefined
  return between(centre, place)
}

/** In the server's order; it stops when there are `limit`. */
const find = (set: SortedSet, centre: Place, shape: Shape, limit: number): Array<Found> => {
  const extent = "radius" in shape
    ? { width: shape.unit * shape.radius, height: shape.unit * shape.radius, radius: shape.radius * shape.unit }
    : {
      width: shape.unit * (shape.width / 2),
      height: shape.unit * (shape.height / 2),
      radius: Math.sqrt((shape.width / 2) ** 2 + (shape.height / 2) ** 2) * shape.unit
    }
  const { ranking } = set
  const out: Array<Found> = []
  for (const [from, before] of rangesAround(centre, extent)) {
    const nodes = ranking.slice(
      ranking.countBefore(({ score }) => score >= from),
      ranking.countBefore(({ score }) => score >= before)
    )
    for (const { key: member, score } of nodes) {
      const place = placeOf(score)
      const metres = within(centre, shape, place)
      if (metres === undefined) continue
      out.push({ member, score, place, metres })
      if (out.length === limit) return out
    }
  }
  return out
}

/** The commands of this family differ in what stands before their options, and in which of those they have. */
interface Form {
  readonly command: "GEOSEARCH" | "GEOSEARCHSTORE" | "GEORADIUS" | "GEORADIUSBYMEMBER"
  /** `GEORADIUS` and its like may store, but for those that end with `_RO`. */
  readonly stores?: boolean
}

interface Query {
  /** Not known where the key is not there. */
  readonly centre: Place | undefined
  readonly shape: Shape | undefined
  readonly withDistance: boolean
  readonly withHash: boolean
  readonly withPlace: boolean
  /** 1 for the nearest first, -1 for the farthest, 0 as they are found. */
  readonly order: number
  readonly count: number
  /** Stop when there are enough. */
  readonly any: boolean
  readonly target: string | undefined
  readonly storesDistance: boolean
}

const parse = ({ command, stores = false }: Form, argv: Argv, set: SortedSet | undefined): Query => {
  const modern = command === "GEOSEARCH" || command === "GEOSEARCHSTORE"
  const placeOfMember = (member: string): Place | undefined => {
    if (set === undefined) return undefined
    const node = set.members.get(member)
    return node === undefined ? fail("ERR could not decode requested zset member") : placeOf(node.score)
  }
  let centre: Place | undefined
  let shape: Shape | undefined
  let at = 2
  let target: string | undefined
  if (command === "GEOSEARCHSTORE") {
    target = argv[1]!
    at = 3
  } else if (command === "GEORADIUS") {
    centre = parsePlace(argv[2]!, argv[3]!)
    shape = parseRadius(argv[4]!, argv[5]!)
    at = 6
  } else if (command === "GEORADIUSBYMEMBER") {
    centre = placeOfMember(argv[2]!)
    // As in the server, without the key this is not even looked at.
    if (set !== undefined) shape = parseRadius(argv[3]!, argv[4]!)
    at = 5
  }
  let from: "member" | "place" | undefined
  let by: "radius" | "box" | undefined
  let withDistance = false
  let withHash = false
  let withPlace = false
  let storesDistance = false
  let order = 0
  let any = false
  let count = Infinity
  for (; at < argv.length; at++) {
    const left = argv.length - at - 1
    if (is(argv[at], "WITHDIST")) withDistance = true
    else if (is(argv[at], "WITHHASH")) withHash = true
    else if (is(argv[at], "WITHCOORD")) withPlace = true
    else if (is(argv[at], "ANY")) any = true
    else if (is(argv[at], "ASC")) order = 1
    else if (is(argv[at], "DESC")) order = -1
    else if (is(argv[at], "COUNT") && left >= 1) {
      count = integer(argv[++at]!)
      if (count <= 0) return fail("ERR COUNT must be > 0")
    } else if (command === "GEOSEARCHSTORE" && is(argv[at], "STOREDIST")) storesDistance = true
    else if (stores && left >= 1 && (is(argv[at], "STORE") || is(argv[at], "STOREDIST"))) {
      storesDistance = is(argv[at], "STOREDIST")
      target = argv[++at]!
    } else if (modern && is(argv[at], "FROMMEMBER") && left >= 1 && from !== "place") {
      centre = placeOfMember(argv[++at]!)
      from = "member"
    } else if (modern && is(argv[at], "FROMLONLAT") && left >= 2 && from !== "member") {
      centre = parsePlace(argv[++at]!, argv[++at]!)
      from = "place"
    } else if (modern && is(argv[at], "BYRADIUS") && left >= 2 && by !== "box") {
      shape = parseRadius(argv[++at]!, argv[++at]!)
      by = "radius"
    } else if (modern && is(argv[at], "BYBOX") && left >= 3 && by !== "radius") {
      shape = parseBox(argv[++at]!, argv[++at]!, argv[++at]!)
      by = "box"
    } else throw SYNTAX
  }
  if (target !== undefined && (withDistance || withHash || withPlace)) {
    const who = modern ? "GEOSEARCHSTORE" : "STORE option in GEORADIUS"
    return fail(`ERR ${who} is not compatible with WITHDIST, WITHHASH and WITHCOORD options`)
  }
  if (modern && from === undefined) {
    return fail(`ERR exactly one of FROMMEMBER or FROMLONLAT can be specified for ${argv[0]!}`)
  }
  if (modern && by === undefined) {
    return fail(`ERR exactly one of BYRADIUS and BYBOX can be specified for ${argv[0]!}`)
  }
  if (any && count === Infinity) return fail("ERR the ANY argument requires COUNT argument")
  // Some of all have a meaning only when they are the nearest.
  if (order === 0 && count !== Infinity && !any) order = 1
  return { centre, shape, withDistance, withHash, withPlace, order, count, any, target, storesDistance }
}

const search = (form: Form): Run => (engine, argv) => {
  const set = engine.sortedSet(argv[form.command === "GEOSEARCHSTORE" ? 2 : 1]!)
  const query = parse(form, argv, set)
  const { any, centre, count, order, shape, storesDistance, target, withDistance, withHash, withPlace } = query
  let found = set === undefined || centre === undefined || shape === undefined
    ? []
    : find(set, centre, shape, any ? count : Infinity)
  if (order !== 0) found.sort((a, b) => order * (a.metres - b.metres))
  found = found.slice(0, count)
  const unit = shape?.unit ?? 1
  if (target !== undefined) {
    const result = new SortedSet()
    for (const { member, metres, score } of found) result.put(member, storesDistance ? metres / unit : score)
    return store(engine, target, result)
  }
  return found.map(({ member, metres, place, score }) => {
    if (!withDistance && !withHash && !withPlace) return member
    const about: Array<EngineReply> = [member]
    if (withDistance) about.push(showDistance(metres, unit))
    if (withHash) about.push(Math.trunc(score))
    if (withPlace) about.push(showPlace(place))
    return about
  })
}

/** With the key that the result is stored at. */
const storeKeys = (options: number): Keys => (argv) => {
  let target: string | undefined
  for (let i = options; i + 1 < argv.length; i++) {
    if (is(argv[i], "STORE") || is(argv[i], "STOREDIST")) target = argv[++i]!
  }
  return target === undefined ? [argv[1]!] : [argv[1]!, target]
}

const addPlaces = (engine: Engine, argv: Argv): EngineReply => {
  let at = 2
  while (is(argv[at], "NX") || is(argv[at], "XX") || is(argv[at], "CH")) at++
  const options = argv.slice(2, at).map((option) => option.toUpperCase())
  if ((argv.length - at) % 3 !== 0 || (options.includes("NX") && options.includes("XX"))) throw SYNTAX
  const zadd = ["ZADD", argv[1]!, ...options]
  for (; at < argv.length; at += 3) zadd.push(String(scoreOf(parsePlace(argv[at]!, argv[at + 1]!))), argv[at + 2]!)
  return add(engine, zadd, false)
}

export const geo: Table = {
  GEOADD: { arity: -5, flags: ["write"], keys: firstKey, run: addPlaces },
  GEOPOS: {
    arity: -2,
    flags: ["readonly"],
    keys: firstKey,
    run: each((score) => showPlace(placeOf(score)))
  },
  GEOHASH: { arity: -2, flags: ["readonly"], keys: firstKey, run: each(geohashOf) },
  GEODIST: {
    arity: -4,
    flags: ["readonly"],
    keys: firstKey,
    run(engine, argv) {
      if (argv.length > 5) throw SYNTAX
      const unit = argv.length === 5 ? parseUnit(argv[4]!) : 1
      const members = engine.sortedSet(argv[1]!)?.members
      const from = members?.get(argv[2]!)
      const to = members?.get(argv[3]!)
      return from === undefined || to === undefined
        ? null
        : showDistance(between(placeOf(from.score), placeOf(to.score)), unit)
    }
  },
  GEOSEARCH: {
    arity: -7,
    flags: ["readonly"],
    keys: firstKey,
    run: search({ command: "GEOSEARCH" })
  },
  GEOSEARCHSTORE: {
    arity: -8,
    flags: ["write"],
    keys: twoKeys,
    run: search({ command: "GEOSEARCHSTORE" })
  },
  GEORADIUS: {
    arity: -6,
    flags: ["write"],
    keys: storeKeys(6),
    run: search({ command: "GEORADIUS", stores: true })
  },
  GEORADIUS_RO: {
    arity: -6,
    flags: ["readonly"],
    keys: firstKey,
    run: search({ command: "GEORADIUS" })
  },
  GEORADIUSBYMEMBER: {
    arity: -5,
    flags: ["write"],
    keys: storeKeys(5),
    run: search({ command: "GEORADIUSBYMEMBER", stores: true })
  },
  GEORADIUSBYMEMBER_RO: {
    arity: -5,
    flags: ["readonly"],
    keys: firstKey,
    run: search({ command: "GEORADIUSBYMEMBER" })
  }
}
