/**
 * Servers that are asked all at once, where the answer is given as soon as it is clear and nobody waits for the slowest.
 */
import * as Cause from "effect/Cause"
import * as Effect from "effect/Effect"
import * as Either from "effect/Either"
import * as Exit from "effect/Exit"
import type * as Fiber from "effect/Fiber"
import * as FiberId from "effect/FiberId"
import * as Option from "effect/Option"
import type * as Scope from "effect/Scope"
import * as Stream from "effect/Stream"
import * as Alarm from "../internal/alarm.js"
import type { Service as Client } from "../RedisClient.js"
import { RedisConnectionError, type RedisError, RedisOutcomeUnknownError } from "../RedisError.js"

/** A server of a quorum, and its client as soon as there is one. */
export class Node {
  client: Client | undefined
  /** What is wrong with it as long as there is no connection. */
  down: RedisError | undefined
  /** Until then it is not expected to answer: its connection is lost, or it was too slow a moment ago. */
  private doubtedUntil = 0

  constructor(readonly index: number) {
    this.down = this.error("unavailable")
  }

  /** Without user and password. */
  get target(): string {
    return this.client?.target ?? (this.down?._tag === "RedisConnectionError" ? this.down.target : "unknown")
  }

  /** There is a client from now on. The scope ends what is kept for it. */
  use(client: Client): Effect.Effect<void, never, Scope.Scope> {
    this.client = client
    this.down = undefined
    const watch = Stream.runForEach(client.state, ({ error, status }) =>
      Effect.sync(() => {
        if (status === "connected") {
          this.down = undefined
          this.heard()
        } else {
          this.down = Option.getOrElse(error, () => this.error("unavailable"))
          // Before that it was not asked for anything yet.
          if (status !== "disconnected" && status !== "connecting") this.doubtedUntil = Infinity
        }
      }))
    return Effect.asVoid(Effect.forkScoped(Effect.interruptible(watch)))
  }

  isDoubted(now: number): boolean {
    return now < this.doubtedUntil
  }

  heard(): void {
    this.doubtedUntil = 0
  }

  late(now: number): void {
    this.doubtedUntil = Math.max(this.doubtedUntil, now + DOUBT)
  }

  /** Why nothing came back from a command. */
  silence(command: string): RedisError {
    return this.down ?? new RedisOutcomeUnknownError({ target: this.target, command, reason: "timeout" })
  }

  error(reason: "unavailable" | "closed"): RedisError {
    const detail = reason === "closed" ? "the quorum was closed" : "there is no connection"
    return new RedisConnectionError({ target: this.target, reason, detail })
  }
}

/** How long a node is doubted that was too slow once, in milliseconds. */
const DOUBT = 5000

export type Answers<A> = ReadonlyArray<Either.Either<A, RedisError> | undefined>

export interface Question<A, B> {
  /** For errors. */
  readonly name: string
  /** In milliseconds; who has not answered by then has failed. */
  readonly timeout: number
  /** Whether nodes that are doubted have a tenth of that. */
  readonly hurry?: boolean | undefined
  readonly ask: (client: Client, node: Node) => Effect.Effect<A, RedisError>
  /** Whom to ask; everybody by default. */
  readonly nodes?: ReadonlyArray<Node> | undefined
  /** The result, as soon as it is clear. It must be when everybody has answered. */
  readonly decide: (answers: Answers<A>) => B | undefined
  /** Every answer, also those that come when it is clear. */
  readonly onAnswer?: ((node: Node, answer: Either.Either<A, RedisError>) => void) | undefined
}

export interface Nodes {
  readonly all: ReadonlyArray<Node>
  /** How many make a majority: two majorities share a node. */
  readonly required: number
  /** Those that are slower than the result go on in the background. So does everything when the caller is interrupted. */
  readonly ask: <A, B>(question: Question<A, B>) => Effect.Effect<B>
  /** Milliseconds since some moment in the past. */
  readonly now: () => number
  /** Runs an effect in the background, until the scope of the nodes closes. */
  readonly run: <A, E>(effect: Effect.Effect<A, E>) => Fiber.RuntimeFiber<A, E>
}

/** Somebody who asks, as long as not everybody has answered. */
interface Asking {
  deadline: number
  readonly expire: () => void
}

export const make = (all: ReadonlyArray<Node>): Effect.Effect<Nodes, never, Scope.Scope> =>
  Effect.gen(function*() {
    const askings = new Set<Asking>()

    // One timer for all questions: a timer for each would cost more than the question.
    const alarm = yield* Alarm.make(() => {
      const time = alarm.now()
      let next = Infinity
      for (const asking of askings) {
        if (time >= asking.deadline) asking.expire()
        if (time < asking.deadline) next = Math.min(next, asking.deadline)
      }
      if (next < Infinity) alarm.ringBy(next)
    })

    const ask: Nodes["ask"] = <A, B>(question: Question<A, B>) =>
      Effect.async<B>((resume) => {
        const { decide, name, onAnswer, timeout } = question
        const asked = question.nodes ?? all
        const answers: Array<Either.Either<A, RedisError> | undefined> = all.map(() => undefined)
        const fibers: Array<Fiber.RuntimeFiber<A, RedisError>> = []
        let running = 0
        let launched = false
        let decided = false

        const conclude = (): void => {
          if (decided || !launched) return
          const result = decide(answers)
          if (result === undefined) return
          decided = true
          resume(Exit.succeed(result))
        }

        const settle = (node: Node, answer: Either.Either<A, RedisError>): void => {
          if (answers[node.index] !== undefined) return
          answers[node.index] = answer
          onAnswer?.(node, answer)
          conclude()
        }

        const start = alarm.now()
        const end = start + timeout
        const doubted = question.hurry === true ? asked.filter((node) => node.isDoubted(start)) : []
        const asking: Asking = {
          deadline: doubted.length === 0 ? end : start + timeout / 10,
          expire: () => {
            if (asking.deadline < end) {
              asking.deadline = end
              // They may still answer, and are trusted again then.
              for (const node of doubted) settle(node, Either.left(node.silence(name)))
              return
            }
            askings.delete(asking)
            asked.forEach((node, i) => {
              const fiber = fibers[i]
              if (fiber === undefined || fiber.unsafePoll() !== null) return
              node.late(end)
              settle(node, Either.left(node.silence(name)))
              fiber.unsafeInterruptAsFork(FiberId.none)
            })
          }
        }

        asked.forEach((node, i) => {
          const { client } = node
          if (client === undefined) return settle(node, Either.left(node.silence(name)))
          const fiber = fibers[i] = alarm.run(question.ask(client, node))
          running++
          fiber.addObserver((exit) => {
            if (--running === 0) askings.delete(asking)
            if (Exit.isSuccess(exit)) {
              node.heard()
              return settle(node, Either.right(exit.value))
            }
            const error = Cause.failureOption(exit.cause)
            if (Option.isSome(error)) return settle(node, Either.left(error.value))
            if (!Cause.isInterruptedOnly(exit.cause) && !decided) {
              decided = true
              resume(Effect.die(Cause.squash(exit.cause)))
            }
            settle(node, Either.left(node.error("closed")))
          })
        })
        launched = true
        if (running > 0) {
          askings.add(asking)
          alarm.ringBy(asking.deadline)
        }
        conclude()
      })

    return { all, required: Math.floor(all.length / 2) + 1, ask, now: alarm.now, run: alarm.run }
  })
