/**
 * What an entry of the package brings along, by a bundler: `effect`, its packages and ioredis are left out, because
 * whoever uses this has them anyway.
 */
import { build, type Metafile } from "esbuild"
import { readFileSync } from "node:fs"
import { fileURLToPath } from "node:url"
import { gzipSync } from "node:zlib"

const root = fileURLToPath(new URL("../..", import.meta.url))

interface Manifest {
  readonly exports: Record<string, string | null | { readonly default: string }>
}

/** The names of what can be imported, as in package.json, and their sources. */
export const entries: ReadonlyMap<string, string> = new Map(
  Object.entries((JSON.parse(readFileSync(`${root}package.json`, "utf8")) as Manifest).exports).flatMap(
    ([name, target]) =>
      target !== null && typeof target === "object"
        ? [[name, target.default.replace(/^\.\/dist\/(.*)\.js$/, "src/$1.ts")]]
        : []
  )
)

export interface Bundle {
  /** Minified, with everything that is loaded at once. What is imported when it is needed does not count. */
  readonly bytes: number
  readonly gzipped: number
  /** Files of the repository in it, of which something was left. */
  readonly files: ReadonlyArray<string>
  /** Packages that it imports, but for `effect` and what Node brings. */
  readonly packages: ReadonlyArray<string>
}

const packageOf = (path: string): string => path.split("/").slice(0, path.startsWith("@") ? 2 : 1).join("/")

const collect = (
  outputs: Metafile["outputs"],
  texts: ReadonlyMap<string, Uint8Array>,
  main: string
): Bundle => {
  const seen = new Set<string>()
  const visit = (path: string) => {
    if (seen.has(path)) return
    seen.add(path)
    for (const { external, kind, path: next } of outputs[path]!.imports) {
      if (external !== true && kind === "import-statement") visit(next)
    }
  }
  visit(main)
  const chunks = [...seen]
  const imports = chunks.flatMap((path) =>
    outputs[path]!.imports.flatMap(({ external, kind, path: name }) =>
      external === true && kind === "import-statement" && !name.startsWith("node:") ? [packageOf(name)] : []
    )
  )
  return {
    bytes: chunks.reduce((sum, path) => sum + outputs[path]!.bytes, 0),
    gzipped: chunks.reduce((sum, path) => sum + gzipSync(texts.get(path)!).length, 0),
    files: chunks.flatMap((path) =>
      Object.entries(outputs[path]!.inputs).flatMap(([file, { bytesInOutput }]) => bytesInOutput > 0 ? [file] : [])
    ).sort(),
    packages: [...new Set(imports)].filter((name) => name !== "effect").sort()
  }
}

const bundled = async (entry: { readonly path: string } | { readonly code: string }): Promise<Bundle> => {
  const result = await build({
    ...("path" in entry ? { entryPoints: [entry.path] } : { stdin: { contents: entry.code, resolveDir: root } }),
    absWorkingDir: root,
    bundle: true,
    minify: true,
    // What is imported when it is needed gets a chunk of its own.
    splitting: true,
    format: "esm",
    platform: "node",
    target: "es2022",
    external: ["effect", "@effect/*", "ioredis"],
    outdir: "build/bundle",
    write: false,
    metafile: true,
    logLevel: "silent"
  })
  const texts = new Map(result.outputFiles.map(({ contents, path }) => [path.slice(root.length), contents]))
  const { outputs } = result.metafile
  const name = "path" in entry ? entry.path : "<stdin>"
  const main = Object.keys(outputs).find((path) => outputs[path]!.entryPoint === name)
  if (main === undefined) throw new Error(`no bundle for ${name}`)
  return collect(outputs, texts, main)
}

/** One of `entries`. */
export const entryBundle = (name: string): Promise<Bundle> => {
  const path = entries.get(name)
  if (path === undefined) throw new Error(`no entry ${name}`)
  return bundled({ path })
}

/** A program that imports the package by its name. */
export const programBundle = (code: string): Promise<Bundle> =>
  bundled({ code: code.replaceAll(`"effect-redis-kit"`, `"./src/index.ts"`) })

/** Which module imports which when it is loaded, for all entries together. Types are gone. */
export const importGraph = async (): Promise<ReadonlyMap<string, ReadonlyArray<string>>> => {
  const { metafile } = await build({
    entryPoints: [...entries.values()],
    absWorkingDir: root,
    bundle: true,
    splitting: true,
    treeShaking: false,
    format: "esm",
    platform: "node",
    packages: "external",
    outdir: "build/bundle",
    write: false,
    metafile: true,
    logLevel: "silent"
  })
  return new Map(
    Object.entries(metafile.inputs).map(([file, { imports }]) => [
      file,
      imports.flatMap(({ external, kind, path }) => external !== true && kind === "import-statement" ? [path] : [])
    ])
  )
}
