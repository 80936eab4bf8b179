import * as Effect from "effect/Effect"
import type { HyperLogLogCommands } from "../../RedisCommands.js"
import { checkKey } from "../input.js"
import { checkKeys, checkSomeKeys } from "./args.js"
import * as Decode from "./decode.js"
import type { Env } from "./env.js"

/** @internal */
export const make = ({ key, read, write }: Env): HyperLogLogCommands => ({
  pfAdd: (name, ...elements) => write("PFADD", checkKey("pfAdd", name) ?? [key(name), ...elements], Decode.boolean),
  // It may keep what it has counted, which changes no answer.
  pfCount: (...names) =>
    names.length === 0
      ? Effect.succeed(0)
      : read("PFCOUNT", checkKeys("pfCount", names) ?? names.map(key), Decode.integer),
  pfMerge: (destination, names) =>
    write(
      "PFMERGE",
      checkKey("pfMerge", destination, "destination") ?? checkSomeKeys("pfMerge", names) ??
        [key(destination), ...names.map(key)],
      Decode.ok
    )
})
