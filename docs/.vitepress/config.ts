import { defineConfig } from "vitepress"
import { sidebar } from "../site/pages.js"

const title = "effect-redis-kit"

/** Files of the repository are not part of the site: a link to one is shown as its name. */
const leavesTheSite = (href: string) => href.startsWith("../") && !/\.md(?:#.*)?$/.test(href)

export default defineConfig({
  title,
  description: "Redis services for Effect, each with a live layer and one in memory that runs the same Lua scripts",
  base: process.env.DOCS_BASE ?? "/",
  outDir: "../build/site",
  cacheDir: "../build/site-cache",
  srcExclude: ["node_modules/**"],
  lastUpdated: false,
  head: [
    ["link", { rel: "icon", type: "image/svg+xml", href: `${process.env.DOCS_BASE ?? "/"}logo.svg` }],
    ["meta", { name: "theme-color", content: "#b91c1c" }]
  ],
  markdown: {
    theme: { light: "github-light", dark: "github-dark" },
    config: (markdown) => {
      markdown.core.ruler.push("repository-links", (state) => {
        for (const { children } of state.tokens) {
          let inside = false
          for (const token of children ?? []) {
            if (token.type === "link_open" && leavesTheSite(token.attrGet("href") ?? "")) inside = true
            if (!inside) continue
            if (token.type === "link_close") inside = false
            if (token.type.startsWith("link_")) Object.assign(token, { type: "text", tag: "", nesting: 0, content: "" })
          }
        }
      })
    }
  },
  themeConfig: {
    logo: "/logo.svg",
    siteTitle: title,
    nav: [
      { text: "Getting started", link: "/getting-started" },
      { text: "Recipes", link: "/recipes/" },
      { text: "Operations", link: "/operations" },
      { text: "API", link: "/api/" }
    ],
    sidebar: sidebar(),
    outline: { level: [2, 3] },
    search: {
      provider: "local",
      options: {
        // Signatures are found by their names: their bodies would make the index ten times as large.
        _render: (source, env, markdown) => {
          const isApi = env.relativePath.startsWith("api/")
          return markdown.render(
            isApi ? source.split("\n").filter((line) => /^#{1,3} /.test(line)).join("\n\n") : source,
            env
          )
        }
      }
    },
    docFooter: { prev: "Before", next: "Next" }
  }
})
