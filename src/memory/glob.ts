/**
 * The glob of Redis (`stringmatchlen`): `*`, `?`, `[a-z]`, `[^…]` and `\`, on bytes.
 */
const match = (pattern: string, p: number, text: string, t: number): boolean => {
  while (p < pattern.length && t < text.length) {
    switch (pattern[p]) {
      case "*": {
        while (p + 1 < pattern.length && pattern[p + 1] === "*") p++
        if (p + 1 === pattern.length) return true
        for (let i = t; i <= text.length; i++) if (match(pattern, p + 1, text, i)) return true
        return false
      }
      case "?":
        t++
        break
      case "[": {
        p++
        const not = pattern[p] === "^"
        if (not) p++
        let found = false
        while (true) {
          if (pattern[p] === "\\" && pattern.length - p >= 2) {
            p++
            if (pattern[p] === text[t]) found = true
          } else if (pattern[p] === "]") {
            break
          } else if (p >= pattern.length) {
            p--
            break
          } else if (pattern.length - p >= 3 && pattern[p + 1] === "-") {
            const a = pattern[p]!
            const b = pattern[p + 2]!
            const c = text[t]!
            p += 2
            if (a < b ? c >= a && c <= b : c >= b && c <= a) found = true
          } else if (pattern[p] === text[t]) {
            found = true
          }
          p++
        }
        if (found === not) return false
        t++
        break
      }
      case "\\":
        if (pattern.length - p >= 2) p++
        if (pattern[p] !== text[t]) return false
        t++
        break
      default:
        if (pattern[p] !== text[t]) return false
        t++
    }
    p++
    if (t >= text.length) {
      while (pattern[p] === "*") p++
      break
    }
  }
  return p >= pattern.length && t >= text.length
}

export const matches = (pattern: string, text: string): boolean => pattern === "*" || match(pattern, 0, text, 0)
