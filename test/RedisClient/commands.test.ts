/**
 * What each typed command sends, and what it makes of a reply, without a server.
 */
import { assert, describe, it } from "@effect/vitest"
import { Chunk, DateTime, Duration, Effect, Exit, Option, Stream } from "effect"
import type { BytesReply, Connection, Executor, RedisArg, Reply } from "../../src/RedisClient.js"
import * as RedisCommands from "../../src/RedisCommands.js"
import { RedisDecodeError, type RedisError, RedisReplyError } from "../../src/RedisError.js"
import type * as RedisScript from "../../src/RedisScript.js"

const { none, some } = Option

type Sent = readonly [command: string, args: ReadonlyArray<RedisArg>, idempotent: "read" | "write" | "never"]

/** Commands that note what they would send, and get this reply. */
const recorded = (reply: unknown): readonly [RedisCommands.Commands, Array<Sent>] => {
  const sent: Array<Sent> = []
  const run: RedisCommands.Run = (command, args, onReply, options) =>
    Effect.suspend(() => {
      sent.push([command, args, options?.idempotent ?? "never"])
      return onReply(reply)
    })
  return [RedisCommands.make(run, "p:"), sent]
}

type Call = (commands: RedisCommands.Commands) => Effect.Effect<unknown, RedisError>

type Case = readonly [call: Call, sent: string, reply: unknown, result: unknown]

const collect = <A>(stream: Stream.Stream<A, RedisError>) =>
  Effect.map(Stream.runCollect(stream), Chunk.toReadonlyArray)

const reads = new Set(
  `get getBytes mget strlen getRange exists ttl type
  hget hmget hgetAll hexists hkeys hvals hlen hstrlen hrandField hrandFieldCount hscan
  llen lrange lindex lpos lposCount
  smembers sismember smismember scard srandMember srandMemberCount sunion sinter sdiff sinterCard sscan
  zscore zmscore zrank zrevRank zcard zcount zlexCount zrange zrangeWithScores zunion zunionWithScores zinter
  zinterWithScores zdiff zdiffWithScores zinterCard zrandMember zrandMemberCount zscan
  xlen xrange xrevRange xread xpending xpendingRange xinfoStream xinfoGroups xinfoConsumers
  geoPos geoHash geoDist geoSearch geoSearchWithDistances pfCount getBit bitCount bitPos
  scriptExists pubsubChannels pubsubNumSub ping time dbSize`.split(/\s+/)
)

const at = new Date(1_700_000_000_000)

const cases: Record<keyof RedisCommands.Commands, ReadonlyArray<Case>> = {
  get: [[(c) => c.get("k"), "GET p:k", "v", some("v")], [(c) => c.get("k"), "GET p:k", null, none()]],
  getBytes: [
    [(c) => c.getBytes("k"), "GET p:k", Uint8Array.of(255), some(Uint8Array.of(255))],
    [(c) => c.getBytes("k"), "GET p:k", null, none()]
  ],
  set: [
    [(c) => c.set("k", "v"), "SET p:k v", "OK", true],
    [(c) => c.set("k", "v", {}), "SET p:k v", null, false],
    [(c) => c.set("k", "v", { ttl: "1 second", onlyIf: "absent" }), "SET p:k v NX PX 1000", "OK", true],
    [(c) => c.set("k", "v", { ttl: "1500 micros" }), "SET p:k v PX 2", "OK", true],
    [(c) => c.set("k", 1, { expireAt: at, onlyIf: "present" }), "SET p:k 1 XX PXAT 1700000000000", "OK", true],
    [(c) => c.set("k", "v", { expireAt: DateTime.unsafeMake(at) }), "SET p:k v PXAT 1700000000000", "OK", true],
    [(c) => c.set("k", "v", { keepTtl: true }), "SET p:k v KEEPTTL", "OK", true]
  ],
  setGet: [
    [(c) => c.setGet("k", "v"), "SET p:k v GET", "old", some("old")],
    [(c) => c.setGet("k", "v", { ttl: 10, onlyIf: "present" }), "SET p:k v XX PX 10 GET", null, none()]
  ],
  getDel: [[(c) => c.getDel("k"), "GETDEL p:k", "v", some("v")]],
  getEx: [
    [(c) => c.getEx("k", { ttl: "1 second" }), "GETEX p:k PX 1000", "v", some("v")],
    [(c) => c.getEx("k", { expireAt: at }), "GETEX p:k PXAT 1700000000000", "v", some("v")],
    [(c) => c.getEx("k", { persist: true }), "GETEX p:k PERSIST", null, none()]
  ],
  mget: [[(c) => c.mget(["a", "b"]), "MGET p:a p:b", ["1", null], [some("1"), none()]]],
  mset: [
    [(c) => c.mset({ a: 1, b: "2" }), "MSET p:a 1 p:b 2", "OK", undefined],
    [(c) => c.mset(new Map([["a", "1"]])), "MSET p:a 1", "OK", undefined]
  ],
  msetNx: [
    [(c) => c.msetNx([["a", "1"]]), "MSETNX p:a 1", 1, true],
    [(c) => c.msetNx({ a: "1" }), "MSETNX p:a 1", 0, false]
  ],
  incr: [[(c) => c.incr("k"), "INCR p:k", 1, 1]],
  incrBy: [[(c) => c.incrBy("k", -5), "INCRBY p:k -5", -4, -4]],
  incrByFloat: [
    [(c) => c.incrByFloat("k", 0.5), "INCRBYFLOAT p:k 0.5", "1.5", 1.5],
    [(c) => c.incrByFloat("k", 0.5), "INCRBYFLOAT p:k 0.5", 1.5, 1.5]
  ],
  decr: [[(c) => c.decr("k"), "DECR p:k", -1, -1]],
  decrBy: [[(c) => c.decrBy("k", 2), "DECRBY p:k 2", -2, -2]],
  append: [[(c) => c.append("k", "v"), "APPEND p:k v", 1, 1]],
  strlen: [[(c) => c.strlen("k"), "STRLEN p:k", 0, 0]],
  getRange: [[(c) => c.getRange("k", 0, -1), "GETRANGE p:k 0 -1", "", ""]],
  setRange: [[(c) => c.setRange("k", 2, "v"), "SETRANGE p:k 2 v", 3, 3]],

  del: [[(c) => c.del("a", "b"), "DEL p:a p:b", 1, 1]],
  unlink: [[(c) => c.unlink("a"), "UNLINK p:a", 1, 1]],
  exists: [[(c) => c.exists("a", "a"), "EXISTS p:a p:a", 2, 2]],
  expire: [
    [(c) => c.expire("k", "1 minute"), "PEXPIRE p:k 60000", 1, true],
    [(c) => c.expire("k", 0.5, { onlyIf: "none" }), "PEXPIRE p:k 1 NX", 0, false],
    [(c) => c.expire("k", 1, { onlyIf: "some" }), "PEXPIRE p:k 1 XX", 0, false],
    [(c) => c.expire("k", 1, { onlyIf: "greater" }), "PEXPIRE p:k 1 GT", 0, false],
    [(c) => c.expire("k", 1, { onlyIf: "less" }), "PEXPIRE p:k 1 LT", 0, false]
  ],
  expireAt: [
    [(c) => c.expireAt("k", at, { onlyIf: "less" }), "PEXPIREAT p:k 1700000000000 LT", 1, true],
    [(c) => c.expireAt("k", new Date(0)), "PEXPIREAT p:k 0", 1, true]
  ],
  persist: [[(c) => c.persist("k"), "PERSIST p:k", 1, true]],
  ttl: [
    [(c) => c.ttl("k"), "PTTL p:k", -2, none()],
    [(c) => c.ttl("k"), "PTTL p:k", -1, some(Duration.infinity)],
    [(c) => c.ttl("k"), "PTTL p:k", 0, some(Duration.zero)],
    [(c) => c.ttl("k"), "PTTL p:k", 1500, some(Duration.millis(1500))]
  ],
  type: [
    [(c) => c.type("k"), "TYPE p:k", "none", none()],
    [(c) => c.type("k"), "TYPE p:k", "zset", some("zset")]
  ],
  rename: [[(c) => c.rename("a", "b"), "RENAME p:a p:b", "OK", undefined]],
  renameNx: [[(c) => c.renameNx("a", "b"), "RENAMENX p:a p:b", 0, false]],
  copy: [
    [(c) => c.copy("a", "b"), "COPY p:a p:b", 1, true],
    [(c) => c.copy("a", "b", { replace: true }), "COPY p:a p:b REPLACE", 1, true]
  ],
  touch: [[(c) => c.touch("a"), "TOUCH p:a", 1, 1]],

  hset: [
    [(c) => c.hset("k", { a: 1, b: "2" }), "HSET p:k a 1 b 2", 2, 2],
    [(c) => c.hset("k", [["a", "x"]]), "HSET p:k a x", 0, 0]
  ],
  hsetNx: [[(c) => c.hsetNx("k", "f", "v"), "HSETNX p:k f v", 1, true]],
  hget: [[(c) => c.hget("k", "f"), "HGET p:k f", null, none()]],
  hmget: [[(c) => c.hmget("k", ["a", "b"]), "HMGET p:k a b", [null, ""], [none(), some("")]]],
  hgetAll: [
    [(c) => c.hgetAll("k"), "HGETALL p:k", ["a", "1", "b", "2"], { a: "1", b: "2" }],
    [(c) => c.hgetAll("k"), "HGETALL p:k", [], {}],
    [(c) => c.hgetAll("k"), "HGETALL p:k", [["a", "1"]], { a: "1" }],
    [(c) => c.hgetAll("k"), "HGETALL p:k", new Map([["a", "1"]]), { a: "1" }],
    [(c) => c.hgetAll("k"), "HGETALL p:k", { a: "1" }, { a: "1" }]
  ],
  hdel: [[(c) => c.hdel("k", "a", "b"), "HDEL p:k a b", 2, 2]],
  hexists: [[(c) => c.hexists("k", "f"), "HEXISTS p:k f", 1, true]],
  hkeys: [[(c) => c.hkeys("k"), "HKEYS p:k", ["a"], ["a"]]],
  hvals: [[(c) => c.hvals("k"), "HVALS p:k", ["1"], ["1"]]],
  hlen: [[(c) => c.hlen("k"), "HLEN p:k", 1, 1]],
  hstrlen: [[(c) => c.hstrlen("k", "f"), "HSTRLEN p:k f", 3, 3]],
  hincrBy: [[(c) => c.hincrBy("k", "f", 2), "HINCRBY p:k f 2", 2, 2]],
  hincrByFloat: [[(c) => c.hincrByFloat("k", "f", 0.1), "HINCRBYFLOAT p:k f 0.1", "0.1", 0.1]],
  hrandField: [[(c) => c.hrandField("k"), "HRANDFIELD p:k", "f", some("f")]],
  hrandFieldCount: [[(c) => c.hrandFieldCount("k", -2), "HRANDFIELD p:k -2", ["f", "f"], ["f", "f"]]],
  hscan: [
    [(c) => collect(c.hscan("k")), "HSCAN p:k 0", ["0", ["a", "1"]], [["a", "1"]]],
    [
      (c) => collect(c.hscan("k", { match: "a*", count: 5 })),
      "HSCAN p:k 0 MATCH a* COUNT 5",
      ["0", [["a", "1"]]],
      [["a", "1"]]
    ]
  ],

  lpush: [[(c) => c.lpush("k", "a", 2), "LPUSH p:k a 2", 2, 2]],
  rpush: [[(c) => c.rpush("k", "a"), "RPUSH p:k a", 1, 1]],
  lpushX: [[(c) => c.lpushX("k", "a"), "LPUSHX p:k a", 0, 0]],
  rpushX: [[(c) => c.rpushX("k", "a"), "RPUSHX p:k a", 0, 0]],
  lpop: [[(c) => c.lpop("k"), "LPOP p:k", "a", some("a")]],
  lpopCount: [
    [(c) => c.lpopCount("k", 2), "LPOP p:k 2", ["a", "b"], ["a", "b"]],
    [(c) => c.lpopCount("k", 2), "LPOP p:k 2", null, []]
  ],
  rpop: [[(c) => c.rpop("k"), "RPOP p:k", null, none()]],
  rpopCount: [[(c) => c.rpopCount("k", 2), "RPOP p:k 2", null, []]],
  llen: [[(c) => c.llen("k"), "LLEN p:k", 3, 3]],
  lrange: [[(c) => c.lrange("k", 0, -1), "LRANGE p:k 0 -1", ["a"], ["a"]]],
  lindex: [[(c) => c.lindex("k", -1), "LINDEX p:k -1", "a", some("a")]],
  lset: [[(c) => c.lset("k", 0, "a"), "LSET p:k 0 a", "OK", undefined]],
  linsert: [
    [(c) => c.linsert("k", "before", "p", "v"), "LINSERT p:k BEFORE p v", 3, some(3)],
    [(c) => c.linsert("k", "after", "p", "v"), "LINSERT p:k AFTER p v", -1, none()],
    [(c) => c.linsert("k", "after", "p", "v"), "LINSERT p:k AFTER p v", 0, none()]
  ],
  lrem: [[(c) => c.lrem("k", -1, "v"), "LREM p:k -1 v", 1, 1]],
  ltrim: [[(c) => c.ltrim("k", 0, 9), "LTRIM p:k 0 9", "OK", undefined]],
  lmove: [[(c) => c.lmove("a", "b", { from: "left", to: "right" }), "LMOVE p:a p:b LEFT RIGHT", "x", some("x")]],
  lpos: [
    [(c) => c.lpos("k", "v"), "LPOS p:k v", null, none()],
    [(c) => c.lpos("k", "v", { rank: -1, maxLength: 9 }), "LPOS p:k v RANK -1 MAXLEN 9", 4, some(4)]
  ],
  lposCount: [[(c) => c.lposCount("k", "v", 0, { rank: 2 }), "LPOS p:k v RANK 2 COUNT 0", [1, 2], [1, 2]]],

  sadd: [[(c) => c.sadd("k", "a", 1), "SADD p:k a 1", 2, 2]],
  srem: [[(c) => c.srem("k", "a"), "SREM p:k a", 1, 1]],
  smembers: [[(c) => c.smembers("k"), "SMEMBERS p:k", ["a"], ["a"]]],
  sismember: [[(c) => c.sismember("k", "a"), "SISMEMBER p:k a", 0, false]],
  smismember: [[(c) => c.smismember("k", ["a", "b"]), "SMISMEMBER p:k a b", [1, 0], [true, false]]],
  scard: [[(c) => c.scard("k"), "SCARD p:k", 1, 1]],
  spop: [[(c) => c.spop("k"), "SPOP p:k", "a", some("a")]],
  spopCount: [[(c) => c.spopCount("k", 2), "SPOP p:k 2", ["a"], ["a"]]],
  srandMember: [[(c) => c.srandMember("k"), "SRANDMEMBER p:k", null, none()]],
  srandMemberCount: [[(c) => c.srandMemberCount("k", -2), "SRANDMEMBER p:k -2", ["a", "a"], ["a", "a"]]],
  smove: [[(c) => c.smove("a", "b", "m"), "SMOVE p:a p:b m", 1, true]],
  sunion: [[(c) => c.sunion(["a", "b"]), "SUNION p:a p:b", ["x"], ["x"]]],
  sinter: [[(c) => c.sinter(["a"]), "SINTER p:a", [], []]],
  sdiff: [[(c) => c.sdiff(["a"]), "SDIFF p:a", [], []]],
  sunionStore: [[(c) => c.sunionStore("to", ["a", "b"]), "SUNIONSTORE p:to p:a p:b", 1, 1]],
  sinterStore: [[(c) => c.sinterStore("to", ["a"]), "SINTERSTORE p:to p:a", 1, 1]],
  sdiffStore: [[(c) => c.sdiffStore("to", ["a"]), "SDIFFSTORE p:to p:a", 1, 1]],
  sinterCard: [
    [(c) => c.sinterCard(["a", "b"]), "SINTERCARD 2 p:a p:b", 1, 1],
    [(c) => c.sinterCard(["a"], { limit: 5 }), "SINTERCARD 1 p:a LIMIT 5", 1, 1]
  ],
  sscan: [[(c) => collect(c.sscan("k")), "SSCAN p:k 0", ["0", ["a"]], ["a"]]],

  zadd: [
    [(c) => c.zadd("k", { a: 1, b: -Infinity }), "ZADD p:k 1 a -inf b", 2, 2],
    [
      (c) => c.zadd("k", [["a", 1e21], ["b", Infinity]], { onlyIf: "greater", changed: true }),
      "ZADD p:k GT CH 1e+21 a inf b",
      2,
      2
    ],
    [(c) => c.zadd("k", new Map([["a", 0.1]]), { onlyIf: "absent" }), "ZADD p:k NX 0.1 a", 1, 1],
    [(c) => c.zadd("k", { a: 1 }, { onlyIf: "present" }), "ZADD p:k XX 1 a", 1, 1],
    [(c) => c.zadd("k", { a: 1 }, { onlyIf: "less" }), "ZADD p:k LT 1 a", 1, 1]
  ],
  zincrBy: [
    [(c) => c.zincrBy("k", 2, "a"), "ZINCRBY p:k 2 a", "inf", Infinity],
    [(c) => c.zincrBy("k", 2, "a"), "ZINCRBY p:k 2 a", 3.5, 3.5]
  ],
  zrem: [[(c) => c.zrem("k", "a", "b"), "ZREM p:k a b", 1, 1]],
  zscore: [
    [(c) => c.zscore("k", "a"), "ZSCORE p:k a", "-inf", some(-Infinity)],
    [(c) => c.zscore("k", "a"), "ZSCORE p:k a", 1.5, some(1.5)],
    [(c) => c.zscore("k", "a"), "ZSCORE p:k a", null, none()]
  ],
  zmscore: [[(c) => c.zmscore("k", ["a", "b"]), "ZMSCORE p:k a b", ["1.5", null], [some(1.5), none()]]],
  zrank: [[(c) => c.zrank("k", "a"), "ZRANK p:k a", 0, some(0)]],
  zrevRank: [[(c) => c.zrevRank("k", "a"), "ZREVRANK p:k a", null, none()]],
  zcard: [[(c) => c.zcard("k"), "ZCARD p:k", 1, 1]],
  zcount: [
    [(c) => c.zcount("k"), "ZCOUNT p:k -inf inf", 1, 1],
    [(c) => c.zcount("k", { min: { exclusive: 1 }, max: 2.5 }), "ZCOUNT p:k (1 2.5", 1, 1]
  ],
  zlexCount: [
    [(c) => c.zlexCount("k"), "ZLEXCOUNT p:k - +", 1, 1],
    [(c) => c.zlexCount("k", { min: "a", max: { exclusive: "b" } }), "ZLEXCOUNT p:k [a (b", 1, 1]
  ],
  zrange: [
    [(c) => c.zrange("k"), "ZRANGE p:k 0 -1", ["a"], ["a"]],
    [(c) => c.zrange("k", { start: 1, stop: 2, rev: true }), "ZRANGE p:k 1 2 REV", [], []],
    [(c) => c.zrange("k", { by: "score", min: 1 }), "ZRANGE p:k 1 inf BYSCORE", [], []],
    [
      (c) => c.zrange("k", { by: "score", min: 1, max: 2, rev: true, limit: { offset: 3, count: 4 } }),
      "ZRANGE p:k 2 1 BYSCORE REV LIMIT 3 4",
      [],
      []
    ],
    [
      (c) => c.zrange("k", { by: "lex", min: "a", rev: true, limit: { count: 4 } }),
      "ZRANGE p:k + [a BYLEX REV LIMIT 0 4",
      [],
      []
    ],
    [(c) => c.zrange("k", { by: "lex", limit: { offset: 4 } }), "ZRANGE p:k - + BYLEX LIMIT 4 -1", [], []]
  ],
  zrangeWithScores: [
    [(c) => c.zrangeWithScores("k"), "ZRANGE p:k 0 -1 WITHSCORES", ["a", "1", "b", "inf"], [["a", 1], ["b", Infinity]]],
    [(c) => c.zrangeWithScores("k", { by: "score" }), "ZRANGE p:k -inf inf BYSCORE WITHSCORES", [["a", 1]], [["a", 1]]]
  ],
  zrangeStore: [[(c) => c.zrangeStore("to", "k", { stop: 4 }), "ZRANGESTORE p:to p:k 0 4", 5, 5]],
  zpopMin: [
    [(c) => c.zpopMin("k"), "ZPOPMIN p:k", ["a", "1"], some(["a", 1])],
    [(c) => c.zpopMin("k"), "ZPOPMIN p:k", [["a", 1]], some(["a", 1])],
    [(c) => c.zpopMin("k"), "ZPOPMIN p:k", [], none()]
  ],
  zpopMinCount: [[(c) => c.zpopMinCount("k", 2), "ZPOPMIN p:k 2", ["a", "1"], [["a", 1]]]],
  zpopMax: [[(c) => c.zpopMax("k"), "ZPOPMAX p:k", null, none()]],
  zpopMaxCount: [[(c) => c.zpopMaxCount("k", 2), "ZPOPMAX p:k 2", [["a", 1]], [["a", 1]]]],
  zremRangeByRank: [[(c) => c.zremRangeByRank("k", 0, -2), "ZREMRANGEBYRANK p:k 0 -2", 1, 1]],
  zremRangeByScore: [
    [(c) => c.zremRangeByScore("k", { min: -Infinity, max: { exclusive: 5 } }), "ZREMRANGEBYSCORE p:k -inf (5", 1, 1]
  ],
  zremRangeByLex: [[(c) => c.zremRangeByLex("k", { max: "a" }), "ZREMRANGEBYLEX p:k - [a", 1, 1]],
  zunion: [
    [(c) => c.zunion(["a", "b"]), "ZUNION 2 p:a p:b", ["x"], ["x"]],
    [
      (c) => c.zunion(["a", "b"], { weights: [1, Infinity], aggregate: "min" }),
      "ZUNION 2 p:a p:b WEIGHTS 1 inf AGGREGATE MIN",
      [],
      []
    ]
  ],
  zunionWithScores: [[(c) => c.zunionWithScores(["a"]), "ZUNION 1 p:a WITHSCORES", ["x", "1"], [["x", 1]]]],
  zunionStore: [
    [(c) => c.zunionStore("to", ["a"], { aggregate: "max" }), "ZUNIONSTORE p:to 1 p:a AGGREGATE MAX", 1, 1]
  ],
  zinter: [[(c) => c.zinter(["a"]), "ZINTER 1 p:a", [], []]],
  zinterWithScores: [[(c) => c.zinterWithScores(["a"]), "ZINTER 1 p:a WITHSCORES", [["x", 1]], [["x", 1]]]],
  zinterStore: [[(c) => c.zinterStore("to", ["a"], { weights: [2] }), "ZINTERSTORE p:to 1 p:a WEIGHTS 2", 1, 1]],
  zdiff: [[(c) => c.zdiff(["a", "b"]), "ZDIFF 2 p:a p:b", [], []]],
  zdiffWithScores: [[(c) => c.zdiffWithScores(["a"]), "ZDIFF 1 p:a WITHSCORES", [], []]],
  zdiffStore: [[(c) => c.zdiffStore("to", ["a"]), "ZDIFFSTORE p:to 1 p:a", 1, 1]],
  zinterCard: [
    [(c) => c.zinterCard(["a"]), "ZINTERCARD 1 p:a", 1, 1],
    [(c) => c.zinterCard(["a"], { limit: 2 }), "ZINTERCARD 1 p:a LIMIT 2", 1, 1]
  ],
  zrandMember: [[(c) => c.zrandMember("k"), "ZRANDMEMBER p:k", "a", some("a")]],
  zrandMemberCount: [[(c) => c.zrandMemberCount("k", 2), "ZRANDMEMBER p:k 2", ["a"], ["a"]]],
  zscan: [[(c) => collect(c.zscan("k")), "ZSCAN p:k 0", ["0", ["a", "0.5"]], [["a", 0.5]]]],

  xadd: [
    [(c) => c.xadd("k", { a: 1 }), "XADD p:k * a 1", "1-0", "1-0"],
    [
      (c) => c.xadd("k", [["a", "1"]], { id: "5-*", trim: { maxLength: 9, approximate: true, limit: 0 } }),
      "XADD p:k MAXLEN ~ 9 LIMIT 0 5-* a 1",
      "5-0",
      "5-0"
    ]
  ],
  xaddNoMkStream: [
    [
      (c) => c.xaddNoMkStream("k", { a: 1 }, { trim: { minId: "3" } }),
      "XADD p:k NOMKSTREAM MINID = 3 * a 1",
      null,
      none()
    ]
  ],
  xlen: [[(c) => c.xlen("k"), "XLEN p:k", 1, 1]],
  xrange: [
    [(c) => c.xrange("k"), "XRANGE p:k - +", [["1-0", ["a", "1"]]], [{ id: "1-0", fields: [["a", "1"]] }]],
    [(c) => c.xrange("k", { start: "1", end: { exclusive: "2" }, count: 3 }), "XRANGE p:k 1 (2 COUNT 3", [], []]
  ],
  xrevRange: [[(c) => c.xrevRange("k", { start: "1" }), "XREVRANGE p:k + 1", [], []]],
  xread: [
    [
      (c) => c.xread({ a: "0", b: "$" }, { count: 2 }),
      "XREAD COUNT 2 STREAMS p:a p:b 0 $",
      [["p:a", [["1-0", ["f", "v"]]]]],
      [["a", [{ id: "1-0", fields: [["f", "v"]] }]]]
    ],
    [(c) => c.xread({ a: "0" }), "XREAD STREAMS p:a 0", null, []]
  ],
  xdel: [[(c) => c.xdel("k", "1-0", "2-0"), "XDEL p:k 1-0 2-0", 1, 1]],
  xtrim: [[(c) => c.xtrim("k", { maxLength: 5 }), "XTRIM p:k MAXLEN = 5", 1, 1]],
  xgroupCreate: [
    [
      (c) => c.xgroupCreate("k", "g", { start: "0", mkStream: true }),
      "XGROUP CREATE p:k g 0 MKSTREAM",
      "OK",
      undefined
    ]
  ],
  xgroupSetId: [[(c) => c.xgroupSetId("k", "g", "$"), "XGROUP SETID p:k g $", "OK", undefined]],
  xgroupDestroy: [[(c) => c.xgroupDestroy("k", "g"), "XGROUP DESTROY p:k g", 1, true]],
  xgroupCreateConsumer: [[(c) => c.xgroupCreateConsumer("k", "g", "c"), "XGROUP CREATECONSUMER p:k g c", 0, false]],
  xgroupDelConsumer: [[(c) => c.xgroupDelConsumer("k", "g", "c"), "XGROUP DELCONSUMER p:k g c", 3, 3]],
  xreadGroup: [
    [
      (c) => c.xreadGroup({ group: "g", consumer: "c" }, { k: "0" }, { count: 2, noAck: true }),
      "XREADGROUP GROUP g c COUNT 2 NOACK STREAMS p:k 0",
      [["p:k", [["1-0", null]]]],
      [["k", [{ id: "1-0", fields: [] }]]]
    ]
  ],
  xack: [[(c) => c.xack("k", "g", "1-0"), "XACK p:k g 1-0", 1, 1]],
  xpending: [
    [
      (c) => c.xpending("k", "g"),
      "XPENDING p:k g",
      [1, "1-0", "1-0", [["c", "1"]]],
      { count: 1, first: some("1-0"), last: some("1-0"), consumers: [["c", 1]] }
    ],
    [
      (c) => c.xpending("k", "g"),
      "XPENDING p:k g",
      [0, null, null, null],
      { count: 0, first: none(), last: none(), consumers: [] }
    ]
  ],
  xpendingRange: [
    [
      (c) => c.xpendingRange("k", "g", { count: 5, minIdle: "1 second", consumer: "c", start: "1" }),
      "XPENDING p:k g IDLE 1000 1 + 5 c",
      [["1-0", "c", 1500, 2]],
      [{ id: "1-0", consumer: "c", idle: Duration.millis(1500), deliveries: 2 }]
    ]
  ],
  xclaim: [
    [
      (c) => c.xclaim("k", { group: "g", consumer: "c", minIdle: "1500 micros" }, "1-0"),
      "XCLAIM p:k g c 2 1-0",
      [["1-0", ["a", "1"]]],
      [{ id: "1-0", fields: [["a", "1"]] }]
    ]
  ],
  xclaimJustId: [
    [
      (c) => c.xclaimJustId("k", { group: "g", consumer: "c", minIdle: 0 }, "1-0"),
      "XCLAIM p:k g c 0 1-0 JUSTID",
      ["1-0"],
      ["1-0"]
    ]
  ],
  xautoClaim: [
    [
      (c) => c.xautoClaim("k", { group: "g", consumer: "c", minIdle: 1 }, { start: "5-0", count: 2 }),
      "XAUTOCLAIM p:k g c 1 5-0 COUNT 2",
      ["0-0", [["1-0", ["a", "1"]]], ["2-0"]],
      { next: "0-0", entries: [{ id: "1-0", fields: [["a", "1"]] }], deleted: ["2-0"] }
    ]
  ],
  xautoClaimJustId: [
    [
      (c) => c.xautoClaimJustId("k", { group: "g", consumer: "c", minIdle: 1 }),
      "XAUTOCLAIM p:k g c 1 0-0 JUSTID",
      ["0-0", ["1-0"], []],
      { next: "0-0", ids: ["1-0"], deleted: [] }
    ]
  ],
  xinfoStream: [
    [
      (c) => c.xinfoStream("k"),
      "XINFO STREAM p:k",
      ["length", 1, "groups", 0, "last-generated-id", "1-0", "first-entry", ["1-0", ["a", "1"]], "last-entry", null],
      {
        length: 1,
        groups: 0,
        lastGeneratedId: "1-0",
        entriesAdded: none(),
        first: some({ id: "1-0", fields: [["a", "1"]] }),
        last: none()
      }
    ]
  ],
  xinfoGroups: [
    [
      (c) => c.xinfoGroups("k"),
      "XINFO GROUPS p:k",
      [["name", "g", "consumers", 1, "pending", 2, "last-delivered-id", "1-0", "entries-read", 1, "lag", null]],
      [{ name: "g", consumers: 1, pending: 2, lastDeliveredId: "1-0", entriesRead: some(1), lag: none() }]
    ]
  ],
  xinfoConsumers: [
    [
      (c) => c.xinfoConsumers("k", "g"),
      "XINFO CONSUMERS p:k g",
      [["name", "c", "pending", 1, "idle", 20, "inactive", 5]],
      [{ name: "c", pending: 1, idle: Duration.millis(20) }]
    ]
  ],

  geoAdd: [
    [
      (c) => c.geoAdd("k", [{ member: "m", longitude: 1.5, latitude: -2 }], { onlyIf: "present", changed: true }),
      "GEOADD p:k XX CH 1.5 -2 m",
      1,
      1
    ]
  ],
  geoPos: [
    [
      (c) => c.geoPos("k", "a", "b"),
      "GEOPOS p:k a b",
      [["1.5", "-2"], null],
      [some({ longitude: 1.5, latitude: -2 }), none()]
    ]
  ],
  geoHash: [[(c) => c.geoHash("k", "a", "b"), "GEOHASH p:k a b", ["hash", null], [some("hash"), none()]]],
  geoDist: [[(c) => c.geoDist("k", "a", "b", "mi"), "GEODIST p:k a b mi", "1.5", some(1.5)]],
  geoSearch: [
    [
      (c) => c.geoSearch("k", { from: { member: "a" }, by: { radius: 5, unit: "km" }, order: "nearest", count: 3 }),
      "GEOSEARCH p:k FROMMEMBER a BYRADIUS 5 km ASC COUNT 3",
      ["a"],
      ["a"]
    ],
    [
      (c) =>
        c.geoSearch("k", {
          from: { longitude: 1, latitude: 2 },
          by: { width: 3, height: 4, unit: "m" },
          order: "farthest",
          count: 1,
          any: true
        }),
      "GEOSEARCH p:k FROMLONLAT 1 2 BYBOX 3 4 m DESC COUNT 1 ANY",
      [],
      []
    ]
  ],
  geoSearchWithDistances: [
    [
      (c) => c.geoSearchWithDistances("k", { from: { member: "a" }, by: { radius: 5, unit: "ft" } }),
      "GEOSEARCH p:k FROMMEMBER a BYRADIUS 5 ft WITHCOORD WITHDIST",
      [["a", "0.5", ["1", "2"]]],
      [{ member: "a", distance: 0.5, longitude: 1, latitude: 2 }]
    ]
  ],
  geoSearchStore: [
    [
      (c) =>
        c.geoSearchStore("to", "k", { from: { member: "a" }, by: { radius: 5, unit: "m" } }, { storeDistances: true }),
      "GEOSEARCHSTORE p:to p:k FROMMEMBER a BYRADIUS 5 m STOREDIST",
      1,
      1
    ]
  ],
  pfAdd: [[(c) => c.pfAdd("k", "a", "b"), "PFADD p:k a b", 1, true]],
  pfCount: [[(c) => c.pfCount("a", "b"), "PFCOUNT p:a p:b", 3, 3]],
  pfMerge: [[(c) => c.pfMerge("to", ["a", "b"]), "PFMERGE p:to p:a p:b", "OK", undefined]],
  setBit: [[(c) => c.setBit("k", 7, true), "SETBIT p:k 7 1", 0, false]],
  getBit: [[(c) => c.getBit("k", 7), "GETBIT p:k 7", 1, true]],
  bitCount: [
    [(c) => c.bitCount("k"), "BITCOUNT p:k", 1, 1],
    [(c) => c.bitCount("k", { start: 1, unit: "bit" }), "BITCOUNT p:k 1 -1 BIT", 1, 1]
  ],
  bitPos: [
    [(c) => c.bitPos("k", true), "BITPOS p:k 1", 5, some(5)],
    [(c) => c.bitPos("k", false, { end: 2 }), "BITPOS p:k 0 0 2", -1, none()]
  ],
  bitOp: [[(c) => c.bitOp("and", "to", ["a", "b"]), "BITOP AND p:to p:a p:b", 2, 2]],

  scriptLoad: [[(c) => c.scriptLoad("return 1"), "SCRIPT LOAD return 1", "sha", "sha"]],
  scriptExists: [[(c) => c.scriptExists(["a", "b"]), "SCRIPT EXISTS a b", [1, 0], [true, false]]],
  scriptFlush: [[(c) => c.scriptFlush, "SCRIPT FLUSH", "OK", undefined]],
  publish: [[(c) => c.publish("ch", "m"), "PUBLISH p:ch m", 2, 2]],
  spublish: [[(c) => c.spublish("ch", "m"), "SPUBLISH p:ch m", 1, 1]],
  pubsubChannels: [
    [(c) => c.pubsubChannels(), "PUBSUB CHANNELS p:*", ["p:a"], ["a"]],
    [(c) => c.pubsubChannels("a?"), "PUBSUB CHANNELS p:a?", [], []]
  ],
  pubsubNumSub: [
    [(c) => c.pubsubNumSub(["a", "b"]), "PUBSUB NUMSUB p:a p:b", ["p:a", 1, "p:b", 0], { a: 1, b: 0 }]
  ],
  ping: [[(c) => c.ping, "PING", "PONG", undefined]],
  time: [
    [(c) => c.time, "TIME", ["1700000000", "000042"], 1_700_000_000_000_042n],
    [(c) => c.time, "TIME", ["0", "7"], 7n]
  ],
  dbSize: [[(c) => c.dbSize, "DBSIZE", 3, 3]],
  flushDb: [[(c) => c.flushDb, "FLUSHDB", "OK", undefined]]
}

describe("typed commands", () => {
  for (const [name, some] of Object.entries(cases)) {
    it.effect(name, () =>
      Effect.gen(function*() {
        for (const [call, expected, reply, result] of some) {
          const [commands, sent] = recorded(reply)
          assert.deepStrictEqual(yield* call(commands), result)
          assert.lengthOf(sent, 1)
          const [command, args, idempotent] = sent[0]!
          assert.strictEqual([command, ...args].join(" "), expected)
          assert.strictEqual(idempotent, reads.has(name) ? "read" : "never")
        }
      }))

    it.effect(`${name} fails on a reply of another shape`, () =>
      Effect.gen(function*() {
        const wrong: ReadonlyArray<unknown> = [
          undefined,
          "neither",
          -7.5,
          2 ** 60,
          ["0", "1", "2"],
          ["0", 1],
          ["0", ["a", {}]],
          [["a"]],
          [null, undefined],
          { a: 1n },
          new RedisReplyError({ command: "X", code: "ERR", reply: "ERR inside" })
        ]
        for (const [call, expected] of some.slice(0, 1)) {
          let failures = 0
          for (const reply of wrong) {
            const [commands] = recorded(reply)
            const exit = yield* Effect.exit(call(commands))
            if (Exit.isSuccess(exit)) continue
            failures++
            const error = exit.cause._tag === "Fail" ? exit.cause.error : assert.fail(String(exit.cause))
            assert.instanceOf(error, RedisDecodeError)
            assert.strictEqual(error.command, expected.split(" ")[0])
            assert.notInclude(error.message, "neither")
          }
          // A text and an array of texts are what some commands give; nothing else passes.
          assert.isAtLeast(failures, wrong.length - 2)
        }
      }))
  }

  it("there is no command without a case", () => {
    assert.deepStrictEqual(Object.keys(recorded(null)[0]).sort(), Object.keys(cases).sort())
  })

  it.effect("nothing is sent for an empty list of what to read", () =>
    Effect.gen(function*() {
      const [commands, sent] = recorded(null)
      assert.deepStrictEqual(yield* commands.mget([]), [])
      assert.deepStrictEqual(yield* commands.hmget("k", []), [])
      assert.deepStrictEqual(yield* commands.smismember("k", []), [])
      assert.deepStrictEqual(yield* commands.zmscore("k", []), [])
      assert.deepStrictEqual(yield* commands.scriptExists([]), [])
      assert.deepStrictEqual(yield* commands.pubsubNumSub([]), {})
      assert.deepStrictEqual(yield* commands.xread({}), [])
      assert.deepStrictEqual(yield* commands.geoPos("k"), [])
      assert.deepStrictEqual(yield* commands.geoHash("k"), [])
      assert.strictEqual(yield* commands.pfCount(), 0)
      assert.strictEqual(yield* commands.del(), 0)
      assert.strictEqual(yield* commands.unlink(), 0)
      assert.strictEqual(yield* commands.exists(), 0)
      assert.strictEqual(yield* commands.touch(), 0)
      assert.deepStrictEqual(sent, [])
    }))

  it.effect("what is refused is not sent, and says why", () =>
    Effect.gen(function*() {
      const [c, sent] = recorded(null)
      const refused: ReadonlyArray<readonly [Effect.Effect<unknown, RedisError>, string]> = [
        [c.get(""), "get: key must be a non-empty string, but it is an empty string"],
        [c.set("k", "v", { ttl: 0 }), "set: ttl must be a finite duration greater than zero, but it is 0"],
        [
          c.set("k", "v", { ttl: 1, expireAt: at }),
          "set: options must be at most one expiry, but it is 2"
        ],
        [c.mget(["a", ""]), "mget: keys must be a non-empty string, but it is an empty string"],
        [c.hset("k", {}), "hset: fields must be at least one, but it is none"],
        [c.incrBy("k", 0.5), "incrBy: increment must be a whole number, but it is 0.5"],
        [c.incrBy("k", 2 ** 53), "incrBy: increment must be a whole number, but it is 9007199254740992"],
        [c.lpopCount("k", -1), "lpopCount: count must be a whole number of one or more, but it is -1"],
        [c.zadd("k", { a: NaN }), "zadd: score must be a number, but it is NaN"],
        [c.zcount("k", { max: NaN }), "zcount: max must be a number, but it is NaN"],
        [c.zunion(["a"], { weights: [] }), "zunion: weights must be one for each key, 1 in all, but it is 0"],
        [c.expireAt("k", new Date(NaN)), "expireAt: at must be a valid Date or DateTime, but it is an invalid one"],
        [c.publish("", "m"), "publish: channel must be a non-empty string, but it is an empty string"]
      ]
      for (const [effect, message] of refused) {
        const error = yield* Effect.either(effect)
        assert.strictEqual(error._tag === "Left" ? error.left._tag : error._tag, "RedisInputError")
        assert.strictEqual(error._tag === "Left" ? error.left.message : "", message)
      }
      assert.deepStrictEqual(sent, [])
    }))

  it.effect("scans go on until the cursor is 0 again", () =>
    Effect.gen(function*() {
      const pages = [["17", ["a", "b"]], ["9", []], ["0", ["c"]]]
      const sent: Array<string> = []
      const run: RedisCommands.Run = (command, args, onReply) =>
        Effect.suspend(() => onReply(pages[sent.push([command, ...args].join(" ")) - 1]))
      const stream = RedisCommands.scanWith(run, "SCAN", ["head"], ["COUNT", 2])
      assert.deepStrictEqual(yield* collect(stream), ["a", "b", "c"])
      assert.deepStrictEqual(sent, ["SCAN head 0 COUNT 2", "SCAN head 17 COUNT 2", "SCAN head 9 COUNT 2"])
      // It stops where its reader stops.
      sent.length = 0
      assert.deepStrictEqual(yield* collect(Stream.take(stream, 1)), ["a"])
      assert.lengthOf(sent, 1)
    }))

  it("escapeGlob leaves a text that matches itself alone", () => {
    assert.strictEqual(RedisCommands.escapeGlob("a:b-c^{d}"), "a:b-c^{d}")
    assert.strictEqual(RedisCommands.escapeGlob("*?[]\\"), "\\*\\?\\[\\]\\\\")
  })
})

describe("blocking commands", () => {
  const isReplies = (reply: Reply): reply is ReadonlyArray<Reply> => Array.isArray(reply)

  const toBytes = (reply: Reply): BytesReply =>
    typeof reply === "string" ? Buffer.from(reply) : isReplies(reply) ? reply.map(toBytes) : reply

  /** Blocking commands whose wait ends with this reply, or is interrupted when it has arrived. */
  const make = (reply: Reply, interrupted: boolean) => {
    const log: Array<string> = []
    const send: Connection["sendBlocking"] = (command, args, handBack) =>
      Effect.suspend(() => {
        log.push([command, ...args].join(" "))
        return interrupted && reply !== null ? Effect.as(handBack(toBytes(reply)), null) : Effect.succeed(reply)
      })
    const executor: Executor = {
      ...RedisCommands.make(() => Effect.die("not used"), "p:"),
      send: (command, ...args) => Effect.sync(() => log.push([command, ...args].join(" "))),
      sendBytes: () => Effect.die("not used"),
      pipeline: () => Effect.die("not used"),
      eval: <P extends ReadonlyArray<any>, A>(script: RedisScript.RedisScript<P, A>, ...params: P) =>
        Effect.suspend(() => {
          const { args, keys } = script.params(...params)
          log.push([script.name, ...keys, ...args].join(" "))
          const result = script.decode(1)
          return result._tag === "Right" ? Effect.succeed(result.right) : Effect.die(result.left)
        })
    }
    return [RedisCommands.makeBlocking(send, executor, "p:"), log] as const
  }

  type Blocking = readonly [
    call: (commands: RedisCommands.BlockingCommands) => Effect.Effect<Option.Option<unknown>, RedisError>,
    sent: string,
    reply: Reply,
    result: unknown,
    handBack: string
  ]

  const cases: Record<keyof RedisCommands.BlockingCommands, ReadonlyArray<Blocking>> = {
    blpop: [
      [(c) => c.blpop(["a", "b"], "1 second"), "BLPOP p:a p:b 1", ["p:b", "x"], ["b", "x"], "LPUSH p:b x"],
      [(c) => c.blpop(["a"], 1), "BLPOP p:a 0.001", ["p:a", ""], ["a", ""], "LPUSH p:a "],
      [(c) => c.blpop(["a"], "1500 micros"), "BLPOP p:a 0.002", ["p:a", "x"], ["a", "x"], "LPUSH p:a x"],
      [(c) => c.blpop(["a"], Duration.infinity), "BLPOP p:a 0", ["p:a", "x"], ["a", "x"], "LPUSH p:a x"]
    ],
    brpop: [[(c) => c.brpop(["a"], Infinity), "BRPOP p:a 0", ["p:a", "x"], ["a", "x"], "RPUSH p:a x"]],
    blmove: [
      [
        (c) => c.blmove("a", "b", { from: "left", to: "right", timeout: 2500 }),
        "BLMOVE p:a p:b LEFT RIGHT 2.5",
        "x",
        "x",
        "moveBack b a x -1 LPUSH"
      ],
      [
        (c) => c.blmove("a", "b", { from: "right", to: "left", timeout: Duration.infinity }),
        "BLMOVE p:a p:b RIGHT LEFT 0",
        "x",
        "x",
        "moveBack b a x 1 RPUSH"
      ]
    ],
    blmpop: [
      [
        (c) => c.blmpop(["a", "b"], { from: "left", count: 3, timeout: "1 minute" }),
        "BLMPOP 60 2 p:a p:b LEFT COUNT 3",
        ["p:b", ["1", "2"]],
        ["b", ["1", "2"]],
        "LPUSH p:b 2 1"
      ],
      [
        (c) => c.blmpop(["a"], { from: "right", timeout: "1 minute" }),
        "BLMPOP 60 1 p:a RIGHT",
        ["p:a", ["2", "1"]],
        ["a", ["2", "1"]],
        "RPUSH p:a 1 2"
      ]
    ],
    bzpopMin: [
      [
        (c) => c.bzpopMin(["a"], "1 second"),
        "BZPOPMIN p:a 1",
        ["p:a", "x", "1.5"],
        ["a", "x", 1.5],
        "ZADD p:a NX 1.5 x"
      ],
      [(c) => c.bzpopMin(["a"], 10), "BZPOPMIN p:a 0.01", ["p:a", "x", 2], ["a", "x", 2], "ZADD p:a NX 2 x"]
    ],
    bzpopMax: [
      [
        (c) => c.bzpopMax(["a", "b"], "1 second"),
        "BZPOPMAX p:a p:b 1",
        ["p:a", "x", "inf"],
        ["a", "x", Infinity],
        "ZADD p:a NX inf x"
      ]
    ]
  }

  for (const [name, some] of Object.entries(cases)) {
    it.effect(name, () =>
      Effect.gen(function*() {
        for (const [call, expected, reply, result, handBack] of some) {
          const [commands, log] = make(reply, false)
          assert.deepStrictEqual(yield* call(commands), Option.some(result))
          assert.deepStrictEqual(log, [expected])

          const [timedOut] = make(null, false)
          assert.deepStrictEqual(yield* call(timedOut), Option.none())

          const [interrupted, handedBack] = make(reply, true)
          yield* call(interrupted)
          assert.deepStrictEqual(handedBack, [expected, handBack])

          const wrong: ReadonlyArray<Reply> = [7, ["p:a"], ["p:a", 1], ["p:a", "x", "y", "z"], [null, "x", "1"]]
          for (const reply of wrong) {
            const error = yield* Effect.either(call(make(reply, false)[0]))
            assert.strictEqual(error._tag === "Left" ? error.left._tag : error._tag, "RedisDecodeError")
          }
        }
      }))
  }
})
