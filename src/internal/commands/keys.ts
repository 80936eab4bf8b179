import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Option from "effect/Option"
import type { ExpireOptions, KeyCommands } from "../../RedisCommands.js"
import { checkKey } from "../input.js"
import { type Args, checkKeys, instantArgs, isBad, millisArgs } from "./args.js"
import * as Decode from "./decode.js"
import { type Env, sum } from "./env.js"

const conditions = { none: ["NX"], some: ["XX"], greater: ["GT"], less: ["LT"] } as const

const condition = (options: ExpireOptions | undefined) =>
  options?.onlyIf === undefined ? [] : conditions[options.onlyIf]

const remaining = Decode.decoder("a number of milliseconds, -1 or -2", (reply) => {
  if (typeof reply !== "number" || !Number.isSafeInteger(reply) || reply < -2) return undefined
  return reply === -2 ? Option.none() : Option.some(reply === -1 ? Duration.infinity : Duration.millis(reply))
})

/** @internal */
export const make = ({ key, read, split, write }: Env): KeyCommands => {
  const expireArgs = (operation: string, name: string, time: Args, options: ExpireOptions | undefined): Args =>
    checkKey(operation, name) ?? (isBad(time) ? time : [key(name), ...time, ...condition(options)])

  const count = (operation: "del" | "unlink" | "exists" | "touch") => (...names: ReadonlyArray<string>) =>
    names.length === 0
      ? Effect.succeed(0)
      : split(
        operation === "exists" ? "read" : "write",
        operation.toUpperCase(),
        checkKeys(operation, names) ?? names.map(key),
        1,
        Decode.integer,
        (parts) => sum(parts.map(([n]) => n))
      )

  return {
    del: count("del"),
    unlink: count("unlink"),
    exists: count("exists"),
    expire: (name, ttl, options) =>
      write(
        "PEXPIRE",
        expireArgs("expire", name, millisArgs("expire", "ttl", ttl), options),
        Decode.boolean
      ),
    expireAt: (name, at, options) =>
      write(
        "PEXPIREAT",
        expireArgs("expireAt", name, instantArgs("expireAt", "at", at), options),
        Decode.boolean
      ),
    persist: (name) => write("PERSIST", checkKey("persist", name) ?? [key(name)], Decode.boolean),
    ttl: (name) => read("PTTL", checkKey("ttl", name) ?? [key(name)], remaining),
    type: (name) => read("TYPE", checkKey("type", name) ?? [key(name)], Decode.keyType),
    rename: (name, newName) =>
      write(
        "RENAME",
        checkKey("rename", name) ?? checkKey("rename", newName, "newKey") ?? [key(name), key(newName)],
        Decode.ok
      ),
    renameNx: (name, newName) =>
      write(
        "RENAMENX",
        checkKey("renameNx", name) ?? checkKey("renameNx", newName, "newKey") ?? [key(name), key(newName)],
        Decode.boolean
      ),
    copy: (source, destination, options) =>
      write(
        "COPY",
        checkKey("copy", source, "source") ?? checkKey("copy", destination, "destination") ??
          [key(source), key(destination), ...(options?.replace === true ? ["REPLACE"] : [])],
        Decode.boolean
      ),
    touch: count("touch")
  }
}
