/**
 * Commands, pipelines and transactions on a Cluster.
 */
import * as Effect from "effect/Effect"
import * as Either from "effect/Either"
import { makeNames, refuseBlocking } from "../internal/commandNames.js"
import { execReplies } from "../internal/replies.js"
import type { DriverExecutor, Issue, IssuedCommand, RedisArg, Reply } from "../RedisClient.js"
import { type RedisError, RedisOutcomeUnknownError, RedisReplyError } from "../RedisError.js"
import { type Call, type Cluster, type ClusterNode, MIN_PAUSE, notExecuted } from "./Cluster.js"
import { slotOf } from "./keys.js"
import type { Link } from "./Link.js"
import { countFailure, countReplies, GroupRequest, type Request, SingleRequest, toArguments } from "./Request.js"

const crossSlot = (command: string): RedisReplyError =>
  new RedisReplyError({
    command,
    code: "CROSSSLOT",
    reply: "CROSSSLOT Keys in request don't hash to the same slot"
  })

/** The reply to `ASKING` goes before that of the first command. */
const ASKING = -1

/** What has the same life however many nodes it is sent to, one after the other. */
abstract class RoutedCall implements Call {
  readonly issuedAt = performance.now()
  settled = false
  /** What was sent last. */
  protected request: Request | undefined = undefined
  protected redirections = 0
  /** Whom the next sending goes to, because `ASK` said so. */
  protected asked: ClusterNode | undefined = undefined

  constructor(
    readonly cluster: Cluster,
    readonly label: string,
    readonly slot: number | undefined,
    readonly timeout: number
  ) {}

  protected abstract makeRequest(node: ClusterNode, asking: boolean): Request
  protected abstract onFailure(error: RedisError): void

  get left(): number {
    return this.timeout - this.elapsed
  }

  get elapsed(): number {
    return performance.now() - this.issuedAt
  }

  protected submit(node: ClusterNode, request: Request): void {
    node.submit(request)
  }

  dispatch(): void {
    const { asked, cluster } = this
    this.asked = undefined
    const node = asked ?? cluster.owner(this.slot)
    if (node === undefined) {
      cluster.refresh()
      return cluster.wait(
        this,
        cluster.isKnown ? cluster.uncovered(this.label) : cluster.unavailable(this.timeout, undefined)
      )
    }
    if (!node.isReachable) return cluster.wait(this, cluster.unavailable(this.timeout, node.lastError))
    this.request = this.makeRequest(node, asked !== undefined)
    this.submit(node, this.request)
  }

  fail(error: RedisError): void {
    if (this.settled) return
    this.settled = true
    this.onFailure(this.cluster.asUncovered(error))
  }

  /** Nobody waits for it any more; what was not written never will be. */
  readonly cancel: Effect.Effect<void> = Effect.sync(() => {
    this.settled = true
    if (this.request !== undefined && !this.request.written) this.request.settle()
  })

  /** Whether it goes elsewhere, or waits, instead of failing. */
  again(error: RedisError, node: ClusterNode): boolean {
    if (this.settled || this.left < 1) return false
    const { cluster } = this
    if (cluster.mayRecover(error)) {
      cluster.wait(this, cluster.unavailable(this.timeout, error))
      return true
    }
    if (error._tag !== "RedisReplyError" || !notExecuted(error)) return false
    if (error.code === "MOVED" || error.code === "ASK") {
      const to = cluster.redirected(error, node)
      if (error.code === "ASK") this.asked = to
      const pause = cluster.pauseAfter(++this.redirections)
      if (pause === undefined) this.dispatch()
      else cluster.wait(this, error, pause)
    } else {
      if (error.code !== "TRYAGAIN") cluster.refresh()
      cluster.wait(this, error, error.code === "TRYAGAIN" ? MIN_PAUSE : undefined)
    }
    return true
  }
}

export class SingleCall<A> extends RoutedCall {
  constructor(
    cluster: Cluster,
    slot: number | undefined,
    readonly command: IssuedCommand<A>,
    readonly resume: (effect: Effect.Effect<A, RedisError>) => void,
    label: string = command.name
  ) {
    super(cluster, label, slot, command.timeout)
  }

  protected makeRequest(node: ClusterNode, asking: boolean): Request {
    // The first time it is the usual timeout, which costs no timer.
    return new RoutedRequest(this, node, this.request === undefined ? this.timeout : Math.max(1, this.left), asking)
  }

  protected onFailure(error: RedisError): void {
    countFailure(error)
    this.resume(this.command.onError(error, this.elapsed))
  }
}

/** One sending of a command. */
class RoutedRequest<A> extends SingleRequest<A> {
  constructor(readonly call: SingleCall<A>, readonly node: ClusterNode, timeout: number, readonly asking: boolean) {
    super(call.command, call.resume, call.label, timeout)
  }

  override send(link: Link): void {
    if (this.asking) link.transmit(this, ASKING, "ASKING", [], "text")
    super.send(link)
  }

  override onReply(index: number, reply: any): void {
    if (index === ASKING) return
    this.call.settled = true
    super.onReply(index, reply)
  }

  override onReplyError(index: number, error: RedisReplyError): void {
    // The answer to the command itself says what this means.
    if (index !== ASKING) this.fail(error)
  }

  override fail(error: RedisError): void {
    if (this.settled) return
    this.settle()
    if (!this.call.again(error, this.node)) this.call.fail(error)
  }
}

/** The commands of a pipeline that go to one node, or a whole transaction. */
class RoutedGroup extends GroupRequest {
  constructor(
    label: string,
    names: ReadonlyArray<string>,
    commands: ReadonlyArray<ReadonlyArray<RedisArg>>,
    timeout: number,
    /** Whether a command is sent to a node that has not got its slot yet. */
    readonly asking: (index: number) => boolean,
    readonly onEnd: (result: Either.Either<ReadonlyArray<Reply>, RedisError>) => void
  ) {
    super(label, names, commands, timeout, () => {})
  }

  override send(link: Link): void {
    this.missing = this.commands.length
    for (let i = 0; i < this.commands.length && !this.settled; i++) {
      if (this.asking(i)) link.transmit(this, ASKING, "ASKING", [], "text")
      link.transmit(this, i, this.names[i]!, toArguments(this.commands[i]!.slice(1)), "text")
    }
  }

  override onReply(index: number, reply: any): void {
    if (index !== ASKING) super.onReply(index, reply)
  }

  override onReplyError(index: number, error: RedisReplyError): void {
    if (index !== ASKING) super.onReplyError(index, error)
  }

  protected override complete(): void {
    this.onEnd(Either.right(this.replies))
  }

  override fail(error: RedisError): void {
    if (this.settled) return
    this.settle()
    this.onEnd(Either.left(error))
  }
}

/** All commands of it run on one node, without any other between them. */
class TransactionCall extends RoutedCall {
  constructor(
    cluster: Cluster,
    slot: number | undefined,
    timeout: number,
    readonly names: ReadonlyArray<string>,
    readonly commands: ReadonlyArray<ReadonlyArray<RedisArg>>,
    readonly resume: (effect: Effect.Effect<ReadonlyArray<Reply>, RedisError>) => void
  ) {
    super(cluster, "MULTI", slot, timeout)
  }

  protected makeRequest(node: ClusterNode, asking: boolean): Request {
    return new RoutedGroup(
      "MULTI",
      this.names,
      this.commands,
      this.request === undefined ? this.timeout : Math.max(1, this.left),
      // It holds for everything until EXEC.
      (index) => asking && index === 0,
      (result) => this.onEnd(result, node)
    )
  }

  private onEnd(result: Either.Either<ReadonlyArray<Reply>, RedisError>, node: ClusterNode): void {
    if (this.settled) return
    if (Either.isLeft(result)) {
      if (!this.again(result.left, node)) this.fail(result.left)
      return
    }
    const errors = result.right.filter((reply) => reply instanceof RedisReplyError)
    const last = result.right[result.right.length - 1]
    // The whole is refused when one command can't be queued, or when the slot went away before EXEC.
    const refused = last instanceof RedisReplyError &&
      errors.every((error) => error.code === "EXECABORT" || notExecuted(error))
    const reason = errors.find((error) => error.code !== "EXECABORT")
    if (refused && reason !== undefined) {
      if (!this.again(reason, node)) this.fail(reason)
      return
    }
    this.settled = true
    countReplies(result.right, this.elapsed)
    this.resume(Effect.succeed(result.right))
  }

  protected onFailure(error: RedisError): void {
    countFailure(error)
    this.resume(Effect.fail(error))
  }
}

/** The commands of a pipeline part, go to the nodes that have their slots, and some of them go again. */
class Pipeline {
  readonly issuedAt = performance.now()
  private readonly replies: Array<Reply>
  private missing: number
  private readonly redirections: Uint16Array
  private readonly requests = new Set<Request>()
  /** Something of it was executed, or may have been. */
  private written = false
  settled = false

  constructor(
    readonly cluster: Cluster,
    readonly names: ReadonlyArray<string>,
    readonly commands: ReadonlyArray<ReadonlyArray<RedisArg>>,
    readonly slots: ReadonlyArray<number | "cross" | undefined>,
    readonly timeout: number,
    readonly resume: (effect: Effect.Effect<ReadonlyArray<Reply>, RedisError>) => void
  ) {
    this.replies = new Array<Reply>(commands.length)
    this.missing = commands.length
    this.redirections = new Uint16Array(commands.length)
  }

  get left(): number {
    return this.timeout - (performance.now() - this.issuedAt)
  }

  start(): void {
    const indexes: Array<number> = []
    this.slots.forEach((slot, i) => {
      if (slot === "cross") this.put(i, crossSlot(this.names[i]!))
      else indexes.push(i)
    })
    this.dispatch(indexes)
  }

  /** Sends commands to whoever has their slots at this moment. */
  dispatch(indexes: ReadonlyArray<number>): void {
    const groups = new Map<ClusterNode | undefined, Array<number>>()
    for (const index of indexes) {
      const slot = this.slots[index]
      add(groups, this.cluster.owner(slot === "cross" ? undefined : slot), index)
    }
    for (const [node, group] of groups) {
      if (node === undefined) this.waitForOwner(group)
      else this.send(node, group, false)
    }
  }

  private waitForOwner(indexes: ReadonlyArray<number>): void {
    const { cluster } = this
    cluster.refresh()
    if (!cluster.isKnown) return this.wait(indexes, cluster.unavailable(this.timeout, undefined))
    for (const index of indexes) this.wait([index], cluster.uncovered(this.names[index]!))
  }

  private send(node: ClusterNode, indexes: ReadonlyArray<number>, asking: boolean): void {
    const { cluster } = this
    if (!node.isReachable) return this.wait(indexes, cluster.unavailable(this.timeout, node.lastError))
    const request: RoutedGroup = new RoutedGroup(
      "PIPELINE",
      indexes.map((i) => this.names[i]!),
      indexes.map((i) => this.commands[i]!),
      this.requests.size === 0 && !asking ? this.timeout : Math.max(1, this.left),
      () => asking,
      (result) => {
        this.requests.delete(request)
        if (this.settled) return
        if (Either.isRight(result)) this.onReplies(node, indexes, result.right)
        else if (this.left >= 1 && cluster.mayRecover(result.left)) {
          this.wait(indexes, cluster.unavailable(this.timeout, result.left))
        } else this.fail(result.left)
      }
    )
    this.requests.add(request)
    node.submit(request)
  }

  private onReplies(node: ClusterNode, indexes: ReadonlyArray<number>, replies: ReadonlyArray<Reply>): void {
    const { cluster } = this
    const moved: Array<number> = []
    const asked = new Map<ClusterNode, Array<number>>()
    indexes.forEach((index, i) => {
      const reply = replies[i]!
      if (!(reply instanceof RedisReplyError) || !notExecuted(reply)) {
        this.written = true
        return this.put(index, reply)
      }
      if (this.left < 1) return this.put(index, reply)
      if (reply.code !== "MOVED" && reply.code !== "ASK") {
        if (reply.code !== "TRYAGAIN") cluster.refresh()
        return this.wait([index], reply, reply.code === "TRYAGAIN" ? MIN_PAUSE : undefined)
      }
      const to = cluster.redirected(reply, node)
      const pause = cluster.pauseAfter(++this.redirections[index]!)
      if (pause !== undefined) this.wait([index], reply, pause)
      else if (reply.code === "ASK") add(asked, to, index)
      else moved.push(index)
    })
    for (const [to, group] of asked) this.send(to, group, true)
    this.dispatch(moved)
  }

  private wait(indexes: ReadonlyArray<number>, error: RedisError, pause?: number): void {
    this.cluster.wait(new PipelinePart(this, indexes), error, pause)
  }

  put(index: number, reply: Reply): void {
    if (this.settled) return
    this.replies[index] = this.cluster.asUncovered(reply)
    if (--this.missing > 0) return
    this.settled = true
    countReplies(this.replies, performance.now() - this.issuedAt)
    this.resume(Effect.succeed(this.replies))
  }

  fail(error: RedisError): void {
    if (this.settled) return
    this.giveUp()
    // What this part did not do, others may have done.
    const whole = this.written && error._tag !== "RedisOutcomeUnknownError"
      ? new RedisOutcomeUnknownError({ target: this.cluster.settings.target, command: "PIPELINE", reason: "partial" })
      : error
    countFailure(whole)
    this.resume(Effect.fail(whole))
  }

  giveUp(): void {
    this.settled = true
    for (const request of this.requests) {
      if (request.written) this.written = true
      else request.settle()
    }
  }
}

/** Commands of a pipeline that wait. */
class PipelinePart implements Call {
  constructor(readonly pipeline: Pipeline, readonly indexes: ReadonlyArray<number>) {}

  get settled(): boolean {
    return this.pipeline.settled
  }

  get left(): number {
    return this.pipeline.left
  }

  dispatch(): void {
    this.pipeline.dispatch(this.indexes)
  }

  fail(error: RedisError): void {
    if (error._tag === "RedisReplyError") { for (const index of this.indexes) this.pipeline.put(index, error) }
    else this.pipeline.fail(error)
  }
}

const add = <K>(groups: Map<K, Array<number>>, key: K, index: number): void => {
  const group = groups.get(key)
  if (group === undefined) groups.set(key, [index])
  else group.push(index)
}

/** Names go in capitals, as on one connection. */
export const makeClusterExecutor = (cluster: Cluster): DriverExecutor => {
  const nameOf = makeNames(true)

  const issue: Issue = (command) =>
    Effect.async((resume) => {
      const { name, refused } = nameOf(command.name)
      const bad = refused ?? refuseBlocking(name, command.args)
      if (bad !== undefined) return resume(command.onError(bad, 0))
      const slot = slotOf(name, command.args)
      if (slot === "cross") return resume(command.onError(crossSlot(name), 0))
      const call = new SingleCall(cluster, slot, command, resume, name)
      call.dispatch()
      return call.cancel
    })

  /** The names of the commands, or why they are not sent. */
  const check = (commands: ReadonlyArray<ReadonlyArray<RedisArg>>): Either.Either<Array<string>, RedisError> => {
    const names: Array<string> = []
    for (const command of commands) {
      const { name, refused } = nameOf(String(command[0]))
      const bad = refused ?? refuseBlocking(name, command)
      if (bad !== undefined) return Either.left(bad)
      names.push(name)
    }
    return Either.right(names)
  }

  const slotsOf = (names: ReadonlyArray<string>, commands: ReadonlyArray<ReadonlyArray<RedisArg>>) =>
    commands.map((command, i) => slotOf(names[i]!, command.slice(1)))

  return {
    issue,
    pipeline: (commands, timeout) =>
      commands.length === 0
        ? Effect.succeed([])
        : Effect.async((resume) => {
          const names = check(commands)
          if (Either.isLeft(names)) return resume(names)
          const slots = slotsOf(names.right, commands)
          const pipeline = new Pipeline(cluster, names.right, commands, slots, timeout, resume)
          pipeline.start()
          return Effect.sync(() => pipeline.giveUp())
        }),
    transaction: (commands, timeout) =>
      Effect.flatMap(
        Effect.async<ReadonlyArray<Reply>, RedisError>((resume) => {
          const names = check(commands)
          if (Either.isLeft(names)) return resume(names)
          const slots = new Set(slotsOf(names.right, commands))
          slots.delete(undefined)
          const [slot, other] = slots
          if (slot === "cross" || other !== undefined) return resume(Effect.fail(crossSlot("MULTI")))
          const call = new TransactionCall(
            cluster,
            slot,
            timeout,
            ["MULTI", ...names.right, "EXEC"],
            [["MULTI"], ...commands, ["EXEC"]],
            resume
          )
          call.dispatch()
          return call.cancel
        }),
        (replies) => execReplies(replies, (i) => nameOf(String(commands[i]![0])).name)
      )
  }
}
