/**
 * The glob of Redis (`stringmatchlen`): `*`, `?`, `[a-z]`, `[^…]` and `\`, on bytes.
 */

/** Whether one character fits what stands at `p`; where the pattern goes on, or -1. */
const fits = (pattern: string, p: number, char: string): number => {
  switch (pattern[p]) {
    case "?":
      return p + 1
    case "[": {
      p++
      const not = pattern[p] === "^"
      if (not) p++
      let found = false
      while (true) {
        if (pattern[p] === "\\" && pattern.length - p >= 2) {
          p++
          if (pattern[p] === char) found = true
        } else if (pattern[p] === "]") {
          break
        } else if (p >= pattern.length) {
          p--
          break
        } else if (pattern.length - p >= 3 && pattern[p + 1] === "-") {
          const a = pattern[p]!
          const b = pattern[p + 2]!
          p += 2
          if (a < b ? char >= a && char <= b : char >= b && char <= a) found = true
        } else if (pattern[p] === char) {
          found = true
        }
        p++
      }
      return found === not ? -1 : p + 1
    }
    case "\\":
      if (pattern.length - p >= 2) p++
      return pattern[p] === char ? p + 1 : -1
    default:
      return pattern[p] === char ? p + 1 : -1
  }
}

/**
 * For strings with a character for each byte. When something does not fit, only the last `*` is tried with more: an
 * earlier one could not help, so no pattern takes longer than its length times that of the text.
 *
 * @internal
 */
export const matchesBytes = (pattern: string, text: string): boolean => {
  if (pattern === "*") return true
  if (text.length === 0) return pattern.length === 0
  let p = 0
  let t = 0
  let star = -1
  let from = 0
  while (t < text.length) {
    if (pattern[p] === "*") {
      star = ++p
      from = t
      continue
    }
    const next = p < pattern.length ? fits(pattern, p, text[t]!) : -1
    if (next >= 0) {
      p = next
      t++
    } else if (star < 0) {
      return false
    } else {
      p = star
      t = ++from
    }
  }
  while (pattern[p] === "*") p++
  return p >= pattern.length
}

const bytes = (text: string): string => Buffer.from(text).toString("latin1")

/** @internal */
export const matchesGlob = (pattern: string, text: string): boolean => matchesBytes(bytes(pattern), bytes(text))
