import { live, memory, memoryCluster, onCluster } from "../kit/layers.js"
import { real, virtual } from "../Lock/suite.js"
import * as KeyValueStore from "./keyValueSuite.js"
import * as BackingPersistence from "./persistenceSuite.js"
import * as PersistedQueueStore from "./queueSuite.js"
import * as RateLimiterStore from "./rateLimiterSuite.js"

const suites = [RateLimiterStore, BackingPersistence, KeyValueStore, PersistedQueueStore]

for (const { suite } of suites) {
  suite("in memory", memory, {}, virtual)
  suite("in memory, as a Cluster", memoryCluster, {}, virtual)
  suite("live", live, { excludeTestServices: true }, real)
  suite("on a Cluster", onCluster, { excludeTestServices: true }, real)
}
