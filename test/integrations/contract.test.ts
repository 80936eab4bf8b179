import { live, memory, memoryCluster, onCluster } from "../kit/layers.js"
import { sharing } from "../kit/sharing.js"
import { real, virtual } from "../kit/suites.js"
import * as KeyValueStore from "./keyValueSuite.js"
import * as BackingPersistence from "./persistenceSuite.js"
import * as PersistedQueueStore from "./queueSuite.js"
import * as RateLimiterStore from "./rateLimiterSuite.js"

const suites = [RateLimiterStore, BackingPersistence, KeyValueStore, PersistedQueueStore]

const shared = sharing(live, onCluster)

for (const { suite } of suites) {
  suite("in memory", memory, {}, virtual)
  suite("in memory, as a Cluster", memoryCluster, {}, virtual)
  suite("live", live, shared, real)
  suite("on a Cluster", onCluster, shared, real)
}
