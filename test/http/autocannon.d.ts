/** As much of the load generator as the tests use; it has no types of its own. */
declare module "autocannon" {
  import type { EventEmitter } from "node:events"

  interface Options {
    readonly url: string
    readonly amount: number
    readonly connections: number
    readonly headers?: Readonly<Record<string, string>>
    readonly setupClient: (client: EventEmitter) => void
  }

  interface Result {
    readonly errors: number
    readonly timeouts: number
    readonly non2xx: number
    readonly "2xx": number
    readonly requests: { readonly total: number }
  }

  export default function autocannon(options: Options): Promise<Result>
}
