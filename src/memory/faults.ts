/**
 * What is to go wrong with commands: which ones, when and how often.
 */
import * as Effect from "effect/Effect"
import * as Either from "effect/Either"
import { createHash } from "node:crypto"
import { inputError, nonNegativeMillis } from "../internal/input.js"
import type { RedisInputError } from "../RedisError.js"
import type { Fault, InjectedFault } from "../RedisTestServer.js"
import type { Argv } from "./command.js"
import type { LinkFault } from "./Link.js"
import { Random } from "./random.js"
import { encodeText } from "./text.js"

interface Active extends InjectedFault {
  readonly effect: LinkFault
  readonly random: Random
  readonly times: number
  skip: number
  count: number
}

/** Whether a fault for `command` means this one; a script is named by its SHA. */
const concerns = (command: string, argv: Argv): boolean => {
  const name = argv[0]!
  if (name === command.toUpperCase()) return true
  if (name.startsWith("EVALSHA")) return argv[1] === command
  return name.startsWith("EVAL") && argv.length > 1 &&
    createHash("sha1").update(argv[1]!, "latin1").digest("hex") === command
}

const bad = (field: string, expected: string, actual: unknown) =>
  Either.left(inputError("inject", field, expected, actual))

const toLinkFault = (fault: Fault): Either.Either<LinkFault, RedisInputError> => {
  switch (fault._tag) {
    case "fail-before-send":
    case "lose-reply":
      return Either.right({ _tag: fault._tag })
    case "disconnect":
      return Either.right({ _tag: "disconnect", executed: fault.executed })
    case "reply":
      return /^[^\r\n]+$/.test(fault.error)
        ? Either.right({ _tag: "reply", error: encodeText(fault.error) })
        : bad("error", "one line of text", fault.error)
    case "delay":
      return Either.map(
        nonNegativeMillis("inject", "duration", fault.duration),
        (millis) => ({ _tag: "delay", millis })
      )
  }
}

export class Faults {
  private active: ReadonlyArray<Active> = []
  private made = 0

  constructor(private readonly seed: number) {}

  get isEmpty(): boolean {
    return this.active.length === 0
  }

  list(): ReadonlyArray<InjectedFault> {
    return this.active
  }

  clear(): void {
    this.active = []
  }

  add(fault: Fault): Either.Either<InjectedFault, RedisInputError> {
    const { after = 0, probability = 1, seed } = fault
    const times = fault.times ?? (fault.probability === undefined ? 1 : Infinity)
    if (!(times === Infinity || Number.isSafeInteger(times)) || times < 1) {
      return bad("times", "a whole number of at least 1", times)
    }
    if (!Number.isSafeInteger(after) || after < 0) return bad("after", "a whole number of zero or more", after)
    if (!(probability >= 0 && probability <= 1)) return bad("probability", "a number from 0 to 1", probability)
    if (seed !== undefined && !Number.isSafeInteger(seed)) return bad("seed", "a whole number", seed)
    return Either.map(toLinkFault(fault), (effect) => {
      const active: Active = {
        fault,
        happened: Effect.sync(() => active.count),
        withdraw: Effect.sync(() => this.remove(active)),
        effect,
        random: new Random(seed ?? this.seed + this.made),
        times,
        skip: after,
        count: 0
      }
      this.active = [...this.active, active]
      this.made++
      return active
    })
  }

  /** What goes wrong with this command. Every fault that waits for its turn counts it; of the others the oldest wins. */
  take(argv: Argv): LinkFault | undefined {
    let taken: Active | undefined
    for (const active of this.active) {
      const { command, probability } = active.fault
      if (command !== undefined && !concerns(command, argv)) continue
      if (active.skip > 0) active.skip--
      // Drawn also when another fault happens, so that each fault draws the same whatever others there are.
      else if (probability === undefined || active.random.next() < probability) taken ??= active
    }
    if (taken === undefined) return undefined
    if (++taken.count >= taken.times) this.remove(taken)
    return taken.effect
  }

  private remove(active: Active): void {
    this.active = this.active.filter((other) => other !== active)
  }
}
