/**
 * What the client gives to a driver: a command that is tried once, one that is tried again within its deadline, or a
 * script.
 *
 * Each is one object, which the driver keeps until the reply comes. Functions in its place would be three or four, with
 * what they remember, for each command.
 */
import * as Clock from "effect/Clock"
import * as Effect from "effect/Effect"
import * as Either from "effect/Either"
import * as Exit from "effect/Exit"
import type * as Schedule from "effect/Schedule"
import type { Encoding, Issue, IssuedCommand, RedisArg } from "../RedisClient.js"
import {
  RedisConnectionError,
  RedisDecodeError,
  type RedisError,
  type RedisOutcomeUnknownError,
  RedisTimeoutError
} from "../RedisError.js"
import type { RedisScript } from "../RedisScript.js"
import { mayPass } from "./mayPass.js"

type OnReply<A> = (reply: any) => Effect.Effect<A, RedisError>

type OnError<A> = (error: RedisError, elapsed: number) => Effect.Effect<A, RedisError>

/**
 * Who issues, and what is the same for all that is issued.
 *
 * @internal
 */
export interface Issuer {
  readonly issue: Issue
  readonly target: string
  /** Of all tries together, in milliseconds. */
  readonly timeout: number
  readonly retry: Schedule.Schedule<unknown, unknown>
}

/**
 * A command that fails with whatever goes wrong.
 *
 * @internal
 */
export class Once<A> implements IssuedCommand<A> {
  constructor(
    readonly name: string,
    readonly args: ReadonlyArray<RedisArg>,
    readonly encoding: Encoding,
    readonly timeout: number,
    readonly onReply: OnReply<A>
  ) {}

  onError(error: RedisError, _elapsed: number): Effect.Effect<A, RedisError> {
    return Exit.fail(error)
  }
}

/** A try of a command that is tried again. */
class Try<A> implements IssuedCommand<A> {
  constructor(
    readonly name: string,
    readonly args: ReadonlyArray<RedisArg>,
    readonly encoding: Encoding,
    readonly timeout: number,
    readonly onReply: OnReply<A>,
    readonly onError: OnError<A>
  ) {}
}

/**
 * A command that is tried again as long as the failure may pass and its time is not over.
 *
 * @internal
 */
export class Repeated<A> implements IssuedCommand<A> {
  readonly timeout: number

  constructor(
    readonly issuer: Issuer,
    readonly name: string,
    readonly args: ReadonlyArray<RedisArg>,
    readonly encoding: Encoding,
    /** It changes nothing, so that its outcome is known when it fails. */
    readonly readOnly: boolean,
    readonly onReply: OnReply<A>
  ) {
    this.timeout = issuer.timeout
  }

  onError(error: RedisError, elapsed: number): Effect.Effect<A, RedisError> {
    const { args, encoding, issuer, name, onReply, readOnly } = this
    const told = (error: RedisError) =>
      readOnly && error._tag === "RedisOutcomeUnknownError" ? nothingChanged(issuer, name, error) : error
    return Effect.mapError(
      again(
        issuer,
        error,
        elapsed,
        (timeout, onError) => issuer.issue(new Try(name, args, encoding, timeout, onReply, onError))
      ),
      told
    )
  }
}

/**
 * A script, called by its digest, or with its text when the server does not know it.
 *
 * @internal
 */
export class Evaluated<A> implements IssuedCommand<A> {
  readonly name = "EVALSHA"
  readonly encoding: Encoding

  constructor(
    readonly issuer: Issuer,
    readonly script: RedisScript<any, A>,
    /** The digest first. */
    readonly args: ReadonlyArray<RedisArg>,
    readonly timeout: number,
    /** What follows a failure, unless the script says that. */
    readonly onFailure: OnError<A> | undefined
  ) {
    this.encoding = script.encoding
  }

  onReply(reply: unknown): Effect.Effect<A, RedisError> {
    const result = this.script.decode(reply)
    return Either.isRight(result)
      ? Exit.succeed(result.right)
      : Exit.fail(new RedisDecodeError({ command: this.script.name, detail: `expected ${result.left}` }))
  }

  onError(error: RedisError, elapsed: number): Effect.Effect<A, RedisError> {
    if (error._tag !== "RedisReplyError" || error.code !== "NOSCRIPT") return this.failed(error, elapsed)
    const text = this.args.slice()
    text[0] = this.script.lua
    return this.issuer.issue(
      new Try(
        "EVAL",
        text,
        this.encoding,
        Math.max(1, this.timeout - elapsed),
        (reply) => this.onReply(reply),
        (error, more) => this.failed(error, elapsed + more)
      )
    )
  }

  private failed(error: RedisError, elapsed: number): Effect.Effect<A, RedisError> {
    const { args, issuer, onFailure, script } = this
    if (onFailure !== undefined) return onFailure(error, elapsed)
    return script.idempotent
      ? again(
        issuer,
        error,
        elapsed,
        (timeout, onError) => issuer.issue(new Evaluated(issuer, script, args, timeout, onError))
      )
      : Exit.fail(error)
  }
}

/** What follows a first try that has failed; all tries together stay within one deadline. */
const again = <A>(
  { retry, timeout }: Issuer,
  first: RedisError,
  elapsed: number,
  attempt: (timeout: number, onError: OnError<A>) => Effect.Effect<A, RedisError>
): Effect.Effect<A, RedisError> =>
  mayPass(first) && elapsed < timeout
    ? Effect.flatMap(Clock.currentTimeMillis, (now) => {
      const deadline = now + timeout - elapsed
      let last: RedisError | undefined
      return Effect.flatMap(Clock.currentTimeMillis, (now) => {
        const failed = last
        if (failed === undefined || deadline - now < 1) return Effect.fail(last = failed ?? first)
        return attempt(deadline - now, (error) => Effect.fail(last = error))
      }).pipe(Effect.retry({ schedule: retry, while: mayPass }))
    })
    : Exit.fail(first)

const nothingChanged = (
  { target, timeout }: Issuer,
  command: string,
  { reason }: RedisOutcomeUnknownError
): RedisError =>
  reason === "timeout"
    ? new RedisTimeoutError({ target, command, timeout })
    : new RedisConnectionError({ target, reason: "unavailable", detail: "the connection broke" })
