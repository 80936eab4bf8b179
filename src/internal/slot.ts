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

const encoder = new TextEncoder()

/** @internal */
export const hashTag = (key: string): string => {
  const open = key.indexOf("{")
  if (open === -1) return key
  const close = key.indexOf("}", open + 1)
  return close > open + 1 ? key.slice(open + 1, close) : key
}

/** @internal */
export const hashSlot = (key: string): number => {
  let crc = 0
  for (const byte of encoder.encode(hashTag(key))) crc = ((crc << 8) & 0xffff) ^ table[((crc >> 8) ^ byte) & 0xff]!
  return crc & 16383
}
