import { assert, beforeAll, it } from "@effect/vitest"
import { compileModules, heavy, loadedBy } from "../kit/imports.js"

beforeAll(() => compileModules("http"))

const RPC = "/node_modules/@effect/rpc/"

it("what HTTP needs loads neither a driver nor the packages of others", async () => {
  const urls = await loadedBy("http", (module) => `import ${module("http/index.js")}`)
  assert.isTrue(urls.some((url) => url.endsWith("/http/RateLimits.js")))
  assert.deepStrictEqual(heavy(urls), [])
  assert.isFalse(urls.some((url) => url.includes(RPC) || url.includes("/node_modules/@effect/platform-node/")))
})

it("the limits of procedures load their package, and no driver", async () => {
  const urls = await loadedBy("http", (module) => `import ${module("http/RpcRateLimits.js")}`)
  assert.isTrue(urls.some((url) => url.includes(RPC)))
  assert.deepStrictEqual(heavy(urls), [])
})
