/**
 * Who is there, and chats that everybody reads along.
 */
import { Effect, Either, Schema, Stream } from "effect"
import * as ChatRoom from "../../src/ChatRoom/index.js"
import * as Presence from "../../src/Presence/index.js"
import { readers } from "./streams.js"
import { COMMAND_TIMEOUT, found, type Load, now, patient, readAll, together, type Verdict, Work } from "./work.js"

export const GONE = "presence: who has left is gone within its time to live"
export const PRESENT = "presence: who is there is listed"
export const SENT = "chat rooms: no message is lost"
export const READ = "chat rooms: no message twice, none missing without being told"

/** Milliseconds. */
export const TTL = 2000

/**
 * Who is at work is listed so long after the last trouble at the latest: a call that the trouble has swallowed takes the
 * command timeout, and then there is another one.
 */
export const LATEST = COMMAND_TIMEOUT + 3 * TTL

const Lobby = Presence.define({ name: "lobby", ttl: TTL })

const Chats = ChatRoom.define({
  name: "chats",
  message: Schema.Struct({ n: Schema.Number }),
  history: { size: 100_000 }
})

const ROOMS = ["blue", "red"]

/** A message, or that some are missing. */
type Heard = { readonly epoch: string; readonly offset: number; readonly id: string } | "lost"

/** What one reader was given. Nothing is said about what comes right after it was told that some are missing. */
export const judgeChat = (
  heard: ReadonlyArray<Heard>,
  sent: ReadonlyMap<string, number>
): Omit<Verdict, "promise"> => {
  const violations: Array<string> = []
  const all = new Set<string>()
  let since = new Set<string>()
  let before: Exclude<Heard, "lost"> | undefined
  let checks = 0
  let whole = true
  for (const each of heard) {
    if (each === "lost") {
      before = undefined
      since = new Set()
      whole = false
      continue
    }
    checks++
    const { epoch, id, offset } = each
    if (since.has(id)) violations.push(`${id} came twice`)
    if (before !== undefined && (epoch !== before.epoch || offset !== before.offset + 1)) {
      violations.push(`${epoch} ${offset} came after ${before.epoch} ${before.offset}`)
    }
    since.add(id)
    all.add(id)
    before = each
  }
  const first = heard.find((each) => each !== "lost")
  if (whole && first !== undefined && before !== undefined) {
    for (const [id, offset] of sent) {
      if (offset < first.offset || offset > before.offset) continue
      checks++
      if (!all.has(id)) violations.push(`${id} did not come`)
    }
  }
  return { checks, violations }
}

/** Those who are there, for whoever knows who should be. */
export const present = Effect.map(
  Presence.members(Lobby, "all", { limit: 1000 }),
  ({ members }) => members.map(({ user }) => user)
)

export const load: Load = {
  run: Effect.gen(function*() {
    const { ask, book, bug, check, confirm, paced, task } = yield* Work

    yield* patient(Presence.join(Lobby, "all", task.planted ? `${task.name}?` : task.name))

    let visits = 0
    const visit = Effect.gen(function*() {
      const user = `${task.name}/${++visits}`
      yield* Effect.scoped(Effect.zipRight(
        ask("Presence.join", Presence.join(Lobby, "visits", user)),
        Effect.sleep(Math.random() * 1000)
      ))
      const left = now()
      const stays = bug()
      if (stays) yield* Presence.join(Lobby, "visits", user)
      yield* Effect.sleep(TTL + 500)
      const isOnline = Presence.isOnline(Lobby, "visits", user)
      if (!(yield* ask("Presence.isOnline", isOnline))) return yield* check(GONE, true, () => "")
      // A master that was away does not know at once that it is none any more.
      const { confirmed, result } = yield* confirm("presence:{lobby:visits}", isOnline)
      if (!confirmed || Either.isLeft(result)) return
      yield* check(GONE, !result.right, () => `${user} is there ${Math.round(now() - left)} ms after it left`)
    }).pipe(Effect.scoped)
    for (let i = 0; i < 3; i++) yield* Effect.forkScoped(paced(200, visit))

    for (const room of ROOMS) {
      yield* patient(ChatRoom.join(Chats, room, task.name))
      const events = yield* patient(ChatRoom.subscribe(Chats, room))
      yield* Effect.forkScoped(
        events.pipe(
          Stream.runForEach((element) =>
            Effect.suspend(() => {
              if (element._tag === "HistoryLost") return book.note(`chat:${room}:${task.name}`, "lost" satisfies Heard)
              if (element._tag !== "Message" || bug()) return Effect.void
              const { id, position } = element
              return book.note(`chat:${room}:${task.name}`, { ...position, id } satisfies Heard)
            })
          ),
          Effect.tapErrorCause((cause) => book.note("chat-ended", String(cause)))
        )
      )
      let n = 0
      yield* Effect.forkScoped(paced(
        80,
        Effect.gen(function*() {
          const id = `${task.name}/${++n}`
          const { confirmed, result } = yield* confirm(
            `chat:{chats:${room}}`,
            ask("ChatRoom.send", ChatRoom.send(Chats, room, task.name, { n }, { id }))
          )
          if (Either.isRight(result) && confirmed) {
            yield* book.note(`said:${room}`, [bug() ? `${id}?` : id, result.right.position.offset])
          }
          // Who has joined, and nobody but itself can end that, is a member; a failover may have lost the moment of joining.
          if (Either.isLeft(result) && result.left._tag === "NotAMember") {
            yield* ChatRoom.join(Chats, room, task.name)
          }
        })
      ))
    }
  }),
  judge: (book) =>
    Effect.gen(function*() {
      const kept: Array<Omit<Verdict, "promise">> = []
      const read: Array<Omit<Verdict, "promise">> = []
      for (const room of ROOMS) {
        const said = new Map(yield* readAll<readonly [string, number]>(book, `said:${room}`))
        const stored = new Set<string>()
        let before: number | undefined
        while (true) {
          const page = yield* ChatRoom.history(Chats, room, { limit: 500, before })
          for (const message of page.messages) if (message._tag === "Message") stored.add(message.id)
          const first = page.messages[0]
          if (first === undefined) break
          before = first.position.offset
        }
        kept.push({ checks: said.size, violations: [...said.keys()].filter((id) => !stored.has(id)) })
        for (const heard of yield* readers<Heard>(book, `chat:${room}`)) read.push(judgeChat(heard, said))
      }
      const ended = yield* readAll<string>(book, "chat-ended")
      return [
        yield* found(book, GONE),
        together({ promise: SENT, checks: 0, violations: [] }, ...kept),
        together(
          { promise: READ, checks: 0, violations: ended.map((cause) => `a subscription ended: ${cause}`) },
          ...read
        )
      ]
    })
}
