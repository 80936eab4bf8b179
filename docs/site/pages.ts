/** The pages of the site in the order of its sidebar. A page that does not exist is left out. */
import { existsSync, readdirSync, readFileSync } from "node:fs"
import { fileURLToPath } from "node:url"

const docs = fileURLToPath(new URL("../", import.meta.url))

export interface Group {
  readonly title: string
  readonly pages: ReadonlyArray<string>
  readonly collapsed?: boolean
}

export const groups: ReadonlyArray<Group> = [
  { title: "Start", pages: ["getting-started", "architecture", "configuration", "testing"] },
  {
    title: "Recipes",
    pages: [
      "recipes/index",
      "recipes/api-rate-limits",
      "recipes/authentication",
      "recipes/leaderboard",
      "recipes/job-queue",
      "recipes/cache-with-fallback"
    ]
  },
  { title: "Client", pages: ["client", "cluster-and-sentinel", "memory-server"] },
  { title: "Locks", pages: ["locks", "semaphores", "read-write-locks", "quorum"] },
  { title: "Limits, caches, sessions", pages: ["rate-limits", "cache", "sessions", "http"] },
  {
    title: "Queues",
    pages: [
      "queues",
      "queue-results",
      "queue-schedulers",
      "queue-groups",
      "queue-flows",
      "queue-batches",
      "operating-queues"
    ]
  },
  { title: "Messages", pages: ["messages", "presence", "chat-rooms"] },
  { title: "Streams and events", pages: ["streams", "event-store"] },
  { title: "Counts and places", pages: ["counters", "leaderboards", "geo"] },
  { title: "Other packages", pages: ["integrations"] },
  { title: "Operations", pages: ["operations", "reliability", "benchmarks"] },
  {
    title: "Coming from",
    pages: [
      "migrating-from-bullmq",
      "migrating-from-redlock",
      "migrating-from-rate-limiter-flexible",
      "migrating-from-connect-redis",
      "migrating-from-bentocache"
    ]
  },
  { title: "Project", pages: ["coverage", "decisions"], collapsed: true }
]

/** What is made from the sources, and what npm installed. */
const isWritten = (name: string) => !/^(?:api|node_modules|\.vitepress|public)\//.test(name)

/** All pages that somebody wrote. */
export const written: ReadonlyArray<string> = readdirSync(docs, { recursive: true, encoding: "utf8" })
  .map((name) => name.replaceAll("\\", "/"))
  .filter((name) => name.endsWith(".md") && isWritten(name))
  .map((name) => name.slice(0, -".md".length))
  .sort()

const titleOf = (page: string): string => {
  const [, title] = /^# (.+)$/m.exec(readFileSync(`${docs}${page}.md`, "utf8")) ?? []
  if (title === undefined) throw new Error(`docs/${page}.md has no heading`)
  return title.replaceAll("`", "")
}

/** The modules of the package, as far as their pages have been made. */
const modules = (): ReadonlyArray<string> => {
  if (!existsSync(`${docs}api`)) return []
  return readdirSync(`${docs}api`, { recursive: true, encoding: "utf8" })
    .map((name) => name.replaceAll("\\", "/"))
    .filter((name) => name.endsWith(".md") && name !== "index.md")
    .map((name) => name.slice(0, -".md".length))
    .sort((a, b) => (a < b ? -1 : 1))
}

export const sidebar = () => [
  ...groups.flatMap(({ collapsed, pages, title }) => {
    const items = pages.filter((page) => existsSync(`${docs}${page}.md`))
      .map((page) => ({ text: titleOf(page), link: `/${page.replace(/(?:^|\/)index$/, "/")}` }))
    return items.length === 0 ? [] : [{ text: title, items, collapsed: collapsed ?? false }]
  }),
  {
    text: "API",
    collapsed: true,
    items: [
      { text: "All modules", link: "/api/" },
      ...modules().map((name) => ({
        text: name.replace(/\/index$/, ""),
        link: `/api/${name.replace(/(?:^|\/)index$/, "/")}`
      }))
    ]
  }
]
