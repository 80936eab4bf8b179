/**
 * What a server of Redis 7.0.15 has replied to the same commands.
 */
import { assert, describe, it } from "@effect/vitest"
import { makeServer, run, type Server, type Step, steps, SYNTAX, WRONG_TYPE } from "./tools.js"

const sicily: Step = ["GEOADD s 13.361389 38.115556 Palermo 15.087269 37.502669 Catania", 2]

const edges: Step = ["GEOADD w 180 85.05112878 ne -180 -85.05112878 sw 180 0 e -180 0 w", 4]

describe("geo", () => {
  steps(
    "GEOADD keeps places as scores",
    sicily,
    ["ZRANGE s 0 -1 WITHSCORES", ["Palermo", "3479099956230698", "Catania", "3479447370796909"]],
    ["GEOADD s NX 0 0 Palermo 1 1 new", 1],
    ["GEOADD s XX CH 0 0 new 1 1 newer", 1],
    ["GEOADD s ch 0 0 new 1 1 newer", 1],
    ["ZCARD s", 4],
    ["GEOADD s NX XX 0 0 a", SYNTAX],
    ["GEOADD s NX CH 0", SYNTAX],
    ["GEOADD s 0 0 a 1", SYNTAX],
    ["GEOADD s CH XX CH", SYNTAX],
    ["GEOADD s 0 x a", "-ERR value is not a valid float"],
    ["GEOADD s 0 85.06 a", "-ERR invalid longitude,latitude pair 0.000000,85.060000"],
    [
      "GEOADD s 0 0 a -1e22 inf b",
      "-ERR invalid longitude,latitude pair -10000000000000000000000.000000,inf"
    ],
    ["ZSCORE s a", null],
    ["SET string x", "+OK"],
    ["GEOADD string 0 0 a", WRONG_TYPE]
  )
  steps(
    "GEOPOS, GEOHASH and GEODIST",
    sicily,
    ["GEOPOS s Palermo none", [["13.36138933897018433", "38.11555639549629859"], null]],
    ["GEOPOS s", []],
    ["GEOPOS none a b", [null, null]],
    ["GEOHASH s Palermo none Catania", ["sqc8b49rny0", null, "sqdtr74hyu0"]],
    ["GEODIST s Palermo Catania", "166274.1516"],
    ["GEODIST s Palermo Catania km", "166.2742"],
    ["GEODIST s Palermo Catania MI", "103.3182"],
    ["GEODIST s Palermo Catania ft", "545518.8700"],
    ["GEODIST s Palermo none", null],
    ["GEODIST none a b", null],
    ["GEODIST s Palermo Catania yd", "-ERR unsupported unit provided. please use M, KM, FT, MI"],
    ["GEODIST s Palermo Catania km x", SYNTAX],
    ["LPUSH l x", 1],
    ["GEOPOS l x", WRONG_TYPE],
    ["GEODIST l a b", WRONG_TYPE]
  )
  steps(
    "the edges of the world",
    edges,
    ["ZRANGE w 0 -1 WITHSCORES", [
      "sw",
      "0",
      "w",
      "1125899906842624",
      "e",
      "10133099161583616",
      "ne",
      "13510798882111488"
    ]],
    ["GEOPOS w ne sw", [["180", "85.0511287799999991"], ["-179.99999731779098511", "-85.05112751263942528"]]],
    ["GEOHASH w ne sw e w", ["bp05b5048p0", "00bh0hbj200", "80000000000", "80000000000"]],
    ["GEODIST w ne sw", "18919844.5891"],
    ["GEODIST w e w", "0.2983"],
    ["GEOSEARCH w FROMMEMBER e BYRADIUS 0 m", ["e"]]
  )
  steps(
    "GEOSEARCH",
    sicily,
    ["GEOADD s 12.758489 38.788135 edge1 17.241510 38.788135 edge2", 2],
    ["GEOSEARCH s FROMLONLAT 15 37 BYRADIUS 200 km ASC", ["Catania", "Palermo"]],
    ["GEOSEARCH s FROMLONLAT 15 37 BYBOX 400 400 km DESC", ["edge1", "edge2", "Palermo", "Catania"]],
    ["GEOSEARCH s BYRADIUS 200 km FROMMEMBER Palermo COUNT 2", ["Palermo", "edge1"]],
    ["GEOSEARCH s FROMLONLAT 15 37 BYRADIUS 200 km COUNT 1 ANY", ["Palermo"]],
    [
      "GEOSEARCH s FROMLONLAT 15 37 BYRADIUS 100 km WITHHASH WITHCOORD WITHDIST",
      [["Catania", "56.4413", 3479447370796909, ["15.08726745843887329", "37.50266842333162032"]]]
    ],
    ["GEOSEARCH s FROMLONLAT 0 0 BYRADIUS 1 m", []],
    ["GEOSEARCH none FROMMEMBER a BYRADIUS 1 m", []],
    ["GEOSEARCH s FROMMEMBER a BYRADIUS 1 m", "-ERR could not decode requested zset member"],
    ["GEOSEARCH s FROMLONLAT 0 0 BYRADIUS -1 m", "-ERR radius cannot be negative"],
    ["GEOSEARCH s FROMLONLAT 0 0 BYRADIUS x m", "-ERR need numeric radius"],
    ["GEOSEARCH s FROMLONLAT 0 0 BYBOX 1 x m", "-ERR need numeric height"],
    ["GEOSEARCH s FROMLONLAT 0 0 BYBOX 1 -1 m", "-ERR height or width cannot be negative"],
    ["GEOSEARCH s FROMLONLAT 0 0 BYRADIUS 1 m ANY", "-ERR the ANY argument requires COUNT argument"],
    ["GEOSEARCH s FROMLONLAT 0 0 BYRADIUS 1 m COUNT 0", "-ERR COUNT must be > 0"],
    ["GEOSEARCH s FROMLONLAT 0 0 BYRADIUS 1 m BYBOX 1 1 m", SYNTAX],
    [
      "geosearch s BYRADIUS 1 m ASC ASC ASC",
      "-ERR exactly one of FROMMEMBER or FROMLONLAT can be specified for geosearch"
    ],
    [
      "GEOSEARCH s FROMLONLAT 0 0 ASC ASC ASC",
      "-ERR exactly one of BYRADIUS and BYBOX can be specified for GEOSEARCH"
    ]
  )
  steps(
    "GEOSEARCHSTORE",
    sicily,
    ["SET to x", "+OK"],
    ["GEOSEARCHSTORE to s FROMLONLAT 15 37 BYRADIUS 100 km", 1],
    ["ZRANGE to 0 -1 WITHSCORES", ["Catania", "3479447370796909"]],
    ["GEOSEARCHSTORE to s FROMLONLAT 15 37 BYRADIUS 200 km COUNT 1 STOREDIST", 1],
    ["ZRANGE to 0 -1", ["Catania"]],
    ["ZCOUNT to 56.4412 56.4414", 1],
    ["GEOSEARCHSTORE to s FROMLONLAT 0 0 BYRADIUS 1 m", 0],
    ["EXISTS to", 0],
    [
      "GEOSEARCHSTORE to s FROMLONLAT 0 0 BYRADIUS 1 m WITHDIST",
      "-ERR GEOSEARCHSTORE is not compatible with WITHDIST, WITHHASH and WITHCOORD options"
    ],
    ["GEOSEARCHSTORE s none FROMLONLAT 0 0 BYRADIUS 1 m", 0],
    ["EXISTS s", 0]
  )
  steps(
    "GEORADIUS and its like",
    sicily,
    ["GEORADIUS s 15 37 200 km WITHDIST ASC", [["Catania", "56.4413"], ["Palermo", "190.4424"]]],
    ["GEORADIUSBYMEMBER s Palermo 200 km DESC", ["Catania", "Palermo"]],
    ["GEORADIUS s 15 37 200 km STORE to", 2],
    ["GEORADIUSBYMEMBER s Palermo 200 km COUNT 1 STOREDIST to", 1],
    ["ZRANGE to 0 -1 WITHSCORES", ["Palermo", "0"]],
    ["GEORADIUS_RO s 15 37 200 km STORE to", SYNTAX],
    ["GEORADIUSBYMEMBER_RO s Catania 1 m", ["Catania"]],
    ["GEORADIUSBYMEMBER none Catania x y", []],
    [
      "GEORADIUS s 15 37 200 km STORE to WITHDIST",
      "-ERR STORE option in GEORADIUS is not compatible with WITHDIST, WITHHASH and WITHCOORD options"
    ]
  )

  it("the keys that a command stores at are keys of it", () => {
    const server = makeServer({ cluster: true })
    const crossSlot = "-CROSSSLOT Keys in request don't hash to the same slot"
    run(server, [
      ["GEORADIUS {a}1 0 0 1 m STORE {a}2", 0],
      ["GEORADIUS {a}1 0 0 1 m STORE {b}2", crossSlot],
      ["GEORADIUSBYMEMBER {a}1 x 1 m STOREDIST {b}2", crossSlot],
      ["GEOSEARCHSTORE {a}1 {b}1 FROMLONLAT 0 0 BYRADIUS 1 m", crossSlot]
    ])
  })

  it("a search finds what a look at every member finds", () => {
    const server: Server = makeServer()
    const random = server.engine.random
    for (let i = 0; i < 2000; i++) {
      server.run("GEOADD", "k", random.next() * 360 - 180, random.next() * 160 - 80, `m${i}`)
    }
    for (
      const [longitude, latitude, kilometres] of [[0, 0, 500], [179, -40, 900], [-30, 70, 300], [10, 10, 3000]] as const
    ) {
      server.run("GEOADD", "k", longitude, latitude, "centre")
      const found = server.run("GEOSEARCH", "k", "FROMMEMBER", "centre", "BYRADIUS", kilometres, "km")
      const all = server.run("ZRANGE", "k", 0, -1) as ReadonlyArray<string>
      const near = all.filter((name) => Number(server.run("GEODIST", "k", "centre", name, "km")) <= kilometres)
      assert.isAbove(near.length, 1)
      assert.sameMembers([...found as ReadonlyArray<string>], near)
    }
  })
})
