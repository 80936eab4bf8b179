/**
 * How events become text, and what is made of older forms of them.
 */
import * as Either from "effect/Either"
import * as ParseResult from "effect/ParseResult"
import type * as Schema from "effect/Schema"
import { exceptPlain } from "../internal/plainValues.js"

/**
 * Events have a type, by which the forms that they had before are told apart.
 *
 * @since 0.1.0
 * @category models
 */
export interface Tagged {
  readonly _tag: string
}

/** An event as it was read. */
export interface Decoded<out A, out M> {
  /** The type that it was written with. */
  readonly type: string
  readonly data: A
  readonly metadata: M
}

/** Why an event can't be read. */
export interface Failure {
  readonly type: string
  readonly detail: string
}

/**
 * How events become text.
 *
 * @since 0.1.0
 * @category models
 */
export interface Codec<in out A, in out M> {
  /** As JSON; `Left` says where the metadata, or which event, does not fit. */
  readonly encode: (events: ReadonlyArray<A>, metadata: M | undefined) => Either.Either<ReadonlyArray<string>, string>
  readonly decode: (json: string) => Either.Either<Decoded<A, M>, Failure>
}

/** What is wrong, without what was there. */
export const whereOf = (issue: ParseResult.ParseIssue): string => {
  const paths = ParseResult.ArrayFormatter.formatIssueSync(issue).map(({ path }) => path.map(String).join("."))
  const text = Array.from(new Set(paths.filter((path) => path !== ""))).join(", ")
  return text === "" ? "as a whole" : `at ${text}`
}

/** The form of an event in the store. Data and metadata are what their schemas make of them. */
interface Envelope {
  readonly type: string
  /** How often the form of this type has changed before, and one more. */
  readonly version: number
  readonly data: unknown
  readonly metadata: unknown
}

const envelopeOf = (json: string): Envelope | undefined => {
  try {
    const value: Record<string, unknown> | null = JSON.parse(json)
    if (typeof value !== "object" || value === null) return undefined
    const { data, metadata, type, version } = value
    if (typeof type !== "string" || typeof version !== "number" || !(Number.isSafeInteger(version) && version > 0)) {
      return undefined
    }
    return { type, version, data, metadata }
  } catch {
    return undefined
  }
}

/** `undefined` for what JSON does not have. */
const jsonOf = (value: unknown): string | undefined => {
  try {
    return JSON.stringify(value)
  } catch {
    return undefined
  }
}

/** A schema that throws is as good as one that fails. */
const attempt = <A>(run: () => Either.Either<A, ParseResult.ParseIssue>): Either.Either<A, string> => {
  try {
    return Either.mapLeft(run(), whereOf)
  } catch {
    return Either.left("as a whole")
  }
}

export const make = <A extends Tagged, I, M, MI>(
  event: Schema.Schema<A, I>,
  metadata: Schema.Schema<M, MI>,
  upcasters: Readonly<Record<string, ReadonlyArray<Schema.Schema<any, any>>>>
): Codec<A, M> => {
  const encodeEvent = ParseResult.encodeUnknownEither(event)
  const decodeEvent = exceptPlain(event, ParseResult.decodeUnknownEither(event))
  const encodeMetadata = ParseResult.encodeUnknownEither(metadata)
  const decodeMetadata = exceptPlain(metadata, ParseResult.decodeUnknownEither(metadata))
  const steps = new Map(
    Object.entries(upcasters).map(([type, schemas]) => [
      type,
      schemas.map((schema) => ParseResult.decodeUnknownEither(schema))
    ])
  )

  return {
    encode: (events, given) => {
      const about = attempt(() => encodeMetadata(given ?? {}))
      if (Either.isLeft(about)) return Either.left(`metadata ${about.left}`)
      const aside = given === undefined ? "" : jsonOf(about.right)
      if (aside === undefined) return Either.left("metadata as a whole")
      const bodies: Array<string> = []
      for (const [i, one] of events.entries()) {
        const data = attempt(() => encodeEvent(one))
        if (Either.isLeft(data)) return Either.left(`event ${i} ${data.left}`)
        const json = jsonOf(data.right)
        if (json === undefined) return Either.left(`event ${i} as a whole`)
        const version = 1 + (steps.get(one._tag)?.length ?? 0)
        bodies.push(
          `{"type":${JSON.stringify(one._tag)},"version":${version},"data":${json}${
            aside === "" ? "" : `,"metadata":${aside}`
          }}`
        )
      }
      return Either.right(bodies)
    },
    decode: (json) => {
      const envelope = envelopeOf(json)
      if (envelope === undefined) return Either.left({ type: "", detail: "it is no event of this library" })
      const { type, version } = envelope
      const failed = (detail: string) => Either.left({ type, detail })
      const upcasts = steps.get(type) ?? []
      if (version > upcasts.length + 1) {
        return failed(`it is of version ${version} of its form, and ${upcasts.length + 1} is read here`)
      }
      let stored = envelope.data
      for (let form = version; form <= upcasts.length; form++) {
        const next = attempt(() => upcasts[form - 1]!(stored))
        if (Either.isLeft(next)) return failed(`version ${form} of its form does not fit ${next.left}`)
        stored = next.right
      }
      const data = attempt(() => decodeEvent(stored))
      if (Either.isLeft(data)) return failed(`it does not fit ${data.left}`)
      const about = attempt(() => decodeMetadata(envelope.metadata ?? {}))
      if (Either.isLeft(about)) return failed(`its metadata does not fit ${about.left}`)
      return Either.right({ type, data: data.right, metadata: about.right })
    }
  }
}
