/**
 * A headless Chromium for tests, driven over a pipe by its DevTools protocol.
 */
import { Data, Effect, Option, type Scope } from "effect"
import { execFile, spawn } from "node:child_process"
import { mkdtempSync, rmSync } from "node:fs"
import { tmpdir } from "node:os"
import { join } from "node:path"
import type { Readable, Writable } from "node:stream"
import * as RealServer from "../kit/RealServer.js"

export class ChromiumError extends Data.TaggedError("ChromiumError")<{ readonly message: string }> {}

/** What `find` looks at; tests put their own in place of it. */
export interface Surroundings extends Pick<RealServer.Surroundings, "which" | "canInstall" | "say"> {
  readonly install: Effect.Effect<void, ChromiumError>
}

const apt = (...args: ReadonlyArray<string>) =>
  Effect.async<void, ChromiumError>((resume) => {
    const env = { ...process.env, DEBIAN_FRONTEND: "noninteractive" }
    execFile("apt-get", args, { env }, (error) =>
      resume(error === null ? Effect.void : Effect.fail(new ChromiumError({ message: error.message }))))
  })

export const surroundings: Surroundings = {
  ...RealServer.surroundings,
  install: Effect.zipRight(apt("update", "-qq"), apt("install", "-y", "-qq", "--no-install-recommends", "chromium"))
}

const names = ["chromium", "chromium-browser", "google-chrome", "google-chrome-stable"]

/** A program on the PATH, or a package that is installed on the spot. The test is never skipped for want of a browser. */
export const find = (around: Surroundings = surroundings): Effect.Effect<string, ChromiumError> =>
  Effect.gen(function*() {
    const program = Effect.sync(() => Option.firstSomeOf(names.map((name) => around.which(name))))
    let found = yield* program
    if (Option.isNone(found) && around.canInstall) {
      around.say("No Chromium found: installing it with apt-get.")
      yield* around.install
      found = yield* program
    }
    return yield* Option.match(found, {
      onNone: () =>
        new ChromiumError({ message: `No Chromium for the tests: put ${names[0]} or ${names[2]} on the PATH.` }),
      onSome: Effect.succeed
    })
  })

type Params = Readonly<Record<string, unknown>>

interface Answer {
  readonly id?: number
  readonly result?: Params
  readonly error?: { readonly message: string }
  readonly method?: string
  readonly params?: any
  readonly sessionId?: string
}

type Send = (method: string, params?: Params, session?: string) => Effect.Effect<any, ChromiumError>

/** Messages end with a zero byte. What is no answer to a question is told to `hear`. */
const speak = (output: Writable, input: Readable, hear: (event: Answer) => void): Send => {
  const waiting = new Map<number, (answer: Effect.Effect<unknown, ChromiumError>) => void>()
  let last = 0
  let rest = ""
  input.setEncoding("utf8")
  input.on("data", (chunk: string) => {
    const messages = (rest + chunk).split("\0")
    rest = messages.pop() ?? ""
    for (const message of messages) {
      const answer = JSON.parse(message) as Answer
      const { error, id = 0, result } = answer
      if (id === 0) hear(answer)
      waiting.get(id)?.(error === undefined ? Effect.succeed(result) : new ChromiumError(error))
      waiting.delete(id)
    }
  })
  input.on("close", () => waiting.forEach((resume) => resume(new ChromiumError({ message: "Chromium has ended." }))))
  output.on("error", () => {})
  return (method, params = {}, sessionId) =>
    Effect.async((resume) => {
      waiting.set(++last, resume)
      output.write(`${JSON.stringify({ id: last, method, params, sessionId })}\0`)
    })
}

export interface Cookie {
  readonly name: string
  readonly value: string
  readonly domain: string
  readonly path: string
  readonly httpOnly: boolean
  readonly secure: boolean
  readonly sameSite?: string
  readonly session: boolean
}

/** A page in a context of its own: it shares no cookies with the others. */
export interface Page {
  /** The value of an expression; promises are waited for. */
  readonly evaluate: (expression: string) => Effect.Effect<any, ChromiumError>
  /** Waits until an expression is true. */
  readonly until: (expression: string) => Effect.Effect<void, ChromiumError>
  /** Writes a text into an input, as a user does. */
  readonly type: (selector: string, text: string) => Effect.Effect<void, ChromiumError>
  /** Presses the mouse in the middle of an element. */
  readonly click: (selector: string) => Effect.Effect<void, ChromiumError>
  readonly cookies: Effect.Effect<ReadonlyArray<Cookie>, ChromiumError>
  /** Shows it in a window of this size, to somebody who likes it light or dark. */
  readonly look: (how: {
    readonly width: number
    readonly height: number
    readonly scheme?: "light" | "dark" | undefined
  }) => Effect.Effect<void, ChromiumError>
  /** All of it as a PNG. */
  readonly picture: Effect.Effect<Buffer, ChromiumError>
  /** What its console says is wrong, and what its scripts have thrown. */
  readonly problems: Effect.Effect<ReadonlyArray<string>>
}

/** What is wrong, if an event says so. */
const problemOf = ({ method, params }: Answer): Option.Option<string> => {
  switch (method) {
    case "Runtime.exceptionThrown":
      return Option.some(params.exceptionDetails.exception?.description ?? params.exceptionDetails.text)
    case "Runtime.consoleAPICalled":
      return params.type === "error" || params.type === "assert"
        ? Option.some(JSON.stringify(params.args))
        : Option.none()
    case "Log.entryAdded":
      return params.entry.level === "error"
        ? Option.some(`${params.entry.text} ${params.entry.url ?? ""}`)
        : Option.none()
    default:
      return Option.none()
  }
}

export interface Browser {
  /** A page that is closed with the scope. */
  readonly open: (url: string) => Effect.Effect<Page, ChromiumError, Scope.Scope>
}

const pageOf = (send: Send, session: string, problems: ReadonlyArray<string>): Page => {
  const call = (method: string, params?: Params) => send(method, params, session)
  const evaluate: Page["evaluate"] = (expression) =>
    Effect.flatMap(
      call("Runtime.evaluate", { expression, awaitPromise: true, returnByValue: true }),
      ({ exceptionDetails, result }) =>
        exceptionDetails === undefined
          ? Effect.succeed(result.value)
          : new ChromiumError({ message: `${expression}: ${JSON.stringify(exceptionDetails)}` })
    )
  const until: Page["until"] = (expression) =>
    RealServer.until(
      expression,
      Effect.orElseSucceed(evaluate(expression), () => false),
      (value) => value === true,
      String
    ).pipe(
      Effect.catchAll(({ message }) =>
        Effect.flatMap(evaluate("document.body.innerText"), (text) =>
          new ChromiumError({ message: `${message}\n${text}` }))
      ),
      Effect.asVoid
    )
  const click: Page["click"] = (selector) =>
    Effect.gen(function*() {
      const [x, y] = yield* evaluate(`(() => {
        const element = document.querySelector(${JSON.stringify(selector)})
        element.scrollIntoView({ block: "center" })
        const box = element.getBoundingClientRect()
        return [box.x + box.width / 2, box.y + box.height / 2]
      })()`)
      for (const type of ["mousePressed", "mouseReleased"]) {
        yield* call("Input.dispatchMouseEvent", { type, x, y, button: "left", clickCount: 1 })
      }
    })
  return {
    evaluate,
    until,
    click,
    type: (selector, text) => Effect.zipRight(click(selector), Effect.asVoid(call("Input.insertText", { text }))),
    cookies: Effect.map(call("Network.getCookies"), ({ cookies }) => cookies),
    look: ({ height, scheme = "light", width }) =>
      Effect.zipRight(
        call("Emulation.setDeviceMetricsOverride", { width, height, deviceScaleFactor: 1, mobile: width < 600 }),
        Effect.asVoid(
          call("Emulation.setEmulatedMedia", { features: [{ name: "prefers-color-scheme", value: scheme }] })
        )
      ),
    picture: Effect.map(
      call("Page.captureScreenshot", { captureBeyondViewport: true }),
      ({ data }) => Buffer.from(data, "base64")
    ),
    problems: Effect.sync(() => [...problems])
  }
}

/** A browser with a profile of its own, which ends with the scope. */
export const start: Effect.Effect<Browser, ChromiumError, Scope.Scope> = Effect.gen(function*() {
  const program = yield* find()
  const profile = yield* Effect.acquireRelease(
    Effect.sync(() => mkdtempSync(join(tmpdir(), "chromium-test-"))),
    (folder) => Effect.sync(() => rmSync(folder, { recursive: true, force: true, maxRetries: 10 }))
  )
  const child = yield* Effect.acquireRelease(
    Effect.sync(() =>
      spawn(program, [
        "--headless=new",
        "--remote-debugging-pipe",
        `--user-data-dir=${profile}`,
        "--no-first-run",
        "--disable-gpu",
        "--disable-dev-shm-usage",
        // Its sandbox does not work for root, nor in most containers; it only ever sees a page of our own.
        "--no-sandbox"
      ], { stdio: ["ignore", "ignore", "ignore", "pipe", "pipe"] })
    ),
    (child) =>
      Effect.async<void>((resume) => {
        if (child.exitCode !== null || child.signalCode !== null || child.pid === undefined) return resume(Effect.void)
        child.once("exit", () => resume(Effect.void))
        child.kill("SIGKILL")
      })
  )
  child.on("error", () => {})
  const problems = new Map<string, Array<string>>()
  const send = speak(
    child.stdio[3] as Writable,
    child.stdio[4] as Readable,
    (event) => Option.map(problemOf(event), (problem) => problems.get(event.sessionId ?? "")?.push(problem))
  )
  return {
    open: (url) =>
      Effect.gen(function*() {
        const { browserContextId } = yield* Effect.acquireRelease(
          send("Target.createBrowserContext"),
          ({ browserContextId }) => Effect.ignore(send("Target.disposeBrowserContext", { browserContextId }))
        )
        const blank = { url: "about:blank", browserContextId, width: 1200, height: 900 }
        const { targetId } = yield* send("Target.createTarget", blank)
        const { sessionId } = yield* send("Target.attachToTarget", { targetId, flatten: true })
        const wrong: Array<string> = []
        problems.set(sessionId, wrong)
        const page = pageOf(send, sessionId, wrong)
        yield* send("Runtime.enable", {}, sessionId)
        yield* send("Log.enable", {}, sessionId)
        yield* send("Page.navigate", { url }, sessionId)
        yield* page.until("document.readyState === 'complete' && location.protocol.startsWith('http')")
        return page
      })
  }
})
