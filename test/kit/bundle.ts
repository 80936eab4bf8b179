import { Effect, type Scope } from "effect"
import * as Fs from "node:fs"
import * as Path from "node:path"
import { fileURLToPath } from "node:url"
import { build } from "vite"

const root = fileURLToPath(new URL("../..", import.meta.url))

/**
 * A module of the tests and what it imports of this project, as a program that Node starts without help: for those that are
 * started again and again, since vite-node takes seconds of work each time.
 */
export const make = (module: URL): Effect.Effect<URL, never, Scope.Scope> =>
  Effect.gen(function*() {
    const folder = yield* Effect.acquireRelease(
      Effect.sync(() => {
        Fs.mkdirSync(Path.join(root, "build"), { recursive: true })
        // Within the project, so that packages are found.
        return Fs.mkdtempSync(Path.join(root, "build", "bundle-"))
      }),
      (folder) => Effect.sync(() => Fs.rmSync(folder, { recursive: true, force: true }))
    )
    yield* Effect.promise(() =>
      build({
        root,
        configFile: false,
        logLevel: "error",
        build: {
          ssr: fileURLToPath(module),
          outDir: folder,
          target: "node20",
          rollupOptions: { output: { entryFileNames: "main.js" } }
        }
      })
    )
    return new URL(`file://${folder}/main.js`)
  })
