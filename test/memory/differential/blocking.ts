/**
 * Commands that wait.
 */
import { FastCheck as FC } from "effect"
import { command, counted, list, many, oneOf, optional, words, zset } from "./generators.js"
import { side } from "./lists.js"
import { readGroup, streamCount, streamsAndIds, undelivered } from "./streams.js"

const timeout = oneOf("0.001", "0.001", "-1", "x", "inf", "")

/** Waiting takes real time, so these are rare. */
export const blocking = FC.oneof(
  command("XREAD", oneOf("BLOCK"), oneOf("1", "1", "-1", "x"), streamCount, streamsAndIds(oneOf("$", "9-7", "99-0"))),
  command(
    "XREADGROUP",
    readGroup,
    oneOf("BLOCK"),
    oneOf("1", "1", "-1", "x"),
    streamCount,
    streamsAndIds(undelivered)
  ),
  command(oneOf("BLPOP", "BRPOP"), many(list, 1, 2), timeout),
  command("BLMOVE", list, list, side, side, timeout),
  command("BRPOPLPUSH", list, list, timeout),
  command("BLMPOP", timeout, counted(list), side, optional(words("COUNT 2", "COUNT 0"))),
  command(oneOf("BZPOPMIN", "BZPOPMAX"), many(zset, 1, 2), timeout),
  command("BZMPOP", timeout, counted(zset), oneOf("MIN", "MAX"), optional(words("COUNT 2")))
)
