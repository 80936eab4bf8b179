/**
 * @since 0.1.0
 */
export * from "./Leaderboard.js"
