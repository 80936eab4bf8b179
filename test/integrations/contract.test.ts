import { everywhere } from "../kit/contract.js"
import * as KeyValueStore from "./keyValueSuite.js"
import * as BackingPersistence from "./persistenceSuite.js"
import * as PersistedQueueStore from "./queueSuite.js"
import * as RateLimiterStore from "./rateLimiterSuite.js"
import * as Reactivity from "./reactivitySuite.js"

everywhere(
  RateLimiterStore.suite,
  BackingPersistence.suite,
  KeyValueStore.suite,
  PersistedQueueStore.suite,
  Reactivity.suite
)
