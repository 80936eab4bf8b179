import { assert, it } from "@effect/vitest"
import { spawnSync } from "node:child_process"
import { mkdirSync, readdirSync, readFileSync, rmSync, writeFileSync } from "node:fs"
import { join, relative } from "node:path"
import { fileURLToPath } from "node:url"
import { written } from "../../docs/site/pages.js"

const root = fileURLToPath(new URL("../../", import.meta.url))
const out = join(root, "build/snippets")

const files = (folder: string, ending: string): ReadonlyArray<string> =>
  readdirSync(join(root, folder), { recursive: true, encoding: "utf8" })
    .filter((name) => name.endsWith(ending))
    .map((name) => join(folder, name))

/** The TypeScript of a Markdown text, or of the examples in the comments of a module. */
const snippets = (path: string): ReadonlyArray<string> => {
  const text = readFileSync(join(root, path), "utf8")
  const markdown = path.endsWith(".ts") ? text.replace(/^ *\* ?/gm, "") : text
  return Array.from(markdown.matchAll(/^```ts\n(.*?)^```/gms), ([, code]) => code ?? "")
}

it("every example of the documentation compiles", () => {
  rmSync(out, { recursive: true, force: true })
  mkdirSync(out, { recursive: true })
  const sources = ["README.md", ...written.map((name) => `docs/${name}.md`), ...files("src", ".ts")]
  let count = 0
  for (const source of sources) {
    for (const [i, code] of snippets(source).entries()) {
      count++
      // Without an import it would be a script, and share its names with the others.
      writeFileSync(join(out, `${source.replaceAll(/[/.]/g, "-")}-${i}.ts`), `${code}\nexport {}\n`)
    }
  }
  assert.isAbove(count, 20)
  const up = relative(out, root)
  writeFileSync(
    join(out, "tsconfig.json"),
    JSON.stringify({
      extends: join(up, "tsconfig.base.json"),
      compilerOptions: {
        composite: false,
        declaration: false,
        declarationMap: false,
        noEmit: true,
        noUnusedLocals: false,
        noUnusedParameters: false,
        paths: {
          "effect-redis-kit": [join(up, "src/index.ts")],
          "effect-redis-kit/*": [join(up, "src/*.ts"), join(up, "src/*/index.ts")]
        }
      },
      include: ["."]
    })
  )
  const compiler = join(root, "node_modules/@typescript/native/bin/tsc")
  const result = spawnSync(process.execPath, [compiler, "-p", out], { encoding: "utf8" })
  assert.strictEqual(result.stdout, "")
  assert.strictEqual(result.status, 0)
}, 60_000)
