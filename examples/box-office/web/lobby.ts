/**
 * What a buyer says in the lobby. Everybody hears it by the events.
 */
import { HttpApiBuilder } from "@effect/platform"
import { Effect } from "effect"
import { Sessions } from "effect-redis-kit/http"
import { say } from "../lobby.js"
import type { Sale } from "../sale.js"
import { Api } from "./api.js"
import { orUnavailable } from "./unavailable.js"

export const lobby = (sale: Sale) =>
  HttpApiBuilder.group(
    Api,
    "lobby",
    (handlers) =>
      handlers.handle("say", ({ payload: { id, words } }) =>
        Effect.flatMap(Sessions.CurrentSession, ({ userId }) =>
          say(sale, userId, words, id)).pipe(
            Effect.asVoid,
            orUnavailable
          ))
  )
