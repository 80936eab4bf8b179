/**
 * `npm run docs:build` and `npm run docs:dev`: installs the generator the first time, makes the reference from the
 * comments of `src`, builds the site, and fails when a link leads nowhere.
 */
import { spawnSync } from "node:child_process"
import { existsSync, readdirSync, readFileSync, rmSync, writeFileSync } from "node:fs"
import { fileURLToPath } from "node:url"
import { deadLinks } from "./links.js"

const docs = fileURLToPath(new URL("../", import.meta.url))
const site = fileURLToPath(new URL("../../build/site", import.meta.url))

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

/** What a class has from a tag, an error or a schema says nothing about it. */
const withoutAncestors = (text: string) =>
  text.replace(/^#{4,6} (?:Inherited from|Overrides|Extends|Implementation of)\n\n.*?(?=^#|^\*\*\*|$(?![^]))/gms, "")

const node = (script: string, ...args: ReadonlyArray<string>) =>
  run(process.execPath, [`node_modules/${script}`, ...args])

const [command] = process.argv.slice(2)
if (command !== "build" && command !== "dev") throw new Error("vite-node docs/site/main.ts build|dev")

if (!isInstalled()) run("npm", ["ci", "--no-audit", "--no-fund"])
rmSync(`${docs}api`, { recursive: true, force: true })
node("typedoc/bin/typedoc", "--logLevel", "Error")
for (const name of readdirSync(`${docs}api`, { recursive: true, encoding: "utf8" })) {
  if (!name.endsWith(".md")) continue
  const text = readFileSync(`${docs}api/${name}`, "utf8")
  writeFileSync(`${docs}api/${name}`, withoutAncestors(text))
}
if (command === "build") rmSync(site, { recursive: true, force: true })
node("vitepress/bin/vitepress.js", command, ".")

if (command === "build") {
  const dead = deadLinks(site, process.env.DOCS_BASE ?? "/")
  for (const { link, page } of dead) process.stderr.write(`${page}: ${link} leads nowhere\n`)
  if (dead.length > 0) process.exit(1)
}
