/**
 * Places as Redis keeps them in sorted sets: each axis is cut into 2^26 pieces, and the bits of the two numbers take
 * turns in a score of 52 bits (https://redis.io/docs/latest/commands/geoadd/). Scores that are near each other are
 * places that are near each other, so that a search reads a few ranges of scores: the cell around the centre of the
 * search, of a size that fits, and its eight neighbours.
 */
import { degrees, EARTH_RADIUS, radians } from "./sphere.js"

export interface Place {
  readonly longitude: number
  readonly latitude: number
}

/** The most that fits in a score. */
const STEPS = 26

const MAX_LONGITUDE = 180
/** Where the projection of Mercator makes the world a square. */
const MAX_LATITUDE = 85.05112878

/** Both numbers have `steps` bits, and one more at the very edge in the north and in the east. */
interface Cell {
  readonly x: number
  readonly y: number
  readonly steps: number
}

interface Area {
  readonly west: number
  readonly east: number
  readonly south: number
  readonly north: number
}

export const isPlace = (longitude: number, latitude: number): boolean =>
  Math.abs(longitude) <= MAX_LONGITUDE && Math.abs(latitude) <= MAX_LATITUDE

const cellOf = ({ latitude, longitude }: Place, steps: number, maxLatitude = MAX_LATITUDE): Cell => {
  const cut = (value: number, max: number): number => Math.floor((value + max) / (2 * max) * 2 ** steps)
  return { x: cut(longitude, MAX_LONGITUDE), y: cut(latitude, maxLatitude), steps }
}

const areaOf = ({ steps, x, y }: Cell): Area => {
  // A number of 32 bits, which matters for scores that are no places.
  const edge = (at: number, max: number): number => -max + (at >>> 0) / 2 ** steps * (2 * max)
  return {
    west: edge(x, MAX_LONGITUDE),
    east: edge(x + 1, MAX_LONGITUDE),
    south: edge(y, MAX_LATITUDE),
    north: edge(y + 1, MAX_LATITUDE)
  }
}

const middle = (from: number, to: number, max: number): number => Math.max(-max, Math.min(max, (from + to) / 2))

// ---------------------------------------------------------------------------------------------------------------------
// Scores
// ---------------------------------------------------------------------------------------------------------------------

/** Puts a zero before each of 16 bits. */
const spread = (bits: number): number => {
  let n = bits
  n = (n | (n << 8)) & 0x00ff00ff
  n = (n | (n << 4)) & 0x0f0f0f0f
  n = (n | (n << 2)) & 0x33333333
  return (n | (n << 1)) & 0x55555555
}

/** Takes every other of 32 bits. */
const gather = (bits: number): number => {
  let n = bits & 0x55555555
  n = (n | (n >>> 1)) & 0x33333333
  n = (n | (n >>> 2)) & 0x0f0f0f0f
  n = (n | (n >>> 4)) & 0x00ff00ff
  return (n | (n >>> 8)) & 0x0000ffff
}

const HALF = 2 ** 13

/** The least score of a cell, or of the one that is `next` after it. */
const scoreOfCell = ({ steps, x, y }: Cell, next = 0): number => {
  const high = 2 * spread(Math.floor(x / HALF)) + spread(Math.floor(y / HALF))
  const low = 2 * spread(x % HALF) + spread(y % HALF)
  // At the edge this has more than 53 bits; it is rounded once, as the server does.
  return (high * HALF ** 2 + (low + next)) * 4 ** (STEPS - steps)
}

export const scoreOf = (place: Place): number => scoreOfCell(cellOf(place, STEPS))

/** The middle of the cell that a score stands for. Any score does, as it is, or as its conversion to 64 bits makes it. */
export const placeOf = (score: number): Place => {
  const whole = score >= 2 ** 64 ? 0 : Math.trunc(Math.max(score, -(2 ** 63)))
  const high = Math.floor(whole / 2 ** 32)
  const low = whole >>> 0
  const { east, north, south, west } = areaOf({
    x: gather(high >>> 1) * 65536 + gather(low >>> 1),
    y: gather(high) * 65536 + gather(low),
    steps: STEPS
  })
  return { longitude: middle(west, east, MAX_LONGITUDE), latitude: middle(south, north, MAX_LATITUDE) }
}

const LETTERS = "0123456789bcdefghjkmnpqrstuvwxyz"

/** The text known as geohash, in which latitudes go up to 90 degrees. The last of its eleven letters is always the same. */
export const geohashOf = (score: number): string => {
  const bits = scoreOfCell(cellOf(placeOf(score), STEPS, 90))
  let text = ""
  for (let i = 1; i <= 10; i++) text += LETTERS[Math.floor(bits / 2 ** (52 - 5 * i)) % 32]!
  return `${text}0`
}

// ---------------------------------------------------------------------------------------------------------------------
// Searching
// ---------------------------------------------------------------------------------------------------------------------

/** Half of the width and of the height of what is searched, and how far its corners are away, in metres. */
interface Extent {
  readonly width: number
  readonly height: number
  readonly radius: number
}

/** Half of the earth's circumference at the equator. */
const WORLD = 20037726.37

const stepsFor = (radius: number, latitude: number): number => {
  if (radius === 0) return STEPS
  let steps = -1
  for (let range = radius; range < WORLD; range *= 2) steps++
  // Cells are narrower near the poles.
  if (Math.abs(latitude) > 66) steps--
  if (Math.abs(latitude) > 80) steps--
  return Math.min(STEPS, Math.max(1, steps))
}

const boundsOf = ({ latitude, longitude }: Place, { height, width }: Extent): Area => {
  const up = degrees(height / EARTH_RADIUS)
  const nearestPole = latitude < 0 ? latitude - up : latitude + up
  const aside = degrees(width / EARTH_RADIUS / Math.cos(radians(nearestPole)))
  return { west: longitude - aside, east: longitude + aside, south: latitude - up, north: latitude + up }
}

/** In the order in which Redis searches: columns to the east, rows to the north. */
const AROUND = [[0, 0], [0, 1], [0, -1], [1, 0], [-1, 0], [1, 1], [-1, 1], [1, -1], [-1, -1]] as const

const neighbour = ({ steps, x, y }: Cell, east: number, north: number): Cell => {
  const move = (at: number, by: number): number => by === 0 ? at : (at + by + 2 ** steps) % 2 ** steps
  return { x: move(x, east), y: move(y, north), steps }
}

/** The ranges of scores in which everything is that can be found, in the order in which the server reads them. */
export const rangesAround = (centre: Place, extent: Extent): Array<readonly [from: number, before: number]> => {
  const bounds = boundsOf(centre, extent)
  let cell = cellOf(centre, stepsFor(extent.radius, centre.latitude))
  const covers = areaOf(neighbour(cell, 0, 1)).north >= bounds.north &&
    areaOf(neighbour(cell, 0, -1)).south <= bounds.south &&
    areaOf(neighbour(cell, 1, 0)).east >= bounds.east &&
    areaOf(neighbour(cell, -1, 0)).west <= bounds.west
  if (!covers && cell.steps > 1) cell = cellOf(centre, cell.steps - 1)
  const area = areaOf(cell)
  const ranges: Array<readonly [from: number, before: number]> = []
  for (const [east, north] of AROUND) {
    // What lies beyond the bounds need not be read.
    if (
      cell.steps > 1 && (
        (north < 0 && area.south < bounds.south) || (north > 0 && area.north > bounds.north) ||
        (east < 0 && area.west < bounds.west) || (east > 0 && area.east > bounds.east)
      )
    ) continue
    const next = neighbour(cell, east, north)
    const from = scoreOfCell(next)
    // Where there are few cells, several neighbours are the same.
    if (ranges.length > 1 && ranges[ranges.length - 1]![0] === from) continue
    ranges.push([from, scoreOfCell(next, 1)])
  }
  return ranges
}
