/**
 * Replies inside the in-memory server. Strings hold bytes, one for each character (0 to 255), so that order and length
 * are those of bytes.
 */

/** A simple string, as `+OK`. */
export class Status {
  constructor(readonly text: string) {}
}

/** An error, as `-WRONGTYPE Operation …`; the text starts with its code. */
export class ErrorReply {
  constructor(readonly text: string) {}
}

export type EngineReply = null | number | string | Status | ErrorReply | ReadonlyArray<EngineReply>

export const OK = new Status("OK")
