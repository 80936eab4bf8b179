import { fileURLToPath } from "node:url"
import { defineConfig } from "vitest/config"

const src = (path: string) => fileURLToPath(new URL(`./src/${path}`, import.meta.url))

export default defineConfig({
  resolve: {
    alias: [
      { find: /^effect-redis-kit$/, replacement: src("index.ts") },
      { find: /^effect-redis-kit\/Lock$/, replacement: src("Lock/index.ts") },
      { find: /^effect-redis-kit\/(\w+)$/, replacement: src("$1.ts") }
    ]
  },
  test: {
    include: ["test/**/*.test.ts"],
    globalSetup: ["test/kit/globalSetup.ts"],
    testTimeout: 30_000,
    hookTimeout: 30_000
  }
})
