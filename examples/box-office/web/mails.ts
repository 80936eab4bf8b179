/**
 * What became of the confirmations, and what could not be brought.
 */
import { HttpApiBuilder } from "@effect/platform"
import { Effect } from "effect"
import { Sessions } from "effect-redis-kit/http"
import { mailsOf, queueOf, sendAgain } from "../mail.js"
import { report, SentAgain } from "../news.js"
import type { Sale } from "../sale.js"
import { Api, NotFound } from "./api.js"
import { orUnavailable } from "./unavailable.js"

export const mails = (sale: Sale) =>
  HttpApiBuilder.group(Api, "mails", (handlers) =>
    handlers
      .handle("mails", () => orUnavailable(mailsOf(sale)))
      .handle("queue", () => orUnavailable(queueOf(sale)))
      .handle("sendAgain", ({ path: { order } }) =>
        Effect.gen(function*() {
          const { userId } = yield* Sessions.CurrentSession
          yield* Effect.catchTags(sendAgain(sale, order), {
            JobNotDead: () => new NotFound(),
            JobNotFound: () => new NotFound()
          })
          yield* report(sale, new SentAgain({ order, by: userId }))
        }).pipe(orUnavailable)))
