/**
 * `CLIENT TRACKING` of the in-memory server, beside that of a real one.
 */
import { assert, describe, it } from "@effect/vitest"
import { Context, Effect, Layer } from "effect"
import { type Connection, RedisClient, type Reply } from "../../src/RedisClient.js"
import type { RedisError } from "../../src/RedisError.js"
import { live, memory } from "../kit/layers.js"
import { keysUntil, listenArmed } from "../RedisClient/contract/invalidations.js"
import { makeServer } from "./tools.js"

const sequences: ReadonlyArray<ReadonlyArray<string>> = [
  ["TRACKINGINFO", "GETREDIR", "TRACKING OFF", "TRACKING OFF BCAST", "TRACKING OFF nonsense", "TRACKING MAYBE"],
  ["TRACKING", "TRACKING ON nonsense", "TRACKING ON REDIRECT", "TRACKING ON BCAST PREFIX", "GETREDIR"],
  ["TRACKING ON BCAST REDIRECT 987654321", "TRACKING ON BCAST REDIRECT a", "TRACKING ON REDIRECT 1.5", "TRACKINGINFO"],
  ["TRACKING ON PREFIX a", "TRACKING ON BCAST OPTIN", "TRACKING ON BCAST OPTOUT", "TRACKINGINFO"],
  ["TRACKING on bcast", "TRACKINGINFO", "GETREDIR", "TRACKING ON BCAST", "TRACKING ON BCAST PREFIX a", "TRACKINGINFO"],
  ["TRACKING ON BCAST PREFIX b PREFIX a", "TRACKINGINFO", "TRACKING ON BCAST PREFIX c", "TRACKINGINFO"],
  ["TRACKING ON BCAST PREFIX a PREFIX b PREFIX ab", "TRACKING ON BCAST PREFIX ab PREFIX a", "TRACKINGINFO"],
  ["TRACKING ON BCAST PREFIX a PREFIX a", "TRACKING ON BCAST PREFIX ab", "TRACKING ON BCAST PREFIX a", "TRACKINGINFO"],
  ["TRACKING ON BCAST PREFIX ab", "TRACKING ON BCAST PREFIX a", "TRACKING ON BCAST PREFIX ab", "TRACKINGINFO"],
  ["TRACKING ON BCAST REDIRECT own PREFIX a", "GETREDIR", "TRACKING ON BCAST PREFIX b", "GETREDIR", "TRACKINGINFO"],
  ["TRACKING ON BCAST REDIRECT own REDIRECT own", "TRACKING ON BCAST REDIRECT own", "TRACKING OFF", "GETREDIR"],
  ["TRACKINGINFO more", "GETREDIR more"]
]

/** Words that begin with an at sign are keys. What changes nothing matters most: it can be told or not. */
const writes = `
SET @s 1|SET @s 1|SET @none 1 XX|SET @s 2 NX|SET @s 1 GET|SETNX @s 1|SETEX @s 100 1|PSETEX @s 100000 1|GETSET @s 5|GETDEL @none
GETEX @s|GETEX @s PERSIST|GETEX @s PERSIST|GETEX @s EX 100|GETEX @s PXAT 1|SET @s 1|INCRBY @s 0|INCR @s|DECRBY @s 1|INCRBYFLOAT @s 0
APPEND @s x|APPEND @s ""|APPEND @none ""|DEL @none|SETRANGE @none 0 ""|SETRANGE @s 0 ""|SETRANGE @s 1 x|INCR @s|STRLEN @s|GETRANGE @s 0 1
MSET @a 1 @b 2 @a 3|MSETNX @a 1 @c 1|MSETNX @c 1 @d 1|DEL @a @none @c|UNLINK @d @d|EXISTS @b|TOUCH @b|TYPE @b
EXPIRE @b 100|EXPIRE @b 100|EXPIRE @b 200 LT|EXPIRE @b 100 NX|PERSIST @b|PERSIST @b|PERSIST @none|EXPIRE @none 10|EXPIRE @b -1
SET @b 1|PEXPIREAT @b 1|SET @b 1|EXPIREAT @b 9999999999|RENAME @b @b|RENAMENX @b @b|RENAME @b @c|RENAME @none @c|RENAMENX @c @s
COPY @c @d|COPY @c @d|COPY @c @d REPLACE|COPY @none @d|GETDEL @d|SET @d 1 PX 100000|SET @d 2 KEEPTTL
HSET @h f 1|HSET @h f 1|HSET @h f 2 g 3|HSETNX @h f 1|HSETNX @h n 1|HINCRBY @h f 0|HINCRBYFLOAT @h f 0|HDEL @h none|HDEL @h n none
HDEL @none f|HMSET @h a 1|HGETALL @h|HDEL @h f g a|EXISTS @h
RPUSH @l a b c d|LPUSHX @none a|RPUSHX @l e|LSET @l 0 a|LSET @l 99 a|LINSERT @l BEFORE none x|LINSERT @l BEFORE b x|LREM @l 0 none
LREM @l 0 x|LTRIM @l 0 -1|LTRIM @l 1 -1|LPOP @l|LPOP @none|LPOP @l 0|RPOP @l 1|LMOVE @l @l LEFT LEFT|LMOVE @l @l LEFT RIGHT
LMOVE @none @l LEFT LEFT|RPOPLPUSH @l @m|LMPOP 2 @none @l LEFT|LMPOP 1 @none LEFT|LTRIM @l 5 9|DEL @m
SADD @t a b c|SADD @t a|SADD @t a d|SREM @t none|SREM @t d none|SMOVE @t @u none|SMOVE @t @u a|SMOVE @t @t b|SADD @u b|SMOVE @t @u b
SPOP @t 0|SPOP @none|SPOP @t 5|SUNIONSTORE @v @u|SUNIONSTORE @v @none|SUNIONSTORE @v @none|SINTERSTORE @v @u @none|SDIFFSTORE @v @u
SRANDMEMBER @u|DEL @v @u
ZADD @z 1 a 2 b 3 c|ZADD @z 1 a|ZADD @z CH 1 a|ZADD @z NX 5 a|ZADD @z XX 1 none|ZADD @z GT 0 a|ZADD @z GT 9 a|ZADD @z INCR 0 a
ZINCRBY @z 0 a|ZINCRBY @z 1 a|ZADD @z NX INCR 1 a|ZREM @z none|ZREM @z c|ZPOPMIN @z 0|ZPOPMIN @z|ZPOPMAX @none|ZADD @z 1 a 2 b 3 c 4 d
ZREMRANGEBYSCORE @z 50 60|ZREMRANGEBYSCORE @z 1 1|ZREMRANGEBYRANK @z 5 6|ZREMRANGEBYRANK @z 0 0|ZREMRANGEBYLEX @z [zz [zzz
ZRANGESTORE @y @z 0 -1|ZRANGESTORE @y @z 9 10|ZRANGESTORE @y @z 9 10|ZUNIONSTORE @y 1 @z|ZINTERSTORE @y 2 @z @none|ZDIFFSTORE @y 2 @z @z
ZMPOP 2 @none @z MIN|ZMPOP 1 @none MIN|ZRANGE @z 0 -1|DEL @z
SETBIT @i 3 1|SETBIT @i 3 1|BITOP NOT @j @i|BITOP NOT @j @none|BITOP NOT @j @none|BITFIELD @i GET u4 0|BITFIELD @i SET u4 0 1|DEL @i
PFADD @p a b|PFADD @p a|PFADD @p|PFADD @q|PFADD @q|PFMERGE @r @p @q|PFMERGE @r|DEL @p @q @r
GEOADD @g 1 2 a|GEOADD @g 1 2 a|GEOADD @g XX 1 2 b|GEOSEARCHSTORE @k @g FROMMEMBER a BYRADIUS 1 km
GEOSEARCHSTORE @k @g FROMLONLAT 90 80 BYRADIUS 1 m|GEOSEARCHSTORE @k @g FROMLONLAT 90 80 BYRADIUS 1 m|DEL @g
LPUSH @s x|HSET @s f 1|INCR @c x|SET @s|EVAL return|EVAL redis.call('SET',KEYS[1],1)redis.call('GET',KEYS[1]) 1 @s
EVAL redis.call('SET',KEYS[1],1)error('x') 1 @s|EVAL redis.call('DEL',KEYS[1])redis.call('SET',KEYS[1],1) 1 @s
`.trim().split(/[|\n]/)

const ask = (connection: Connection, line: string): Effect.Effect<Reply> => {
  const args = line.split(" ").map((word) => word === "own" ? String(connection.id) : word)
  return Effect.map(
    Effect.merge(connection.send("CLIENT", ...args)),
    (reply: Reply | RedisError) =>
      typeof reply === "object" && reply !== null && "_tag" in reply ? reply.message : reply
  )
}

const show = (reply: Reply, id: number): string => JSON.stringify(reply).replaceAll(String(id), "own")

describe("CLIENT TRACKING", () => {
  it.scopedLive("answers as a server does", () =>
    Effect.gen(function*() {
      const [real, ours] = [
        Context.get(yield* Layer.build(live), RedisClient),
        Context.get(yield* Layer.build(memory), RedisClient)
      ]
      for (const lines of sequences) {
        const [theirs, own] = [yield* real.reserve(), yield* ours.reserve()]
        for (const line of lines) {
          const [expected, actual] = [yield* ask(theirs, line), yield* ask(own, line)]
          assert.strictEqual(show(actual, own.id), show(expected, theirs.id), `${lines.join(", ")}: ${line}`)
        }
      }
    }))

  it.scopedLive("tells of what a server tells of", () =>
    Effect.gen(function*() {
      const clients = [
        Context.get(yield* Layer.build(live), RedisClient),
        Context.get(yield* Layer.build(memory), RedisClient)
      ]
      const told = yield* Effect.forEach(clients, (client) =>
        Effect.gen(function*() {
          const queue = yield* listenArmed(client, ["t:"])
          return yield* Effect.forEach(writes, (line, i) =>
            Effect.gen(function*() {
              const [name = "", ...args] = line.split(" ").map((word) =>
                word.startsWith("@") ? client.key(`t:${word.slice(1)}`) : word === `""` ? "" : word
              )
              yield* Effect.ignore(client.send(name, ...args))
              yield* client.set(`t:end${i}`, "x")
              return `${line}: ${(yield* keysUntil(queue, `t:end${i}`)).join(" ")}`
            }))
        }))
      assert.deepStrictEqual(told[1], told[0])
      assert.isAbove(told[0]!.filter((line) => line.includes(": t:")).length, 50)
    }))

  it("refuses by name what it does not do", () => {
    const { run, runAs, engine } = makeServer()
    const other = engine.connect()
    assert.match(String(run("CLIENT", "TRACKING", "ON")), /^-ERR .* without BCAST is not supported/)
    assert.match(String(run("CLIENT", "TRACKING", "ON", "BCAST", "NOLOOP")), /^-ERR .* NOLOOP is not supported/)
    assert.match(
      String(run("CLIENT", "TRACKING", "ON", "BCAST", "REDIRECT", other.id)),
      /^-ERR .* REDIRECT to another client is not supported/
    )
    assert.match(String(runAs(other, "CLIENT", "CACHING", "YES")), /not supported/)
  })

  it("tells at the end of a command, once for each key and prefix", () => {
    const { clock, engine, run, runAs } = makeServer()
    const told: Array<string> = []
    const tracker = engine.connect()
    tracker.onInvalidated = (keys) => told.push(keys === null ? "all" : keys.join(" "))
    const tells = (...expected: ReadonlyArray<string>) => assert.deepStrictEqual(told.splice(0), expected)
    runAs(tracker, "CLIENT", "TRACKING", "ON", "BCAST", "REDIRECT", tracker.id, "PREFIX", "a", "PREFIX", "b")
    run("SET", "a1", "x")
    // It does not listen yet.
    tells()
    runAs(tracker, "SUBSCRIBE", "__redis__:invalidate")
    run("MSET", "a1", "x", "c", "x", "b", "x", "a2", "x")
    tells("a1 a2", "b")
    run("EVAL", "for _ = 1, 3 do redis.call('INCR', KEYS[1]) end redis.call('DEL', KEYS[1])", 1, "a3")
    tells("a3")
    run("MULTI")
    run("SET", "a1", "y")
    run("DEL", "a1")
    tells()
    run("EXEC")
    tells("a1")
    run("GET", "a2")
    run("DEL", "a1")
    run("SADD", "b", "x")
    tells()
    run("PEXPIRE", "a2", 10)
    tells("a2")
    clock.now = 10
    run("PING")
    tells("a2")
    run("EVAL", "redis.call('SET', 'a', 1) redis.call('FLUSHALL') redis.call('SET', 'b', 1)", 0)
    tells("all", "b")
    assert.match(String(run("CLIENT", "LIST")), new RegExp(`id=${tracker.id} .* flags=PtB .* redir=${tracker.id} `))
    runAs(tracker, "UNSUBSCRIBE")
    run("SET", "a", 1)
    tells()
    runAs(tracker, "CLIENT", "TRACKING", "OFF")
    runAs(tracker, "SUBSCRIBE", "__redis__:invalidate")
    run("SET", "a", 2)
    tells()
    engine.close(tracker)
    run("SET", "a", 3)
    run("FLUSHALL")
    tells()
  })
})
