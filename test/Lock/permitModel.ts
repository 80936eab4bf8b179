/**
 * Permits beside a plain model of them: whatever is done in whatever order, at every moment the same hold them, for the
 * same time, and the same wait.
 */
import { assert } from "@effect/vitest"
import { Duration, Effect, FastCheck, Fiber, type Scope, TestClock } from "effect"
import type { Held } from "../../src/Lock/Held.js"
import type { RedisClient } from "../../src/RedisClient.js"
import { RedisTestServer } from "../../src/RedisTestServer.js"
import { inMemory } from "../kit/processes.js"

/** Somebody who asks for permits. */
export interface Asking {
  readonly process: number
  readonly weight: number
  /** How many there are, as far as it knows. */
  readonly limit: number
  readonly lease: number
  readonly fair: boolean
  readonly wait: boolean
}

export type Step =
  | ({ readonly _tag: "ask" } & Asking)
  | { readonly _tag: "end"; readonly actor: number }
  | { readonly _tag: "downgrade"; readonly actor: number }
  | { readonly _tag: "pass"; readonly millis: number }
  | { readonly _tag: "crash"; readonly process: number }
  | { readonly _tag: "force"; readonly limit: number }

export const PROCESSES = 3

const oneOf = (n: number) => FastCheck.nat(n - 1)

/** What happens, made of what is asked for. The queue lives for a minute, which is more than all of it takes. */
export const steps = (
  asking: FastCheck.Arbitrary<Pick<Asking, "weight" | "limit">>,
  options: { readonly downgrade: boolean }
): FastCheck.Arbitrary<ReadonlyArray<Step>> =>
  FastCheck.array(
    FastCheck.oneof(
      {
        weight: 12,
        arbitrary: FastCheck.tuple(
          asking,
          FastCheck.record({
            process: oneOf(PROCESSES),
            lease: FastCheck.integer({ min: 50, max: 5000 }),
            fair: FastCheck.oneof({ weight: 3, arbitrary: FastCheck.constant(true) }, FastCheck.boolean()),
            wait: FastCheck.oneof({ weight: 3, arbitrary: FastCheck.constant(true) }, FastCheck.boolean())
          })
        ).map(([counts, rest]): Step => Object.assign({ _tag: "ask" as const }, counts, rest))
      },
      {
        weight: 8,
        arbitrary: FastCheck.record({ _tag: FastCheck.constant("end" as const), actor: FastCheck.nat(15) })
      },
      {
        weight: 5,
        arbitrary: FastCheck.record({
          _tag: FastCheck.constant("pass" as const),
          millis: FastCheck.integer({ min: 1, max: 1200 })
        })
      },
      {
        weight: 1,
        arbitrary: FastCheck.record({ _tag: FastCheck.constant("crash" as const), process: oneOf(PROCESSES) })
      },
      {
        weight: 1,
        arbitrary: asking.map(({ limit }): Step => ({ _tag: "force", limit }))
      },
      {
        weight: options.downgrade ? 4 : 0,
        arbitrary: FastCheck.record({ _tag: FastCheck.constant("downgrade" as const), actor: FastCheck.nat(15) })
      }
    ),
    { maxLength: 45 }
  )

interface Actor extends Asking {
  readonly id: number
}

/** What it ought to do. */
class Model {
  now = 0
  /** In the order in which they were let in. */
  holders: ReadonlyArray<Actor & { readonly weight: number; readonly end: number }> = []
  queue: ReadonlyArray<Actor> = []
  readonly dead = new Set<number>()
  private known: number | undefined

  /** How many permits there are: what the last newcomer said, as long as anybody holds some. */
  private limitOr(limit: number): number {
    if (this.holders.length === 0) this.known = undefined
    return this.known ??= limit
  }

  private get used(): number {
    return this.holders.reduce((sum, { weight }) => sum + weight, 0)
  }

  private fits({ weight }: Actor, limit: number): boolean {
    return this.used === 0 || this.used + weight <= limit
  }

  private letIn(actor: Actor): void {
    this.holders = [...this.holders, { ...actor, end: this.now + actor.lease }]
  }

  private handOut(limit: number): void {
    while (this.used < limit) {
      const next = this.queue.find((actor, i) => this.fits(actor, limit) && (i === 0 || !actor.fair))
      if (next === undefined) return
      if (this.dead.has(next.process)) {
        this.queue = this.queue.filter(({ process }) => process !== next.process)
      } else {
        this.queue = this.queue.filter((actor) => actor !== next)
        this.letIn(next)
      }
    }
  }

  ask(actor: Actor): void {
    this.known = actor.limit
    if (this.fits(actor, actor.limit) && (!actor.fair || this.queue.length === 0)) {
      this.letIn(actor)
      this.handOut(actor.limit)
      return
    }
    if (actor.wait) this.queue = [...this.queue, actor]
    this.handOut(actor.limit)
    if (!actor.wait && this.queue.length === 0 && this.fits(actor, actor.limit)) this.letIn(actor)
  }

  end(actor: Actor): void {
    const limit = this.limitOr(actor.limit)
    this.holders = this.holders.filter(({ id }) => id !== actor.id)
    this.queue = this.queue.filter(({ id }) => id !== actor.id)
    this.handOut(limit)
  }

  downgrade(actor: Actor): void {
    const limit = this.limitOr(actor.limit)
    this.holders = this.holders.map((holder) =>
      holder.id === actor.id ? { ...holder, weight: 1, end: this.now + holder.lease } : holder
    )
    this.handOut(limit)
  }

  force(limit: number): void {
    const counts = this.limitOr(limit)
    this.holders = []
    this.handOut(counts)
  }

  /** When the first lease ends, if it is before that time. */
  nextEnd(before: number): number | undefined {
    const first = Math.min(...this.holders.map(({ end }) => end))
    return first <= before ? first : undefined
  }

  /** Time has passed: what is over is over. */
  at(now: number): void {
    const limit = this.known ?? 1
    this.now = now
    this.holders = this.holders.filter(({ end }) => end > now)
    this.handOut(limit)
  }

  /** The number of permits that whoever comes by without an opinion of his own should say there are. */
  get limit(): number {
    return this.known ?? 1
  }
}

/** What is compared with the model. */
export interface Subject<S> {
  readonly make: Effect.Effect<S, never, RedisClient | Scope.Scope>
  readonly acquire: (service: S, asking: Asking) => Effect.Effect<Held, unknown, Scope.Scope>
  readonly downgrade: (held: Held) => Effect.Effect<void, unknown>
  readonly inspect: (service: S) => Effect.Effect<
    {
      readonly holders: ReadonlyArray<
        { readonly weight: number; readonly fencingToken: number; readonly remaining: Duration.Duration }
      >
      readonly waiters: number
    },
    unknown
  >
  readonly force: (service: S, limit: number) => Effect.Effect<unknown, unknown>
  /** Looks whose lease is over, and whose turn it is, and nothing else. */
  readonly look: (limit: number) => Effect.Effect<unknown, unknown, RedisClient>
}

const settle = TestClock.adjust(0)

/** Does the steps with both, and compares them after each. */
export const conforms = <S>(subject: Subject<S>, steps: ReadonlyArray<Step>) =>
  Effect.gen(function*() {
    const server = yield* RedisTestServer
    const model = new Model()
    const processes = yield* Effect.forEach(Array.from({ length: PROCESSES }), () => inMemory(subject.make))
    const observer = yield* inMemory(subject.make)
    const actors: Array<Actor & { readonly fiber: Fiber.RuntimeFiber<unknown, unknown>; held: Held | undefined }> = []

    const compare = Effect.gen(function*() {
      yield* settle
      const { holders, waiters } = yield* subject.inspect(observer.service)
      const token = (id: number) => actors[id]?.held?.fencingToken ?? assert.fail(`${id} was not let in`)
      assert.deepStrictEqual(
        holders.map(({ fencingToken, remaining, weight }) => ({
          weight,
          fencingToken,
          end: model.now + Duration.toMillis(remaining)
        })).sort((a, b) => a.fencingToken - b.fencingToken),
        model.holders.map(({ end, id, weight }) => ({ weight, fencingToken: token(id), end }))
      )
      assert.strictEqual(waiters, model.queue.length)
      for (const { fiber, held, id, process } of actors) {
        // Whoever waits is still waiting.
        if (!model.dead.has(process) && model.queue.some((actor) => actor.id === id)) {
          assert.isUndefined(held)
          assert.isNull(fiber.unsafePoll())
        }
      }
    })

    const elapse = (end: number): Effect.Effect<void, unknown, RedisClient> =>
      Effect.gen(function*() {
        const next = model.nextEnd(end) ?? end
        const { limit } = model
        yield* TestClock.adjust(next - model.now)
        yield* subject.look(limit)
        model.at(next)
        yield* compare
        if (next < end) yield* elapse(end)
      })

    for (const step of steps) {
      switch (step._tag) {
        case "ask": {
          if (model.dead.has(step.process)) break
          const { service } = processes[step.process]!
          const id = actors.length
          const fiber = yield* Effect.fork(Effect.scoped(
            Effect.flatMap(subject.acquire(service, step), (held) => {
              actors[id]!.held = held
              return Effect.never
            })
          ))
          actors.push({ ...step, id, fiber, held: undefined })
          yield* settle
          model.ask({ ...step, id })
          break
        }
        case "end": {
          const actor = actors[step.actor]
          if (actor === undefined || model.dead.has(actor.process)) break
          // Who was not let in and does not wait has failed already, and does nothing.
          const concerned = actor.fiber.unsafePoll() === null
          yield* Fiber.interruptFork(actor.fiber)
          yield* settle
          if (concerned) model.end(actor)
          break
        }
        case "downgrade": {
          const actor = actors[step.actor]
          if (actor?.held === undefined || model.dead.has(actor.process)) break
          if (!model.holders.some(({ id, weight }) => id === actor.id && weight > 1)) break
          yield* Effect.fork(Effect.ignore(subject.downgrade(actor.held)))
          yield* settle
          // The process gives a lease up a little before the server does.
          if (yield* actor.held.isHeld) model.downgrade(actor)
          break
        }
        case "pass":
          yield* elapse(model.now + step.millis)
          break
        case "crash":
          if (model.dead.has(step.process)) break
          model.dead.add(step.process)
          yield* processes[step.process]!.die
          break
        case "force":
          yield* subject.force(observer.service, step.limit)
          model.force(step.limit)
          break
      }
      yield* compare
    }
    // When all are gone, so is everything but the last token.
    for (const { fiber } of actors) yield* Fiber.interruptFork(fiber)
    yield* settle
    yield* TestClock.adjust("2 minutes")
    assert.deepStrictEqual((yield* server.keys).filter(({ key }) => !key.endsWith(":fence")), [])
    for (const { die } of [...processes, observer]) yield* die
  })
