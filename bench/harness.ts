/**
 * Runs contenders in alternating rounds and prints what came out.
 *
 * Other work on the machine changes the speed of everything from one second to the next, so contenders are compared
 * within a round, and the ratio is the median over the rounds.
 */
import { Effect, type Scope } from "effect"
import type { Server } from "./server.js"

/** One number that a case gives. */
export interface Measure {
  readonly name: string
  readonly unit: "op/s" | "ms" | "commands" | "places" | "B" | "lookups"
  readonly better: "higher" | "lower"
  /** Against the peer of the same round, or a number of its own. */
  readonly target: { readonly ratio: number } | { readonly absolute: number }
}

/** Works for about so many seconds and returns a number for each measure of the case. */
export type Slice<R = never> = (seconds: number) => Effect.Effect<ReadonlyArray<number>, unknown, R>

export interface Contender {
  readonly name: string
  readonly slice: Slice
}

export interface Case {
  /** The first is the case's own; the others belong to it. */
  readonly measures: readonly [Measure, ...ReadonlyArray<Measure>]
  /** Ours, the peer, and others that are shown beside them. */
  readonly contenders: Effect.Effect<
    readonly [ours: Contender, peer: Contender, ...others: ReadonlyArray<Contender>],
    unknown,
    Scope.Scope | Server
  >
}

export interface Options {
  readonly rounds: number
  readonly seconds: number
  /** Prints the JSON lines alone. */
  readonly json: boolean
  /** When and where, in words that go with the figures. */
  readonly run: string
}

/** What became of a target. */
export interface Outcome {
  readonly name: string
  readonly met: boolean
}

// ---------------------------------------------------------------------------------------------------------------------
// Slices
// ---------------------------------------------------------------------------------------------------------------------

const counted = <E, R>(
  seconds: number,
  work: (until: number, count: () => void) => Effect.Effect<unknown, E, R>
): Effect.Effect<ReadonlyArray<number>, E, R> =>
  Effect.suspend(() => {
    let count = 0
    const start = performance.now()
    return Effect.map(
      work(start + seconds * 1000, () => void count++),
      () => [count / ((performance.now() - start) / 1000)]
    )
  })

/**
 * Operations per second of so many fibers, each of which does one operation after the other. `n` counts on over all of
 * them: two that run at the same time never have the same `n` modulo a multiple of `loops`.
 */
export const fibers =
  <E, R>(loops: number, operation: (n: number) => Effect.Effect<unknown, E, R>): Slice<R> => (seconds) =>
    counted(seconds, (until, count) =>
      Effect.forEach(
        Array.from({ length: loops }, (_, loop) => loop),
        (loop) => {
          let n = loop
          return Effect.whileLoop({
            while: () => performance.now() < until,
            body: () => operation(n),
            step: () => {
              n += loops
              count()
            }
          })
        },
        { concurrency: "unbounded", discard: true }
      ))

/** The same for a library of promises. */
export const promises = (loops: number, operation: (n: number) => Promise<unknown>): Slice => (seconds) =>
  counted(seconds, (until, count) =>
    Effect.promise(() =>
      Promise.all(Array.from({ length: loops }, async (_, loop) => {
        for (let n = loop; performance.now() < until; n += loops) {
          await operation(n)
          count()
        }
      }))
    ))

// ---------------------------------------------------------------------------------------------------------------------
// Figures
// ---------------------------------------------------------------------------------------------------------------------

interface Figure {
  readonly median: number
  readonly min: number
  readonly max: number
}

const figure = (values: ReadonlyArray<number>): Figure => {
  const sorted = values.toSorted((a, b) => a - b)
  const middle = (sorted.length - 1) / 2
  const at = (i: number) => sorted[i] ?? NaN
  return {
    median: (at(Math.floor(middle)) + at(Math.ceil(middle))) / 2,
    min: at(0),
    max: at(sorted.length - 1)
  }
}

/** Four digits are more than the noise leaves. */
const round = (value: number): number => Number(value.toPrecision(4))

const show = (value: number): string => value >= 10_000 ? `${round(value / 1000)} k` : `${Number(value.toPrecision(3))}`

const showFigure = ({ max, median, min }: Figure): string => `${show(median)} (${show(min)}..${show(max)})`

/** A line on standard output. */
export const print = (line: string): void => void process.stdout.write(`${line}\n`)

const columns = (...cells: ReadonlyArray<string>): string =>
  cells.map((cell, i) => cell.padEnd([32, 36, 24, 28, 22][i] ?? 0)).join("").trimEnd()

export const header: string = columns("case", "ours (min..max)", "peer", "theirs", "ratio", "target")

const report = (
  measure: Measure,
  names: ReadonlyArray<string>,
  rounds: ReadonlyArray<ReadonlyArray<number>>,
  options: Options
): Outcome => {
  const figures = names.map((_, contender) => figure(rounds.map((round) => round[contender] ?? NaN)))
  const ratios = names.map((_, contender) =>
    figure(rounds.map((round) => (round[contender] ?? NaN) / (round[1] ?? NaN)))
  )
  const ours = figures[0] ?? figure([])
  const theirs = figures[1] ?? figure([])
  const ratio = ratios[0] ?? figure([])
  const isRatio = "ratio" in measure.target
  const target = "ratio" in measure.target ? measure.target.ratio : measure.target.absolute
  const value = isRatio ? ratio.median : ours.median
  const met = measure.better === "higher" ? value >= target : value <= target
  if (!options.json) {
    print(
      columns(
        measure.name,
        `${showFigure(ours)} ${measure.unit}`,
        names[1] ?? "",
        showFigure(theirs),
        Number.isFinite(ratio.median) ? showFigure(ratio) : "",
        `${measure.better === "higher" ? "≥" : "≤"} ${target}${met ? "" : "  MISSED"}`
      )
    )
    for (let i = 2; i < names.length; i++) {
      print(columns(`  ${names[i]}`, showFigure(figures[i]!), "", "", showFigure(ratios[i]!)))
    }
  }
  print(JSON.stringify({
    bench: measure.name,
    unit: measure.unit,
    better: measure.better,
    ours: round(ours.median),
    peer: names[1],
    theirs: isRatio ? round(theirs.median) : null,
    ratio: isRatio ? round(ratio.median) : null,
    target,
    run: options.run
  }))
  return { name: measure.name, met }
}

/** Measures one case and prints it. */
export const run = (case_: Case, options: Options): Effect.Effect<ReadonlyArray<Outcome>, unknown, Server> =>
  Effect.scoped(Effect.gen(function*() {
    const contenders = yield* case_.contenders
    for (const { slice } of contenders) yield* slice(options.seconds)
    const rounds: Array<ReadonlyArray<ReadonlyArray<number>>> = []
    for (let n = 0; n < options.rounds; n++) {
      // Who comes first finds the machine as the one before left it: nobody is always first.
      const order = contenders.map((_, i) => i)
      if (n % 2 === 1) order.reverse()
      const results: Array<ReadonlyArray<number>> = []
      for (const i of order) results[i] = yield* contenders[i]!.slice(options.seconds)
      rounds.push(results)
    }
    const names = contenders.map(({ name }) => name)
    // The case's own line is the last.
    return case_.measures.map((measure, i) => ({ measure, i })).reverse().map(({ i, measure }) =>
      report(measure, names, rounds.map((results) => results.map((values) => values[i] ?? NaN)), options)
    )
  }))
