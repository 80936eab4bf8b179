/**
 * `npm run docs:build` and `npm run docs:dev`: installs the generator the first time, makes the reference from the
 * comments of `src`, builds the site, and fails when a link leads nowhere.
 */
import { spawnSync } from "node:child_process"
import { existsSync, readFileSync, rmSync } from "node:fs"
import { fileURLToPath } from "node:url"
import { deadLinks } from "./links.js"

const docs = fileURLToPath(new URL("./", import.meta.url))
const site = fileURLToPath(new URL("../build/site", import.meta.url))

const run = (command: string, args: ReadonlyArray<string>) => {
  const { status } = spawnSync(command, args, { cwd: docs, stdio: "inherit", shell: process.platform === "win32" })
  if (status !== 0) process.exit(status ?? 1)
}

interface Manifest {
  readonly devDependencies?: Record<string, string>
  readonly packages?: Record<string, { readonly version?: string }>
}

const read = (file: string): Manifest =>
  existsSync(`${docs}${file}`) ? JSON.parse(readFileSync(`${docs}${file}`, "utf8")) : {}

const isInstalled = () => {
  const { packages } = read("node_modules/.package-lock.json")
  return Object.entries(read("package.json").devDependencies ?? {})
    .every(([name, version]) => packages?.[`node_modules/${name}`]?.version === version)
}

const node = (script: string, ...args: ReadonlyArray<string>) =>
  run(process.execPath, [`node_modules/${script}`, ...args])

const [command] = process.argv.slice(2)
if (command !== "build" && command !== "dev") throw new Error("vite-node docs/site.ts build|dev")

if (!isInstalled()) run("npm", ["ci", "--no-audit", "--no-fund"])
rmSync(`${docs}api`, { recursive: true, force: true })
node("typedoc/bin/typedoc", "--logLevel", "Error")
if (command === "build") rmSync(site, { recursive: true, force: true })
node("vitepress/bin/vitepress.js", command, ".")

if (command === "build") {
  const dead = deadLinks(site, process.env.DOCS_BASE ?? "/")
  for (const { link, page } of dead) process.stderr.write(`${page}: ${link} leads nowhere\n`)
  if (dead.length > 0) process.exit(1)
}
