import { Effect } from "effect"
import * as Session from "../../src/Session/index.js"
import { interruptions } from "../kit/interruption.js"

const Interrupted = Session.define({ name: "interrupted", maxPerUser: 3, rotateGrace: "1 minute", watchExpiry: true })

const open = Session.open(Interrupted)

/** What is interrupted can be anywhere; whoever got a token in spite of that logs out with it. */
const login = (userId: string) =>
  Effect.uninterruptibleMask((restore) =>
    Effect.gen(function*() {
      const sessions = yield* open
      const { token } = yield* restore(sessions.create({ userId, data: {} }))
      yield* sessions.delete(token)
    })
  )

interruptions({
  layer: Session.layer,
  keys: "session:",
  competitor: login,
  forms: {
    "create": login,
    "rotate": (userId) =>
      Effect.uninterruptibleMask((restore) =>
        Effect.gen(function*() {
          const sessions = yield* open
          const { token } = yield* sessions.create({ userId, data: {} })
          const rotated = yield* Effect.exit(restore(sessions.rotate(token)))
          yield* sessions.delete(rotated._tag === "Success" ? rotated.value.token : token)
        })
      ),
    "use": (userId) =>
      Effect.uninterruptibleMask((restore) =>
        Effect.gen(function*() {
          const sessions = yield* open
          const { token } = yield* sessions.create({ userId, data: {} })
          yield* Effect.exit(restore(Effect.all([
            sessions.getAndTouch(token),
            sessions.update(token, {}),
            sessions.listForUser(userId)
          ])))
          yield* sessions.delete(token)
        })
      ),
    "deleteForUser": (userId) =>
      Effect.uninterruptibleMask((restore) =>
        Effect.gen(function*() {
          const sessions = yield* open
          yield* sessions.create({ userId, data: {} })
          yield* Effect.exit(restore(sessions.deleteForUser(userId)))
          yield* sessions.deleteForUser(userId)
        })
      )
  }
})
