import { assert, describe, it } from "@effect/vitest"
import { readFileSync } from "node:fs"

interface Entry {
  readonly version?: string
  readonly resolved?: string
  readonly integrity?: string
  readonly os?: ReadonlyArray<string>
  readonly engines?: { readonly node?: string }
  readonly optionalDependencies?: Record<string, string>
}

/** `npm ci` refuses a file without the packages of other platforms, which npm leaves out where it can't find them. */
describe("a lock file installs on every platform", () => {
  for (const file of ["package-lock.json", "bench/package-lock.json"]) {
    const { packages }: { readonly packages: Record<string, Entry> } = JSON.parse(
      readFileSync(new URL(`../../${file}`, import.meta.url), "utf8")
    )

    /** As Node looks for a package: beside whoever asks, and then further out. */
    const isFound = (from: string, name: string): boolean => {
      for (let base = from;; base = base.slice(0, Math.max(0, base.lastIndexOf("/node_modules/")))) {
        if (packages[`${base === "" ? "" : `${base}/`}node_modules/${name}`] !== undefined) return true
        if (base === "") return false
        if (!base.includes("/node_modules/")) base = ""
      }
    }

    it(`${file} has all optional packages`, () => {
      const missing = Object.entries(packages).flatMap(([path, { optionalDependencies = {} }]) =>
        Object.keys(optionalDependencies).filter((name) => !isFound(path, name)).map((name) => `${path}: ${name}`)
      )
      assert.deepStrictEqual(missing, [])
    })

    it(`${file} names no registry`, () => {
      assert.deepStrictEqual(Object.keys(packages).filter((path) => packages[path]!.resolved !== undefined), [])
    })
  }
})
