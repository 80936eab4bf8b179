/**
 * Hash slots of Redis Cluster: CRC16 (XMODEM) of the key, or of what stands between the first `{` and the next `}`.
 *
 * @see https://redis.io/docs/latest/operate/oss_and_stack/reference/cluster-spec/#key-distribution-model
 */
const table = new Uint16Array(256)
for (let i = 0; i < 256; i++) {
  let crc = i << 8
  for (let bit = 0; bit < 8; bit++) crc = (crc & 0x8000) !== 0 ? (crc << 1) ^ 0x1021 : crc << 1
  table[i] = crc
}

/** How many slots there are. */
export const SLOTS = 16384

const encoder = new TextEncoder()

const OPEN = 0x7b
const CLOSE = 0x7d

/** @internal */
export const hashTag = (key: string): string => {
  const open = key.indexOf("{")
  if (open === -1) return key
  const close = key.indexOf("}", open + 1)
  return close > open + 1 ? key.slice(open + 1, close) : key
}

const ofBytes = (bytes: Uint8Array): number => {
  let crc = 0
  for (const byte of bytes) crc = ((crc << 8) & 0xffff) ^ table[((crc >> 8) ^ byte) & 0xff]!
  return crc & (SLOTS - 1)
}

/** @internal */
export const hashSlot = (key: string): number => {
  const tag = hashTag(key)
  let crc = 0
  for (let i = 0; i < tag.length; i++) {
    const code = tag.charCodeAt(i)
    if (code > 127) return ofBytes(encoder.encode(tag))
    crc = ((crc << 8) & 0xffff) ^ table[((crc >> 8) ^ code) & 0xff]!
  }
  return crc & (SLOTS - 1)
}

/**
 * As `hashSlot`, of a key that may be bytes.
 *
 * @internal
 */
export const hashSlotOf = (key: string | Uint8Array): number => {
  if (typeof key === "string") return hashSlot(key)
  const open = key.indexOf(OPEN)
  const close = open === -1 ? -1 : key.indexOf(CLOSE, open + 1)
  return ofBytes(close > open + 1 ? key.subarray(open + 1, close) : key)
}
