import { assert, describe, it } from "@effect/vitest"
import { existsSync, mkdirSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs"
import { tmpdir } from "node:os"
import { dirname, join } from "node:path"
import { fileURLToPath } from "node:url"
import { inject, vi } from "vitest"
import { deadLinks } from "../../docs/site/links.js"
import { groups, sidebar, written } from "../../docs/site/pages.js"
import "../kit/globalSetup.js"

const root = fileURLToPath(new URL("../../", import.meta.url))

const textOf = (page: string) => readFileSync(join(root, "docs", `${page}.md`), "utf8")

describe("the documentation site", () => {
  it("has every page in its sidebar once", () => {
    const listed = groups.flatMap(({ pages }) => pages)
    assert.deepStrictEqual(listed.filter((page, i) => listed.indexOf(page) !== i), [])
    assert.deepStrictEqual(written.filter((page) => page !== "index" && !listed.includes(page)), [])
    const links = sidebar().flatMap(({ items }) => items).map(({ link }) => link)
    assert.includeMembers(links, ["/getting-started", "/recipes/", "/locks", "/operations", "/api/"])
    assert.isEmpty(links.filter((link) => link.includes("index")))
  })

  it("shows code that is there", () => {
    let count = 0
    for (const page of written) {
      for (const [, path, region] of textOf(page).matchAll(/^<<< (\S+?)#(\w+)\{ts\}$/gm)) {
        const code = readFileSync(join(root, "docs", dirname(page), path!), "utf8")
        assert.include(code, `// #region ${region}\n`, `${page}: ${region}`)
        assert.include(code, `// #endregion ${region}\n`, `${page}: ${region}`)
        count++
      }
    }
    assert.isAbove(count, 5)
  })

  it("links to pages and files that are there", () => {
    const dead = written.flatMap((page) =>
      Array.from(textOf(page).matchAll(/\]\((?!https?:)([^)#\s]+)/g), ([, link]) => ({ page, link: link! }))
        .filter(({ link }) => !existsSync(join(root, "docs", dirname(page), link)))
    )
    assert.deepStrictEqual(dead, [])
  })

  it("has a check that finds dead links and anchors", () => {
    const folder = mkdtempSync(join(tmpdir(), "links-"))
    try {
      mkdirSync(join(folder, "a"))
      writeFileSync(join(folder, "index.html"), `<a href="/a/">x</a> <a href="a/#there">x</a> <a href="b?x">x</a>`)
      writeFileSync(
        join(folder, "a/index.html"),
        `<h1 id="there"></h1> <a href="#there">x</a> <a href="#nowhere">x</a> <img src="/c.png"> <a href="https://x.y/">x</a>`
      )
      writeFileSync(join(folder, "b.html"), `<a href="../../index.html">x</a>`)
      assert.deepStrictEqual(deadLinks(folder), [
        { page: "a/index.html", link: "#nowhere" },
        { page: "a/index.html", link: "/c.png" }
      ])
      assert.deepInclude(deadLinks(folder, "/base/"), { page: "index.html", link: "/a/" })
    } finally {
      rmSync(folder, { recursive: true, force: true })
    }
  })
})

describe("getting started", () => {
  /** The programs of the page. */
  const programs = Array.from(textOf("getting-started").matchAll(/```ts\n(.*?)```/gs), ([, code]) => code!)
  const folder = join(root, "build/getting-started")

  /** What a program prints first. It is run as a module, with these variables of the environment. */
  const run = async (name: string, code: string, env: Readonly<Record<string, string>> = {}) => {
    mkdirSync(folder, { recursive: true })
    const file = join(folder, `${name}.ts`)
    writeFileSync(file, code)
    vi.stubEnv("REDIS_URL", undefined)
    for (const [key, value] of Object.entries(env)) vi.stubEnv(key, value)
    const printed = new Promise<string>((resolve) => vi.spyOn(console, "log").mockImplementation(resolve))
    try {
      await import(/* @vite-ignore */ file)
      return await printed
    } finally {
      vi.restoreAllMocks()
      vi.unstubAllEnvs()
    }
  }

  it("prints what the page says, without a server and on one", async () => {
    const [tickets, test] = programs
    const server = { REDIS_URL: inject("redisUrl"), REDIS_KEY_PREFIX: `started:${crypto.randomUUID()}:` }
    const lines = [
      await run("tickets", tickets!),
      await run("tickets-on-a-server", tickets!, server),
      await run("tickets-without-lock", tickets!.replace(/\.pipe\(withLock\(.*?\)\)/, "")),
      await run("minute", test!)
    ]
    assert.deepStrictEqual(lines, ["tickets left: 0", "tickets left: 0", "tickets left: 9", "a minute later: gone"])
    for (const line of lines) assert.include(textOf("getting-started"), line)
  }, 120_000)
})
