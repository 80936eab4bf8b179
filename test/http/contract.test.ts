import { live, memory, memoryCluster, onCluster, onSentinel } from "../kit/layers.js"
import { sharing } from "../kit/sharing.js"
import * as Health from "./healthSuite.js"
import * as RateLimits from "./rateLimitsSuite.js"
import * as RpcRateLimits from "./rpcRateLimitsSuite.js"
import * as Sessions from "./sessionsSuite.js"

const real = sharing(live, onCluster, onSentinel)

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

// The forms differ in HTTP alone, so two of them say enough of real servers.
const two = ["middleware of a server", "middleware of an API"] as const
RateLimits.suite("live", live, real, two)
RateLimits.suite("in memory, as a Cluster", memoryCluster, {}, two)
RateLimits.suite("on a Cluster", onCluster, real, two)
RateLimits.suite("with Sentinel", onSentinel, real, two)

Sessions.suite("in memory", memory, {})
Sessions.suite("in memory, as a Cluster", memoryCluster, {}, ["middleware of an app"])
Sessions.suite("live", live, real, ["middleware of an API"])
Sessions.suite("on a Cluster", onCluster, real, ["middleware of a router"])
