/**
 * Values that a schema leaves as they are: objects of exactly its fields, arrays, and what JSON has, with or without
 * conditions. Whether a value is one of them costs a fifth of what decoding or encoding it does, and most values are.
 */
import * as Either from "effect/Either"
import * as Option from "effect/Option"
import type * as Schema from "effect/Schema"
import type * as AST from "effect/SchemaAST"

type Guard = (u: any) => boolean

const options: AST.ParseOptions = {}

/** A guard, or nothing where the schema may make something else of a value. */
const guardOf = (ast: AST.AST): Guard | undefined => {
  switch (ast._tag) {
    case "TypeLiteral":
      return ast.indexSignatures.length > 0 ? undefined : fields(ast.propertySignatures)
    case "TupleType":
      return elements(ast)
    case "Refinement": {
      const { filter } = ast
      const from = guardOf(ast.from)
      return from === undefined ? undefined : (u) => from(u) && Option.isNone(filter(u, options, ast))
    }
    case "Union":
      return ast.types.every(isScalar) || areDistinct(ast.types) ? alternatives(ast.types) : undefined
    default:
      return scalar(ast)
  }
}

const scalar = (ast: AST.AST): Guard | undefined => {
  switch (ast._tag) {
    case "StringKeyword":
      return (u) => typeof u === "string"
    case "NumberKeyword":
      return (u) => typeof u === "number"
    case "BooleanKeyword":
      return (u) => typeof u === "boolean"
    case "UndefinedKeyword":
      return (u) => u === undefined
    case "Literal": {
      const { literal } = ast
      return typeof literal === "bigint" ? undefined : (u) => u === literal
    }
    default:
      return undefined
  }
}

const isScalar = (ast: AST.AST): boolean => scalar(ast) !== undefined

/** The members of a union may overlap: the first one that fits could leave out fields that a later one has. */
const areDistinct = (types: ReadonlyArray<AST.AST>): boolean => {
  const [first, ...rest] = types
  if (first?._tag !== "TypeLiteral") return false
  return first.propertySignatures.some(({ name }) => {
    const seen = new Set<unknown>()
    return [first, ...rest].every((ast) => {
      const property = ast._tag === "TypeLiteral"
        ? ast.propertySignatures.find((property) => property.name === name)
        : undefined
      if (property === undefined || property.isOptional || property.type._tag !== "Literal") return false
      const { literal } = property.type
      return !seen.has(literal) && seen.add(literal)
    })
  })
}

const all = (types: ReadonlyArray<AST.AST>): ReadonlyArray<Guard> | undefined => {
  const guards: Array<Guard> = []
  for (const type of types) {
    const guard = guardOf(type)
    if (guard === undefined) return undefined
    guards.push(guard)
  }
  return guards
}

const alternatives = (types: ReadonlyArray<AST.AST>): Guard | undefined => {
  const guards = all(types)
  return guards === undefined ? undefined : (u) => {
    for (const guard of guards) if (guard(u)) return true
    return false
  }
}

const elements = ({ elements, rest }: AST.TupleType): Guard | undefined => {
  const [element, ...more] = rest
  if (elements.length > 0 || element === undefined || more.length > 0) return undefined
  const guard = guardOf(element.type)
  return guard === undefined ? undefined : (u) => {
    if (!Array.isArray(u)) return false
    for (let i = 0; i < u.length; i++) if (!guard(u[i])) return false
    return true
  }
}

const fields = (properties: ReadonlyArray<AST.PropertySignature>): Guard | undefined => {
  const guards = all(properties.map(({ type }) => type))
  const names = properties.map(({ name }) => name)
  // No field at all is a schema that accepts nearly anything.
  if (guards === undefined || names.length === 0 || !names.every((name) => typeof name === "string")) return undefined
  if (names.includes("__proto__")) return undefined
  const optional = properties.map(({ isOptional }) => isOptional)
  return (u) => {
    if (typeof u !== "object" || u === null || Object.getPrototypeOf(u) !== Object.prototype) return false
    let missing = names.length
    for (let i = 0; i < names.length; i++) {
      const value: unknown = u[names[i]!]
      if (value === undefined) {
        if (!optional[i]) return false
      } else if (guards[i]!(value)) {
        missing--
      } else {
        return false
      }
    }
    return Object.keys(u).length === names.length - missing
  }
}

/**
 * Decodes, or encodes, what has to be: values that the schema leaves as they are come back themselves. Fields are then in
 * the order that the value has.
 *
 * @internal
 */
export const exceptPlain = <A, I, B, E>(
  schema: Schema.Schema<A, I, never>,
  parse: (u: any) => Either.Either<B, E>
): (u: unknown) => Either.Either<B, E> => {
  const isPlain = guardOf(schema.ast)
  return isPlain === undefined ? parse : (u) => isPlain(u) ? Either.right(u as B) : parse(u)
}
