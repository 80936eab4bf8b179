/**
 * Jobs of several types in one queue.
 *
 * @since 0.1.0
 */
import type * as Effect from "effect/Effect"
import * as Predicate from "effect/Predicate"
import type { Definition, Job } from "./Definition.js"

/**
 * What a handler says of a payload that its queue can't read: whether it is of a type that it does not know.
 *
 * @internal
 */
export const UnknownType: unique symbol = Symbol.for("effect-redis-kit/Queue/UnknownType")

/**
 * The types that a handler knows.
 *
 * @internal
 */
export const Types: unique symbol = Symbol.for("effect-redis-kit/Queue/Types")

/**
 * A handler for each type of payload, by its tag.
 *
 * @since 0.1.0
 * @category models
 */
export type Handlers<A extends { readonly _tag: string }, B = unknown> = {
  readonly [Tag in A["_tag"]]: (
    payload: Extract<A, { readonly _tag: Tag }>,
    job: Job<Extract<A, { readonly _tag: Tag }>>
  ) => Effect.Effect<B, any, any>
}

type ErrorOf<H> = {
  [K in keyof H]: H[K] extends (...args: any) => Effect.Effect<any, infer E, any> ? E : never
}[keyof H]

type ContextOf<H> = {
  [K in keyof H]: H[K] extends (...args: any) => Effect.Effect<any, any, infer R> ? R : never
}[keyof H]

/**
 * The handler of a queue with several types of jobs, for `worker`.
 *
 * @since 0.1.0
 * @category models
 */
export interface HandlerByType<A, out E, out R, out B = unknown> {
  (job: Job<A>): Effect.Effect<B, E, R>
  /** @internal */
  readonly [UnknownType]: (encoded: unknown) => boolean
  /** @internal */
  readonly [Types]: ReadonlyArray<string>
}

/**
 * Makes one handler of one for each type of job. The payload of the queue is a union of tagged structs or classes; a type
 * without a handler does not compile. A job of a type that this release does not know at all, because a newer one has
 * enqueued it, becomes a dead letter with the reason `no-handler`, and can be replayed later.
 *
 * @example
 * ```ts
 * import { Effect, Schema } from "effect"
 * import { Queue } from "effect-redis-kit"
 *
 * const Mails = Queue.define({
 *   name: "mails",
 *   payload: Schema.Union(
 *     Schema.TaggedStruct("Welcome", { to: Schema.String }),
 *     Schema.TaggedStruct("Receipt", { to: Schema.String, amount: Schema.Number })
 *   )
 * })
 *
 * const MailWorker = Queue.worker(
 *   Mails,
 *   Queue.handlers(Mails, {
 *     Welcome: ({ to }) => Effect.log(`welcome, ${to}`),
 *     Receipt: ({ amount, to }, job) => Effect.log(`${amount} from ${to}, attempt ${job.attempt}`)
 *   })
 * )
 * ```
 *
 * @since 0.1.0
 * @category constructors
 */
export const handlers = <A extends { readonly _tag: string }, B, H extends Handlers<A, B>>(
  _definition: Definition<A, B>,
  handlers: H & { readonly [K in Exclude<keyof H, A["_tag"]>]: never }
): HandlerByType<A, ErrorOf<H>, ContextOf<H>, B> => {
  const byTag: Readonly<
    Record<string, (payload: A, job: Job<A>) => Effect.Effect<B, ErrorOf<H>, ContextOf<H>>>
  > = handlers
  return Object.assign(
    (job: Job<A>): Effect.Effect<B, ErrorOf<H>, ContextOf<H>> => byTag[job.payload._tag]!(job.payload, job),
    {
      [UnknownType]: (encoded: unknown) =>
        Predicate.hasProperty(encoded, "_tag") && typeof encoded._tag === "string" &&
        !Object.hasOwn(handlers, encoded._tag),
      [Types]: Object.keys(handlers)
    }
  )
}
