/**
 * How tests and comparisons read replies of the engine.
 */
import { type EngineReply, ErrorReply, Status } from "../../src/memory/reply.js"

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
