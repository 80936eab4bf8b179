/**
 * Between text and the engine's strings, which hold one byte in each character.
 */

/** Whether every character is ASCII, so that text and bytes are the same. */
const isAscii = (text: string): boolean => {
  if (text.length > 48) return !/[^\0-\x7f]/.test(text)
  for (let i = 0; i < text.length; i++) if (text.charCodeAt(i) > 127) return false
  return true
}

export const encodeText = (text: string): string => isAscii(text) ? text : Buffer.from(text, "utf8").toString("latin1")

export const decodeText = (bytes: string): string =>
  isAscii(bytes) ? bytes : Buffer.from(bytes, "latin1").toString("utf8")

export const encodeBytes = (bytes: Uint8Array): string =>
  Buffer.from(bytes.buffer, bytes.byteOffset, bytes.byteLength).toString("latin1")

export const decodeBytes = (bytes: string): Uint8Array => new Uint8Array(Buffer.from(bytes, "latin1"))
