/**
 * The table of sizes in the README.
 */
import { readFileSync, writeFileSync } from "node:fs"
import { entries, entryBundle } from "./bundle.js"

const BEGIN = "<!-- sizes: written by `npm run sizes` -->"
const END = "<!-- end of sizes -->"

const readme = new URL("../../README.md", import.meta.url)

const parts = () => {
  const text = readFileSync(readme, "utf8")
  const [begin, end] = [text.indexOf(BEGIN), text.indexOf(END)]
  if (begin < 0 || end < begin) throw new Error("README.md has no place for the sizes.")
  return [text.slice(0, begin), text.slice(begin, end), text.slice(end)] as const
}

const kilobytes = (bytes: number): string => `${Math.round(bytes / 100) / 10} kB`

const specifier = (entry: string): string => `effect-redis-kit${entry.slice(1)}`

/** The sizes that the README tells, in bytes, by the entry. */
export const told = (): ReadonlyMap<string, number> =>
  new Map(
    Array.from(
      parts()[1].matchAll(/^\| `effect-redis-kit([^`]*)` \| ([\d.]+) kB \|/gm),
      ([, name, size]) => [`.${name}`, Number(size) * 1000]
    )
  )

/** Measures every entry and writes the table. */
export const write = async (): Promise<void> => {
  const rows: Array<string> = []
  for (const entry of entries.keys()) {
    const { bytes, gzipped } = await entryBundle(entry)
    rows.push(`| \`${specifier(entry)}\` | ${kilobytes(bytes)} | ${kilobytes(gzipped)} |`)
  }
  const [before, , after] = parts()
  const table = [BEGIN, "", "| import | minified | with gzip |", "|---|---|---|", ...rows, "", ""].join("\n")
  writeFileSync(readme, before + table + after)
}
