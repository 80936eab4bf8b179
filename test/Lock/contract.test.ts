import { Effect, TestClock } from "effect"
import { live, memory } from "../kit/layers.js"
import { severalNames } from "./severalNames.js"
import { suite, type Time } from "./suite.js"

// Between two instants everything that the first one made due gets its turn.
const virtual: Time = { elapse: (duration) => TestClock.adjust(duration) }
const real: Time = { elapse: Effect.sleep }

for (const contract of [suite, severalNames]) {
  contract("in memory", memory, {}, virtual)
  contract("live", live, { excludeTestServices: true }, real)
}
