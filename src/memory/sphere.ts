/**
 * Distances between places, to the last bit of those that Redis computes: the haversine formula on a sphere.
 *
 * Sines of JavaScript are often off by one bit, and between places that are opposite each other one bit is centimetres.
 * The C library rounds correctly in all but one of a thousand cases, so that is what is done here: each function is
 * computed with twice the digits and then rounded. The building blocks are Dekker's ("A floating-point technique for
 * extending the available precision", 1971) and Knuth's.
 */

/** A number as the sum of two, of which the second is too small to change the first. */
type Double2 = readonly [high: number, low: number]

const sum = (a: number, b: number): Double2 => {
  const high = a + b
  const part = high - a
  return [high, (a - (high - part)) + (b - part)]
}

const SPLIT = 2 ** 27 + 1

const product = (a: number, b: number): Double2 => {
  const high = a * b
  const aTimes = SPLIT * a
  const aHigh = aTimes - (aTimes - a)
  const aLow = a - aHigh
  const bTimes = SPLIT * b
  const bHigh = bTimes - (bTimes - b)
  const bLow = b - bHigh
  return [high, ((aHigh * bHigh - high) + aHigh * bLow + aLow * bHigh) + aLow * bLow]
}

const multiply = ([a, aLow]: Double2, [b, bLow]: Double2): Double2 => {
  const [high, low] = product(a, b)
  return sum(high, low + (a * bLow + aLow * b))
}

const divide = ([a, low]: Double2, by: number): Double2 => {
  const quotient = a / by
  const [high, rest] = product(quotient, by)
  return sum(quotient, ((a - high) - rest + low) / by)
}

const oneMinus = ([a, low]: Double2): Double2 => {
  const [high, rest] = sum(1, -a)
  return sum(high, rest - low)
}

/** `1 - x² / (n (n + 1)) (1 - x² / ((n + 2) (n + 3)) (…))`: the series of sine for `n = 2`, of cosine for `n = 1`. */
const series = (x: Double2, n: number): Double2 => {
  const square = multiply(x, x)
  // The small ones do not need all the digits.
  let k = n + 26
  let tail = 1
  for (; k > n + 16; k -= 2) tail = 1 - square[0] * tail / (k * (k + 1))
  let result: Double2 = [tail, 0]
  for (; k >= n; k -= 2) result = oneMinus(divide(multiply(square, result), k * (k + 1)))
  return result
}

const PI: Double2 = [Math.PI, 1.2246467991473532e-16]

/** Of an angle from -pi/2 to pi/2, and somewhat beyond. */
const preciseSin = (x: Double2): Double2 => multiply(x, series(x, 2))

/** Of an angle from -pi to pi. */
const sin = (x: number): number => {
  if (x < 0) return -sin(-x)
  if (x <= Math.PI / 2) return preciseSin([x, 0])[0]
  const [high, low] = sum(PI[0], -x)
  return preciseSin(sum(high, low + PI[1]))[0]
}

/** Of an angle from -pi/2 to pi/2. */
const cos = (x: number): number => series([x, 0], 1)[0]

/** From 0 to 1. One step of Newton's method repairs the last bit. */
const asin = (x: number): number => {
  if (x === 0) return 0
  if (x >= 1) return Math.PI / 2
  const angle = Math.asin(x)
  const [high, low] = preciseSin([angle, 0])
  return angle + ((x - high) - low) / Math.cos(angle)
}

const DEGREE = Math.PI / 180

export const radians = (degrees: number): number => degrees * DEGREE

export const degrees = (radians: number): number => radians / DEGREE

/** In metres, as Redis has it. */
export const EARTH_RADIUS = 6372797.560856

/** In metres, between two places given in degrees. */
export const distance = (longitude1: number, latitude1: number, longitude2: number, latitude2: number): number => {
  const from = radians(latitude1)
  const to = radians(latitude2)
  const u = sin((to - from) / 2)
  const v = sin((radians(longitude2) - radians(longitude1)) / 2)
  return 2 * EARTH_RADIUS * asin(Math.sqrt(u * u + cos(from) * cos(to) * v * v))
}
