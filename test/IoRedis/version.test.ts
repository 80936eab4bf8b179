/**
 * The suites of the live driver run in one project for each version of ioredis, named after it.
 */
import { assert, describe, it } from "@effect/vitest"
import { execFile } from "node:child_process"
import { fileURLToPath } from "node:url"
import { promisify } from "node:util"
import { viteNode } from "../kit/viteNode.js"
import { loaded } from "./loaded.js"

const worker = fileURLToPath(new URL("./loadedWorker.ts", import.meta.url))

describe("the version of ioredis", () => {
  it("is that of the project, for the driver and for the tests, and there is no other beside it", ({ task }) => {
    assert.strictEqual(loaded(), task.file.projectName)
  })

  it("is the same in a process that a test starts", async ({ task }) => {
    const { stdout } = await promisify(execFile)(process.execPath, [...viteNode, worker])
    assert.strictEqual(stdout, task.file.projectName)
  })
})
