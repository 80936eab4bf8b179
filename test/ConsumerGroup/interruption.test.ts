import { Effect, Layer, Schedule, Schema } from "effect"
import * as ConsumerGroup from "../../src/ConsumerGroup/index.js"
import * as Stream from "../../src/Stream/index.js"
import { interruptions } from "../kit/interruption.js"

const of = (name: string) => Stream.define({ name, key: `plain:${name}`, schema: Schema.Number })
const group = (name: string) => ConsumerGroup.define({ stream: of(name), name: "workers" })

const options = {
  lease: "5 seconds",
  claimEvery: "30 millis",
  retry: Schedule.spaced("1 millis"),
  drain: "1 millis"
} as const

/** Streams stay; what must not is beside them. */
interruptions({
  layer: Layer.merge(Stream.layer, ConsumerGroup.layer),
  keys: "leftover:",
  times: 60,
  competitor: (name) => Effect.zipRight(Stream.append(of(name), 1), Effect.yieldNow()),
  forms: {
    "a worker": (name) => ConsumerGroup.run(group(name), () => Effect.yieldNow(), options),
    "a worker whose handlers wait": (name) => ConsumerGroup.run(group(name), () => Effect.never, options),
    "a worker whose handlers fail": (name) => ConsumerGroup.run(group(name), () => Effect.fail("no"), options),
    "a reader that waits": (name) => Stream.read(of(name), { after: "$", block: "10 seconds" })
  }
})
