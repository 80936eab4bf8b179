import { assert, describe, it } from "@effect/vitest"
import { Arbitrary, Either, FastCheck, Schema } from "effect"
import { exceptPlain } from "../../src/internal/plainValues.js"

const User = Schema.Struct({
  id: Schema.String,
  visits: Schema.Int,
  name: Schema.optional(Schema.String),
  role: Schema.Literal("admin", "guest", 7, null),
  tags: Schema.Array(Schema.NonEmptyString)
})

/** What the schema may leave as it is, and what it must always be asked about. */
const schemas: Readonly<Record<string, Schema.Schema<any, any>>> = {
  text: Schema.String,
  number: Schema.Number,
  literals: Schema.Literal("a", 1, true, null),
  "text or nothing": Schema.NullOr(Schema.String),
  "a condition": Schema.String.pipe(Schema.minLength(2)),
  fields: User,
  "fields in fields": Schema.Struct({ user: User, more: Schema.optionalWith(User, { exact: true }) }),
  "a list of fields": Schema.Array(User),
  "fields with a condition": Schema.Struct({ a: Schema.Number, b: Schema.Number }).pipe(
    Schema.filter(({ a, b }) => a < b)
  ),
  "a tagged union": Schema.Union(
    Schema.TaggedStruct("A", { n: Schema.Number }),
    Schema.TaggedStruct("B", { n: Schema.Number, s: Schema.String })
  ),
  "a union whose members overlap": Schema.Union(
    Schema.Struct({ a: Schema.Number }),
    Schema.Struct({ a: Schema.Number, b: Schema.Number })
  ),
  "a union with one tag twice": Schema.Union(
    Schema.TaggedStruct("A", { n: Schema.Number }),
    Schema.TaggedStruct("A", { n: Schema.Number, s: Schema.String })
  ),
  "a union with a tag that may be missing": Schema.Union(
    Schema.Struct({ kind: Schema.optionalWith(Schema.Literal("A"), { exact: true }), n: Schema.Number }),
    Schema.Struct({
      kind: Schema.optionalWith(Schema.Literal("B"), { exact: true }),
      n: Schema.Number,
      s: Schema.Number
    })
  ),
  "no fields": Schema.Struct({}),
  record: Schema.Record({ key: Schema.String, value: Schema.Number }),
  tuple: Schema.Tuple(Schema.String, Schema.Number),
  date: Schema.Struct({ at: Schema.Date }),
  "a default": Schema.Struct({ n: Schema.optionalWith(Schema.Number, { default: () => 1 }) }),
  "another name": Schema.Struct({ n: Schema.propertySignature(Schema.Number).pipe(Schema.fromKey("m")) }),
  class: class A extends Schema.Class<A>("A")({ n: Schema.Number }) {},
  unknown: Schema.Struct({ a: Schema.Unknown }),
  "names that objects have": Schema.Struct({
    constructor: Schema.optional(Schema.String),
    toString: Schema.optional(Schema.String)
  })
}

class Point {
  constructor(readonly a: number, readonly b: number) {}
}

const odd: FastCheck.Arbitrary<unknown> = FastCheck.oneof(
  FastCheck.jsonValue(),
  FastCheck.constantFrom<unknown>(
    undefined,
    new Point(1, 2),
    Object.create({ a: 1, b: 2 }),
    JSON.parse(`{"__proto__":{"a":1},"a":1,"b":2}`),
    { a: 1, b: 2 },
    { a: 2, b: 1 },
    { _tag: "A", n: 1, s: "x" },
    { _tag: "A", n: 1 },
    { kind: "B", n: 1, s: 1 },
    { n: 1, s: 1 },
    { n: 1, toJSON: () => 7 },
    { n: NaN },
    {},
    [undefined],
    // Without a first element.
    Object.assign([], { 1: "a" }),
    new Date(0)
  )
)

/** Takes away, adds, or changes something somewhere. */
const bent = (value: unknown): FastCheck.Arbitrary<unknown> =>
  typeof value !== "object" || value === null || Array.isArray(value)
    ? FastCheck.constant(value)
    : FastCheck.oneof(
      FastCheck.constant(value),
      FastCheck.constant({ ...value, extra: 1 }),
      FastCheck.constant(Object.assign(Object.create({ extra: 1 }), value)),
      FastCheck.constant(Object.fromEntries(Object.entries(value).toReversed())),
      FastCheck.tuple(FastCheck.constantFrom("", ...Object.keys(value)), odd).map((other) =>
        Object.fromEntries([...Object.entries(value), other])
      ),
      FastCheck.constantFrom("", ...Object.keys(value)).map((gone) =>
        Object.fromEntries(Object.entries(value).filter(([key]) => key !== gone))
      )
    )

/** An outcome, or what was thrown. */
const outcome = <A, E>(run: () => Either.Either<A, E>): unknown => {
  try {
    return Either.mapLeft(run(), String)
  } catch (error) {
    return String(error)
  }
}

describe("plain values", () => {
  for (const [name, schema] of Object.entries(schemas)) {
    const encode = Schema.encodeUnknownEither(schema)
    const decode = Schema.decodeUnknownEither(schema)
    const valid = Arbitrary.make(schema)

    it(`are decoded and encoded as the schema does: ${name}`, () => {
      FastCheck.assert(
        FastCheck.property(
          FastCheck.oneof(
            valid.chain(bent),
            valid.chain((value) => bent(Either.getOrUndefined(encode(value)))),
            odd
          ),
          (value) => {
            assert.deepStrictEqual(
              outcome(() => exceptPlain(schema, decode)(value)),
              outcome(() => decode(value))
            )
            const json = (encoded: Either.Either<unknown, unknown>) =>
              Either.map(encoded, (u) => JSON.stringify(sorted(u)))
            assert.deepStrictEqual(
              outcome(() => json(exceptPlain(schema, encode)(value))),
              outcome(() => json(encode(value)))
            )
          }
        ),
        { numRuns: 500 }
      )
    })
  }

  it("are not looked at by the schema", () => {
    const user = { id: "u", visits: 1, role: null, tags: ["a"] }
    const read = exceptPlain(User, () => Either.left("asked"))
    assert.strictEqual(Either.getOrNull(read(user)), user)
    for (
      const other of [{ ...user, more: 1 }, { ...user, visits: 1.5 }, { ...user, tags: [""] }, {
        ...user,
        name: undefined
      }]
    ) {
      assert.deepStrictEqual(read(other), Either.left("asked"))
    }
    const tagged = exceptPlain(schemas["a tagged union"]!, () => Either.left("asked"))
    assert.isTrue(Either.isRight(tagged({ _tag: "B", n: 1, s: "x" })))
    assert.isTrue(Either.isLeft(tagged({ _tag: "A", n: 1, s: "x" })))
  })
})

/** Fields in the order of their names. */
const sorted = (u: unknown): unknown =>
  Array.isArray(u)
    ? u.map(sorted)
    : typeof u === "object" && u !== null && Object.getPrototypeOf(u) === Object.prototype && !("toJSON" in u)
    ? Object.fromEntries(
      Object.entries(u).toSorted(([a], [b]) => a < b ? -1 : 1).map(([key, value]) => [key, sorted(value)])
    )
    : u
