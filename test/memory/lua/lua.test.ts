/**
 * Lua of the in-memory server against Lua of a real one: every script of the corpus, and what fast-check makes up.
 */
import { assert, describe, it } from "@effect/vitest"
import * as fc from "effect/FastCheck"
import { afterAll, beforeAll, inject } from "vitest"
import { LuaCompileError, LuaRuntime } from "../../../src/memory/lua/Lua.js"
import { ErrorReply, Status } from "../../../src/memory/reply.js"
import type { EngineReply } from "../../../src/memory/reply.js"
import { type Comparison, comparison } from "../versions.js"
import { makeCommands } from "./commands.js"
import { corpus } from "./corpus.js"
import { connect } from "./server.js"
import type { Server } from "./server.js"

let server: Server
let compared: Comparison
const commands = makeCommands()
const runtime = new LuaRuntime(commands)

beforeAll(async () => {
  server = await connect(inject("redisUrl"))
  compared = await comparison(inject("redisUrl"))
})

afterAll(() => server.close())

const ours = (script: string, keys: ReadonlyArray<string>, args: ReadonlyArray<string>): EngineReply => {
  try {
    return runtime.run(runtime.compile(script), keys, args)
  } catch (error) {
    if (error instanceof LuaCompileError) return new ErrorReply(error.message)
    throw error
  }
}

const real = (script: string, keys: ReadonlyArray<string>, args: ReadonlyArray<string>): Promise<EngineReply> =>
  server.send("EVAL", script, String(keys.length), ...keys, ...args)

const errorClass = (reply: EngineReply): EngineReply =>
  reply instanceof ErrorReply ? new ErrorReply(reply.text.split(": ")[0]!) : reply

/** A reply of either side to a script, without what is known to differ on the server of this run. */
const read = (script: string, reply: EngineReply): EngineReply => {
  const texts = (reply: EngineReply): EngineReply =>
    typeof reply === "string"
      ? compared.read(reply)
      : reply instanceof ErrorReply
      ? new ErrorReply(compared.read(reply.text))
      : Array.isArray(reply)
      ? reply.map(texts)
      : reply
  const read = texts(reply)
  return compared.ordered(script) ? read : [...JSON.stringify(read)].sort().join("")
}

describe("corpus", () => {
  for (const [subject, cases] of Object.entries(corpus)) {
    it(`${subject} (${cases.length})`, async () => {
      for (const { args = ["a1", "42", "3.7"], keys = ["k1", "k2", "k3"], loose, script } of cases) {
        if (!compared.runs(script)) continue
        await server.send("DEL", ...keys)
        commands.reset()
        const plain = (reply: EngineReply) => read(script, loose === true ? errorClass(reply) : reply)
        const expected = plain(await real(script, keys, args))
        assert.deepStrictEqual(plain(ours(script, keys, args)), expected, script)
      }
    })
  }
})

/** Some C libraries leave out the zeros that `#` asks for when rounding makes a number longer: -999.5 is `-1.e+03`. */
const roundedUp = (source: string, reply: EngineReply | undefined): EngineReply | undefined =>
  typeof reply === "string" && /%[^"%]*#[^"%]*g/i.test(source) ? reply.replace(/0*(?=e[-+])/gi, "") : reply

/** Evaluates many expressions in one script; each gives its values, or its error, as one text. */
const batch = (expressions: ReadonlyArray<string>): string =>
  `local function show(ok, ...)
    local out = { tostring(ok) }
    for i = 1, select("#", ...) do
      local v = select(i, ...)
      out[#out + 1] = type(v) == "number" and string.format("%.14g", v) or tostring(v)
    end
    return table.concat(out, "|")
  end
  local out = {}
  ${expressions.map((expression) => `out[#out + 1] = show(pcall(function() return ${expression} end))`).join("\n")}
  return out`

/**
 * JavaScript does not show the sign of NaN, and Lua's compiler takes a constant 0 for a constant -0 that it has seen
 * before in the same function.
 */
const unsigned = (reply: EngineReply | undefined): EngineReply | undefined =>
  typeof reply === "string" ? reply.replace(/-(nan|0(?![\d.]))/g, "$1") : reply

const agree = (name: string, expression: fc.Arbitrary<string>, runs = 40): void =>
  it(name, async () => {
    await fc.assert(
      fc.asyncProperty(fc.array(expression, { minLength: 20, maxLength: 60 }), async (expressions) => {
        const script = batch(expressions)
        const expected = await real(script, [], [])
        const actual = ours(script, [], [])
        if (!Array.isArray(expected) || !Array.isArray(actual)) return assert.deepStrictEqual(actual, expected, script)
        expressions.forEach((source, i) => {
          const value = (reply: EngineReply | undefined) => unsigned(roundedUp(source, read(source, reply ?? null)))
          assert.strictEqual(value(actual[i]), value(expected[i]), source)
        })
      }),
      { numRuns: runs * Number(process.env.LUA_RUNS ?? 1) }
    )
  })

/** A string of bytes as a Lua literal. */
const literal = (text: string): string =>
  `"${text.split("").map((character) => `\\${String(character.charCodeAt(0)).padStart(3, "0")}`).join("")}"`

const over = (alphabet: string, maxLength: number): fc.Arbitrary<string> =>
  fc.array(fc.constantFrom(...alphabet.split("")), { maxLength }).map((characters) => characters.join(""))

const numberLiteral = (value: number): string => {
  if (value !== value) return "(0/0)"
  if (!Number.isFinite(value)) return value > 0 ? "(1/0)" : "(-1/0)"
  // A negative zero is folded into the constant zero by Lua's compiler.
  return value < 0 ? `(-${String(-value)})` : String(value === 0 ? 0 : value)
}

const number: fc.Arbitrary<number> = fc.oneof(
  fc.integer({ min: -20, max: 20 }),
  fc.integer(),
  fc.integer({ min: -(2 ** 53), max: 2 ** 53 }),
  fc.double(),
  // Halves, quarters and eighths: ties of rounding.
  fc.tuple(fc.integer({ min: -(2 ** 48), max: 2 ** 48 }), fc.constantFrom(2, 4, 8, 16, 1024)).map(([a, b]) => a / b),
  fc.tuple(fc.integer({ min: -9999, max: 9999 }), fc.integer({ min: -12, max: 12 })).map(([a, b]) => a * 10 ** b)
)

describe("random expressions", () => {
  agree("tostring", number.map((value) => `${numberLiteral(value)} .. ""`))

  agree("tonumber", over("0123456789.eExXaAfFpP+- \t\n", 10).map((text) => `tonumber(${literal(text)})`))

  agree(
    "tonumber with a base",
    fc.tuple(over("0123456789abcdefxzAZ+- ", 8), fc.integer({ min: 1, max: 37 }))
      .map(([text, base]) => `tonumber(${literal(text)}, ${base})`)
  )

  agree(
    "string.format of numbers",
    fc.tuple(
      fc.tuple(
        over("-+ #0", 3),
        fc.constantFrom("", "1", "5", "12", "30"),
        fc.constantFrom("", ".", ".0", ".1", ".3", ".10", ".17", ".40"),
        fc.constantFrom(..."diouxXeEfgG".split(""))
      ),
      number
    ).map(([spec, value]) => `string.format("%${spec.join("")}", ${numberLiteral(value)})`)
  )

  agree(
    "string.format of strings",
    fc.tuple(
      over("-0", 2),
      fc.constantFrom("", "1", "5", "12"),
      fc.constantFrom("", ".", ".0", ".3"),
      over("ab\0\"\\\n\r", 8)
    )
      .map(([flags, width, precision, text]) =>
        `string.format("%${flags.replace("0", "")}${width}${precision}s|%q", ${literal(text)}, ${literal(text)})`
      )
  )

  const pattern = fc.oneof(
    over("ab.%[]^$*+-?()1dwf", 7),
    fc.array(
      fc.constantFrom(
        "a",
        "b",
        ".",
        "%a",
        "%d",
        "%s",
        "%W",
        "[ab]",
        "[^a]",
        "[a-c]",
        "[%w-]",
        "(a)",
        "(.)",
        "()",
        "(.-)",
        "(a*)",
        "%1",
        "%bab",
        "%f[a]",
        "a*",
        "b+",
        ".-",
        "a?",
        "$"
      ),
      { maxLength: 5 }
    ).map((items) => items.join(""))
  )
  const subject = over("aabbc1 .-", 10)

  agree(
    "string.find",
    fc.tuple(subject, pattern, fc.integer({ min: -12, max: 12 }))
      .map(([text, find, start]) => `string.find(${literal(text)}, ${literal(find)}, ${start})`),
    80
  )

  agree(
    "string.match",
    fc.tuple(subject, pattern).map(([text, find]) => `string.match(${literal(text)}, ${literal(find)})`),
    80
  )

  agree(
    "string.gsub",
    fc.tuple(subject, pattern, over("x%012", 4), fc.constantFrom("", ", 1", ", 2"))
      .map(([text, find, replace, limit]) =>
        `string.gsub(${literal(text)}, ${literal(find)}, ${literal(replace)}${limit})`
      ),
    80
  )

  agree(
    "string.sub and string.byte",
    fc.tuple(over("abcdef", 6), fc.integer({ min: -8, max: 8 }), fc.integer({ min: -8, max: 8 }))
      .map(([text, from, to]) =>
        `string.sub(${literal(text)}, ${from}, ${to}), string.byte(${literal(text)}, ${from}, ${to})`
      )
  )

  agree(
    "bit",
    fc.tuple(
      fc.constantFrom("band", "bor", "bxor", "lshift", "rshift", "arshift", "rol", "ror", "tohex"),
      number.filter((value) => Math.abs(value) < 2 ** 51),
      fc.integer({ min: -40, max: 40 })
    ).map(([name, a, b]) => `bit.${name}(${numberLiteral(a)}, ${b})`)
  )

  const { expression } = fc.letrec<{ readonly expression: string; readonly leaf: string }>((tie) => ({
    leaf: fc.oneof(
      fc.integer({ min: -9, max: 9 }).map(numberLiteral),
      fc.constantFrom(
        "1.5",
        "0.25",
        "1e15",
        "\"7\"",
        "\"0x1f\"",
        "\"x\"",
        "\"\"",
        "nil",
        "true",
        "false",
        "one",
        "text",
        "none"
      )
    ),
    expression: fc.oneof(
      { maxDepth: 4, depthSize: "small" },
      tie("leaf"),
      fc.tuple(
        tie("expression"),
        fc.constantFrom("+", "-", "*", "/", "%", "..", "==", "~=", "<", "<=", ">", ">=", "and", "or"),
        tie("expression")
      ).map(([a, operator, b]) => `(${a} ${operator} ${b})`),
      fc.tuple(fc.constantFrom("-", "not ", "#"), tie("expression")).map(([operator, a]) => `${operator}(${a})`),
      tie("leaf").map((base) => `(${base}) ^ 2`)
    )
  }))

  agree(
    "operators, with the names in their errors",
    expression.map((source) => `(function() local one, text, none = 1, "t" return ${source} end)()`),
    100
  )

  const key = fc.oneof(
    fc.integer({ min: -2, max: 18 }).map(String),
    over("abcdefgh", 3).map(literal),
    fc.constantFrom("1.5", "true", "false", "1000", "2^40")
  )

  agree(
    "layout of tables",
    fc.tuple(
      fc.array(fc.tuple(fc.option(key), fc.boolean()), { maxLength: 8 }),
      fc.array(fc.tuple(key, fc.integer({ min: 0, max: 3 })), { maxLength: 30 })
    ).map(([fields, writes]) => {
      const constructor = fields.map(([name, set]) => `${name === null ? "" : `[${name}] = `}${set ? "0" : "nil"}`)
      const assignments = writes.map(([name, value]) => `t[${name}] = ${value === 0 ? "nil" : value}`)
      return `(function() local t = {${constructor.join(", ")}} ${assignments.join("; ")}
        local out = {} for k, v in pairs(t) do
          if type(k) ~= "boolean" then out[#out + 1] = tostring(k) .. "=" .. v end
        end
        return "border " .. #t, table.concat(out, ",") end)()`
    }),
    100
  )

  const { data } = fc.letrec<{ readonly data: string }>((tie) => ({
    data: fc.oneof(
      { maxDepth: 3, depthSize: "small" },
      number.filter(Number.isFinite).map(numberLiteral),
      over("ab/\"\\\n\0\x7f\x80", 5).map(literal),
      fc.constantFrom("true", "false", "cjson.null"),
      fc.array(tie("data"), { maxLength: 5 }).map((items) => `{${items.join(", ")}}`),
      fc.array(fc.tuple(over("abcd", 3), tie("data")), { maxLength: 6 })
        .map((fields) => `{${fields.map(([name, value]) => `[${literal(name)}] = ${value}`).join(", ")}}`)
    )
  }))

  agree("cjson.encode", data.map((value) => `cjson.encode(${value})`))
  agree("cjson.decode", data.map((value) => `cjson.encode(cjson.decode(cjson.encode(${value})))`))
  agree(
    "cjson.decode of anything",
    over("{}[]:,\"ab01-.e\\u ntrl", 12).map((text) => `cjson.decode(${literal(text)})`)
      .map((source) => `(function() local v = ${source} return type(v) == "table" and cjson.encode(v) or v end)()`)
  )
  agree(
    "cmsgpack",
    data.map((value) => `cmsgpack.pack(${value}), cjson.encode(cmsgpack.unpack(cmsgpack.pack(${value})))`)
  )

  agree(
    "table.sort",
    fc.array(fc.integer({ min: 0, max: 9 }), { maxLength: 20 }).map((items) =>
      `(function() local t, n = {${items.join(",")}}, 0
        table.sort(t, function(a, b) n = n + 1 return a > b end) return n, table.concat(t, ",") end)()`
    )
  )
})

describe("LuaRuntime", () => {
  it("tells the flags of a script", () => {
    assert.strictEqual(runtime.compile("return 1").flags, undefined)
    assert.deepStrictEqual(runtime.compile("#!lua\nreturn 1").flags, new Set())
    assert.deepStrictEqual(
      runtime.compile("#!lua flags=no-writes,allow-stale\nreturn 1").flags,
      new Set(["no-writes", "allow-stale"] as const)
    )
  })

  it("knows a script by its SHA", async () => {
    const source = "return '\xff'"
    assert.strictEqual(runtime.compile(source).sha, await server.send("SCRIPT", "LOAD", source))
  })

  it("gives the log and replaces the random numbers", () => {
    const logged: Array<readonly [number, string]> = []
    const hosted = new LuaRuntime({
      call: () => null,
      log: (level, message) => logged.push([level, message]),
      random: () => 0.5
    })
    const reply = hosted.run(
      hosted.compile("redis.log(redis.LOG_WARNING, 'a', 1, {}, 'b') return math.random(11)"),
      [],
      []
    )
    assert.strictEqual(reply, 6)
    assert.deepStrictEqual(logged, [[3, "a 1 b"]])
  })

  it("goes on with its random numbers, like a server", () => {
    const fresh = new LuaRuntime({ call: () => null })
    const script = fresh.compile("return math.random(1000000)")
    const first = fresh.run(script, [], [])
    assert.notStrictEqual(fresh.run(script, [], []), first)
    const other = new LuaRuntime({ call: () => null })
    assert.strictEqual(other.run(other.compile("return math.random(1000000)"), [], []), first)
  })

  it("keeps the settings of cjson to one server", () => {
    const one = new LuaRuntime({ call: () => null })
    one.run(one.compile("cjson.encode_sparse_array(true)"), [], [])
    const script = "return cjson.encode({ [1] = 1, [1000] = 2 })"
    assert.strictEqual(one.run(one.compile(script), [], []), "{\"1\":1,\"1000\":2}")
    const other = new LuaRuntime({ call: () => null })
    assert.instanceOf(other.run(other.compile(script), [], []), ErrorReply)
  })

  it("refuses what it does not do", () => {
    for (const script of ["redis.setresp(3)", "return string.dump(function() end)"]) {
      const reply = ours(script, [], [])
      assert.instanceOf(reply, ErrorReply)
      assert.match(reply.text, /not supported by the in-memory server/)
    }
  })

  it("does not take a defect of the host for a Lua error", () => {
    const defect = new LuaRuntime({
      call() {
        throw new TypeError("defect")
      }
    })
    const script = defect.compile("return { pcall(redis.call, 'GET', 'k') }")
    assert.throws(() => defect.run(script, [], []), TypeError)
    assert.strictEqual(ours("return 1", [], []), 1)
  })

  it("survives a stack overflow inside a command", () => {
    let depth = 0
    const nesting = new LuaRuntime({
      call(args) {
        depth++
        return new Status(args[0]!)
      }
    })
    const script = nesting.compile("local function f(n) redis.call('PING') return 1 + f(n + 1) end return f(1)")
    const reply = nesting.run(script, [], [])
    assert.match((reply as ErrorReply).text, /stack overflow/)
    assert.isAbove(depth, 1000)
  })
})
