/**
 * What failures that are answers have in common.
 */
import * as HttpApiSchema from "@effect/platform/HttpApiSchema"
import * as HttpServerResponse from "@effect/platform/HttpServerResponse"
import * as Effect from "effect/Effect"
import * as Schema from "effect/Schema"

/**
 * A field that always has this text.
 *
 * @internal
 */
export const fixed = <const A extends string>(text: A) =>
  Schema.propertySignature(Schema.Literal<[A]>(text)).pipe(Schema.withConstructorDefault(() => text))

/**
 * The response of a failure where no API encodes it: the same as that of an API.
 *
 * @internal
 */
export const toResponse = <A, I>(
  schema: Schema.Schema<A, I>,
  failure: A
): Effect.Effect<HttpServerResponse.HttpServerResponse> =>
  Effect.succeed(
    HttpServerResponse.unsafeJson(Schema.encodeSync(schema)(failure), {
      status: HttpApiSchema.getStatusErrorAST(schema.ast),
      headers: { "cache-control": "no-store" }
    })
  )
