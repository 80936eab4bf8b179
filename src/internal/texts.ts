/**
 * What becomes part of keys, members and commands, checked.
 */
import * as Either from "effect/Either"
import type * as ParseResult from "effect/ParseResult"
import * as Redacted from "effect/Redacted"
import * as Schema from "effect/Schema"
import * as SchemaAST from "effect/SchemaAST"
import type { RedisInputError } from "../RedisError.js"
import { inputError } from "./input.js"
import { checkName } from "./rooms.js"

/** @internal */
export interface Texts<A> {
  readonly encode: (operation: string, field: string, value: A) => Either.Either<string, RedisInputError>
  readonly decode: (text: string) => Either.Either<A, ParseResult.ParseError>
}

/** @internal */
export const textsOf = <A>(schema: Schema.Schema<A, string>): Texts<A> => {
  /** Most names are plain texts, for which a schema has nothing to do. */
  const isText = SchemaAST.isStringKeyword(schema.ast)
  const encode = Schema.encodeEither(schema)
  return {
    encode: (operation, field, value) => {
      const encoded = encode(value)
      // What is wrong may be a secret.
      if (Either.isLeft(encoded)) {
        return Either.left(inputError(operation, field, String(schema.ast), Redacted.make("")))
      }
      const bad = checkName(operation, field, encoded.right)
      return bad === undefined ? Either.right(encoded.right) : Either.left(bad)
    },
    decode: isText ? Either.right as (text: string) => Either.Either<A> : Schema.decodeEither(schema)
  }
}
