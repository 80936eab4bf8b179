/**
 * What the processes of a soak test are told, and what they share.
 */
import { Schema } from "effect"
import * as ConsumerGroup from "../../src/ConsumerGroup/index.js"
import * as Stream from "../../src/Stream/index.js"

export interface Task {
  readonly url: string
  readonly consumer: string
  /** How long a handler takes, in milliseconds. */
  readonly work: number
}

export const Numbers = Stream.define({ name: "soak", schema: Schema.Struct({ n: Schema.Number }) })

export const Group = ConsumerGroup.define({ stream: Numbers, name: "soak" })

/** Those whose handler always fails. */
export const isPoison = (n: number): boolean => n % 100 === 7

export const CONCURRENCY = 8
export const BATCH = 20
