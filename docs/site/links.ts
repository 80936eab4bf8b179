/** Links of a site that was built, and where they lead. VitePress checks pages and no anchors. */
import { existsSync, readdirSync, readFileSync, statSync } from "node:fs"
import { posix } from "node:path"

const decode = (text: string) => text.replaceAll("&amp;", "&").replaceAll("&quot;", "\"")

const matches = (html: string, pattern: RegExp): ReadonlyArray<string> =>
  Array.from(html.matchAll(pattern), ([, value]) => decode(value ?? ""))

interface Page {
  readonly links: ReadonlyArray<string>
  readonly anchors: ReadonlySet<string>
}

/** Everything that a page of this folder refers to and that is not there: pages, files and anchors. */
export const deadLinks = (
  folder: string,
  base = "/"
): ReadonlyArray<{ readonly page: string; readonly link: string }> => {
  const pages = new Map<string, Page>()
  for (const file of readdirSync(folder, { recursive: true, encoding: "utf8" })) {
    if (!file.endsWith(".html")) continue
    const html = readFileSync(posix.join(folder, file), "utf8")
    pages.set(file.replaceAll("\\", "/"), {
      links: matches(html, /\s(?:href|src)="([^"]+)"/g),
      anchors: new Set(matches(html, /\sid="([^"]+)"/g))
    })
  }
  const isAlive = (page: string, link: string): boolean => {
    if (/^(?:https?:|mailto:|data:)/.test(link)) return true
    const { hash, pathname } = new URL(link, `http://site${base}${page}`)
    if (!pathname.startsWith(base)) return false
    const path = decodeURIComponent(pathname.slice(base.length))
    const target = [path, posix.join(path, "index.html"), `${path}.html`]
      .find((name) => existsSync(posix.join(folder, name)) && statSync(posix.join(folder, name)).isFile())
    if (target === undefined) return false
    const anchor = decodeURIComponent(hash.slice(1))
    // The generator of the reference makes some links to what has no heading.
    return anchor === "" || target.startsWith("api/") || pages.get(target)?.anchors.has(anchor) === true
  }
  return [...pages].flatMap(([page, { links }]) =>
    [...new Set(links)].filter((link) => !isAlive(page, link)).map((link) => ({ page, link }))
  )
}
