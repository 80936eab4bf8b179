/**
 * What every load has at hand in its process: the book in which everybody writes down what has happened, and a way to know
 * that a write can't get lost any more.
 */
import { Cause, Context, Effect, Either, Exit, Option, Schedule, Scope } from "effect"
import type { Redis } from "ioredis"
import type * as Layers from "../../src/Layers.js"
import { type Connection, RedisClient } from "../../src/RedisClient.js"
import type { Options as ClientOptions } from "../../src/RedisConfig.js"
import type { RedisError } from "../../src/RedisError.js"

/** What a process is told. */
export interface Task {
  /** Names this process. */
  readonly name: string
  readonly client: ClientOptions
  /** All replicas of a master. */
  readonly replicas: number
  readonly mode: "cluster" | "sentinel"
  /** A server of its own that nothing happens to. */
  readonly book: string
  /** Whether every load does now and then what its promise rules out, so that its check has to find it. */
  readonly planted: boolean
  /** How much longer than it says a load waits between two steps. */
  readonly pace: number
}

export const COMMAND_TIMEOUT = 5000

/** Milliseconds of a clock that all processes of this machine share, and that never goes back. */
export const now = (): number => Number(process.hrtime.bigint()) / 1e6

// ---------------------------------------------------------------------------------------------------------------------
// The book
// ---------------------------------------------------------------------------------------------------------------------

/** Kept on a server that nothing happens to, by way of another client than the one that is tested. */
export interface Book {
  readonly redis: Redis
  readonly note: (topic: string, ...records: ReadonlyArray<unknown>) => Effect.Effect<void>
  readonly add: (topic: string, field: string, n: number) => Effect.Effect<void>
}

export const bookOf = (redis: Redis): Book => ({
  redis,
  note: (topic, ...records) =>
    records.length === 0
      ? Effect.void
      : Effect.asVoid(Effect.promise(() => redis.rpush(topic, ...records.map((record) => JSON.stringify(record))))),
  add: (topic, field, n) => Effect.asVoid(Effect.promise(() => redis.hincrby(topic, field, n)))
})

export const readAll = <A>({ redis }: Book, topic: string): Effect.Effect<ReadonlyArray<A>> =>
  Effect.map(Effect.promise(() => redis.lrange(topic, 0, -1)), (lines) => lines.map((line): A => JSON.parse(line)))

export const readSums = ({ redis }: Book, topic: string): Effect.Effect<ReadonlyMap<string, number>> =>
  Effect.map(
    Effect.promise(() => redis.hgetall(topic)),
    (fields) => new Map(Object.entries(fields).map(([field, n]) => [field, Number(n)]))
  )

/** What all processes have checked for a promise while they ran. */
export const found = (book: Book, promise: string): Effect.Effect<Verdict> =>
  Effect.map(
    Effect.all([readSums(book, "checks"), readAll<string>(book, `violations:${promise}`)]),
    ([checks, violations]) => ({ promise, checks: checks.get(promise) ?? 0, violations })
  )

// ---------------------------------------------------------------------------------------------------------------------
// Promises
// ---------------------------------------------------------------------------------------------------------------------

export interface Verdict {
  readonly promise: string
  readonly checks: number
  readonly violations: ReadonlyArray<string>
}

export const together = (one: Verdict, ...others: ReadonlyArray<Omit<Verdict, "promise">>): Verdict => ({
  promise: one.promise,
  checks: others.reduce((sum, { checks }) => sum + checks, one.checks),
  violations: [one, ...others].flatMap(({ violations }) => violations)
})

export interface Load {
  /** Begins to work, and goes on in the background. */
  readonly run: Effect.Effect<void, RedisError, Work | RedisClient | Layers.Services | Scope.Scope>
  /** When everything has ended. */
  readonly judge: (
    book: Book,
    task: Task
  ) => Effect.Effect<ReadonlyArray<Verdict>, unknown, RedisClient | Layers.Services | Scope.Scope>
}

// ---------------------------------------------------------------------------------------------------------------------
// A process at work
// ---------------------------------------------------------------------------------------------------------------------

export interface Outcome<A, E> {
  readonly result: Either.Either<A, E>
  /** Whether every replica has what the write did. */
  readonly confirmed: boolean
  /** When it was asked for, and when the answer came. */
  readonly from: number
  readonly to: number
}

export interface Worker {
  readonly task: Task
  readonly book: Book
  /** Nothing new is begun from now on. */
  readonly calm: { now: boolean }
  /**
   * A write, and whether a failover can still lose it. A connection to the master of the key is there before the write.
   * Before it and after it the client itself leaves a mark: when that connection finds both, the write went to the same
   * server. Then it leaves a mark of its own, and all replicas have to acknowledge that (`WAIT`). Since what a master writes
   * reaches its replicas in order, they have the write as well. When the master has changed meanwhile, the old one takes no
   * mark, or has no replicas any more.
   *
   * Of a read it says in the same way whether it was answered by the one who was the master.
   */
  readonly confirm: <A, E, R>(key: string, write: Effect.Effect<A, E, R>) => Effect.Effect<Outcome<A, E>, never, R>
  /** Counts a call, which has to be answered in time. `patience` is how long it may wait for others. */
  readonly ask: <A, E, R>(what: string, call: Effect.Effect<A, E, R>, patience?: number) => Effect.Effect<A, E, R>
  /** Counts a check of a promise, and notes what is wrong. */
  readonly check: (promise: string, right: boolean, wrong: () => string) => Effect.Effect<void>
  /** Does it again and again, about so often, until all is calm. A typed failure is no reason to end. */
  readonly paced: <E, R>(millis: number, step: Effect.Effect<unknown, E, R>) => Effect.Effect<void, never, R>
  /** Now and then, when bugs are planted. */
  readonly bug: () => boolean
}

export class Work extends Context.Tag("test/faults/Work")<Work, Worker>() {}

export const ANSWERED = "every call is answered in time"

/** With three processes it makes some hundred calls in a second. */
export const PACE = 2.5

/** Three attempts, each of which takes the command timeout at most, and the time of a busy machine. */
const ANSWER_TIME = 3 * COMMAND_TIMEOUT + 3000

/** For what must be there before the work begins, and may find the servers in trouble. */
export const patient = <A, E, R>(effect: Effect.Effect<A, E, R>): Effect.Effect<A, E, R> =>
  Effect.retry(effect, Schedule.intersect(Schedule.spaced("500 millis"), Schedule.recurs(100)))

export const chance = (n: number): boolean => Math.random() < n

export const pick = <A>(from: ReadonlyArray<A>): A | undefined => from[Math.floor(Math.random() * from.length)]

/** In the slot of the key. */
const tagOf = (key: string): string => /\{([^}]+)\}/.exec(key)?.[1] ?? key

/** How many connections a process keeps for marks. */
const LINES = 60

/** Milliseconds that a mark is kept. */
const MARK_TTL = "60000"

export const makeWork = (task: Task, redis: Redis): Effect.Effect<Worker, never, RedisClient | Scope.Scope> =>
  Effect.gen(function*() {
    const client = yield* RedisClient
    const scope = yield* Effect.scope
    const book = bookOf(redis)
    const calm = { now: false }

    /** To the one master, or by the tag of the keys. */
    interface Line {
      readonly connection: Connection
      readonly scope: Scope.CloseableScope
    }
    const lines = new Map<string, Line>()

    const hangUp = (place: string, line: Line): Effect.Effect<void> =>
      Effect.suspend(() => {
        if (lines.get(place) !== line) return Effect.void
        lines.delete(place)
        return Scope.close(line.scope, Exit.void)
      })

    const lineTo = (place: string): Effect.Effect<Option.Option<Line>> =>
      Effect.gen(function*() {
        const known = lines.get(place)
        if (known !== undefined) return Option.some(known)
        const own = yield* Scope.fork(scope, { _tag: "Sequential" })
        const opened = yield* Effect.either(Scope.extend(client.reserve({ key: `mark:{${place}}` }), own))
        if (Either.isLeft(opened)) {
          yield* Scope.close(own, Exit.void)
          return Option.none()
        }
        const other = lines.get(place)
        if (other !== undefined) {
          yield* Scope.close(own, Exit.void)
          return Option.some(other)
        }
        const line = { connection: opened.right, scope: own }
        lines.set(place, line)
        // Tokens have very many tags.
        const [oldest] = lines
        if (lines.size > LINES && oldest !== undefined) yield* hangUp(...oldest)
        return Option.some(line)
      })

    const setting = (name: string) => ["SET", client.key(name), task.name, "PX", MARK_TTL] as const

    const isCopied = (mark: string, line: Line): Effect.Effect<boolean> =>
      Effect.gen(function*() {
        yield* client.send(...setting(`${mark}:after`))
        const { connection } = line
        // A name of its own: where a slot is on its way, what is new is not taken by the old master.
        const [found, set] = yield* connection.pipeline([
          ["EXISTS", client.key(`${mark}:before`), client.key(`${mark}:after`)],
          setting(`${mark}:line`)
        ])
        if (found === undefined || set === undefined || (yield* found) !== 2 || Either.isLeft(set)) return false
        return Number(yield* connection.send("WAIT", task.replicas, 1000)) >= task.replicas
      }).pipe(
        Effect.orElseSucceed(() => false)
      )

    let marks = 0
    const confirm: Worker["confirm"] = (key, write) =>
      Effect.gen(function*() {
        const tag = tagOf(key)
        const place = task.mode === "cluster" ? tag : "all"
        const mark = `mark:{${tag}}:${task.name}:${++marks}`
        const line = yield* lineTo(place)
        const before = yield* Effect.isSuccess(client.send(...setting(`${mark}:before`)))
        const from = now()
        const result = yield* Effect.either(write)
        const to = now()
        if (!before || Either.isLeft(result) || Option.isNone(line)) return { result, confirmed: false, from, to }
        const confirmed = yield* isCopied(mark, line.value)
        if (!confirmed) yield* hangUp(place, line.value)
        return { result, confirmed, from, to }
      })

    let checks = new Map<string, number>()
    const count = (promise: string) => void checks.set(promise, (checks.get(promise) ?? 0) + 1)
    const flush = Effect.suspend(() => {
      const counted = checks
      checks = new Map()
      return Effect.forEach(counted, ([promise, n]) => book.add("checks", promise, n), { discard: true })
    })
    yield* Effect.addFinalizer(() => flush)
    yield* Effect.forkScoped(Effect.forever(Effect.delay(flush, 500)))

    // A process that was stopped could not answer itself.
    let lastBeat = now()
    let stoodStill = -Infinity
    yield* Effect.forkScoped(Effect.forever(Effect.delay(
      Effect.sync(() => {
        const beat = now()
        if (beat - lastBeat > 1000) stoodStill = beat
        lastBeat = beat
      }),
      100
    )))

    const violation = (promise: string, what: string) => book.note(`violations:${promise}`, `${task.name}: ${what}`)

    const check: Worker["check"] = (promise, right, wrong) =>
      Effect.suspend(() => {
        count(promise)
        return right ? Effect.void : violation(promise, wrong())
      })

    const bug = () => task.planted && chance(0.3)

    const ask: Worker["ask"] = (what, call, patience = 0) =>
      Effect.suspend(() => {
        const from = now()
        const limit = ANSWER_TIME + patience
        return Effect.onExit(call, (exit) =>
          Effect.suspend(() => {
            const took = now() - from + (bug() ? limit : 0)
            if (Exit.isFailure(exit) && Cause.isDie(exit.cause)) {
              return check(ANSWERED, false, () => `${what}: ${Cause.pretty(exit.cause)}`)
            }
            return check(
              ANSWERED,
              took < limit || stoodStill > from || now() - lastBeat > 1000,
              () => `${what} took ${Math.round(took)} ms`
            )
          }))
      })

    const paced: Worker["paced"] = (millis, step) =>
      Effect.gen(function*() {
        while (!calm.now) {
          const exit = yield* Effect.exit(step)
          if (Exit.isFailure(exit) && Cause.isDie(exit.cause)) {
            yield* check(ANSWERED, false, () => Cause.pretty(exit.cause))
          }
          yield* Effect.sleep(task.pace * millis * (0.5 + Math.random()))
        }
      })

    return { task, book, calm, confirm, ask, check, paced, bug }
  })
