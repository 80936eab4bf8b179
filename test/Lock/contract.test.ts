import { Effect, TestClock } from "effect"
import { live, memory } from "../kit/layers.js"
import { suite } from "./suite.js"

suite("in memory", memory, {}, {
  // Between two instants everything that the first one made due gets its turn.
  elapse: (duration) => TestClock.adjust(duration)
})

suite("live", live, { excludeTestServices: true }, { elapse: Effect.sleep })
