import { HttpServerRequest } from "@effect/platform"
import { assert, describe, it } from "@effect/vitest"
import { Effect, Either, FastCheck as fc, Option } from "effect"
import * as ClientAddress from "../../src/http/ClientAddress.js"

const resolver = (options?: ClientAddress.Options) => Either.getOrThrow(ClientAddress.make(options))

const find = (options: ClientAddress.Options, header: string | undefined, peer?: string) =>
  Option.getOrUndefined(
    resolver(options)({ [options.header ?? "x-forwarded-for"]: header }, Option.fromNullable(peer))
  )

const proxies = { trustedProxies: ["10.0.0.0/8", "fd00::/8"] }

const PROXY = "10.0.0.1"

describe("the address of a client", () => {
  it("is the other end of the connection, as long as nobody is trusted", () => {
    assert.strictEqual(find({}, "1.1.1.1", "203.0.113.7"), "203.0.113.7")
    assert.strictEqual(find({}, "1.1.1.1", "127.0.0.1"), "127.0.0.1")
    assert.strictEqual(find({ trustedProxies: [] }, "1.1.1.1", PROXY), PROXY)
    assert.strictEqual(find({ hops: 0 }, "1.1.1.1", PROXY), PROXY)
    assert.strictEqual(find({}, "1.1.1.1"), undefined)
  })

  it("is what a trusted proxy has seen", () => {
    assert.strictEqual(find(proxies, "203.0.113.7", PROXY), "203.0.113.7")
    assert.strictEqual(find(proxies, "1.1.1.1, 203.0.113.7", PROXY), "203.0.113.7")
    assert.strictEqual(find(proxies, "1.1.1.1,203.0.113.7 , 10.9.9.9,fd12::3", PROXY), "203.0.113.7")
    // The header of a request that did not come through a proxy.
    assert.strictEqual(find(proxies, "1.1.1.1", "203.0.113.7"), "203.0.113.7")
  })

  it("is that of the first proxy when a proxy itself has sent the request", () => {
    assert.strictEqual(find(proxies, undefined, PROXY), PROXY)
    assert.strictEqual(find(proxies, "", PROXY), PROXY)
    assert.strictEqual(find(proxies, "10.3.3.3, 10.2.2.2", PROXY), "10.3.3.3")
    assert.strictEqual(find(proxies, ",10.2.2.2", PROXY), "10.2.2.2")
  })

  it("is found behind so many proxies, whatever their addresses", () => {
    const header = "1.1.1.1, 203.0.113.7, 198.51.100.1"
    assert.strictEqual(find({ hops: 1 }, header, "192.0.2.1"), "198.51.100.1")
    assert.strictEqual(find({ hops: 2 }, header, "192.0.2.1"), "203.0.113.7")
    assert.strictEqual(find({ hops: 9 }, header, "192.0.2.1"), "1.1.1.1")
    // A Unix socket.
    assert.strictEqual(find({ hops: 1 }, "203.0.113.7"), "203.0.113.7")
  })

  it("is the proxy where that wrote something that is no address", () => {
    for (
      const nonsense of [
        "unknown",
        "_hidden",
        "localhost",
        "010.0.0.1",
        "0x7f.0.0.1",
        "1.2.3",
        "1.2.3.4.5",
        "256.1.1.1",
        "1.2.3.4:",
        "1.2.3.4:port",
        "1.2.3.4:123456",
        "[2001:db8::1",
        "[2001:db8::1]x",
        "[1::2::3]",
        "2001:db8::1::",
        "1.2.3.4 1.2.3.4",
        "１.2.3.4",
        "<script>",
        "key\nvalue"
      ]
    ) {
      assert.strictEqual(find(proxies, `1.1.1.1, ${nonsense}`, PROXY), PROXY, nonsense)
      assert.strictEqual(find(proxies, `1.1.1.1, ${nonsense}, 10.2.2.2`, PROXY), "10.2.2.2", nonsense)
    }
  })

  it("has one spelling", () => {
    const all = { ...proxies, ipv6Prefix: 128 }
    assert.strictEqual(find(all, "203.0.113.7:49152", PROXY), "203.0.113.7")
    assert.strictEqual(find(all, "::ffff:203.0.113.7", PROXY), "203.0.113.7")
    assert.strictEqual(find(all, "[::FFFF:cb00:7107]:80", PROXY), "203.0.113.7")
    assert.strictEqual(find(all, "2001:0DB8:0:0:0:0:0:1", PROXY), "2001:db8::1")
    assert.strictEqual(find(all, "[2001:db8::1]:443", PROXY), "2001:db8::1")
    assert.strictEqual(find(all, undefined, "fe80::1%eth0"), "fe80::1")
    // A server that listens on IPv6 sees proxies like this.
    assert.strictEqual(find(all, "203.0.113.7", "::ffff:10.0.0.1"), "203.0.113.7")
  })

  it("is the network that a customer has, of IPv6", () => {
    const one = find(proxies, "2001:db8:1:2:3:4:5:6", PROXY)
    assert.strictEqual(one, "2001:db8:1:2::/64")
    assert.strictEqual(find(proxies, "2001:db8:1:2:ffff::", PROXY), one)
    assert.notStrictEqual(find(proxies, "2001:db8:1:3::", PROXY), one)
    assert.strictEqual(find({ ...proxies, ipv6Prefix: 56 }, "2001:db8:1:2ff::1", PROXY), "2001:db8:1:200::/56")
    assert.strictEqual(find({ ...proxies, ipv6Prefix: 1 }, "ffff::1", PROXY), "8000::/1")
    assert.strictEqual(find({ ...proxies, ipv6Prefix: 128 }, "::1", PROXY), "::1")
    assert.strictEqual(find({ ipv6Prefix: 32 }, undefined, "::1"), "::/32")
  })

  it("is read out of Forwarded", () => {
    const forwarded = { ...proxies, header: "forwarded" } as const
    assert.strictEqual(find(forwarded, "for=203.0.113.7", PROXY), "203.0.113.7")
    assert.strictEqual(
      find(forwarded, "for=1.1.1.1, For=\"203.0.113.7:81\" ; proto=https;by=_x ,for=10.2.2.2", PROXY),
      "203.0.113.7"
    )
    assert.strictEqual(find(forwarded, "proto=http;for=\"[2001:db8::1]:4711\"", PROXY), "2001:db8::/64")
    for (
      const nonsense of [
        "proto=http",
        "for=",
        "for=unknown",
        "for=_secret",
        "for=\"203.0.113.7",
        "for=203.0.113.7;for=1.1.1.1",
        "for=1.1.1.1\"",
        "for=[2001:db8::1]",
        "for=203.0.113.7 proto=http",
        "203.0.113.7"
      ]
    ) {
      assert.strictEqual(find(forwarded, `for=1.1.1.1, ${nonsense}`, PROXY), PROXY, nonsense)
    }
    // Only the header that one's own proxies write is looked at.
    const both = { "x-forwarded-for": "1.1.1.1", "forwarded": "for=203.0.113.7" }
    assert.deepStrictEqual(resolver(forwarded)(both, Option.some(PROXY)), Option.some("203.0.113.7"))
    assert.deepStrictEqual(resolver(proxies)(both, Option.some(PROXY)), Option.some("1.1.1.1"))
  })

  const hostile = fc.oneof(
    fc.string(),
    fc.ipV4(),
    fc.ipV6(),
    fc.stringOf(fc.constantFrom(..."\",;=\\[]:for. 10")),
    fc.array(fc.oneof(fc.ipV4(), fc.constant(PROXY))).map((all) => all.join(","))
  )

  it("does not depend on what the client writes", () => {
    fc.assert(fc.property(hostile, fc.ipV4(), fc.array(fc.constantFrom("10.1.1.1", "fd00::9"), { maxLength: 3 }), (
      header,
      client,
      chain
    ) => {
      fc.pre(!client.startsWith("10."))
      const list = (entries: ReadonlyArray<string>) => [header, ...entries].join(", ")
      assert.strictEqual(find(proxies, list([client, ...chain]), PROXY), client)
      assert.strictEqual(find({ hops: 1 + chain.length }, list([client, ...chain]), "192.0.2.1"), client)
      const elements = [client, ...chain].map((entry) =>
        entry.includes(":") ? `for="[${entry}]:1"` : `for=${entry};by=_a`
      )
      assert.strictEqual(find({ ...proxies, header: "forwarded" }, list(elements), PROXY), client)
      // It came past the proxies.
      assert.strictEqual(find(proxies, list(chain), client), client)
    }))
  })

  it("is an address or nothing, whatever the headers are", () => {
    const shape = /^(\d{1,3}(\.\d{1,3}){3}|[0-9a-f:]+\/64)$/
    fc.assert(
      fc.property(
        hostile,
        fc.constantFrom("x-forwarded-for" as const, "forwarded" as const),
        fc.nat(5),
        (header, name, hops) => {
          const found = find({ header: name, hops }, header, hops % 2 === 0 ? "::1" : undefined)
          if (found !== undefined) assert.match(found, shape)
        }
      )
    )
  })

  it("takes the ranges of proxies in any spelling", () => {
    const trusts = (range: string, peer: string) => find({ trustedProxies: [range] }, "203.0.113.7", peer) !== peer
    assert.isTrue(trusts("192.0.2.1", "192.0.2.1"))
    assert.isFalse(trusts("192.0.2.1", "192.0.2.2"))
    assert.isTrue(trusts("::ffff:192.0.2.0/120", "192.0.2.200"))
    assert.isFalse(trusts("::ffff:192.0.2.0/120", "192.0.3.1"))
    assert.isTrue(trusts("::ffff:192.0.2.1", "192.0.2.1"))
    assert.isFalse(trusts("::ffff:192.0.2.1", "192.0.2.2"))
    assert.isTrue(trusts("0.0.0.0/0", "192.0.2.1"))
    for (const range of ClientAddress.privateNetworks) assert.isTrue(trusts(range, range.replace(/\/.*/, "")), range)
  })

  it("is not looked for with options that mean nothing", () => {
    const refused = (options: object, field: string) => {
      const made = ClientAddress.make(options)
      assert.isTrue(Either.isLeft(made), JSON.stringify(options))
      assert.strictEqual(Either.isLeft(made) && made.left.field, field)
    }
    for (
      const range of [
        "",
        "10.0.0.0/",
        "10.0.0.0/33",
        "10.0.0.0/-1",
        "10.0.0/8",
        "::/129",
        "::ffff:1.2.3.4/33",
        "proxy",
        7
      ]
    ) {
      refused({ trustedProxies: [range] }, "trustedProxies")
    }
    for (const hops of [-1, 1.5, NaN, Infinity, "1"]) refused({ hops }, "hops")
    refused({ hops: 1, trustedProxies: ["10.0.0.1"] }, "hops")
    for (const ipv6Prefix of [0, 129, 1.5, NaN]) refused({ ipv6Prefix }, "ipv6Prefix")
    refused({ header: "x-real-ip" }, "header")
  })

  it.effect("is read from the request of the environment", () =>
    Effect.gen(function*() {
      const request = HttpServerRequest.fromWeb(new Request("http://x/", { headers: { "x-forwarded-for": "1.1.1.1" } }))
      const inside = <A, E>(effect: Effect.Effect<A, E, HttpServerRequest.HttpServerRequest>, remoteAddress?: string) =>
        Effect.provideService(
          effect,
          HttpServerRequest.HttpServerRequest,
          remoteAddress === undefined ? request : request.modify({ remoteAddress })
        )
      assert.strictEqual(yield* inside(ClientAddress.fromRequest(), PROXY), PROXY)
      assert.strictEqual(yield* inside(ClientAddress.fromRequest(proxies), PROXY), "1.1.1.1")
      assert.strictEqual(yield* inside(ClientAddress.fromRequest(proxies)), "unknown")
      const failure = yield* Effect.flip(inside(ClientAddress.fromRequest({ hops: -1 })))
      assert.strictEqual(failure._tag, "RedisInputError")
    }))
})
