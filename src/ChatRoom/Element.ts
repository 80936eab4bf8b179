/**
 * What comes out of a chat room.
 *
 * @since 0.1.0
 */
import * as Data from "effect/Data"
import * as DateTime from "effect/DateTime"
import * as Either from "effect/Either"
import type * as Option from "effect/Option"
import * as Schema from "effect/Schema"

/**
 * A place in the history of a room. `offset` is the number of a message; `epoch` names the count, and a new one begins
 * when the server has lost it. Before the first message it is an empty epoch and 0.
 *
 * @since 0.1.0
 * @category schemas
 */
export const Position = Schema.Struct({
  epoch: Schema.String,
  offset: Schema.Int.pipe(Schema.between(0, Number.MAX_SAFE_INTEGER))
})

/**
 * @since 0.1.0
 * @category models
 */
export type Position = typeof Position.Type

/**
 * A message that is stored. `id` is what its sender gave it.
 *
 * @since 0.1.0
 * @category models
 */
export class Message<A> extends Data.TaggedClass("Message")<{
  readonly position: Position
  readonly id: string
  readonly user: string
  readonly at: DateTime.Utc
  readonly value: A
}> {}

/**
 * A message that the present schema can't read; another version of the program has sent it.
 *
 * @since 0.1.0
 * @category models
 */
export class Undecodable extends Data.TaggedClass("Undecodable")<{
  readonly position: Position
  readonly at: DateTime.Utc
}> {}

/**
 * Somebody has become a member.
 *
 * @since 0.1.0
 * @category models
 */
export class MemberJoined extends Data.TaggedClass("MemberJoined")<{
  readonly user: string
  readonly at: DateTime.Utc
}> {}

/**
 * Somebody is not a member any more.
 *
 * @since 0.1.0
 * @category models
 */
export class MemberLeft extends Data.TaggedClass("MemberLeft")<{
  readonly user: string
  readonly at: DateTime.Utc
}> {}

/**
 * A member types, or has stopped.
 *
 * @since 0.1.0
 * @category models
 */
export class Typing extends Data.TaggedClass("Typing")<{
  readonly user: string
  readonly typing: boolean
}> {}

/**
 * There was an outage, or this subscriber was too slow, and it is over: all messages of that time came before this
 * element, `messages` of them. What is not stored may be missing: who has become a member or stopped being one, and who
 * types.
 *
 * @since 0.1.0
 * @category models
 */
export class Recovered extends Data.TaggedClass("Recovered")<{
  readonly messages: number
}> {}

/**
 * Messages behind `position` are missing here and can't be had any more. They were trimmed from the history, and
 * `missed` says how many (`"trimmed"`); or the server has lost the count (`"epoch"`). What is left of the history comes
 * next.
 *
 * @since 0.1.0
 * @category models
 */
export class HistoryLost extends Data.TaggedClass("HistoryLost")<{
  readonly reason: "trimmed" | "epoch"
  readonly position: Position
  readonly missed: Option.Option<number>
}> {}

/**
 * @since 0.1.0
 * @category models
 */
export type Stored<A> = Message<A> | Undecodable

/**
 * @since 0.1.0
 * @category models
 */
export type Element<A> = Stored<A> | MemberJoined | MemberLeft | Typing | Recovered | HistoryLost

const Envelope = Schema.parseJson(Schema.Tuple(Schema.String, Schema.String, Schema.Unknown))

const encodeEnvelope = Schema.encodeEither(Envelope)
const decodeEnvelope = Schema.decodeEither(Envelope)

/** @internal */
export const encode = <A, I>(schema: Schema.Schema<A, I>, id: string, user: string, value: A) =>
  Either.flatMap(Schema.encodeEither(schema)(value), (payload) => encodeEnvelope([id, user, payload]))

/** @internal */
export const decoder = <A, I>(schema: Schema.Schema<A, I>) => {
  const decode = Schema.decodeUnknownEither(schema)
  return (position: Position, millis: number, body: string): Stored<A> => {
    const at = DateTime.unsafeMake(millis)
    const envelope = decodeEnvelope(body)
    if (Either.isLeft(envelope)) return new Undecodable({ position, at })
    const [id, user, payload] = envelope.right
    const value = decode(payload)
    return Either.isLeft(value)
      ? new Undecodable({ position, at })
      : new Message({ position, id, user, at, value: value.right })
  }
}
