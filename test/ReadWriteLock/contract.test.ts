import { live, memory, memoryCluster, onCluster, onSentinel } from "../kit/layers.js"
import { real, virtual } from "../kit/suites.js"
import { suite } from "./suite.js"

suite("in memory", memory, {}, virtual)
suite("in memory, as a Cluster", memoryCluster, {}, virtual)
suite("live", live, { excludeTestServices: true }, real)
suite("on a Cluster", onCluster, { excludeTestServices: true }, real)
suite("with Sentinel", onSentinel, { excludeTestServices: true }, real)
