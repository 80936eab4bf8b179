/**
 * The elements of a collection in an order of their own or of other keys.
 */
import { Deque } from "../collections.js"
import { type Argv, fail, firstKey, integer, is, type Keys, type Run, type Table } from "../command.js"
import type { Engine } from "../Engine.js"
import { parseDouble } from "../numbers.js"
import { type EngineReply, ErrorReply } from "../reply.js"
import { Hash, Members, SortedSet, SYNTAX, WRONG_TYPE } from "../values.js"

const NOT_NUMBERS = new ErrorReply("ERR One or more scores can't be converted into double")

interface Options {
  readonly alpha: boolean
  readonly descending: boolean
  readonly offset: number
  /** Negative for all. */
  readonly limit: number
  readonly by: string | undefined
  /** A pattern without a star asks for the order in which the elements are. */
  readonly asTheyAre: boolean
  readonly gets: ReadonlyArray<string>
  readonly target: string | undefined
}

const parse = (engine: Engine, argv: Argv, readonly: boolean): Options => {
  let alpha = false
  let descending = false
  let offset = 0
  let limit = -1
  let by: string | undefined
  let asTheyAre = false
  let target: string | undefined
  const gets: Array<string> = []
  for (let at = 2; at < argv.length; at++) {
    const left = argv.length - at - 1
    if (is(argv[at], "ASC")) descending = false
    else if (is(argv[at], "DESC")) descending = true
    else if (is(argv[at], "ALPHA")) alpha = true
    else if (is(argv[at], "LIMIT") && left >= 2) {
      offset = integer(argv[++at]!)
      limit = integer(argv[++at]!)
    } else if (!readonly && is(argv[at], "STORE") && left >= 1) target = argv[++at]!
    else if (is(argv[at], "BY") && left >= 1) {
      by = argv[++at]!
      if (!by.includes("*")) asTheyAre = true
      else if (engine.cluster) return fail("ERR BY option of SORT denied in cluster mode.")
    } else if (is(argv[at], "GET") && left >= 1) {
      if (engine.cluster) return fail("ERR GET option of SORT denied in cluster mode.")
      gets.push(argv[++at]!)
    } else throw SYNTAX
  }
  return { alpha, descending, offset, limit, by, asTheyAre, gets, target }
}

const elementsOf = (engine: Engine, key: string): Array<string> => {
  const value = engine.keys.get(key)?.value
  if (value === undefined) return []
  if (value instanceof Deque) return value.slice(0, value.length)
  if (value instanceof Members) return [...value.keys()]
  if (value instanceof SortedSet) return value.ranking.slice(0, value.size).map((node) => node.key)
  throw WRONG_TYPE
}

/** The string at the key that the pattern names for an element, or in a field of a hash there: `user:*->name`. */
const lookUp = (engine: Engine, pattern: string, element: string): string | undefined => {
  if (pattern === "#") return element
  const star = pattern.indexOf("*")
  if (star === -1) return undefined
  const arrow = pattern.indexOf("->", star + 1)
  const hasField = arrow !== -1 && arrow + 2 < pattern.length
  const key = pattern.slice(0, star) + element + pattern.slice(star + 1, hasField ? arrow : undefined)
  const value = engine.keys.get(key)?.value
  if (hasField) return value instanceof Hash ? value.get(pattern.slice(arrow + 2))?.value : undefined
  return typeof value === "string" ? value : undefined
}

/** Here Redis reads with plain `strtod`: an empty text is zero, and space may come first. */
const weigh = (text: string | undefined): number => {
  if (text === undefined || text === "") return 0
  const value = parseDouble(text.replace(/^[ \t-\r]+/, ""))
  if (value === undefined) throw NOT_NUMBERS
  return value
}

const compare = <A extends string | number>(a: A, b: A): number => a < b ? -1 : a > b ? 1 : 0

const order = (engine: Engine, elements: ReadonlyArray<string>, { alpha, by, descending }: Options): Array<string> => {
  const sign = descending ? -1 : 1
  const textOf = (element: string): string | undefined => by === undefined ? element : lookUp(engine, by, element)
  if (alpha) {
    return elements
      .map((element) => ({ element, text: textOf(element) }))
      .sort((a, b) =>
        // What has no text goes first.
        sign * (a.text === undefined || b.text === undefined
          ? compare(a.text === undefined ? 0 : 1, b.text === undefined ? 0 : 1)
          : compare(a.text, b.text))
      )
      .map(({ element }) => element)
  }
  return elements
    .map((element) => ({ element, weight: weigh(textOf(element)) }))
    .sort((a, b) => sign * (compare(a.weight, b.weight) || compare(a.element, b.element)))
    .map(({ element }) => element)
}

const sort = (readonly: boolean): Run => (engine, argv): EngineReply => {
  const options = parse(engine, argv, readonly)
  const { asTheyAre, descending, gets, limit, offset, target } = options
  let elements = elementsOf(engine, argv[1]!)
  if (!asTheyAre) elements = order(engine, elements, options)
  else if (engine.keys.get(argv[1]!)?.value instanceof Members) {
    // Sets are in no order, so they are given one.
    elements = order(engine, elements, { ...options, by: undefined, alpha: true })
  } else if (descending) elements.reverse()
  const start = Math.max(0, offset)
  elements = elements.slice(start, limit < 0 ? undefined : start + limit)
  const found = gets.length === 0
    ? elements
    : elements.flatMap((element) => gets.map((pattern) => lookUp(engine, pattern, element) ?? null))
  if (target === undefined) return found
  if (found.length === 0) engine.remove(target)
  else engine.assign(target, Deque.from(found.map((text) => text ?? "")))
  return found.length
}

const sortKeys: Keys = (argv) => {
  let target: string | undefined
  for (let at = 2; at < argv.length; at++) {
    if (is(argv[at], "LIMIT")) at += 2
    else if (is(argv[at], "GET") || is(argv[at], "BY")) at++
    else if (is(argv[at], "STORE")) target = argv[++at]
  }
  return target === undefined ? [argv[1]!] : [argv[1]!, target]
}

export const sorting: Table = {
  SORT: { arity: -2, flags: ["write"], keys: sortKeys, run: sort(false) },
  SORT_RO: { arity: -2, flags: ["readonly"], keys: firstKey, run: sort(true) }
}
