/**
 * How tests and comparisons read replies of the engine.
 */
import { type EngineReply, ErrorReply, Status } from "../../src/memory/reply.js"
import * as Resp from "../kit/resp.js"

/** Errors read as `-CODE text` and statuses as `+OK`, as on the wire. */
export type Shown = string | number | null | ReadonlyArray<Shown>

export const show = (reply: EngineReply): Shown =>
  reply instanceof ErrorReply
    ? `-${reply.text}`
    : reply instanceof Status
    ? `+${reply.text}`
    : typeof reply === "object" && reply !== null
    ? reply.map(show)
    : reply

/** As the test kit's parser reads it, which does not tell statuses from strings. */
export const bare = (reply: EngineReply): Shown =>
  reply instanceof Status ? reply.text : Array.isArray(reply) ? reply.map(bare) : show(reply)

/** What the test kit has read from a server. */
export const fromWire = (reply: Resp.Reply): Shown =>
  reply instanceof Resp.ErrorReply
    ? `-${reply.message}`
    : typeof reply === "object" && reply !== null
    ? reply.map(fromWire)
    : reply
