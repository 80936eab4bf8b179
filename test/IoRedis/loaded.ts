import { readFileSync } from "node:fs"
import { createRequire } from "node:module"
import "ioredis"
import "../../src/IoRedis.js"

const { cache } = createRequire(import.meta.url)

/** Every ioredis that this process has loaded, each with its major version. */
export const loaded = (): string => {
  const folders = Object.keys(cache).flatMap((file) => /^.*[\\/]node_modules[\\/]ioredis[^\\/]*[\\/]/.exec(file) ?? [])
  return [...new Set(folders)].map((folder) => {
    const { name, version } = JSON.parse(readFileSync(`${folder}package.json`, "utf8"))
    return `${name} ${version.split(".")[0]}`
  }).join()
}
