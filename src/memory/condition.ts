/**
 * States of a server in which it refuses some commands, as Redis 7.0 does.
 */
import { LOADING_TEXT, OOM_TEXT, READ_ONLY_TEXT } from "../internal/serverTexts.js"
import type { Condition } from "../RedisTestServer.js"
import type { Command } from "./command.js"
import type { ScriptFlag } from "./lua/shebang.js"
import { ErrorReply } from "./reply.js"

const names = (text: string): ReadonlySet<string> => new Set(text.toLowerCase().split(/\s+/))

/** Commands that may need more memory. */
export const deniedWithoutMemory = names(
  `APPEND BITFIELD BITOP BLMOVE BRPOPLPUSH COPY DECR DECRBY GEOADD GEORADIUS GEORADIUSBYMEMBER GEOSEARCHSTORE GETSET
HINCRBY HINCRBYFLOAT HMSET HSET HSETNX INCR INCRBY INCRBYFLOAT LINSERT LMOVE LPUSH LPUSHX LSET MSET MSETNX PFADD
PFDEBUG PFMERGE PSETEX RESTORE RPOPLPUSH RPUSH RPUSHX SADD SDIFFSTORE SET SETBIT SETEX SETNX SETRANGE SINTERSTORE
SORT SUNIONSTORE XADD XGROUP|CREATE XGROUP|CREATECONSUMER XSETID ZADD ZDIFFSTORE ZINCRBY ZINTERSTORE ZRANGESTORE
ZUNIONSTORE`
)

/** What a server answers while it loads. */
export const allowedWhileLoading = names(
  `AUTH CLIENT|CACHING CLIENT|GETNAME CLIENT|GETREDIR CLIENT|ID CLIENT|INFO CLIENT|KILL CLIENT|LIST
CLIENT|NO-EVICT CLIENT|PAUSE CLIENT|REPLY CLIENT|SETNAME CLIENT|TRACKING CLIENT|TRACKINGINFO CLIENT|UNBLOCK
CLIENT|UNPAUSE COMMAND COMMAND|COUNT COMMAND|DOCS COMMAND|GETKEYS COMMAND|GETKEYSANDFLAGS COMMAND|INFO COMMAND|LIST
CONFIG|GET CONFIG|RESETSTAT CONFIG|REWRITE CONFIG|SET DEBUG DISCARD ECHO EXEC HELLO INFO LASTSAVE MONITOR MULTI PSUBSCRIBE
PUBLISH PUBSUB|CHANNELS PUBSUB|NUMPAT PUBSUB|NUMSUB PUBSUB|SHARDCHANNELS PUBSUB|SHARDNUMSUB PUNSUBSCRIBE QUIT
READONLY READWRITE REPLCONF RESET ROLE SELECT SHUTDOWN SLOWLOG|GET SLOWLOG|LEN SLOWLOG|RESET SPUBLISH SSUBSCRIBE
SUBSCRIBE SUNSUBSCRIBE TIME UNSUBSCRIBE UNWATCH WATCH`
)

export const READ_ONLY = new ErrorReply(READ_ONLY_TEXT)
export const OOM = new ErrorReply(OOM_TEXT)
const LOADING = new ErrorReply(LOADING_TEXT)

const NOT_READ_ONLY = new ErrorReply("ERR Can not execute a script with write flag using *_ro command.")

/** What a blocked command is answered when its server becomes a replica. */
export const UNBLOCKED = new ErrorReply(
  "UNBLOCKED force unblock from blocking operation, instance state changed (master -> replica?)"
)

/** Why a server in this state does not execute a command. */
export const refusal = (condition: Condition, command: Command): ErrorReply | undefined => {
  switch (condition) {
    case "normal":
      return undefined
    case "read-only":
      return command.write ? READ_ONLY : undefined
    case "out-of-memory":
      return deniedWithoutMemory.has(command.name) ? OOM : undefined
    case "loading":
      return allowedWhileLoading.has(command.name) ? undefined : LOADING
  }
}

/** Why a script with such a first line does not even begin; without one, its commands are judged one by one. */
export const scriptRefusal = (
  condition: Condition,
  flags: ReadonlySet<ScriptFlag> | undefined,
  readOnly: boolean
): ErrorReply | undefined => {
  if (flags === undefined || flags.has("no-writes")) return undefined
  if (condition === "out-of-memory" && !flags.has("allow-oom")) return OOM
  if (condition === "read-only") return READ_ONLY
  return readOnly ? NOT_READ_ONLY : undefined
}
