/**
 * Rate limits that several processes use up.
 */
import { Effect, Either } from "effect"
import * as RateLimiter from "../../src/RateLimiter/index.js"
import { type Load, now, readAll, type Verdict, Work } from "./work.js"

export const LIMITS = "rate limits: no limit exceeded in any window"

const LIMIT = 5
const WINDOW = 1000

const policies = (["sliding-window", "gcra", "token-bucket", "fixed-window"] as const).map((algorithm) =>
  RateLimiter.policy({ name: algorithm, algorithm, limit: LIMIT, window: WINDOW })
)

/** What the guide says of each algorithm. */
const mostOf = (policy: string): number => policy === "sliding-window" ? LIMIT : 2 * LIMIT

const IDS = ["ada", "bob"]

interface Use {
  readonly policy: string
  readonly id: string
  readonly from: number
  readonly to: number
}

/** Uses that certainly happened within one window: each was asked for after its beginning and answered before its end. */
export const judgeUses = (uses: ReadonlyArray<Use>): Omit<Verdict, "promise"> => {
  const violations: Array<string> = []
  const groups = new Map<string, Array<Use>>()
  for (const use of uses) {
    const key = `${use.policy} ${use.id}`
    const group = groups.get(key)
    if (group === undefined) groups.set(key, [use])
    else group.push(use)
  }
  for (const [key, group] of groups) {
    group.sort((a, b) => a.from - b.from)
    const most = mostOf(group[0]!.policy)
    for (let i = 0; i < group.length; i++) {
      const end = group[i]!.from + WINDOW - 5
      let n = 0
      for (let j = i; j < group.length && group[j]!.from < end; j++) if (group[j]!.to <= end) n++
      if (n > most) violations.push(`${key}: ${n} of ${most} from ${group[i]!.from}`)
    }
  }
  return { checks: uses.length, violations }
}

export const load: Load = {
  run: Effect.gen(function*() {
    const { ask, book, bug, confirm, paced } = yield* Work
    for (const policy of policies) {
      for (const id of IDS) {
        // More at once than there is, so that every limit is reached all the time.
        yield* Effect.forkScoped(paced(
          300,
          Effect.gen(function*() {
            const use = Effect.gen(function*() {
              const from = now()
              const consume = RateLimiter.consume(policy, id, bug() ? { limit: 50 } : {})
              const decision = yield* Effect.either(ask("RateLimiter.consume", consume))
              // A refusal is no use.
              return Either.isRight(decision) && decision.right.allowed
                ? [{ policy: policy.name, id, from, to: now() } satisfies Use]
                : []
            })
            const { confirmed, result } = yield* confirm(
              `{${id}}`,
              Effect.all(Array.from({ length: LIMIT }, () => use), { concurrency: "unbounded" })
            )
            if (Either.isRight(result) && confirmed) yield* book.note("uses", ...result.right.flat())
          })
        ))
      }
    }
  }),
  judge: (book) => Effect.map(readAll<Use>(book, "uses"), (uses) => [{ promise: LIMITS, ...judgeUses(uses) }])
}
