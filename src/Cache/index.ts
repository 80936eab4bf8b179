/**
 * @since 0.1.0
 */
export * from "./Cache.js"

/**
 * @since 0.1.0
 */
export { deflate } from "./deflate.js"
