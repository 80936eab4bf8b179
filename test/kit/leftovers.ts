/**
 * What the servers that a test started left behind.
 */
import { Effect, type Scope } from "effect"
import * as Fs from "node:fs"
import * as Os from "node:os"
import * as Path from "node:path"

const attempt = (read: () => string): string => {
  try {
    return read()
  } catch {
    return "" // gone meanwhile
  }
}

/** The processes that work in a folder, or were told of it. */
const processes = (folder: string): ReadonlyArray<string> =>
  (Fs.existsSync("/proc") ? Fs.readdirSync("/proc") : []).filter((pid) =>
    /^\d+$/.test(pid) && (
      attempt(() => Fs.readlinkSync(`/proc/${pid}/cwd`)).startsWith(folder) ||
      attempt(() => Fs.readFileSync(`/proc/${pid}/cmdline`, "utf8")).includes(folder)
    )
  )

export interface Leftovers {
  readonly folders: ReadonlyArray<string>
  readonly processes: ReadonlyArray<string>
}

/** Servers that start within the scope have their folders in one of its own; tells what is there now. */
export const watch: Effect.Effect<Effect.Effect<Leftovers>, never, Scope.Scope> = Effect.suspend(() => {
  const before = process.env.TMPDIR
  return Effect.acquireRelease(
    Effect.sync(() => process.env.TMPDIR = Fs.mkdtempSync(Path.join(Os.tmpdir(), "leftovers-"))),
    (own) =>
      Effect.sync(() => {
        if (before === undefined) delete process.env.TMPDIR
        else process.env.TMPDIR = before
        Fs.rmSync(own, { recursive: true, force: true })
      })
  )
}).pipe(
  Effect.map((own) => Effect.sync(() => ({ folders: Fs.readdirSync(own), processes: processes(own) })))
)
