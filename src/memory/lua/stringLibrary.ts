/** The `string` library. */
import { checkInt, checkInteger, checkString, optionalInt, optionalInteger } from "./arguments.js"
import { argumentError, libraryError } from "./error.js"
import { format } from "./format.js"
import { numberToString } from "./number.js"
import { call, index, truthy, typeName } from "./operators.js"
import { Matcher } from "./pattern.js"
import { native } from "./position.js"
import { LuaTable } from "./table.js"
import { first, NONE, results } from "./value.js"
import type { LuaFunction, LuaResult, LuaValue } from "./value.js"

/** A position that counts from the end when negative. */
const position = (at: number, length: number): number => {
  const absolute = at < 0 ? at + length + 1 : at
  return absolute >= 0 ? absolute : 0
}

const find = (args: ReadonlyArray<LuaValue>, positions: boolean): LuaResult => {
  const text = checkString(args, 1)
  const pattern = checkString(args, 2)
  const start = Math.min(Math.max(position(optionalInteger(args, 3, 1), text.length) - 1, 0), text.length)
  if (positions && (truthy(args[3]) || !/^[^\0]*?[\^$*+?.([%-]/.test(pattern))) {
    const at = text.indexOf(pattern, start)
    return at < 0 ? undefined : [at + 1, at + pattern.length]
  }
  const anchored = pattern.startsWith("^")
  const matcher = new Matcher(text, pattern)
  for (let at = start; at <= text.length; at++) {
    const end = matcher.match(at, anchored ? 1 : 0)
    if (end >= 0) {
      return positions
        ? [at + 1, end, ...matcher.captures(at, end, false)]
        : results(matcher.captures(at, end, true))
    }
    if (anchored) break
  }
  return undefined
}

const gmatch: LuaFunction = (...args) => {
  const text = checkString(args, 1)
  const matcher = new Matcher(text, checkString(args, 2))
  let at = 0
  return native("for iterator", () => {
    for (; at <= text.length; at++) {
      const end = matcher.match(at, 0)
      if (end < 0) continue
      const start = at
      at = end === start ? end + 1 : end
      return results(matcher.captures(start, end, true))
    }
    return NONE
  })
}

const replacement = (
  matcher: Matcher,
  value: LuaValue,
  text: string,
  start: number,
  end: number
): string => {
  let replaced: LuaValue
  if (typeof value === "string") {
    let result = ""
    for (let i = 0; i < value.length; i++) {
      if (value[i] !== "%") {
        result += value[i]
        continue
      }
      const character = value[++i] ?? "\0"
      if (character < "0" || character > "9") result += character
      else if (character === "0") result += text.slice(start, end)
      else {
        const capture = matcher.capture(Number(character) - 1, start, end)
        result += typeof capture === "number" ? numberToString(capture) : capture
      }
    }
    return result
  } else if (typeof value === "function") replaced = first(call(value, ...matcher.captures(start, end, true)))
  else replaced = index(value, matcher.capture(0, start, end))
  if (!truthy(replaced)) return text.slice(start, end)
  if (typeof replaced === "number") return numberToString(replaced)
  return typeof replaced === "string"
    ? replaced
    : libraryError(`invalid replacement value (a ${typeName(replaced)})`)
}

const gsub: LuaFunction = (...args) => {
  const text = checkString(args, 1)
  const pattern = checkString(args, 2)
  let value = args[2]
  const limit = optionalInt(args, 4, text.length + 1)
  if (typeof value === "number") value = numberToString(value)
  if (typeof value !== "string" && typeof value !== "function" && !(value instanceof LuaTable)) {
    return argumentError(3, "string/function/table expected")
  }
  const anchored = pattern.startsWith("^")
  const matcher = new Matcher(text, pattern)
  let result = ""
  let at = 0
  let count = 0
  while (count < limit) {
    const end = matcher.match(at, anchored ? 1 : 0)
    if (end >= 0) {
      count++
      result += replacement(matcher, value, text, at, end)
    }
    if (end > at) at = end
    else if (at < text.length) result += text[at++]
    else break
    if (anchored) break
  }
  return [result + text.slice(at), count]
}

export const stringLibrary: Record<string, LuaFunction> = {
  byte: (...args) => {
    const text = checkString(args, 1)
    const start = position(optionalInteger(args, 2, 1), text.length)
    const end = Math.min(position(optionalInteger(args, 3, start), text.length), text.length)
    const from = Math.max(start, 1)
    if (from > end) return NONE
    const codes: Array<LuaValue> = []
    for (let i = from; i <= end; i++) codes.push(text.charCodeAt(i - 1))
    return codes.length > 8000 - args.length ? libraryError("stack overflow (string slice too long)") : results(codes)
  },
  char: (...args) => {
    let text = ""
    for (let i = 1; i <= args.length; i++) {
      const code = checkInt(args, i)
      if (code < 0 || code > 255) return argumentError(i, "invalid value")
      text += String.fromCharCode(code)
    }
    return text
  },
  dump: () => libraryError("string.dump is not supported by the in-memory server"),
  find: (...args) => find(args, true),
  format: (...args) => format(args),
  gfind: gmatch,
  gmatch,
  gsub,
  len: (...args) => checkString(args, 1).length,
  lower: (...args) => checkString(args, 1).replace(/[A-Z]+/g, (letters) => letters.toLowerCase()),
  match: (...args) => find(args, false),
  rep: (...args) => {
    const text = checkString(args, 1)
    return text.repeat(Math.max(checkInt(args, 2), 0))
  },
  reverse: (...args) => checkString(args, 1).split("").reverse().join(""),
  sub: (...args) => {
    const text = checkString(args, 1)
    const start = Math.max(position(checkInteger(args, 2), text.length), 1)
    const end = Math.min(position(optionalInteger(args, 3, -1), text.length), text.length)
    return start <= end ? text.slice(start - 1, end) : ""
  },
  upper: (...args) => checkString(args, 1).replace(/[a-z]+/g, (letters) => letters.toUpperCase())
}
