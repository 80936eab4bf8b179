import { live, memory, memoryCluster, onCluster, onSentinel } from "../kit/layers.js"
import { real, virtual } from "../kit/suites.js"
import { severalNames } from "./severalNames.js"
import { suite } from "./suite.js"

for (const contract of [suite, severalNames]) {
  contract("in memory", memory, {}, virtual)
  contract("in memory, as a Cluster", memoryCluster, {}, virtual)
  contract("live", live, { excludeTestServices: true }, real)
  contract("on a Cluster", onCluster, { excludeTestServices: true }, real)
  contract("with Sentinel", onSentinel, { excludeTestServices: true }, real)
}
