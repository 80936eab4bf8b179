/**
 * The lobby, where buyers talk to each other while the sale is on.
 */
import { Effect, Schema } from "effect"
import { ChatRoom, RedisClient } from "effect-redis-kit"
import type { Sale } from "./sale.js"

/** What one may say. */
export const Words = Schema.Trim.pipe(Schema.minLength(1), Schema.maxLength(280))

const Lobby = ChatRoom.define({
  name: "box-office",
  message: Schema.String,
  history: { size: 50, ttl: "1 hour" },
  idle: "1 hour"
})

/** Says something to everybody. With the same id it is said once, however often it is sent. */
export const say = (sale: Sale, buyer: string, words: string, id: string | undefined) =>
  Effect.zipRight(
    ChatRoom.join(Lobby, sale.id, buyer),
    ChatRoom.send(Lobby, sale.id, buyer, words, { id })
  ).pipe(
    // The room has ended between the two.
    Effect.retry({ times: 2, while: ({ _tag }) => _tag === "NotAMember" }),
    Effect.catchTag("NotAMember", Effect.die)
  )

/** What was said, and then what is said. Ready when the server has confirmed it. */
export const listen = (sale: Sale) => ChatRoom.subscribe(Lobby, sale.id, { from: "start", capacity: 100 })

/** Removes what would be gone later. */
export const forgetLobby = (sale: Sale) =>
  Effect.flatMap(RedisClient.RedisClient, (redis) => redis.unlinkMatching(`chat:{${Lobby.name}:${sale.id}}:*`))
