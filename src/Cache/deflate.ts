import { deflateRawSync, inflateRawSync } from "node:zlib"
import type { Codec } from "./Cache.js"

/**
 * Compresses payloads of at least `threshold` bytes (1024 by default), where that makes them smaller. What inflates to
 * more than `maxBytes` (64 MB by default) counts as undecodable.
 *
 * @example
 * ```ts
 * import { Cache } from "effect-redis-kit"
 *
 * const Pages = Cache.json<string>({ name: "pages", ttl: "1 hour", codec: Cache.deflate({ threshold: 2048 }) })
 * ```
 *
 * @since 0.1.0
 * @category codecs
 */
export const deflate = (options?: {
  readonly threshold?: number | undefined
  readonly maxBytes?: number | undefined
}): Codec => {
  const { maxBytes: maxOutputLength = 64 * 1024 * 1024, threshold = 1024 } = options ?? {}
  return {
    encode: (json) => {
      const bytes = Buffer.from(json)
      if (bytes.length < threshold) return undefined
      const packed = deflateRawSync(bytes)
      return packed.length < bytes.length ? packed : undefined
    },
    decode: (bytes) => inflateRawSync(bytes, { maxOutputLength }).toString()
  }
}
