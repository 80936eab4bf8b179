/**
 * A lock over several independent Redis servers: whoever has the votes of more than half of them holds it. It survives
 * the loss of any minority of the servers, and of what a failover would lose.
 *
 * **Why there is one holder.** A server votes for one owner at a time, until that owner's lease ends. Two majorities share
 * a server, so no two owners have one at the same time. The holder counts its lease from before it asked, by a clock
 * that never goes back, and takes off what clocks of two machines may differ; a renewal counts when a majority gave it
 * before that deadline.
 *
 * **Why tokens grow.** Whoever asks proposes the fencing token, and a server votes only for a token larger than all that
 * it has voted for. The server that two majorities share has seen the token of the earlier one, so the later one is
 * larger. Clocks decide nothing here: the proposal is taken from one so that it is nearly always large enough at once,
 * and a server that has seen a larger one says so.
 *
 * **What this needs.** Servers must remember how they voted. One that restarts without its data votes again, and its
 * second vote can complete a second majority: run with `appendonly yes` and `appendfsync always`, or let a server that
 * crashed stay down for longer than the longest lease. The clocks of the servers must run at about the same speed, since
 * they end the leases. And no lease stops a process that is paused: what must not be written twice needs the token.
 *
 * @since 0.1.0
 */
import * as Cause from "effect/Cause"
import * as Context from "effect/Context"
import * as Deferred from "effect/Deferred"
import type * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Either from "effect/Either"
import * as ExecutionStrategy from "effect/ExecutionStrategy"
import * as Exit from "effect/Exit"
import type * as Fiber from "effect/Fiber"
import { dual } from "effect/Function"
import * as Layer from "effect/Layer"
import * as Option from "effect/Option"
import * as Schedule from "effect/Schedule"
import * as Schema from "effect/Schema"
import * as Scope from "effect/Scope"
import { inputError, positiveMillis } from "../internal/input.js"
import { mayPass } from "../internal/mayPass.js"
import { lockAcquired, lockNotAcquired, lockWaitSeconds } from "../internal/metrics.js"
import { withSpan } from "../internal/telemetry.js"
import { type Enter, handing, notAcquired, type Settings, settingsOf } from "../Lock/Acquisition.js"
import { findInside, type Held as LockHeld, make as makeHeld, type Restore } from "../Lock/Held.js"
import * as Leases from "../Lock/Leases.js"
import type { LockLost, LockNotAcquired } from "../Lock/LockError.js"
import type { Busy } from "../Lock/Waiters.js"
import { RedisClient, type Service as Client } from "../RedisClient.js"
import { isRedisError, RedisError, type RedisInputError } from "../RedisError.js"
import * as RedisScript from "../RedisScript.js"
import { layer as testServer, RedisTestServer, type Service as TestServer } from "../RedisTestServer.js"
import { type Answers, make as makeNodes, Node } from "./Nodes.js"
import * as scripts from "./scripts.js"

// ---------------------------------------------------------------------------------------------------------------------
// Models
// ---------------------------------------------------------------------------------------------------------------------

/**
 * How a lock is taken.
 *
 * @since 0.1.0
 * @category models
 */
export interface Options {
  /**
   * How long the lock lives without a sign of life of its holder; 10 seconds by default. It is renewed every third of
   * it, so this bounds how long a crashed holder blocks the others, and not how long the work may take.
   */
  readonly lease?: Duration.DurationInput | undefined
  /** How long to wait for the lock; 10 seconds by default. Zero asks once. `Infinity` waits for ever. */
  readonly waitTimeout?: Duration.DurationInput | undefined
  /** Whether the lease is renewed while the lock is held; `true` by default. */
  readonly renew?: boolean | undefined
  /**
   * When to ask again; by default after 20 milliseconds, and then less and less often down to ten times a second, all of
   * it spread by chance. Several servers can't keep a common queue: nobody is notified, and there is no order between
   * processes. Those of one process take turns, and only the first of them asks. Keep some jitter in it, or those who
   * split the votes will split them again.
   */
  readonly retry?: Schedule.Schedule<unknown, LockNotAcquired | QuorumNotReached> | undefined
}

/**
 * How the servers are asked.
 *
 * @since 0.1.0
 * @category models
 */
export interface LayerOptions {
  /**
   * How long a server may take to answer before it counts as failed for this question; by default a quarter of the
   * lease, and at most half a second. It never takes longer than the lease has left.
   */
  readonly nodeTimeout?: Duration.DurationInput | undefined
}

/**
 * A lock that is held, as that of `Lock`. It fails with `QuorumNotReached` where a single server could not be reached.
 *
 * @since 0.1.0
 * @category models
 */
export type Held = LockHeld<QuorumNotReached>

/**
 * @since 0.1.0
 * @category models
 */
export interface Service {
  /**
   * Takes the lock and gives it back when the scope closes. Interrupting it at any point leaves nothing behind.
   */
  readonly acquire: (
    name: string,
    options?: Options
  ) => Effect.Effect<Held, LockNotAcquired | QuorumNotReached | RedisInputError, Scope.Scope>
  /** Takes the lock if it is free at this moment. */
  readonly tryAcquire: (
    name: string,
    options?: Omit<Options, "waitTimeout" | "retry">
  ) => Effect.Effect<Option.Option<Held>, QuorumNotReached | RedisInputError, Scope.Scope>
  /**
   * Runs an effect while holding the lock. See `withLock`.
   */
  readonly withLock: <A, E, R>(
    effect: Effect.Effect<A, E, R>,
    name: string,
    options?: Options
  ) => Effect.Effect<A, E | LockNotAcquired | LockLost | QuorumNotReached | RedisInputError, R>
  /**
   * The fencing token of the lock of this name that the effect runs inside of, by `withLock` or `held.protect`; `None`
   * outside.
   */
  readonly fencingToken: (name: string) => Effect.Effect<Option.Option<number>>
}

/**
 * @since 0.1.0
 * @category tags
 */
export class Quorum extends Context.Tag("effect-redis-kit/Quorum")<Quorum, Service>() {}

// ---------------------------------------------------------------------------------------------------------------------
// Errors
// ---------------------------------------------------------------------------------------------------------------------

/**
 * So many servers failed that there was no majority either way. It is not `LockNotAcquired`: others are not known to hold
 * the lock.
 *
 * When it was clear, `granted` of the `nodes` servers had agreed, where `required` must, `held` had another holder, and
 * each of `failed` had given no answer, for the reason given. `node` is its place in the list that the quorum was made
 * of, from zero, and `target` its address without user and password. `operation` is what was asked.
 *
 * @since 0.1.0
 * @category errors
 */
export class QuorumNotReached extends Schema.TaggedError<QuorumNotReached>("effect-redis-kit/Quorum/QuorumNotReached")(
  "QuorumNotReached",
  {
    key: Schema.String,
    operation: Schema.Literal("acquire", "extend", "release"),
    nodes: Schema.Number,
    required: Schema.Number,
    granted: Schema.Number,
    held: Schema.Number,
    failed: Schema.Array(Schema.Struct({ node: Schema.Number, target: Schema.String, error: RedisError }))
  }
) {
  /**
   * Whether the same call may succeed when it is made again.
   *
   * @since 0.1.0
   */
  get isRetryable(): boolean {
    return this.nodes - this.failed.filter(({ error }) => !mayPass(error)).length >= this.required
  }
  /** @since 0.1.0 */
  override get message(): string {
    const reasons = this.failed.map(({ error, node, target }) => `node ${node} (${target}): ${error.message}`)
    return `no quorum to ${this.operation} the lock "${this.key}": ${this.granted} of ${this.nodes} nodes agreed, ` +
      `${this.required} must; ${this.held} have another holder; ${reasons.join("; ")}`
  }
}

// ---------------------------------------------------------------------------------------------------------------------
// Constructors
// ---------------------------------------------------------------------------------------------------------------------

interface Claim extends Leases.Claim<QuorumNotReached> {
  readonly keys: ReadonlyArray<string>
  readonly token: number
  /** Milliseconds. */
  readonly lease: number
  /** The nodes that certainly don't know it: they answered that they have another holder. */
  readonly refused: Set<Node>
  /** The nodes that gave their vote. */
  readonly granted: Set<Node>
  /** It was renewed, so that nodes that refused it may have voted for it since. */
  renewed: boolean
  /** When every node has forgotten it in any case. */
  until: number
  /** It was given back, or that is underway. */
  ended: boolean
}

type Lease = Leases.Lease<QuorumNotReached>

/** Why a round did not take the lock: others have it, or nodes failed. */
type Refusal =
  | { readonly _tag: "Busy"; readonly busy: Busy; readonly again: boolean }
  | { readonly _tag: "Short"; readonly error: QuorumNotReached }

/** Quickly at first, for those who split the votes, and then ten times a second. */
const defaultRetry = Schedule.exponential("20 millis", 1.6).pipe(
  Schedule.union(Schedule.spaced("100 millis")),
  Schedule.jitteredWith({ min: 0.5, max: 1.5 })
)

/** For a node that can't be told at once that a lock was given back. */
const handBack = Schedule.exponential("200 millis").pipe(Schedule.union(Schedule.spaced("2 seconds")))

/** What a majority says: yes, no, nothing since too many failed, or nothing yet. */
const majority = (answers: Answers<boolean>, asked: number, required: number): boolean | "none" | undefined => {
  let yes = 0
  let no = answers.length - asked
  let failed = 0
  for (const answer of answers) {
    if (answer === undefined) continue
    if (Either.isLeft(answer)) failed++
    else if (answer.right) yes++
    else no++
  }
  if (yes >= required) return true
  if (no > answers.length - required) return false
  return yes + no + failed === answers.length ? "none" : undefined
}

const makeService = (
  list: ReadonlyArray<Node>,
  nodeTimeout: number | undefined
): Effect.Effect<Service, never, Scope.Scope> =>
  Effect.gen(function*() {
    const leases = yield* Leases.make
    const { scoped, using } = handing(leases)
    const nodes = yield* makeNodes(list)
    const { required } = nodes
    const count = list.length

    const timeoutOf = (lease: number): number =>
      Math.min(nodeTimeout ?? Math.min(500, lease / 4), lease - Leases.driftOf(lease))

    // --- Tokens ---

    let lastToken = 0
    /** By how much a clock that somebody else goes by is ahead of ours, in microseconds. */
    let ahead = 0

    const clock = (): number => Math.floor(nodes.now() * 1000)

    const propose = (): number => lastToken = Math.max(lastToken + 1, clock() + ahead)

    /** A node has seen this token: the next proposal is larger, and so are all later ones. */
    const learn = (token: number): void => {
      lastToken = Math.max(lastToken, token)
      ahead = Math.max(ahead, token - clock())
    }

    // --- What the nodes are asked ---

    // Two clients of one and the same server must not count as two votes.
    const ownerAt = (claim: Claim, node: Node): scripts.Owner => ({
      keys: claim.keys,
      owner: `${claim.owner}/${node.index}`,
      token: claim.token
    })

    // The authority is only asked about claims that name it.
    const own = (claim: Leases.Claim<unknown>): Claim => claim as Claim

    const notReached = (
      claim: Claim,
      operation: QuorumNotReached["operation"],
      answers: Answers<unknown>,
      granted: number,
      held: number
    ): QuorumNotReached =>
      new QuorumNotReached({
        key: claim.name,
        operation,
        nodes: count,
        required,
        granted,
        held,
        failed: nodes.all.flatMap((node) => {
          const answer = answers[node.index]
          return answer !== undefined && Either.isLeft(answer)
            ? [{ node: node.index, target: node.target, error: answer.left }]
            : []
        })
      })

    const shortOf = (
      claim: Claim,
      operation: QuorumNotReached["operation"],
      answers: Answers<boolean>,
      asked: number
    ): QuorumNotReached => {
      const says = (vote: boolean) =>
        answers.filter((answer) => answer?._tag === "Right" && answer.right === vote).length
      return notReached(claim, operation, answers, says(true), says(false) + count - asked)
    }

    /** Tells a node, for as long as its key may live. */
    const insist = (claim: Claim, client: Client, node: Node): Effect.Effect<void> =>
      client.eval(scripts.release, ownerAt(claim, node)).pipe(
        Effect.retry({ schedule: handBack, while: (error) => mayPass(error) && nodes.now() < claim.until }),
        Effect.delay("200 millis"),
        Effect.map(() => node.heard()),
        Effect.ignoreLogged
      )

    /** Tells all nodes that may know a claim; what `decide` makes of the first answers. */
    const tell = <B>(claim: Claim, decide: (answers: Answers<boolean>, asked: number) => B | undefined) => {
      claim.ended = true
      const told = nodes.all.filter((node) => claim.renewed || !claim.refused.has(node))
      return nodes.ask<boolean, B>({
        name: scripts.release.name,
        timeout: timeoutOf(claim.lease),
        nodes: told,
        ask: (client, node) => client.eval(scripts.release, ownerAt(claim, node)),
        onAnswer: (node, answer) => {
          // A node without a client was never asked for anything.
          if (Either.isLeft(answer) && node.client !== undefined && mayPass(answer.left)) {
            nodes.run(insist(claim, node.client, node))
          }
        },
        decide: (answers) => decide(answers, told.length)
      })
    }

    const renew: Leases.Authority<QuorumNotReached>["renew"] = (asked) => {
      const claims = asked.map(([claim, length]) => ({ claim: own(claim), length }))
      for (const { claim, length } of claims) {
        claim.renewed = true
        claim.until = Math.max(claim.until, nodes.now() + length)
      }
      return nodes.ask<
        ReadonlyArray<Either.Either<boolean, RedisError>>,
        ReadonlyArray<Either.Either<boolean, QuorumNotReached>>
      >({
        name: scripts.renew.name,
        timeout: Math.min(...claims.map(({ length }) => timeoutOf(length))),
        ask: (client, node) =>
          Effect.map(
            client.pipeline(
              claims.map(({ claim, length }) => RedisScript.call(scripts.renew, ownerAt(claim, node), length))
            ),
            (replies) => replies.map(Either.map((reply) => reply === 1))
          ),
        decide: (answers) => {
          const results: Array<Either.Either<boolean, QuorumNotReached>> = []
          for (const [i, { claim }] of claims.entries()) {
            const votes = answers.map((answer) => answer && Either.flatMap(answer, (replies) => replies[i]!))
            const verdict = majority(votes, count, required)
            if (verdict === undefined) return undefined
            results.push(
              verdict === "none" ? Either.left(shortOf(claim, "extend", votes, count)) : Either.right(verdict)
            )
          }
          return results
        }
      })
    }

    const authority: Leases.Authority<QuorumNotReached> = {
      renew,
      extend: (claim, length) => Effect.flatMap(renew([[claim, length]]), ([result]) => result!),
      release: (claim) =>
        Effect.flatten(tell<Effect.Effect<boolean, QuorumNotReached>>(own(claim), (answers, asked) => {
          const verdict = majority(answers, asked, required)
          return verdict === undefined
            ? undefined
            : verdict === "none"
            ? Effect.fail(shortOf(own(claim), "release", answers, asked))
            : Effect.succeed(verdict)
        })),
      releaseAll: (claims) => Effect.forEach(claims, (claim) => Effect.either(authority.release(claim))),
      // Who has voted answers soon. Nobody waits for the others.
      abandon: (unknown) => {
        const claim = own(unknown)
        const voters = Array.from(claim.granted)
        return claim.ended ? Effect.void : Effect.asVoid(
          tell(claim, (answers) => voters.every((node) => answers[node.index] !== undefined) ? true : undefined)
        )
      }
    }

    // --- Taking it ---

    /** What the answers come to when they don't make a majority. */
    const refusalOf = (claim: Claim, answers: Answers<scripts.Answer>): Refusal => {
      const holders = new Map<string, number>()
      let held = 0
      let stale = 0
      let failed = 0
      let holder: string | undefined
      let remaining = -1
      for (const answer of answers) {
        if (answer === undefined) continue
        if (Either.isLeft(answer)) {
          failed++
        } else if (answer.right._tag === "Stale") {
          stale++
          learn(answer.right.last)
        } else if (answer.right._tag === "Held") {
          held++
          const name = answer.right.holder.replace(/\/\d+$/, "")
          const votes = (holders.get(name) ?? 0) + 1
          holders.set(name, votes)
          if (votes >= Math.max(...holders.values())) {
            remaining = name === holder ? Math.max(remaining, answer.right.remaining) : answer.right.remaining
            holder = name
          }
        }
      }
      const possible = count - held - failed
      return held > count - required
        ? { _tag: "Busy", busy: { holder, remaining, tooLate: false }, again: false }
        // With a larger token the same nodes may vote for us, now.
        : stale > 0 && possible >= required
        ? { _tag: "Busy", busy: { holder, remaining, tooLate: false }, again: true }
        : { _tag: "Short", error: notReached(claim, "acquire", answers, claim.granted.size, held) }
    }

    /** Asks every node once. Each round has its own owner, so that giving back a former one never takes from this. */
    const round = (
      name: string,
      settings: Settings,
      timeout: number,
      restore: Restore
    ): Effect.Effect<Lease | Refusal> => {
      const sent = nodes.now()
      const claim: Claim = {
        authority,
        name,
        keys: scripts.keysOf(name),
        owner: leases.nextOwner(),
        token: propose(),
        lease: settings.lease,
        refused: new Set(),
        granted: new Set(),
        renewed: false,
        until: sent + settings.lease + timeout,
        ended: false
      }
      const asking = nodes.ask<scripts.Answer, "taken" | Refusal>({
        name: scripts.acquire.name,
        timeout,
        // Who can't win must not hold on to the votes he has while he waits for nodes that are down.
        hurry: true,
        ask: (client, node) => client.eval(scripts.acquire, ownerAt(claim, node), settings.lease),
        onAnswer: (node, answer) => {
          if (Either.isRight(answer)) (answer.right._tag === "Granted" ? claim.granted : claim.refused).add(node)
        },
        decide: (answers) => {
          if (claim.granted.size >= required) return "taken"
          const pending = answers.filter((answer) => answer === undefined).length
          return claim.granted.size + pending < required ? refusalOf(claim, answers) : undefined
        }
      })
      return Effect.matchCauseEffect(restore(asking), {
        onSuccess: (verdict) => {
          const lease = verdict === "taken"
            ? leases.add(claim, claim.token, settings.lease, settings.renew, sent)
            : undefined
          if (lease !== undefined) return Effect.succeed<Lease | Refusal>(lease)
          // All answers together took as long as the lease: this process was paused.
          const refusal: Refusal = verdict !== "taken" ? verdict : {
            _tag: "Short",
            error: notReached(
              claim,
              "acquire",
              nodes.all.map((node) => Either.left(node.silence(scripts.acquire.name))),
              0,
              0
            )
          }
          return Effect.as(leases.abandon(claim), refusal)
        },
        onFailure: (cause) => Effect.zipRight(leases.abandon(claim), Effect.failCause(cause))
      })
    }

    const isLease = (result: Lease | Refusal): result is Lease => "claim" in result

    /** Those of this process who wait for one lock. Only the first of them asks: the others would split the votes. */
    interface Line {
      busy: boolean
      readonly waiting: Set<() => void>
      /** What the last who asked was told. */
      last: Refusal
    }

    const lines = new Map<string, Line>()

    const handOn = (name: string, line: Line): void => {
      const [next] = line.waiting
      if (next === undefined) {
        line.busy = false
        lines.delete(name)
      } else {
        line.waiting.delete(next)
        next()
      }
    }

    const take = (
      name: string,
      settings: Settings,
      schedule: Schedule.Schedule<unknown, LockNotAcquired | QuorumNotReached>,
      restore: Restore
    ): Effect.Effect<Lease, LockNotAcquired | QuorumNotReached> => {
      const start = nodes.now()
      const once = settings.waitTimeout === 0
      const end = once ? Infinity : start + settings.waitTimeout
      const full = timeoutOf(settings.lease)

      const failureOf = (refusal: Refusal): LockNotAcquired | QuorumNotReached =>
        refusal._tag === "Short"
          ? refusal.error
          : notAcquired(name, once ? "held" : "timeout", refusal.busy, nodes.now() - start)

      const fail = (refusal: Refusal) => {
        lockNotAcquired.unsafeUpdate(1, [])
        return Effect.fail(failureOf(refusal))
      }

      const attempt = (
        former: Refusal | undefined,
        onRefusal: (refusal: Refusal) => Effect.Effect<Lease, LockNotAcquired | QuorumNotReached>
      ): Effect.Effect<Lease, LockNotAcquired | QuorumNotReached> => {
        const timeout = Math.min(full, end - nodes.now())
        if (timeout <= 0 && former !== undefined) return fail(former)
        return Effect.flatMap(round(name, settings, timeout, restore), (result) => {
          if (isLease(result)) {
            lockAcquired.unsafeUpdate(1, [])
            lockWaitSeconds.unsafeUpdate((nodes.now() - start) / 1000, [])
            return Effect.succeed(result)
          }
          // A round that was cut short by the end of the wait says less than the one before.
          const refusal = result._tag === "Short" && timeout < full && former !== undefined ? former : result
          if (refusal._tag === "Busy" && refusal.again) return attempt(refusal, onRefusal)
          return once || nodes.now() >= end || (refusal._tag === "Short" && !refusal.error.isRetryable)
            ? fail(refusal)
            : onRefusal(refusal)
        })
      }

      /** Whether there is time for what was waited for. */
      const inTime = <A>(effect: Effect.Effect<A>): Effect.Effect<boolean> => {
        const timed = end === Infinity
          ? Effect.asSome(effect)
          : Effect.timeoutOption(effect, Math.max(0, end - nodes.now()))
        return restore(Effect.map(timed, Option.isSome))
      }

      const keepAsking = (line: Line): Effect.Effect<Lease, LockNotAcquired | QuorumNotReached> =>
        Effect.flatMap(Schedule.driver(schedule), (driver) => {
          const again = (refusal: Refusal): Effect.Effect<Lease, LockNotAcquired | QuorumNotReached> => {
            line.last = refusal
            let goesOn = false
            const step = Effect.match(driver.next(failureOf(refusal)), {
              onFailure: () => {},
              onSuccess: () => void (goesOn = true)
            })
            return Effect.flatMap(inTime(step), () => goesOn ? attempt(refusal, again) : fail(refusal))
          }
          return again(line.last)
        })

      const wait = (refusal: Refusal): Effect.Effect<Lease, LockNotAcquired | QuorumNotReached> =>
        Effect.suspend(() => {
          const line: Line = lines.get(name) ?? { busy: false, waiting: new Set(), last: refusal }
          lines.set(name, line)
          let mine = !line.busy
          let resume: ((turn: Effect.Effect<void>) => void) | undefined
          const call = (): void => {
            mine = true
            resume?.(Effect.void)
          }
          if (mine) line.busy = true
          else line.waiting.add(call)
          const turn = Effect.async<void>((listener) => {
            if (mine) listener(Effect.void)
            else resume = listener
          })
          // The turn may come at the very moment at which the time is over or the waiter is interrupted.
          return Effect.ensuring(
            Effect.flatMap(mine ? Effect.void : inTime(turn), () => mine ? keepAsking(line) : fail(line.last)),
            Effect.sync(() => {
              line.waiting.delete(call)
              if (mine) handOn(name, line)
            })
          )
        })

      const line = once ? undefined : lines.get(name)
      return line === undefined ? attempt(undefined, wait) : wait(line.last)
    }

    // --- Service ---

    const find = (fiber: Fiber.RuntimeFiber<unknown, unknown>, name: string): Lease | undefined =>
      findInside(fiber, leases, ({ claim }) => claim.name === name && claim.authority === authority)

    /** The same lock once more when the fiber is inside of it already, and else the lock. */
    const enter = (
      name: string,
      settings: Settings,
      options: Options | undefined
    ): Enter<readonly [Lease], LockNotAcquired | QuorumNotReached> =>
    (restore) =>
      Effect.withFiberRuntime((fiber) => {
        const lease = find(fiber, name)
        if (lease !== undefined) {
          lease.depth++
          return Exit.succeed([lease] as const)
        }
        return Effect.map(take(name, settings, options?.retry ?? defaultRetry, restore), (lease) => [lease] as const)
      })

    const hold = (name: string, settings: Settings, options: Options | undefined) =>
      scoped(enter(name, settings, options), ([lease], release) => makeHeld(lease, release))

    return {
      acquire: (name, options) => {
        const settings = settingsOf("Quorum.acquire", name, options)
        return Either.isLeft(settings)
          ? Effect.fail(settings.left)
          : withSpan(hold(name, settings.right, options), "quorum.acquire", () => attributes(name))
      },
      tryAcquire: (name, options) => {
        const settings = settingsOf("Quorum.tryAcquire", name, { ...options, waitTimeout: 0 })
        return Either.isLeft(settings)
          ? Effect.fail(settings.left)
          : withSpan(
            Effect.catchTag(
              Effect.asSome(hold(name, settings.right, options)),
              "LockNotAcquired",
              () => Effect.succeedNone
            ),
            "quorum.tryAcquire",
            () => attributes(name)
          )
      },
      withLock: (effect, name, options) => {
        const settings = settingsOf("Quorum.withLock", name, options)
        return Either.isLeft(settings)
          ? Effect.fail(settings.left)
          : withSpan(
            using(effect, enter(name, settings.right, options)),
            "quorum.withLock",
            () => attributes(name)
          )
      },
      fencingToken: (name) =>
        Effect.withFiberRuntime((fiber) =>
          Exit.succeed(Option.map(Option.fromNullable(find(fiber, name)), ({ token }) => token))
        )
    }
  })

const attributes = (name: string) => ({ "effect_redis.lock.name": name })

/** The node timeout in milliseconds, if any. */
const checkOptions = (
  size: number,
  options: LayerOptions | undefined
): Either.Either<number | undefined, RedisInputError> =>
  size === 0
    ? Either.left(inputError("Quorum.make", "nodes", "at least one", "none"))
    : options?.nodeTimeout === undefined
    ? Either.right(undefined)
    : positiveMillis("Quorum.make", "nodeTimeout", options.nodeTimeout)

/**
 * Locks over these clients, each of a server of its own. With one client it is a lock on one server; an even number is as
 * good as the odd one below it. What the locks keep running belongs to the scope; the clients belong to whoever made
 * them.
 *
 * @example
 * ```ts
 * import { Effect } from "effect"
 * import { Quorum, RedisConfig } from "effect-redis-kit"
 * import * as IoRedis from "effect-redis-kit/IoRedis"
 *
 * const client = (host: string) => Effect.flatMap(RedisConfig.make({ host, lazyConnect: true }), IoRedis.make)
 *
 * const program = Effect.gen(function*() {
 *   const quorum = yield* Quorum.make([yield* client("redis-1"), yield* client("redis-2"), yield* client("redis-3")])
 *   yield* quorum.withLock(Effect.log("alone"), "report")
 * })
 * ```
 *
 * @since 0.1.0
 * @category constructors
 */
export const make = (
  clients: ReadonlyArray<Client>,
  options?: LayerOptions
): Effect.Effect<Service, RedisInputError, Scope.Scope> =>
  Effect.gen(function*() {
    const nodeTimeout = yield* checkOptions(clients.length, options)
    const nodes = yield* Effect.forEach(clients, (client, i) => {
      const node = new Node(i)
      return Effect.as(node.use(client), node)
    })
    return yield* makeService(nodes, nodeTimeout)
  })

// ---------------------------------------------------------------------------------------------------------------------
// Layers
// ---------------------------------------------------------------------------------------------------------------------

/**
 * Builds the client of a node until that succeeds. `first` hears of the first try, and the scope ends it all.
 */
const connect = <E, R>(
  node: Node,
  layer: Layer.Layer<RedisClient, E, R>,
  first: (exit: Exit.Exit<void, E>) => Effect.Effect<void>
): Effect.Effect<void, never, R | Scope.Scope> =>
  Effect.flatMap(Effect.scope, (scope) => {
    const attempt = Effect.gen(function*() {
      const own = yield* Scope.fork(scope, ExecutionStrategy.sequential)
      const built = Effect.flatMap(
        Layer.buildWithScope(Layer.fresh(layer), own),
        (context) => Scope.extend(node.use(Context.get(context, RedisClient)), own)
      )
      return yield* Effect.onError(built, (cause) => {
        const error = Option.getOrUndefined(Cause.failureOption(cause))
        if (isRedisError(error)) node.down = error
        return Scope.close(own, Exit.failCause(cause))
      })
    })
    let isFirst = true
    return attempt.pipe(
      Effect.onExit((exit) => {
        if (!isFirst) return Effect.void
        isFirst = false
        return Effect.zipRight(
          first(exit),
          Effect.when(
            Effect.annotateLogs(
              Effect.logWarning(`node ${node.index} of the quorum is not there yet`),
              "reason",
              node.down?.message
            ),
            () => Exit.isFailure(exit) && !Exit.isInterrupted(exit)
          )
        )
      }),
      Effect.sandbox,
      Effect.retry(Schedule.jittered(Schedule.spaced("1 second"))),
      Effect.ignore
    )
  })

/**
 * Locks over the servers of these layers, each built for itself.
 *
 * The layer is there as soon as a majority of the clients is. It fails as they do when so many can't be built that there
 * is no majority; a minority that can't be built is tried again in the background every second, and counts as
 * failed until then.
 *
 * @example
 * ```ts
 * import { Effect, Redacted } from "effect"
 * import { Quorum } from "effect-redis-kit"
 * import * as IoRedis from "effect-redis-kit/IoRedis"
 *
 * const node = (host: string) => IoRedis.layer({ url: Redacted.make(`redis://${host}`) })
 *
 * const QuorumLive = Quorum.layer([node("redis-1"), node("redis-2"), node("redis-3")], { nodeTimeout: "200 millis" })
 *
 * const program = Effect.log("one at a time, anywhere").pipe(Quorum.withLock("report"), Effect.provide(QuorumLive))
 * ```
 *
 * @since 0.1.0
 * @category layers
 */
export const layer = <
  const Nodes extends readonly [Layer.Layer<RedisClient, any, any>, ...Array<Layer.Layer<RedisClient, any, any>>]
>(
  nodes: Nodes,
  options?: LayerOptions
): Layer.Layer<Quorum, Layer.Layer.Error<Nodes[number]> | RedisInputError, Layer.Layer.Context<Nodes[number]>> => {
  type E = Layer.Layer.Error<Nodes[number]>
  type R = Layer.Layer.Context<Nodes[number]>
  const layers: ReadonlyArray<Layer.Layer<RedisClient, E, R>> = nodes
  return Layer.scoped(
    Quorum,
    Effect.gen(function*() {
      const nodeTimeout = yield* checkOptions(layers.length, options)
      const list = layers.map((_, i) => new Node(i))
      const ready = yield* Deferred.make<void, E>()
      const required = Math.floor(layers.length / 2) + 1
      let up = 0
      let down = 0
      for (const [i, layer] of layers.entries()) {
        const first = (exit: Exit.Exit<void, E>): Effect.Effect<void> =>
          Effect.asVoid(
            Exit.isSuccess(exit)
              ? Effect.when(Deferred.succeed(ready, undefined), () => ++up >= required)
              : Effect.when(Deferred.failCause(ready, exit.cause), () => ++down > layers.length - required)
          )
        yield* Effect.forkScoped(Effect.interruptible(connect(list[i]!, layer, first)))
      }
      yield* Deferred.await(ready)
      return yield* makeService(list, nodeTimeout)
    })
  )
}

/**
 * The servers behind `layerTest`: for faults, for looking inside, and for clients of further processes.
 *
 * @since 0.1.0
 * @category tags
 */
export class TestServers extends Context.Tag("effect-redis-kit/Quorum/TestServers")<
  TestServers,
  ReadonlyArray<TestServer>
>() {}

/**
 * Locks over five servers in memory, with the servers beside them.
 *
 * @example
 * ```ts
 * import { Effect, TestContext } from "effect"
 * import { Quorum } from "effect-redis-kit"
 *
 * const test = Effect.gen(function*() {
 *   const [first, second] = yield* Quorum.TestServers
 *   yield* first!.disconnect({ downtime: "1 hour" })
 *   yield* second!.disconnect({ downtime: "1 hour" })
 *   return yield* Effect.succeed("still works").pipe(Quorum.withLock("report"))
 * })
 *
 * Effect.runPromise(test.pipe(Effect.provide(Quorum.layerTest), Effect.provide(TestContext.TestContext)))
 * ```
 *
 * @since 0.1.0
 * @category layers
 */
export const layerTest: Layer.Layer<Quorum | TestServers> = Layer.scopedContext(Effect.gen(function*() {
  const built = yield* Effect.replicateEffect(Layer.build(Layer.fresh(testServer)), 5)
  const clients = built.map((context) => Context.get(context, RedisClient))
  return Context.make(TestServers, built.map((context) => Context.get(context, RedisTestServer))).pipe(
    Context.add(Quorum, yield* Effect.orDie(make(clients)))
  )
}))

// ---------------------------------------------------------------------------------------------------------------------
// Combinators
// ---------------------------------------------------------------------------------------------------------------------

/**
 * Runs an effect while holding a lock, so that no two run at the same time anywhere, and gives the lock back whatever
 * comes out.
 *
 * The effect's own value and failures are kept. It fails with `LockNotAcquired` when the lock stays with others for all of
 * `waitTimeout`, with `QuorumNotReached` when too many servers fail, and with `LockLost` when the lock is lost underway:
 * the effect is then interrupted, and the failure is reported when it has stopped. Taking the same lock inside takes it
 * again without waiting; fibers that are started inside belong to the holder and end with the effect.
 *
 * @example
 * ```ts
 * import { Effect } from "effect"
 * import { Quorum } from "effect-redis-kit"
 *
 * declare const transfer: Effect.Effect<void>
 *
 * const program = transfer.pipe(
 *   Quorum.withLock("account:42", { lease: "10 seconds", waitTimeout: "2 seconds" })
 * )
 * ```
 *
 * @since 0.1.0
 * @category combinators
 */
export const withLock: {
  (
    name: string,
    options?: Options
  ): <A, E, R>(
    effect: Effect.Effect<A, E, R>
  ) => Effect.Effect<A, E | LockNotAcquired | LockLost | QuorumNotReached | RedisInputError, R | Quorum>
  <A, E, R>(
    effect: Effect.Effect<A, E, R>,
    name: string,
    options?: Options
  ): Effect.Effect<A, E | LockNotAcquired | LockLost | QuorumNotReached | RedisInputError, R | Quorum>
} = dual(
  (args) => Effect.isEffect(args[0]),
  <A, E, R>(effect: Effect.Effect<A, E, R>, name: string, options?: Options) =>
    Effect.flatMap(Quorum, (quorum) => quorum.withLock(effect, name, options))
)

/**
 * Takes a lock and gives it back when the scope closes.
 *
 * @since 0.1.0
 * @category accessors
 */
export const acquire = (
  name: string,
  options?: Options
): Effect.Effect<Held, LockNotAcquired | QuorumNotReached | RedisInputError, Quorum | Scope.Scope> =>
  Effect.flatMap(Quorum, (quorum) => quorum.acquire(name, options))

/**
 * Takes a lock if it is free at this moment.
 *
 * @since 0.1.0
 * @category accessors
 */
export const tryAcquire = (
  name: string,
  options?: Omit<Options, "waitTimeout" | "retry">
): Effect.Effect<Option.Option<Held>, QuorumNotReached | RedisInputError, Quorum | Scope.Scope> =>
  Effect.flatMap(Quorum, (quorum) => quorum.tryAcquire(name, options))

/**
 * The fencing token of the lock of this name that the effect runs inside of; `None` outside.
 *
 * @since 0.1.0
 * @category accessors
 */
export const fencingToken = (name: string): Effect.Effect<Option.Option<number>, never, Quorum> =>
  Effect.flatMap(Quorum, (quorum) => quorum.fencingToken(name))
