/**
 * Flows: jobs that wait for other jobs, of any queues.
 *
 * @since 0.1.0
 */
import * as Effect from "effect/Effect"
import * as Either from "effect/Either"
import * as Option from "effect/Option"
import * as Schema from "effect/Schema"
import { inputError } from "../internal/input.js"
import type { Service as Client } from "../RedisClient.js"
import { RedisDecodeError, type RedisError, type RedisInputError } from "../RedisError.js"
import { JobNotFound, type JobState, type Open, spanned } from "./Control.js"
import type { Courier } from "./Courier.js"
import { type Definition, type Enqueued, type EnqueueOptions, type Job, settingsOf } from "./Definition.js"
import { DeadInfo, type DeadReason } from "./envelope.js"
import * as scripts from "./flowScripts.js"
import type { Planter } from "./Producer.js"
import type { PayloadTooLarge, QueueFull } from "./QueueError.js"

// ---------------------------------------------------------------------------------------------------------------------
// Models
// ---------------------------------------------------------------------------------------------------------------------

/**
 * What becomes of a parent whose child does not complete: it becomes a dead letter, was removed, or could not be added
 * because there was a job with its id.
 *
 * - `fail`: the parent becomes a dead letter with the reason `child-failed`, once all of its children have ended
 * - `ignore`: the parent runs, and sees what became of the child
 * - `remove`: the parent runs, as if the child had never been
 *
 * @since 0.1.0
 * @category models
 */
export type OnFailure = "fail" | "ignore" | "remove"

/**
 * @since 0.1.0
 * @category models
 */
export interface FlowOptions extends Omit<EnqueueOptions, "deduplicate"> {
  /** What has to end before; 1000 at most. Their delays count from when they come into their queues. */
  readonly children?: ReadonlyArray<FlowChild> | undefined
}

/**
 * @since 0.1.0
 * @category models
 */
export interface ChildOptions extends FlowOptions {
  /** `fail` by default. */
  readonly onFailure?: OnFailure | undefined
}

/**
 * A job with the jobs that it waits for, as a value.
 *
 * @since 0.1.0
 * @category models
 */
export interface Flow {
  readonly definition: Definition<any, any>
  readonly payload: unknown
  readonly options: FlowOptions
}

/**
 * A job that another one waits for, and may wait for others itself.
 *
 * @since 0.1.0
 * @category models
 */
export interface FlowChild extends Flow {
  readonly options: ChildOptions
}

/**
 * What became of a child, for its parent.
 *
 * @since 0.1.0
 * @category models
 */
export type ChildOutcome =
  | {
    readonly _tag: "Completed"
    readonly queue: string
    readonly id: string
    /** As it is stored; nothing when its queue has no `result`. */
    readonly encoded: Option.Option<unknown>
  }
  | {
    readonly _tag: "Failed"
    readonly queue: string
    readonly id: string
    readonly error: ChildFailed
  }

/**
 * A job of a flow.
 *
 * @since 0.1.0
 * @category models
 */
export interface FlowNode {
  readonly queue: string
  readonly id: string
  /**
   * Besides the states of jobs: `completed`, `removed` and `duplicate` say what its parent knows of it, and `pending` that it
   * is not in its queue yet, or that its parent has not been told yet what became of it.
   */
  readonly state: JobState | "completed" | "removed" | "duplicate" | "pending"
  /** Nothing for the first one. */
  readonly onFailure: Option.Option<OnFailure>
  readonly children: ReadonlyArray<FlowNode>
}

/**
 * What flows are operated with.
 *
 * @since 0.1.0
 * @category models
 */
export interface Flows {
  /**
   * Adds a flow. Once the first job is stored, all others come into their queues, whatever happens to this process. When
   * there is a job with the id of the first one, nothing is added.
   */
  readonly enqueueFlow: (flow: Flow) => Effect.Effect<Enqueued, PayloadTooLarge | QueueFull | RedisError>
  /** A job with all that it waits for, across queues. What happens meanwhile may be seen in part. */
  readonly flowTree: <A>(
    definition: Definition<A, any>,
    id: string
  ) => Effect.Effect<Option.Option<FlowNode>, RedisError>
  /**
   * Ends a job with all that it waits for: running ones are cancelled and become dead letters, all others are removed. What
   * is in other queues hears of it a little later.
   */
  readonly cancelFlow: <A>(
    definition: Definition<A, any>,
    id: string
  ) => Effect.Effect<void, JobNotFound | RedisError>
}

// ---------------------------------------------------------------------------------------------------------------------
// Errors
// ---------------------------------------------------------------------------------------------------------------------

/**
 * A child did not complete. The reason is that of its dead letter, or `removed`, or `duplicate` when there was a job with its
 * id.
 *
 * @since 0.1.0
 * @category errors
 */
export class ChildFailed extends Schema.TaggedError<ChildFailed>("effect-redis-kit/Queue/ChildFailed")("ChildFailed", {
  queue: Schema.String,
  id: Schema.String,
  reason: Schema.String,
  /** The last error in one line; it is cut when it is long. */
  error: Schema.optional(Schema.String),
  /** How many of its attempts have failed. */
  attempts: Schema.Number
}) {
  /** @since 0.1.0 */
  override get message(): string {
    return `the job "${this.id}" of the queue "${this.queue}" did not complete: ${this.reason}`
  }
}

// ---------------------------------------------------------------------------------------------------------------------
// Constructors
// ---------------------------------------------------------------------------------------------------------------------

/**
 * A job that runs when its children have ended. It is a value: `enqueueFlow` adds it.
 *
 * @example
 * ```ts
 * import { Effect, Schema } from "effect"
 * import { Queue } from "effect-redis-kit"
 *
 * const Resize = Queue.define({
 *   name: "resize",
 *   payload: Schema.Struct({ image: Schema.String, width: Schema.Number }),
 *   result: Schema.Struct({ url: Schema.String })
 * })
 * const Publish = Queue.define({ name: "publish", payload: Schema.Struct({ image: Schema.String }) })
 *
 * const album = (image: string) =>
 *   Queue.flow(Publish, { image }, {
 *     children: [
 *       Queue.child(Resize, { image, width: 200 }),
 *       Queue.child(Resize, { image, width: 2000 }, { onFailure: "ignore" })
 *     ]
 *   })
 *
 * const Publisher = Queue.worker(Publish, (job) =>
 *   Effect.gen(function*() {
 *     const [small, large] = yield* Queue.childResults(job, Resize)
 *     yield* Effect.log(small, large)
 *   }))
 *
 * const program = Queue.enqueueFlow(album("cat.png"))
 * ```
 *
 * @since 0.1.0
 * @category constructors
 */
export const flow = <A>(definition: Definition<A, any>, payload: NoInfer<A>, options: FlowOptions = {}): Flow => ({
  definition,
  payload,
  options
})

/**
 * A job that another one waits for.
 *
 * @since 0.1.0
 * @category constructors
 */
export const child = <A>(
  definition: Definition<A, any>,
  payload: NoInfer<A>,
  options: ChildOptions = {}
): FlowChild => ({ definition, payload, options })

/** How many levels a flow has, how many children a job, how many jobs a flow, and how many bytes all of them. */
const MOST_DEPTH = 16
const MOST_CHILDREN = 1000
const MOST_JOBS = 10_000
const MOST_BYTES = 16 * 1024 * 1024

const POLICIES = { fail: "f", ignore: "i", remove: "x" } as const satisfies Record<OnFailure, string>

const policyNames: Readonly<Record<string, OnFailure>> = { f: "fail", i: "ignore", x: "remove" }

/** What a parent knows of a child. */
const KNOWN: Readonly<Record<string, FlowNode["state"]>> = {
  c: "completed",
  f: "dead",
  r: "removed",
  u: "duplicate",
  o: "pending"
}

const PLANT = { plain: scripts.enqueueFlow, inGroups: scripts.enqueueFlowInGroups }

const OPERATION = "Queue.enqueueFlow"

/** How many jobs a script looks at. */
const LOOKED_AT = 500

const decodeInfo = Schema.decodeOption(DeadInfo)

const parseJson = Schema.decodeOption(Schema.parseJson())

const failureOf = ({ id, queue, state, text }: scripts.Child): ChildFailed => {
  if (state === "r") return new ChildFailed({ queue, id, reason: "removed", attempts: 0 })
  if (state === "u") return new ChildFailed({ queue, id, reason: "duplicate", attempts: 0 })
  const info = Option.getOrUndefined(decodeInfo(text))
  const reason: DeadReason | "unknown" = info?.reason ?? "unknown"
  return new ChildFailed({ queue, id, reason, error: info?.error, attempts: info?.attempts ?? 0 })
}

const outcomeOf = (child: scripts.Child): ChildOutcome =>
  child.state === "c"
    ? { _tag: "Completed", queue: child.queue, id: child.id, encoded: parseJson(child.text) }
    : { _tag: "Failed", queue: child.queue, id: child.id, error: failureOf(child) }

/**
 * What became of the children of a job.
 *
 * @internal
 */
export const childrenOf = (
  client: Client,
  courier: Courier,
  queue: string,
  id: string
): Effect.Effect<ReadonlyArray<ChildOutcome>, RedisError> =>
  Effect.suspend(() =>
    Effect.map(client.eval(scripts.children, courier.target(queue), id), (children) => children.map(outcomeOf))
  )

/**
 * The results of the children of a running job that are of one queue, in the order in which they were given. Children that
 * did not complete are `Left`; those with `onFailure: "remove"` are left out then.
 *
 * @since 0.1.0
 * @category accessors
 */
export const childResults = <A, B>(
  job: Job<any>,
  definition: Definition<A, B>
): Effect.Effect<ReadonlyArray<Either.Either<B, ChildFailed>>, RedisError> =>
  Effect.flatMap(job.children, (children) => {
    const decode = definition.result === undefined ? undefined : Schema.decodeUnknownEither(definition.result)
    const results: Array<Either.Either<B, ChildFailed>> = []
    for (const outcome of children) {
      if (outcome.queue !== definition.name) continue
      if (outcome._tag === "Failed") {
        results.push(Either.left(outcome.error))
        continue
      }
      // Without a `result` it is of an unknown type, of which nothing is kept.
      const value = decode === undefined
        ? Either.right(undefined as B)
        : decode(Option.getOrUndefined(outcome.encoded))
      if (Either.isLeft(value)) {
        return new RedisDecodeError({
          command: "Queue.childResults",
          detail: `the result of the job "${outcome.id}" of the queue "${outcome.queue}" does not fit the schema`
        })
      }
      results.push(Either.right(value.right))
    }
    return Effect.succeed(results)
  })

/**
 * What handles the flows of a client.
 *
 * @internal
 */
export const makeFlows = (client: Client, open: Open, planter: Planter, courier: Courier): Flows => {
  /** Checks a flow: id, envelope, extras, terms, token and children of the first job. */
  const compile = (
    flow: Flow,
    now: number,
    traceparent: string | undefined
  ): Either.Either<ReadonlyArray<string>, PayloadTooLarge | RedisInputError> => {
    let jobs = 0
    let bytes = 0
    const ids = new Set<string>()

    const node = (
      { definition, options, payload }: FlowChild,
      depth: number
    ): Either.Either<scripts.Node, PayloadTooLarge | RedisInputError> => {
      const { children = [], onFailure = "fail", ...rest } = options
      const policy = POLICIES[onFailure]
      if (policy === undefined) {
        return Either.left(inputError(OPERATION, "onFailure", Object.keys(POLICIES).join(", "), onFailure))
      }
      if (children.length > MOST_CHILDREN) {
        return Either.left(inputError(OPERATION, "children", `${MOST_CHILDREN} children at most`, children.length))
      }
      if (++jobs > MOST_JOBS) {
        return Either.left(inputError(OPERATION, "children", `${MOST_JOBS} jobs in all at most`, "more"))
      }
      if (children.length > 0 && depth === MOST_DEPTH) {
        return Either.left(inputError(OPERATION, "children", `${MOST_DEPTH} levels at most`, "more"))
      }
      if ("deduplicate" in rest) {
        return Either.left(
          inputError(OPERATION, "deduplicate", "left out: jobs of flows are known by their ids", "given")
        )
      }
      const settings = settingsOf(definition)
      if (Either.isLeft(settings)) return Either.left(settings.left)
      const prepared = planter.prepare(OPERATION, definition, payload, rest, now, traceparent)
      if (Either.isLeft(prepared)) return Either.left(prepared.left)
      const { envelope, extras, id } = prepared.right
      const known = `${definition.name}\0${id}`
      if (ids.has(known)) {
        return Either.left(inputError(OPERATION, "id", "another one for each job of a queue", id))
      }
      ids.add(known)
      bytes += envelope.length
      if (bytes > MOST_BYTES) {
        return Either.left(inputError(OPERATION, "payload", `${MOST_BYTES} bytes in all at most`, "more"))
      }
      const texts: Array<string> = []
      for (const one of children) {
        const below = node(one, depth + 1)
        if (Either.isLeft(below)) return below
        texts.push(scripts.nodeText(below.right))
      }
      const { deadAge, deadCount } = settings.right
      return Either.right({
        queue: definition.name,
        policy,
        id,
        envelope,
        extras,
        terms: `${deadCount} ${deadAge}`,
        children: texts
      })
    }

    return Either.map(node(flow, 1), ({ children, envelope, extras, id, terms }) => [
      id,
      envelope,
      extras,
      terms,
      planter.nextId(now),
      ...children
    ])
  }

  /** What was found in the queues, by queue and id. */
  type Found = Map<string, scripts.Branch>

  const keyOf = (queue: string, id: string) => `${queue}\0${id}`

  /** All that is below jobs, level by level. */
  const collect = (
    jobs: ReadonlyArray<readonly [queue: string, id: string]>,
    found: Found,
    depth: number
  ): Effect.Effect<Found, RedisError> =>
    Effect.gen(function*() {
      const byQueue = new Map<string, Array<string>>()
      for (const [queue, id] of jobs) {
        const ids = byQueue.get(queue)
        if (ids === undefined) byQueue.set(queue, [id])
        else ids.push(id)
      }
      const below: Array<readonly [string, string]> = []
      for (const [queue, ids] of byQueue) {
        for (let i = 0; i < ids.length; i += LOOKED_AT) {
          const some = ids.slice(i, i + LOOKED_AT)
          const branches = yield* client.eval(scripts.branches, courier.target(queue), some)
          branches.forEach((branch, n) => {
            found.set(keyOf(queue, some[n]!), branch)
            for (const { id, queue, state } of branch.children) {
              if ((state === "o" || state === "f") && !found.has(keyOf(queue, id))) below.push([queue, id])
            }
          })
        }
      }
      return below.length === 0 || depth === MOST_DEPTH ? found : yield* collect(below, found, depth + 1)
    })

  const treeOf = (found: Found, queue: string, id: string, branch: scripts.Branch): FlowNode => ({
    queue,
    id,
    state: branch.state as JobState,
    onFailure: Option.none(),
    children: branch.children.map((child): FlowNode => {
      const onFailure = Option.fromNullable(policyNames[child.policy])
      const below = found.get(keyOf(child.queue, child.id))
      // Another job may have the id by now.
      const isIts = below !== undefined && below.state !== "" && isChildOf(below, queue, id, branch.token)
      return isIts && (child.state === "o" || child.state === "f")
        ? { ...treeOf(found, child.queue, child.id, below), onFailure }
        : { queue: child.queue, id: child.id, state: KNOWN[child.state] ?? "pending", onFailure, children: [] }
    })
  })

  const isChildOf = ({ parent }: scripts.Branch, queue: string, id: string, token: string): boolean =>
    parent.startsWith(scripts.packed(queue, id)) && parent.endsWith(scripts.packed(token))

  return {
    enqueueFlow: (flow) =>
      planter.traced(
        flow.definition.name,
        1,
        (now, traceparent, waiter): Effect.Effect<Enqueued, PayloadTooLarge | QueueFull | RedisError> => {
          const texts = compile(flow, now, traceparent)
          if (Either.isLeft(texts)) return Effect.fail(texts.left)
          return Effect.tap(planter.plant(flow.definition, PLANT, texts.right, waiter), ({ outcome }) => {
            if (outcome === "added") courier.kick(flow.definition.name)
            return Effect.void
          })
        }
      ),
    flowTree: (definition, id) => {
      const opened = open("Queue.flowTree", definition, id)
      if (Either.isLeft(opened)) return Effect.fail(opened.left)
      const { name } = definition
      return spanned(
        "flowTree",
        definition,
        Effect.map(collect([[name, id]], new Map(), 1), (found) => {
          const root = found.get(keyOf(name, id))
          return root === undefined || root.state === "" ? Option.none() : Option.some(treeOf(found, name, id, root))
        })
      )
    },
    cancelFlow: (definition, id) => {
      const opened = open("Queue.cancelFlow", definition, id)
      if (Either.isLeft(opened)) return Effect.fail(opened.left)
      const { target } = opened.right
      return spanned(
        "cancelFlow",
        definition,
        Effect.flatMap(client.eval(scripts.cancelFlow, target, id, client.key(target.keys.control)), (there) => {
          if (!there) return Effect.fail(new JobNotFound({ queue: definition.name, id }))
          courier.kick(definition.name)
          return Effect.void
        })
      )
    }
  }
}
