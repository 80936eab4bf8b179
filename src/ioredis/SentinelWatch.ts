/**
 * Hears from the sentinels when the master has become another one. A connection to the old one that hangs would otherwise
 * be found only when its time is over.
 */
// The completion of I/O, and its timers, are Node's here.
// @effect-diagnostics globalRandom:off
import { Redis, type RedisOptions } from "ioredis"
import { lookup } from "node:dns"

const CHANNEL = "+switch-master"

/** `onSwitch` gets the new address, once for each sentinel that says so. Returns how to end it. */
export const watchSentinels = (options: {
  readonly sentinels: ReadonlyArray<{ readonly host: string; readonly port: number }>
  readonly master: string
  readonly access: RedisOptions
  /** In milliseconds. */
  readonly connectTimeout: number
  readonly onSwitch: (address: string) => void
}): () => void => {
  const protocol: object = { protocol: 2 }
  const clients = options.sentinels.map((sentinel) => {
    const client = new Redis({
      ...options.access,
      ...sentinel,
      ...protocol,
      lazyConnect: true,
      enableReadyCheck: false,
      enableOfflineQueue: false,
      autoResubscribe: false,
      autoResendUnfulfilledCommands: false,
      maxRetriesPerRequest: 0,
      disconnectTimeout: 50,
      keepAlive: 10_000,
      connectTimeout: options.connectTimeout,
      retryStrategy: (times) => Math.min(5000, 200 * 2 ** Math.min(times, 5)) * (0.5 + Math.random() / 2)
    })
    // A sentinel that is away is not missed: there are others, and connections that break are noticed anyway.
    const ignore = () => {}
    client.on("error", ignore)
    client.on("ready", () => void client.subscribe(CHANNEL).catch(ignore))
    client.on("message", (_channel: string, text: string) => {
      const [name, , , host, port] = text.split(" ")
      if (name !== options.master || host === undefined) return
      // It may be a name, and connections know only addresses.
      lookup(host, (error, address) => {
        if (error === null) options.onSwitch(`${address}:${port}`)
      })
    })
    client.connect().catch(ignore)
    return client
  })
  return () => {
    for (const client of clients) client.disconnect()
  }
}
