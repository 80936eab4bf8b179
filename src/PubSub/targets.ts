/**
 * What can be subscribed to: its names, and whether it can be.
 */
import { checkKey, inputError } from "../internal/input.js"
import type { RedisInputError } from "../RedisError.js"
import type { Codec } from "./codec.js"
import type { Channel, Pattern, Target } from "./PubSub.js"

const isList = (target: Target<any>): target is ReadonlyArray<Channel<any>> => Array.isArray(target)

export const channelsOf = (target: Channel<any> | ReadonlyArray<Channel<any>>): ReadonlyArray<Channel<any>> =>
  isList(target) ? target : [target]

export const isPattern = (target: Target<any>): target is Pattern<any> => !isList(target) && target._tag === "Pattern"

/** What it is called in spans, logs and errors. */
export const nameOf = (target: Target<any>): string =>
  isPattern(target) ? target.glob : channelsOf(target).map(({ name }) => name).join(", ")

const checkVersion = (operation: string, { version }: Channel<any> | Pattern<any>): RedisInputError | undefined =>
  Number.isSafeInteger(version) && version > 0
    ? undefined
    : inputError(operation, "version", "a whole number of one or more", version)

export const checkChannel = (operation: string, channel: Channel<any>): RedisInputError | undefined =>
  checkKey(operation, channel.name, "name") ?? checkVersion(operation, channel)

export const isSharded = (channel: Channel<any>): boolean => channel.sharded

export const checkTarget = (operation: string, target: Target<any>, skipOwn: boolean): RedisInputError | undefined => {
  const members = isPattern(target) ? [target] : channelsOf(target)
  for (const each of members) {
    const bad = each._tag === "Channel"
      ? checkChannel(operation, each)
      : checkKey(operation, each.glob, "glob") ?? checkVersion(operation, each)
    if (bad !== undefined) return bad
    if (skipOwn && each.format !== "envelope") {
      return inputError(operation, "skipOwn", "left out: there is no envelope", "given")
    }
  }
  if (isPattern(target)) return undefined
  const channels = channelsOf(target)
  const sharded = channels.filter(isSharded).length
  return channels.length === 0
    ? inputError(operation, "channels", "at least one", "none")
    : sharded > 0 && sharded < channels.length
    ? inputError(operation, "channels", "all sharded or all not", "both")
    : undefined
}

/** Which codec a message is for. */
export const codecsOf = (target: Target<any>): (channel: string) => Codec<any> => {
  if (!isList(target)) return () => target.codec
  const byName = new Map(target.map((channel) => [channel.name, channel.codec]))
  return (channel) => byName.get(channel)!
}
