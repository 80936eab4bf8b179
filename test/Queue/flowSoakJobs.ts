/**
 * The flows of the soak test: what a process is told, and which jobs there are.
 */
import { Schedule, Schema } from "effect"
import * as Queue from "../../src/Queue/index.js"

export interface Task {
  readonly nodes: ReadonlyArray<{ readonly host: string; readonly port: number }>
  /** Where it writes down what it does, in a file of its own. */
  readonly folder: string
  /** Of the queues, from the first jobs of flows to the last ones. */
  readonly names: readonly [top: string, middle: string, bottom: string]
  /** In milliseconds. */
  readonly lease: number
  /** Which flows it adds; nothing when it works. */
  readonly produce?: { readonly from: number; readonly to: number; readonly step: number } | undefined
}

/** Children of each job that has any. */
export const WIDTH = 2

const Payload = Schema.Struct({ flow: Schema.Number })

export const queues = ({ lease, names }: Pick<Task, "lease" | "names">) => {
  const define = (name: string) =>
    // Whoever is killed uses up an attempt of all that it works at.
    Queue.define({
      name,
      payload: Payload,
      lease,
      attempts: 1000,
      backoff: Schedule.spaced("20 millis"),
      result: Schema.String
    })
  return { top: define(names[0]), middle: define(names[1]), bottom: define(names[2]) }
}

const children = Array.from({ length: WIDTH }, (_, i) => i)

/** The ids of a flow are paths: `7`, `7/0`, `7/0/1`. */
export const childrenOf = (id: string): ReadonlyArray<string> =>
  id.split("/").length === 3 ? [] : children.map((i) => `${id}/${i}`)

export const flowOf = ({ bottom, middle, top }: ReturnType<typeof queues>, n: number): Queue.Flow => {
  const payload = { flow: n }
  return Queue.flow(top, payload, {
    id: String(n),
    children: childrenOf(String(n)).map((id) =>
      Queue.child(middle, payload, {
        id,
        children: childrenOf(id).map((id) => Queue.child(bottom, payload, { id }))
      })
    )
  })
}

/** The bottom of some fails at first. */
export const fails = (id: string, attempt: number): boolean =>
  attempt === 1 && id.split("/").length === 3 && Number.parseInt(id) % 7 === 0
