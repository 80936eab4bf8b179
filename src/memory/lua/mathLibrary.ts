/** The `math` library, with the server's own generator of random numbers. */
import { checkInt, checkNumber } from "./arguments.js"
import { argumentError, libraryError } from "./error.js"
import { power } from "./operators.js"
import { session } from "./session.js"
import { NONE } from "./value.js"
import type { LuaFunction, LuaValue } from "./value.js"

/** `lrand48`: a state of 48 bits, of which 31 come out. Redis 7 goes on where the last script stopped. */
const random = (): number => {
  const { host } = session
  if (host.random !== undefined) return host.random()
  session.random.state = BigInt.asUintN(48, session.random.state * 0x5deece66dn + 0xbn)
  return (Number(session.random.state >> 17n) % 0x7fffffff) / 0x7fffffff
}

const radiansPerDegree = Math.PI / 180

const unary = (run: (value: number) => number): LuaFunction => (...args) => run(checkNumber(args, 1))

const extreme = (better: (a: number, b: number) => boolean): LuaFunction => (...args) => {
  let best = checkNumber(args, 1)
  for (let i = 2; i <= args.length; i++) {
    const value = checkNumber(args, i)
    if (better(value, best)) best = value
  }
  return best
}

const fmod: LuaFunction = (...args) => checkNumber(args, 1) % checkNumber(args, 2)

export const mathLibrary: Record<string, LuaFunction> = {
  abs: unary(Math.abs),
  acos: unary(Math.acos),
  asin: unary(Math.asin),
  atan: unary(Math.atan),
  atan2: (...args) => Math.atan2(checkNumber(args, 1), checkNumber(args, 2)),
  ceil: unary(Math.ceil),
  cos: unary(Math.cos),
  cosh: unary(Math.cosh),
  deg: unary((value) => value / radiansPerDegree),
  exp: unary(Math.exp),
  floor: unary(Math.floor),
  fmod,
  frexp: (...args) => {
    const value = checkNumber(args, 1)
    if (value === 0 || !Number.isFinite(value)) return [value, 0]
    // Subnormal numbers are scaled up first, for 2 to their negated exponent is infinite.
    const subnormal = Math.abs(value) < 2 ** -1022
    let mantissa = subnormal ? value * 2 ** 54 : value
    let exponent = subnormal ? -54 : 0
    const magnitude = Math.floor(Math.log2(Math.abs(mantissa))) + 1
    mantissa *= 2 ** -(magnitude - 1) / 2
    exponent += magnitude
    // The logarithm may have been rounded to the next integer.
    if (Math.abs(mantissa) >= 1) return [mantissa / 2, exponent + 1]
    if (Math.abs(mantissa) < 0.5) return [mantissa * 2, exponent - 1]
    return [mantissa, exponent]
  },
  ldexp: (...args) => {
    const value = checkNumber(args, 1)
    const exponent = Math.max(-2200, Math.min(2200, checkInt(args, 2)))
    const half = Math.trunc(exponent / 2)
    return value * 2 ** half * 2 ** (exponent - half)
  },
  log: unary(Math.log),
  log10: unary(Math.log10),
  max: extreme((a, b) => a > b),
  min: extreme((a, b) => a < b),
  mod: fmod,
  modf: (...args) => {
    const value = checkNumber(args, 1)
    const whole = Math.trunc(value)
    return [whole, Number.isFinite(value) ? value - whole : value === value ? 0 : value]
  },
  pow: (...args) => power(checkNumber(args, 1), checkNumber(args, 2)),
  rad: unary((value) => value * radiansPerDegree),
  random: (...args) => {
    const value = random()
    if (args.length === 0) return value
    if (args.length > 2) return libraryError("wrong number of arguments")
    const low = args.length === 1 ? 1 : checkInt(args, 1)
    const high = checkInt(args, args.length)
    if (low > high) return argumentError(args.length, "interval is empty")
    return Math.floor(value * (high - low + 1)) + low
  },
  randomseed: (...args) => {
    session.random.state = (BigInt.asUintN(32, BigInt(checkInt(args, 1))) << 16n) | 0x330en
    return NONE
  },
  sin: unary(Math.sin),
  sinh: unary(Math.sinh),
  sqrt: unary(Math.sqrt),
  tan: unary(Math.tan),
  tanh: unary(Math.tanh)
}

export const mathConstants: ReadonlyArray<readonly [string, LuaValue]> = [["pi", Math.PI], ["huge", Infinity]]
