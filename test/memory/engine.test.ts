import { assert, describe, it } from "@effect/vitest"
import { makeServer, NOT_INTEGER, run, type Server, steps, SYNTAX, WRONG_TYPE } from "./tools.js"

describe("strings", () => {
  steps(
    "SET with its conditions",
    ["SET a 1 NX", "+OK"],
    ["SET a 2 NX", null],
    ["SET a 2 XX GET", "1"],
    ["SET b 1 XX", null],
    ["SET b 1 NX GET", null],
    ["SET a 3 NX XX", SYNTAX],
    ["SET a 3 EX 0", "-ERR invalid expire time in 'set' command"],
    ["SET a 3 EX x", NOT_INTEGER],
    ["SET a", "-ERR wrong number of arguments for 'set' command"],
    ["GET a", "2"]
  )
  steps(
    "SET keeps or drops the life",
    ["SET a 1 PX 1000", "+OK"],
    ["PTTL a", 1000],
    ["SET a 2 KEEPTTL", "+OK"],
    ["PTTL a", 1000],
    ["SET a 3", "+OK"],
    ["PTTL a", -1]
  )
  steps(
    "numbers",
    ["INCR n", 1],
    ["INCRBY n 41", 42],
    ["DECRBY n 2", 40],
    ["SET n 9223372036854775807", "+OK"],
    ["INCR n", "-ERR increment or decrement would overflow"],
    ["DECR n", 2 ** 63],
    ["GET n", "9223372036854775806"],
    ["SET n x", "+OK"],
    ["INCR n", NOT_INTEGER],
    ["DECRBY n -9223372036854775808", "-ERR decrement would overflow"]
  )
  steps(
    "floats are added with the precision of the server",
    ["INCRBYFLOAT f 0.1", "0.1"],
    ["INCRBYFLOAT f 0.2", "0.3"],
    ["INCRBYFLOAT f 5.0e3", "5000.29999999999999982"],
    ["INCRBYFLOAT f x", "-ERR value is not a valid float"],
    ["INCRBYFLOAT f inf", "-ERR increment would produce NaN or Infinity"]
  )
  steps(
    "parts",
    ["APPEND a hello", 5],
    ["GETRANGE a 1 3", "ell"],
    ["GETRANGE a -3 -1", "llo"],
    ["GETRANGE a 3 1", ""],
    ["SETRANGE a 7 x", 8],
    ["GET a", "hello\0\0x"],
    ["SETRANGE a -1 x", "-ERR offset is out of range"],
    ["STRLEN a", 8]
  )
  steps(
    "many at once",
    ["MSET a 1 b 2", "+OK"],
    ["MSET a 1 b", "-ERR wrong number of arguments for 'mset' command"],
    ["MSETNX b 3 c 4", 0],
    ["MSETNX c 3 d 4", 1],
    ["LPUSH l x", 1],
    ["MGET a b c l none", ["1", "2", "3", null, null]],
    ["GET l", WRONG_TYPE]
  )
  steps(
    "GETEX and GETDEL",
    ["SET a 1", "+OK"],
    ["GETEX a PX 50", "1"],
    ["PTTL a", 50],
    ["GETEX a PERSIST", "1"],
    ["PTTL a", -1],
    ["GETEX a EX 1 PERSIST", SYNTAX],
    ["GETDEL a", "1"],
    ["GETDEL a", null]
  )
})

describe("keys", () => {
  it("live until their instant, and no longer", () => {
    const server = makeServer()
    run(server, [["SET a 1 PX 1000", "+OK"], ["SET b 1 PXAT 500", "+OK"], ["DBSIZE", 2]])
    server.clock.now = 499
    run(server, [["EXISTS a b", 2], ["PTTL b", 1]])
    server.clock.now = 500
    run(server, [["GET b", null], ["DBSIZE", 1], ["TTL a", 1], ["PTTL a", 500]])
    server.clock.now = 1000
    run(server, [["DBSIZE", 0], ["TTL a", -2]])
  })

  it("seven days are seven days", () => {
    const server = makeServer()
    run(server, [["SET session x EX 604800", "+OK"]])
    server.clock.now = 604_799_999
    run(server, [["GET session", "x"]])
    server.clock.now = 604_800_000
    run(server, [["GET session", null]])
  })

  it("the clock of the server is never set back", () => {
    const server = makeServer()
    server.clock.now = 1000
    run(server, [["SET a 1 PX 100", "+OK"], ["TIME", ["1", "0"]]])
    server.clock.now = 0
    run(server, [["TIME", ["1", "0"]], ["PTTL a", 100]])
  })

  it("a life that changes a million times leaves nothing behind", () => {
    const server = makeServer()
    for (let i = 0; i < 20_000; i++) server.run("SET", `k${i % 10}`, i, "PX", 1000 + i)
    server.clock.now = 1000 + 19_990
    run(server, [["DBSIZE", 9]])
    server.clock.now = 30_000
    run(server, [["DBSIZE", 0]])
  })

  steps(
    "EXPIRE with its conditions",
    ["SET a 1", "+OK"],
    ["EXPIRE a 100 XX", 0],
    ["EXPIRE a 100 GT", 0],
    ["EXPIRE a 100 LT", 1],
    ["EXPIRE a 50 GT", 0],
    ["EXPIRE a 150 GT", 1],
    ["EXPIRE a 10 NX", 0],
    ["TTL a", 150],
    ["EXPIRE a 10 NX GT", "-ERR NX and XX, GT or LT options at the same time are not compatible"],
    ["EXPIRE a 10 GT LT", "-ERR GT and LT options at the same time are not compatible"],
    ["EXPIRE a 10 FOO", "-ERR Unsupported option FOO"],
    ["PERSIST a", 1],
    ["PERSIST a", 0],
    ["EXPIRE a 0", 1],
    ["EXISTS a", 0]
  )
  steps(
    "RENAME and COPY take the life along",
    ["SET a 1 PX 100", "+OK"],
    ["RENAME a b", "+OK"],
    ["PTTL b", 100],
    ["RENAME a b", "-ERR no such key"],
    ["RENAMENX b b", 0],
    ["COPY b c", 1],
    ["COPY b c", 0],
    ["PTTL c", 100],
    ["COPY b c REPLACE", 1],
    ["COPY b b", "-ERR source and destination objects are the same"],
    ["COPY b c DB 1", "-ERR database 1 is not supported by the in-memory server, which has database 0 only"]
  )
  steps(
    "a copy is a copy",
    ["HSET h f 1", 1],
    ["COPY h h2", 1],
    ["HSET h f 2", 0],
    ["HGET h2 f", "1"],
    ["ZADD z 1 a", 1],
    ["COPY z z2", 1],
    ["ZREM z a", 1],
    ["ZRANGE z2 0 -1", ["a"]]
  )

  const scanAll = (server: Server, ...args: ReadonlyArray<string>): Array<string> => {
    const found: Array<string> = []
    let cursor = "0"
    do {
      const reply = server.run("SCAN", cursor, ...args)
      assert(Array.isArray(reply))
      cursor = String(reply[0])
      found.push(...reply[1])
    } while (cursor !== "0")
    return found
  }

  it("SCAN returns every key once that is there all the time, whatever else comes and goes", () => {
    const server = makeServer()
    for (let i = 0; i < 500; i++) server.run("SET", `keep${i}`, "x")
    for (let i = 0; i < 500; i++) server.run("SET", `go${i}`, "x")
    const found: Array<string> = []
    let cursor = "0"
    let step = 0
    do {
      const reply = server.run("SCAN", cursor, "COUNT", "7")
      assert(Array.isArray(reply))
      cursor = String(reply[0])
      found.push(...reply[1])
      for (let i = 0; i < 5; i++) server.run("DEL", `go${(step * 5 + i) % 500}`)
      server.run("SET", `new${step++}`, "x")
    } while (cursor !== "0")
    const kept = found.filter((key) => key.startsWith("keep"))
    assert.strictEqual(kept.length, 500)
    assert.strictEqual(new Set(kept).size, 500)
  })

  it("SCAN by pattern and type", () => {
    const server = makeServer()
    run(server, [["MSET a1 x a2 x b1 x", "+OK"], ["HSET a3 f v", 1]])
    assert.sameMembers(scanAll(server, "MATCH", "a*", "COUNT", "1"), ["a1", "a2", "a3"])
    assert.sameMembers(scanAll(server, "TYPE", "hash"), ["a3"])
    assert.sameMembers(scanAll(server, "MATCH", "[^a]?"), ["b1"])
  })
})

describe("hashes", () => {
  steps(
    "fields",
    ["HSET h a 1 b 2", 2],
    ["HSET h a", "-ERR wrong number of arguments for 'hset' command"],
    ["HSET h a 3 c 4", 1],
    ["HGETALL h", ["a", "3", "b", "2", "c", "4"]],
    ["HMGET h a none", ["3", null]],
    ["HSETNX h a 9", 0],
    ["HSTRLEN h a", 1],
    ["HINCRBY h a 5", 8],
    ["HINCRBYFLOAT h a 0.5", "8.5"],
    ["HINCRBY h a 1", "-ERR hash value is not an integer"],
    ["HDEL h a b c", 3],
    ["EXISTS h", 0],
    ["TYPE h", "+none"]
  )
  steps(
    "HINCRBY keeps all 64 bits",
    ["HSET h n 9223372036854775806", 1],
    ["HINCRBY h n 1", 2 ** 63],
    ["HGET h n", "9223372036854775807"],
    ["HINCRBY h n 1", "-ERR increment or decrement would overflow"]
  )
  it("HRANDFIELD: different fields for a count, repeated ones below zero", () => {
    const server = makeServer()
    run(server, [["HSET h a 1 b 2 c 3", 3]])
    const some = server.run("HRANDFIELD", "h", "2")
    assert(Array.isArray(some))
    assert.strictEqual(new Set(some).size, 2)
    const repeated = server.run("HRANDFIELD", "h", "-10", "WITHVALUES")
    assert(Array.isArray(repeated))
    assert.strictEqual(repeated.length, 20)
  })
  it("HSCAN of a large hash goes step by step", () => {
    const server = makeServer()
    for (let i = 0; i < 300; i++) server.run("HSET", "h", `f${i}`, i)
    const reply = server.run("HSCAN", "h", "0", "COUNT", "10")
    assert(Array.isArray(reply))
    assert.notStrictEqual(reply[0], "0")
    assert.strictEqual(reply[1].length, 20)
  })
})

describe("lists", () => {
  steps(
    "both ends",
    ["RPUSH l b c", 2],
    ["LPUSH l a", 3],
    ["LRANGE l 0 -1", ["a", "b", "c"]],
    ["LINDEX l -1", "c"],
    ["LINSERT l BEFORE b x", 4],
    ["LINSERT l AFTER none x", -1],
    ["LSET l 1 y", "+OK"],
    ["LSET l 9 y", "-ERR index out of range"],
    ["LREM l 0 y", 1],
    ["LTRIM l 1 -1", "+OK"],
    ["LRANGE l 0 -1", ["b", "c"]],
    ["LPOP l 5", ["b", "c"]],
    ["EXISTS l", 0],
    ["LPOP l", null],
    ["LPUSHX l a", 0]
  )
  steps(
    "LPOS",
    ["RPUSH l a b a c a", 5],
    ["LPOS l a", 0],
    ["LPOS l a RANK 2", 2],
    ["LPOS l a RANK -1", 4],
    ["LPOS l a COUNT 0", [0, 2, 4]],
    ["LPOS l a COUNT 2 RANK -1", [4, 2]],
    ["LPOS l a COUNT 0 MAXLEN 3", [0, 2]]
  )
  steps(
    "moves",
    ["RPUSH a 1 2 3", 3],
    ["LMOVE a b LEFT RIGHT", "1"],
    ["RPOPLPUSH a a", "3"],
    ["LRANGE a 0 -1", ["3", "2"]],
    ["SET s x", "+OK"],
    ["LMOVE a s LEFT LEFT", WRONG_TYPE],
    ["LLEN a", 2],
    ["LMPOP 2 none a LEFT COUNT 9", ["a", ["3", "2"]]]
  )
  it("is a queue of any length", () => {
    const server = makeServer()
    for (let i = 0; i < 1000; i++) {
      server.run("RPUSH", "l", i)
      server.run("LPUSH", "l", -i)
      if (i % 3 === 0) server.run("LPOP", "l")
    }
    const reply = server.run("LRANGE", "l", 0, -1)
    assert(Array.isArray(reply))
    assert.strictEqual(reply.length, 2000 - 334)
    assert.strictEqual(reply[reply.length - 1], "999")
  })
})

describe("sets", () => {
  steps(
    "members",
    ["SADD s a b a", 2],
    ["SISMEMBER s a", 1],
    ["SMISMEMBER s a x", [1, 0]],
    ["SREM s a x", 1],
    ["SMOVE s t b", 1],
    ["EXISTS s", 0],
    ["SMEMBERS t", ["b"]]
  )
  steps(
    "combined",
    ["SADD a 1 2 3", 3],
    ["SADD b 2 3 4", 3],
    ["SINTER a b", ["2", "3"]],
    ["SDIFF a b", ["1"]],
    ["SUNION a b", ["1", "2", "3", "4"]],
    ["SINTERCARD 2 a b LIMIT 1", 1],
    ["SINTERSTORE c a b none", 0],
    ["SDIFFSTORE a a b", 1],
    ["SMEMBERS a", ["1"]]
  )
  it("SPOP takes different members", () => {
    const server = makeServer()
    for (let i = 0; i < 100; i++) server.run("SADD", "s", i)
    const taken = server.run("SPOP", "s", 60)
    assert(Array.isArray(taken))
    assert.strictEqual(new Set(taken).size, 60)
    assert.strictEqual(server.run("SCARD", "s"), 40)
    for (const member of taken) assert.strictEqual(server.run("SISMEMBER", "s", String(member)), 0)
  })
})

describe("sorted sets", () => {
  steps(
    "ZADD with its conditions",
    ["ZADD z 1 a 2 b", 2],
    ["ZADD z NX 5 a 3 c", 1],
    ["ZADD z XX CH 5 a 9 x", 1],
    ["ZADD z GT CH 1 a 9 b", 1],
    ["ZADD z LT CH 1 a", 1],
    ["ZADD z INCR 2.5 a", "3.5"],
    ["ZADD z NX INCR 1 a", null],
    ["ZADD z NX GT 1 a", "-ERR GT, LT, and/or NX options at the same time are not compatible"],
    ["ZADD z x a", "-ERR value is not a valid float"],
    ["ZADD z 1 a 2", SYNTAX],
    ["ZRANGE z 0 -1 WITHSCORES", ["c", "3", "a", "3.5", "b", "9"]]
  )
  steps(
    "scores are written as the server writes them",
    ["ZADD z 1.1 a 1e20 b 1e21 c inf d -inf e 0.00001 f 100000000000000000 g", 7],
    ["ZSCORE z a", "1.1000000000000001"],
    ["ZSCORE z b", "1e+20"],
    ["ZSCORE z c", "1e+21"],
    ["ZSCORE z d", "inf"],
    ["ZSCORE z e", "-inf"],
    ["ZSCORE z f", "1.0000000000000001e-05"],
    ["ZSCORE z g", "1e+17"],
    ["ZINCRBY z inf e", "-ERR resulting score is not a number (NaN)"]
  )
  it("equal scores are in the order of bytes", () => {
    const server = makeServer()
    const members = ["b", "a", "B", "\xc3\xa4", "\xef\xbd\x81", "\xf0\x9f\xa7\x80", "ab", ""]
    for (const member of members) server.run("ZADD", "z", 0, member)
    assert.deepStrictEqual(server.run("ZRANGE", "z", 0, -1), [
      "",
      "B",
      "a",
      "ab",
      "b",
      "\xc3\xa4",
      "\xef\xbd\x81",
      "\xf0\x9f\xa7\x80"
    ])
    assert.deepStrictEqual(server.run("ZRANGEBYLEX", "z", "(a", "[b"), ["ab", "b"])
  })
  steps(
    "ranges",
    ["ZADD z 1 a 2 b 3 c 4 d", 4],
    ["ZRANGE z 1 3 BYSCORE LIMIT 1 5", ["b", "c"]],
    ["ZRANGE z (4 1 BYSCORE REV", ["c", "b", "a"]],
    ["ZRANGE z 0 1 REV", ["d", "c"]],
    ["ZREVRANGEBYSCORE z +inf -inf LIMIT 1 2", ["c", "b"]],
    [
      "ZRANGE z 0 1 LIMIT 0 1",
      "-ERR syntax error, LIMIT is only supported in combination with either BYSCORE or BYLEX"
    ],
    ["ZCOUNT z (1 3", 2],
    ["ZRANGESTORE t z 1 2", 2],
    ["ZRANGE t 0 -1", ["b", "c"]],
    ["ZREMRANGEBYSCORE z 2 3", 2],
    ["ZREMRANGEBYRANK z 0 0", 1],
    ["ZRANGE z 0 -1", ["d"]]
  )
  steps(
    "taking",
    ["ZADD z 1 a 2 b 3 c", 3],
    ["ZPOPMAX z", ["c", "3"]],
    ["ZMPOP 2 none z MIN COUNT 5", ["z", [["a", "1"], ["b", "2"]]]],
    ["EXISTS z", 0],
    ["ZPOPMIN z", []]
  )
  steps(
    "combined",
    ["ZADD a 1 x 2 y", 2],
    ["ZADD b 10 y 20 z", 2],
    ["SADD s y", 1],
    ["ZUNION 2 a b WITHSCORES", ["x", "1", "y", "12", "z", "20"]],
    ["ZINTERSTORE t 3 a b s WEIGHTS 1 2 3 AGGREGATE MAX", 1],
    ["ZSCORE t y", "20"],
    ["ZDIFF 2 a b", ["x"]],
    ["ZINTERCARD 2 a b", 1],
    ["ZUNION 0 a", "-ERR at least 1 input key is needed for 'zunion' command"]
  )
  it("ranks and orders like a sorted array, over many insertions, moves and removals", () => {
    const server = makeServer()
    const model = new Map<string, number>()
    let state = 1
    const random = (limit: number) => {
      state = (state * 48271) % 2147483647
      return state % limit
    }
    for (let i = 0; i < 8000; i++) {
      const member = `m${random(3000)}`
      if (random(4) === 0) {
        server.run("ZREM", "z", member)
        model.delete(member)
      } else {
        const score = random(500)
        server.run("ZADD", "z", score, member)
        model.set(member, score)
      }
    }
    const sorted = [...model].sort(([a, x], [b, y]) => x - y || (a < b ? -1 : 1)).map(([member]) => member)
    assert.deepStrictEqual(server.run("ZRANGE", "z", 0, -1), sorted)
    for (let i = 0; i < sorted.length; i += 97) {
      assert.strictEqual(server.run("ZRANK", "z", sorted[i]!), i)
      assert.strictEqual(server.run("ZREVRANK", "z", sorted[i]!), sorted.length - 1 - i)
      assert.deepStrictEqual(server.run("ZRANGE", "z", i, i), [sorted[i]!])
    }
    const below = [...model.values()].filter((score) => score < 250).length
    assert.strictEqual(server.run("ZCOUNT", "z", "-inf", "(250"), below)
  })
})

describe("transactions", () => {
  steps(
    "run what was queued",
    ["MULTI", "+OK"],
    ["SET a 1", "+QUEUED"],
    ["INCR a", "+QUEUED"],
    ["LPUSH a x", "+QUEUED"],
    ["MULTI", "-ERR MULTI calls can not be nested"],
    ["EXEC", ["+OK", 2, WRONG_TYPE]],
    ["EXEC", "-ERR EXEC without MULTI"]
  )
  steps(
    "are given up when something could not be queued",
    ["MULTI", "+OK"],
    ["SET a 1", "+QUEUED"],
    ["SET a", "-ERR wrong number of arguments for 'set' command"],
    ["EXEC", "-EXECABORT Transaction discarded because of previous errors."],
    ["EXISTS a", 0]
  )
  it("are given up when a watched key was touched, or its life ended", () => {
    const server = makeServer()
    const other = server.engine.connect()
    run(server, [["SET a 1 PX 100", "+OK"], ["WATCH a b", "+OK"], ["MULTI", "+OK"]])
    server.runAs(other, "SET", "b", "1")
    run(server, [["EXEC", null], ["WATCH a", "+OK"]])
    server.clock.now = 100
    run(server, [["MULTI", "+OK"], ["EXEC", null], ["WATCH b", "+OK"]])
    server.runAs(other, "SET", "b", "2")
    run(server, [["UNWATCH", "+OK"], ["MULTI", "+OK"], ["EXEC", []]])
  })
  steps(
    "nothing waits in them",
    ["MULTI", "+OK"],
    ["BLPOP none 0", "+QUEUED"],
    ["BZPOPMIN none 0", "+QUEUED"],
    ["EXEC", [null, null]]
  )
})

describe("scripts", () => {
  it("keep what they wrote before they failed", () => {
    const server = makeServer()
    const reply = server.run("EVAL", "redis.call('SET', KEYS[1], '1') return redis.call('LPUSH', KEYS[1], 'x')", 1, "a")
    assert.match(String(reply), /^-WRONGTYPE /)
    assert.strictEqual(server.run("GET", "a"), "1")
  })
  it("are known by their SHA until they are flushed", () => {
    const server = makeServer()
    const sha = String(server.run("SCRIPT", "LOAD", "return 7"))
    assert.strictEqual(server.run("EVALSHA", sha, 0), 7)
    assert.deepStrictEqual(server.run("SCRIPT", "EXISTS", sha, "x"), [1, 0])
    run(server, [["SCRIPT FLUSH", "+OK"]])
    assert.strictEqual(server.run("EVALSHA", sha, 0), "-NOSCRIPT No matching script. Please use EVAL.")
  })
  it("see one instant, and may not do everything", () => {
    const server = makeServer()
    const call = (command: string, text: string) => String(server.run(command, text, 1, "a"))
    assert.match(
      call("EVAL", "return redis.call('SUBSCRIBE', 'x')"),
      /^-ERR This Redis command is not allowed from script/
    )
    assert.match(
      call("EVAL_RO", "return redis.call('SET', 'a', '1')"),
      /^-ERR Write commands are not allowed from read-only/
    )
    assert.match(call("EVAL", "return redis.call('DUMP', 'a')"), /^-ERR command 'DUMP' is not supported/)
    assert.strictEqual(server.run("EVAL", "return redis.call('BLMPOP', 0, 1, KEYS[1], 'LEFT')", 1, "a"), null)
  })
})

describe("publishing", () => {
  it("reaches channels, patterns and shards", () => {
    const server = makeServer()
    const other = server.engine.connect()
    const got: Array<ReadonlyArray<string>> = []
    other.onMessage = (...message) => got.push(message)
    assert.deepStrictEqual(server.runAs(other, "SUBSCRIBE", "a", "b"), [["subscribe", "a", 1], ["subscribe", "b", 2]])
    server.runAs(other, "PSUBSCRIBE", "a*")
    server.runAs(other, "SSUBSCRIBE", "s")
    run(server, [
      ["PUBLISH a x", 2],
      ["PUBLISH none x", 0],
      ["SPUBLISH s y", 1],
      ["PUBSUB CHANNELS", ["a", "b"]],
      ["PUBSUB NUMSUB a none", ["a", 1, "none", 0]],
      ["PUBSUB NUMPAT", 1],
      ["PUBSUB SHARDCHANNELS", ["s"]]
    ])
    assert.deepStrictEqual(got, [["channel", "a", "a", "x"], ["pattern", "a*", "a", "x"], ["shard", "s", "s", "y"]])
    assert.match(String(server.runAs(other, "GET", "a")), /^-ERR Can't execute 'get': only/)
    server.engine.close(other)
    run(server, [["PUBLISH a x", 0], ["PUBSUB NUMPAT", 0]])
  })
})

describe("what is not there", () => {
  steps(
    "names itself",
    ["FOO a b", "-ERR unknown command 'FOO', with args beginning with: 'a' 'b' "],
    ["DUMP s", "-ERR command 'DUMP' is not supported by the in-memory server"],
    ["config get x", "-ERR command 'CONFIG' is not supported by the in-memory server"],
    ["CLIENT REPLY OFF", "-ERR command 'CLIENT REPLY' is not supported by the in-memory server"],
    ["CLIENT FOO", "-ERR unknown subcommand 'FOO'. Try CLIENT HELP."],
    ["SELECT 0", "+OK"],
    ["SELECT 3", "-ERR database 3 is not supported by the in-memory server, which has database 0 only"],
    ["SELECT 99", "-ERR DB index is out of range"]
  )
})
