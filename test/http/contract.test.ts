import { live, memory, memoryCluster, onCluster, onSentinel } from "../kit/layers.js"
import * as Health from "./healthSuite.js"
import * as RateLimits from "./rateLimitsSuite.js"
import * as RpcRateLimits from "./rpcRateLimitsSuite.js"

const real = { excludeTestServices: true }

Health.suite("in memory", memory, {})
Health.suite("in memory, as a Cluster", memoryCluster, {})
Health.suite("live", live, real)
Health.suite("on a Cluster", onCluster, real)
Health.suite("with Sentinel", onSentinel, real)

RpcRateLimits.suite("in memory", memory, {})
RpcRateLimits.suite("in memory, as a Cluster", memoryCluster, {})
RpcRateLimits.suite("live", live, real)
RpcRateLimits.suite("on a Cluster", onCluster, real)
RpcRateLimits.suite("with Sentinel", onSentinel, real)

RateLimits.suite("in memory", memory, {})
RateLimits.suite("live", live, real)

// The forms differ in HTTP alone, so two of them say enough of the other servers.
const two = ["middleware of a server", "middleware of an API"] as const
RateLimits.suite("in memory, as a Cluster", memoryCluster, {}, two)
RateLimits.suite("on a Cluster", onCluster, real, two)
RateLimits.suite("with Sentinel", onSentinel, real, two)
