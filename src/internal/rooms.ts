/**
 * Rooms of whatever kind: their keys, and which names they and their users may have.
 */
import type { RedisInputError } from "../RedisError.js"
import { checkKey, inputError } from "./input.js"

/**
 * What the keys of a room begin with; all of them share a slot. A colon in the name of the kind of room would end it
 * early, `}` the hash tag, and `%` is what both are written with.
 *
 * @internal
 */
export const roomKey = (kind: string, name: string, room: string): string =>
  `${kind}:{${name.replace(/[%:}]/g, encodeURIComponent)}:${room.replace(/[%}]/g, encodeURIComponent)}}`

/** Two texts with halves of a character in them could be the same bytes; NUL is what ends a user's name on the server. */
const FORBIDDEN = /[\0\p{Surrogate}]/u

const EXPECTED = "a non-empty, well-formed text without NUL"

/** @internal */
export const checkName = (operation: string, field: string, name: string): RedisInputError | undefined =>
  checkKey(operation, name, field) ?? (FORBIDDEN.test(name) ? inputError(operation, field, EXPECTED, name) : undefined)
