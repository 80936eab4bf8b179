/** Lua's patterns. A match returns where it ends, or -1. */
import { libraryError } from "./error.js"
import type { LuaValue } from "./value.js"

const maxCaptures = 32

const unfinished = -1
const positional = -2

const percent = 37
const openSet = 91
const closeSet = 93
const caret = 94
const dash = 45

const inClass = (character: number, letter: number): boolean => {
  const lower = letter | 32
  let found: boolean
  switch (lower) {
    case 97: // a
      found = (character >= 65 && character <= 90) || (character >= 97 && character <= 122)
      break
    case 99: // c
      found = character < 32 || character === 127
      break
    case 100: // d
      found = character >= 48 && character <= 57
      break
    case 108: // l
      found = character >= 97 && character <= 122
      break
    case 112: // p
      found = (character >= 33 && character <= 47) || (character >= 58 && character <= 64) ||
        (character >= 91 && character <= 96) || (character >= 123 && character <= 126)
      break
    case 115: // s
      found = character === 32 || (character >= 9 && character <= 13)
      break
    case 117: // u
      found = character >= 65 && character <= 90
      break
    case 119: // w
      found = (character >= 48 && character <= 57) || (character >= 65 && character <= 90) ||
        (character >= 97 && character <= 122)
      break
    case 120: // x
      found = (character >= 48 && character <= 57) || (character >= 65 && character <= 70) ||
        (character >= 97 && character <= 102)
      break
    case 122: // z
      found = character === 0
      break
    default:
      return letter === character
  }
  // An upper-case letter is the complement.
  return letter === lower ? found : !found
}

export class Matcher {
  private starts: Array<number> = []
  private lengths: Array<number> = []

  private readonly pattern: string

  /** In C a pattern ends at its first zero byte. */
  constructor(private readonly text: string, pattern: string) {
    const end = pattern.indexOf("\0")
    this.pattern = end < 0 ? pattern : pattern.slice(0, end)
  }

  /** Matches the pattern from an index of it at an index of the text. */
  match(at: number, from: number): number {
    this.starts.length = 0
    this.lengths.length = 0
    return this.step(at, from)
  }

  get captureCount(): number {
    return this.starts.length
  }

  /** A capture, the first being 0; the whole match when there are none. */
  capture(i: number, start: number, end: number): string | number {
    if (i >= this.starts.length) {
      return i === 0 ? this.text.slice(start, end) : libraryError("invalid capture index")
    }
    const length = this.lengths[i]!
    if (length === positional) return this.starts[i]! + 1
    if (length === unfinished) return libraryError("unfinished capture")
    return this.text.slice(this.starts[i], this.starts[i]! + length)
  }

  captures(start: number, end: number, whole: boolean): Array<LuaValue> {
    const count = this.starts.length === 0 && whole ? 1 : this.starts.length
    const values: Array<LuaValue> = []
    for (let i = 0; i < count; i++) values.push(this.capture(i, start, end))
    return values
  }

  private code(at: number): number {
    return this.pattern.charCodeAt(at)
  }

  /** Where the single character, class or set at an index of the pattern ends. */
  private itemEnd(from: number): number {
    const { pattern } = this
    let at = from
    const first = this.code(at++)
    if (first === percent) {
      if (at >= pattern.length) return libraryError("malformed pattern (ends with '%')")
      return at + 1
    }
    if (first !== openSet) return at
    if (this.code(at) === caret) at++
    do {
      if (at >= pattern.length) return libraryError("malformed pattern (missing ']')")
      if (this.code(at++) === percent && at < pattern.length) at++
    } while (this.code(at) !== closeSet)
    return at + 1
  }

  private inSet(character: number, open: number, close: number): boolean {
    let at = open + 1
    const found = this.code(at) !== caret
    if (!found) at++
    for (; at < close; at++) {
      if (this.code(at) === percent) {
        at++
        if (inClass(character, this.code(at))) return found
      } else if (this.code(at + 1) === dash && at + 2 < close) {
        if (this.code(at) <= character && character <= this.code(at + 2)) return found
        at += 2
      } else if (this.code(at) === character) return found
    }
    return !found
  }

  private matchesItem(at: number, item: number, end: number): boolean {
    const character = this.text.charCodeAt(at)
    switch (this.code(item)) {
      case 46: // .
        return true
      case percent:
        return inClass(character, this.code(item + 1))
      case openSet:
        return this.inSet(character, item, end - 1)
      default:
        return this.code(item) === character
    }
  }

  private step(start: number, from: number): number {
    const { pattern, text } = this
    let at = start
    let item = from
    for (;;) {
      if (item >= pattern.length) return at
      switch (this.code(item)) {
        case 40: { // (
          const position = this.code(item + 1) === 41
          return this.open(at, item + (position ? 2 : 1), position ? positional : unfinished)
        }
        case 41: // )
          return this.close(at, item + 1)
        case 36: // $
          if (item + 1 === pattern.length) return at === text.length ? at : -1
          break
        case percent: {
          const kind = this.code(item + 1)
          if (kind === 98) { // %b
            at = this.balance(at, item + 2)
            if (at < 0) return -1
            item += 4
            continue
          }
          if (kind === 102) { // %f
            item += 2
            if (this.code(item) !== openSet) return libraryError("missing '[' after '%f' in pattern")
            const end = this.itemEnd(item)
            const before = at === 0 ? 0 : text.charCodeAt(at - 1)
            const after = at < text.length ? text.charCodeAt(at) : 0
            if (this.inSet(before, item, end - 1) || !this.inSet(after, item, end - 1)) return -1
            item = end
            continue
          }
          if (kind >= 48 && kind <= 57) {
            at = this.back(at, kind - 49)
            if (at < 0) return -1
            item += 2
            continue
          }
          break
        }
      }
      const end = this.itemEnd(item)
      switch (this.code(end)) {
        case 63: { // ?
          if (at < text.length && this.matchesItem(at, item, end)) {
            const rest = this.step(at + 1, end + 1)
            if (rest >= 0) return rest
          }
          item = end + 1
          continue
        }
        case 42: // *
          return this.most(at, item, end, 0)
        case 43: // +
          return this.most(at, item, end, 1)
        case dash:
          return this.least(at, item, end)
        default:
          if (at >= text.length || !this.matchesItem(at, item, end)) return -1
          at++
          item = end
      }
    }
  }

  private most(at: number, item: number, end: number, least: number): number {
    let count = 0
    while (at + count < this.text.length && this.matchesItem(at + count, item, end)) count++
    for (; count >= least; count--) {
      const rest = this.step(at + count, end + 1)
      if (rest >= 0) return rest
    }
    return -1
  }

  private least(start: number, item: number, end: number): number {
    for (let at = start;; at++) {
      const rest = this.step(at, end + 1)
      if (rest >= 0) return rest
      if (at >= this.text.length || !this.matchesItem(at, item, end)) return -1
    }
  }

  private open(at: number, from: number, length: number): number {
    if (this.starts.length >= maxCaptures) return libraryError("too many captures")
    this.starts.push(at)
    this.lengths.push(length)
    const end = this.step(at, from)
    if (end < 0) {
      this.starts.pop()
      this.lengths.pop()
    }
    return end
  }

  private close(at: number, from: number): number {
    const i = this.lengths.lastIndexOf(unfinished)
    if (i < 0) return libraryError("invalid pattern capture")
    this.lengths[i] = at - this.starts[i]!
    const end = this.step(at, from)
    if (end < 0) this.lengths[i] = unfinished
    return end
  }

  private balance(at: number, from: number): number {
    const { pattern, text } = this
    if (from + 1 >= pattern.length) return libraryError("unbalanced pattern")
    if (at >= text.length || text[at] !== pattern[from]) return -1
    let depth = 1
    for (let i = at + 1; i < text.length; i++) {
      if (text[i] === pattern[from + 1]) {
        if (--depth === 0) return i + 1
      } else if (text[i] === pattern[from]) depth++
    }
    return -1
  }

  private back(at: number, i: number): number {
    if (i < 0 || i >= this.starts.length || this.lengths[i] === unfinished) {
      return libraryError("invalid capture index")
    }
    const length = this.lengths[i]!
    if (length === positional) return -1
    const captured = this.text.slice(this.starts[i], this.starts[i]! + length)
    return this.text.startsWith(captured, at) ? at + length : -1
  }
}
