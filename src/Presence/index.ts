/**
 * @since 0.1.0
 */
export * from "./Presence.js"
