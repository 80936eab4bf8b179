import { drivers, memoryCluster, onCluster, onSentinel } from "../kit/layers.js"
import { suite } from "./suite.js"

for (const [name, layer, options] of drivers) suite(name, layer, options)

suite("in memory, as a Cluster", memoryCluster)
suite("on a Cluster", onCluster, { excludeTestServices: true })
suite("with Sentinel", onSentinel, { excludeTestServices: true })
