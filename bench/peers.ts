/**
 * The libraries that we are compared with. They are installed beside the benchmarks and are not known to the compiler:
 * this is the part of their interfaces that is used here.
 */
import { spawnSync } from "node:child_process"
import * as Fs from "node:fs"
import { createRequire } from "node:module"
import { fileURLToPath } from "node:url"

const folder = new URL("../../bench/", import.meta.url)
const require = createRequire(new URL("package.json", folder))

interface Manifest {
  readonly devDependencies?: Record<string, string>
  /** What npm installed, in the file that it leaves behind. */
  readonly packages?: Record<string, { readonly version?: string }>
}

const read = (file: string): Manifest => {
  const url = new URL(file, folder)
  return Fs.existsSync(url) ? JSON.parse(Fs.readFileSync(url, "utf8")) : {}
}

/** Installs them the first time, and again when a version has changed. */
export const install = (): void => {
  const { packages } = read("node_modules/.package-lock.json")
  const isInstalled = ([name, version]: readonly [string, string]) =>
    packages?.[`node_modules/${name}`]?.version === version
  if (Object.entries(read("package.json").devDependencies ?? {}).every(isInstalled)) return
  const { status } = spawnSync("npm", ["ci", "--no-audit", "--no-fund"], {
    cwd: fileURLToPath(folder),
    // Standard output belongs to the figures.
    stdio: ["ignore", process.stderr, process.stderr],
    shell: process.platform === "win32"
  })
  if (status !== 0) throw new Error("The libraries to compare with could not be installed: see what npm says above.")
}

export interface RedisSemaphore {
  readonly RedlockMutex: new(clients: ReadonlyArray<object>, key: string) => {
    readonly acquire: () => Promise<void>
    readonly release: () => Promise<void>
  }
  readonly Semaphore: new(client: object, key: string, limit: number) => {
    readonly acquire: () => Promise<void>
    readonly release: () => Promise<void>
  }
  readonly Mutex: new(client: object, key: string) => {
    readonly acquire: () => Promise<void>
    readonly release: () => Promise<void>
  }
}

export const redisSemaphore = (): RedisSemaphore => require("redis-semaphore")

export interface Redlock {
  readonly default: new(clients: ReadonlyArray<object>) => {
    readonly acquire: (
      resources: ReadonlyArray<string>,
      millis: number
    ) => Promise<{ readonly release: () => Promise<unknown> }>
  }
}

export const redlock = (): Redlock => require("redlock")

export interface IoRedisMock {
  readonly default: new() => {
    readonly get: (key: string) => Promise<string | null>
    readonly set: (key: string, value: string) => Promise<unknown>
    readonly zadd: (key: string, score: number, member: string) => Promise<unknown>
    readonly eval: (lua: string, numberOfKeys: number, ...args: ReadonlyArray<string>) => Promise<unknown>
    readonly evalsha: (sha: string, numberOfKeys: number, ...args: ReadonlyArray<string>) => Promise<unknown>
    readonly disconnect: () => void
  }
}

export const ioredisMock = (): IoRedisMock => require("ioredis-mock")

interface FlexibleLimiter {
  readonly consume: (id: string, points?: number) => Promise<unknown>
}

export interface RateLimiterFlexible {
  readonly RateLimiterRedis: new(options: {
    readonly storeClient: object
    readonly keyPrefix: string
    readonly points: number
    /** In seconds. */
    readonly duration: number
  }) => FlexibleLimiter
  readonly RateLimiterUnion: new(...limiters: ReadonlyArray<FlexibleLimiter>) => FlexibleLimiter
}

export const rateLimiterFlexible = (): RateLimiterFlexible => require("rate-limiter-flexible")

interface BullQueueOptions {
  readonly connection: { readonly host: string; readonly port: number }
  readonly prefix: string
}

interface BullJobOptions {
  /** In milliseconds. */
  readonly delay?: number
}

export interface BullMQ {
  readonly Queue: new(
    name: string,
    options: BullQueueOptions & { readonly defaultJobOptions: { readonly removeOnComplete: boolean } }
  ) => {
    readonly add: (name: string, data: object, options?: BullJobOptions) => Promise<{ readonly timestamp: number }>
    readonly addBulk: (jobs: ReadonlyArray<{ readonly name: string; readonly data: object }>) => Promise<unknown>
    readonly close: () => Promise<void>
  }
  readonly Worker: new(
    name: string,
    handler: (job: { readonly data: any }) => Promise<void>,
    options: BullQueueOptions & { readonly concurrency: number }
  ) => {
    readonly on: (event: "error", listener: (error: Error) => void) => unknown
    readonly close: () => Promise<void>
  }
}

export const bullmq = (): BullMQ => require("bullmq")

interface NodeRedis {
  readonly connect: () => Promise<unknown>
  readonly destroy: () => void
  readonly sAdd: (key: string, member: string) => Promise<number>
}

export const redis = (): { readonly createClient: (options: { readonly url: string }) => NodeRedis } => require("redis")

export interface ConnectRedis {
  readonly RedisStore: new(options: { readonly client: object; readonly prefix: string; readonly ttl: number }) => {
    readonly get: (id: string) => Promise<unknown>
    readonly set: (id: string, session: object) => Promise<unknown>
    readonly touch: (id: string, session: object) => Promise<unknown>
  }
}

export const connectRedis = (): ConnectRedis => require("connect-redis")

interface BentoStore {
  readonly useL1Layer: (driver: object) => BentoStore
  readonly useL2Layer: (driver: object) => BentoStore
}

export interface Bentocache {
  readonly BentoCache: new(options: { readonly default: string; readonly stores: Record<string, BentoStore> }) => {
    readonly get: (options: { readonly key: string }) => Promise<unknown>
    readonly set: (options: {
      readonly key: string
      readonly value: unknown
      readonly ttl: number
      readonly tags?: ReadonlyArray<string>
    }) => Promise<unknown>
    readonly getOrSet: (options: {
      readonly key: string
      readonly ttl: number
      readonly factory: () => unknown
    }) => Promise<unknown>
  }
  readonly bentostore: () => BentoStore
  readonly memoryDriver: (options: { readonly maxItems: number }) => object
  readonly redisDriver: (options: { readonly connection: object; readonly prefix: string }) => object
}

/** It is a module, which `require` does not load. */
export const bentocache = async (): Promise<Bentocache> => {
  const load = (path: string) => import(new URL(`node_modules/bentocache/build/${path}`, folder).href)
  return { ...await load("index.js"), ...await load("src/drivers/memory.js"), ...await load("src/drivers/redis.js") }
}

interface KeyedCache {
  readonly get: (key: string) => Promise<unknown>
  readonly set: (key: string, value: unknown, ttl: number) => Promise<unknown>
  readonly disconnect: () => Promise<unknown>
}

export interface Cacheable {
  readonly Cacheable: new(options: { readonly primary?: object; readonly secondary?: object }) => KeyedCache
}

export const cacheable = (): Cacheable => require("cacheable")

export interface CacheManager {
  readonly createCache: (options: { readonly stores?: ReadonlyArray<object> }) => KeyedCache
}

export const cacheManager = (): CacheManager => require("cache-manager")

/** A store of the two above on a server. */
export const keyvRedis = (): {
  readonly createKeyv: (url: string, options: { readonly namespace: string }) => object
} => require("@keyv/redis")
