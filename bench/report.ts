/**
 * The figures of docs/benchmarks.md: the JSON lines of runs are kept in docs/benchmarks/figures.jsonl, and tables and
 * charts are made of them.
 */
import * as Fs from "node:fs"

/** A JSON line of the harness. */
interface Line {
  readonly bench: string
  readonly unit: string
  readonly better: "higher" | "lower"
  readonly ours: number
  readonly peer: string
  readonly theirs: number | null
  readonly ratio: number | null
  readonly target: number
  readonly run: string
}

const docs = new URL("../../docs/", import.meta.url)
const page = new URL("benchmarks.md", docs)
const charts = new URL("benchmarks/", docs)
const figures = new URL("figures.jsonl", charts)

const BEGIN = "<!-- What follows is written by `npm run bench -- --report`. -->"
const END = "<!-- Until here. -->"

/** In the order of the page. A suite that is not here is shown behind them, under its name. */
const titles: Record<string, string> = {
  client: "Commands",
  lock: "Locks",
  ratelimiter: "Rate limits",
  cache: "Caches",
  session: "Sessions",
  pubsub: "Messages",
  queue: "Queues",
  stream: "Streams",
  eventStore: "Event stores",
  leaderboard: "Leaderboards",
  geo: "Places",
  memory: "The server in memory"
}

const suiteOf = ({ bench }: Line): string => bench.slice(0, bench.indexOf("."))

/** How many times better than the peer: more than 1 is better, whatever the unit is. */
const advantage = ({ better, ratio }: Line & { readonly ratio: number }): number =>
  better === "higher" ? ratio : 1 / ratio

const hasRatio = (line: Line): line is Line & { readonly ratio: number } => line.ratio !== null

const isMet = (line: Line): boolean => {
  const value = line.ratio ?? line.ours
  return line.better === "higher" ? value >= line.target : value <= line.target
}

const digits = (value: number): string => `${Number(value.toPrecision(3))}`

const show = (value: number, unit: string): string => {
  if (unit === "op/s") {
    if (value >= 1e6) return `${digits(value / 1e6)} M/s`
    return value >= 1e3 ? `${digits(value / 1e3)} k/s` : `${digits(value)} /s`
  }
  if (unit === "B") return value >= 1e4 ? `${digits(value / 1e3)} kB` : `${digits(value)} B`
  return unit === "ms" ? `${digits(value)} ms` : digits(value)
}

/** The JSON lines among others. */
const parse = (text: string): ReadonlyArray<Line> =>
  text.split("\n").flatMap((line) => line.startsWith(`{"bench"`) ? [JSON.parse(line)] : [])

// ---------------------------------------------------------------------------------------------------------------------
// Charts
// ---------------------------------------------------------------------------------------------------------------------

const WIDTH = 760
const LEFT = 230
const RIGHT = 70
const ROW = 24
const TOP = 30

const STYLE = `
  text { font: 12px ui-monospace, SFMono-Regular, Menlo, Consolas, monospace; fill: #1f2328 }
  .axis { fill: #59636e; font-size: 11px }
  .grid { stroke: #d1d9e0 }
  .even { stroke: #59636e; stroke-width: 1.5 }
  .target { stroke: #1f2328; stroke-width: 2 }
  .better { fill: #0969da }
  .worse { fill: #bc4c00 }
  @media (prefers-color-scheme: dark) {
    text { fill: #f0f6fc }
    .axis { fill: #9198a1 }
    .grid { stroke: #3d444d }
    .even { stroke: #9198a1 }
    .target { stroke: #f0f6fc }
    .better { fill: #4493f8 }
    .worse { fill: #f0883e }
  }`

const escape = (text: string): string => text.replaceAll("&", "&amp;").replaceAll("<", "&lt;").replaceAll(`"`, "&quot;")

const times = (value: number): string => `${value < 1 ? Number(value.toFixed(2)) : digits(value)}×`

/** Horizontal bars that start at "as good as the peer", on a scale where each line is twice the one before. */
const chart = (title: string, lines: ReadonlyArray<Line & { readonly ratio: number }>): string => {
  const values = lines.flatMap((line) => [advantage(line), advantage({ ...line, ratio: line.target })])
  const low = Math.min(-1, Math.floor(Math.log2(Math.min(...values))))
  const high = Math.max(1, Math.ceil(Math.log2(Math.max(...values))))
  const x = (value: number) =>
    Number((LEFT + (WIDTH - LEFT - RIGHT) * (Math.log2(value) - low) / (high - low)).toFixed(1))
  const bottom = TOP + lines.length * ROW
  const out = [
    `<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 ${WIDTH} ${bottom + 6}" width="${WIDTH}" height="${
      bottom + 6
    }" role="img">`,
    `<title>${escape(title)}: how many times better than the peer</title>`,
    `<style>${STYLE}\n</style>`
  ]
  for (let power = low; power <= high; power++) {
    const at = x(2 ** power)
    out.push(
      `<line class="${power === 0 ? "even" : "grid"}" x1="${at}" x2="${at}" y1="${TOP - 8}" y2="${bottom}"/>`,
      `<text class="axis" x="${at}" y="${TOP - 14}" text-anchor="middle">${
        power === 0 ? "even" : power < 0 ? `1/${2 ** -power}` : `${2 ** power}×`
      }</text>`
    )
  }
  lines.forEach((line, row) => {
    const value = advantage(line)
    const y = TOP + row * ROW
    const [from, to] = [x(Math.min(1, value)), x(Math.max(1, value))]
    const target = x(advantage({ ...line, ratio: line.target }))
    out.push(
      `<text x="0" y="${y + 15}">${escape(line.bench)}</text>`,
      `<rect class="${value < 1 ? "worse" : "better"}" x="${from}" y="${y + 4}" width="${
        Number(Math.max(1, to - from).toFixed(1))
      }" height="${ROW - 9}" rx="2"><title>${escape(line.peer)}</title></rect>`,
      `<line class="target" x1="${target}" x2="${target}" y1="${y + 2}" y2="${y + ROW - 3}"/>`,
      `<text x="${WIDTH}" y="${y + 15}" text-anchor="end">${times(value)}</text>`
    )
  })
  return `${out.join("\n")}\n</svg>\n`
}

// ---------------------------------------------------------------------------------------------------------------------
// The page
// ---------------------------------------------------------------------------------------------------------------------

const row = (line: Line): string =>
  `| ${
    [
      `\`${line.bench}\``,
      show(line.ours, line.unit),
      line.peer,
      line.theirs === null ? "" : show(line.theirs, line.unit),
      line.ratio === null ? "" : digits(line.ratio),
      `${line.better === "higher" ? "≥" : "≤"} ${
        line.ratio === null ? show(line.target, line.unit) : digits(line.target)
      }`,
      isMet(line) ? "met" : "missed"
    ].join(" | ")
  } |`

/** `lock.names3.100` and the like, one after the other, wrapped as the page is. */
const list = (names: ReadonlyArray<string>): string => {
  const rows = [""]
  names.forEach((name, i) => {
    const word = `\`${name}\`${i === names.length - 1 ? "." : ","}`
    const last = rows.length - 1
    if (`${rows[last]} ${word}`.length > 118) rows.push(word)
    else rows[last] = rows[last] === "" ? word : `${rows[last]} ${word}`
  })
  return rows.join("\n")
}

const section = (suite: string, lines: ReadonlyArray<Line>): ReadonlyArray<string> => {
  const title = titles[suite] ?? suite
  const compared = lines.filter(hasRatio)
  const file = new URL(`${suite}.svg`, charts)
  if (compared.length > 0) Fs.writeFileSync(file, chart(title, compared))
  return [
    `### ${title}`,
    "",
    ...(compared.length > 0 ? [`![${title}: how many times better than the peer](benchmarks/${suite}.svg)`, ""] : []),
    "| case | ours | peer | theirs | ratio | target | |",
    "|---|---|---|---|---|---|---|",
    ...lines.map(row),
    "",
    ...new Set(lines.map(({ run }) => `${run}.`)),
    ""
  ]
}

/** Takes the lines of these files into the figures, and writes tables and charts anew. */
export const write = (files: ReadonlyArray<string>): string => {
  const known = Fs.existsSync(figures) ? parse(Fs.readFileSync(figures, "utf8")) : []
  const byName = new Map(known.map((line) => [line.bench, line]))
  for (const file of files) {
    const lines = parse(Fs.readFileSync(file, "utf8"))
    if (lines.length === 0) throw new Error(`${file} has no line of JSON as the benchmarks print it.`)
    for (const line of lines) byName.set(line.bench, line)
  }
  const all = [...byName.values()]
  const order = Object.keys(titles)
  const place = (suite: string) => order.includes(suite) ? order.indexOf(suite) : order.length
  const suites = [...new Set(all.map(suiteOf))].sort((a, b) => place(a) - place(b) || (a < b ? -1 : 1))
  Fs.mkdirSync(charts, { recursive: true })
  const lines = suites.flatMap((suite) => all.filter((line) => suiteOf(line) === suite))
  Fs.writeFileSync(figures, lines.map((line) => `${JSON.stringify(line)}\n`).join(""))

  const text = Fs.readFileSync(page, "utf8")
  const [begin, end] = [text.indexOf(BEGIN), text.indexOf(END)]
  if (begin < 0 || end < begin) throw new Error("docs/benchmarks.md has no place for the figures.")
  const compared = lines.filter(hasRatio)
  const worse = compared.filter((line) => advantage(line) < 1)
  const missed = lines.filter((line) => !isMet(line))
  const written = [
    BEGIN,
    "",
    `Of ${lines.length} figures ${
      lines.length - missed.length
    } meet their target. ${compared.length} are compared with a ` +
    `peer, and ${compared.length - worse.length} of them are at least as good.`,
    "",
    ...(worse.length === 0 ? [] : ["We are behind the peer in:", list(worse.map(({ bench }) => bench)), ""]),
    ...(missed.length === 0 ? [] : ["The target is missed in:", list(missed.map(({ bench }) => bench)), ""]),
    ...suites.flatMap((suite) => section(suite, lines.filter((line) => suiteOf(line) === suite)))
  ]
  Fs.writeFileSync(page, text.slice(0, begin) + written.join("\n") + text.slice(end))
  return `${lines.length} figures in docs/benchmarks.md, ${suites.length} charts in docs/benchmarks`
}
