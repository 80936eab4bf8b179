import { readFileSync } from "node:fs"
import { fileURLToPath } from "node:url"

const root = new URL("../", import.meta.url)
const path = (name) => fileURLToPath(new URL(name, root))

const { exports } = JSON.parse(readFileSync(path("package.json"), "utf8"))

/** The modules that the package exports, by their sources. The root exports the same ones again. */
const entryPoints = Object.values(exports).flatMap((entry) =>
  typeof entry === "object" && entry !== null && entry.types !== "./dist/index.d.ts"
    ? [path(entry.types.replace("./dist/", "src/").replace(".d.ts", ".ts"))]
    : []
)

/** @type {import("typedoc").TypeDocOptions} */
export default {
  plugin: ["typedoc-plugin-markdown"],
  entryPoints,
  tsconfig: path("src/tsconfig.json"),
  out: path("docs/api"),
  readme: "none",
  router: "module",
  disableSources: true,
  excludeExternals: true,
  excludeInternal: true,
  excludePrivate: true,
  hidePageHeader: true,
  hideBreadcrumbs: true,
  githubPages: false,
  entryFileName: "index",
  entryPointStrategy: "resolve",
  name: "API",
  parametersFormat: "table",
  excludeTags: ["@since"],
  categorizeByGroup: false,
  hideGroupHeadings: true,
  skipErrorChecking: true
}
