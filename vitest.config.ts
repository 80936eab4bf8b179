import { existsSync, readdirSync } from "node:fs"
import { availableParallelism } from "node:os"
import { fileURLToPath } from "node:url"
import { defineConfig } from "vitest/config"

const src = (path: string) => fileURLToPath(new URL(`./src/${path}`, import.meta.url))

/** What is imported by the name of its folder. */
const folders = readdirSync(src("")).filter((name) => existsSync(src(`${name}/index.ts`)))

/** Whatever imports ioredis gets this package. */
const resolveWith = (ioredis: string) => ({
  alias: [
    { find: /^effect-redis-kit$/, replacement: src("index.ts") },
    { find: new RegExp(`^effect-redis-kit/(${folders.join("|")})$`), replacement: src("$1/index.ts") },
    { find: /^effect-redis-kit\/(.+)$/, replacement: src("$1.ts") },
    { find: /^ioredis$/, replacement: ioredis }
  ]
})

/** Nothing is inherited from the root, so that its `globalSetup` runs once and not once in each project. */
const project = (
  name: string,
  ioredis: string,
  files: { readonly include: Array<string>; exclude?: Array<string> }
) => ({
  resolve: resolveWith(ioredis),
  test: {
    name,
    ...files,
    // For the processes that tests start.
    env: { REDIS_TEST_IOREDIS: ioredis },
    setupFiles: ["test/kit/setup.ts"],
    testTimeout: 30_000,
    hookTimeout: 30_000
  }
})

export default defineConfig({
  // For vite-node, which such a process runs under.
  resolve: resolveWith(process.env.REDIS_TEST_IOREDIS ?? "ioredis"),
  test: {
    globalSetup: ["test/kit/globalSetup.ts"],
    // Most of them wait more than they compute.
    maxWorkers: Math.ceil(availableParallelism() * 1.5),
    projects: [
      project("ioredis 5", "ioredis", { include: ["test/**/*.test.ts"], exclude: ["test/examples/browser.test.ts"] }),
      project("ioredis 6", "ioredis-6", {
        // The others hardly come near ioredis; `npm run test:versions` runs them too.
        include: [
          "test/{IoRedis,RedisClient}/**/*.test.ts",
          process.env.TEST_VERSIONS === undefined
            ? "test/{Cache,Lock,PubSub,Stream}/contract.test.ts"
            : "test/*/contract.test.ts"
        ],
        exclude: ["test/RedisClient/{blocking,commands,expiry,retry}.test.ts"]
      }),
      // Apart, because not everybody who runs the tests wants a browser installed.
      project("browser", "ioredis", { include: ["test/examples/browser.test.ts"] })
    ]
  }
})
