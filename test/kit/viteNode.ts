import { createRequire } from "node:module"
import { fileURLToPath } from "node:url"

/** The arguments with which Node runs a module of the tests, on the same version of ioredis as the test that asks. */
export const viteNode: ReadonlyArray<string> = [
  createRequire(import.meta.url).resolve("vite-node/vite-node.mjs"),
  "--config",
  fileURLToPath(new URL("../../vitest.config.ts", import.meta.url))
]
