/**
 * A TLS endpoint before a plain server. The certificate is self-signed, for `localhost`, and of no use elsewhere.
 */
import { Effect, type Scope } from "effect"
import * as Net from "node:net"
import * as Tls from "node:tls"

export const certificate = `-----BEGIN CERTIFICATE-----
MIIBZzCCAQ2gAwIBAgIBATAKBggqhkjOPQQDAjAUMRIwEAYDVQQDDAlsb2NhbGhv
c3QwIBcNMjAwMTAxMDAwMDAwWhgPMjEyMDAxMDEwMDAwMDBaMBQxEjAQBgNVBAMM
CWxvY2FsaG9zdDBZMBMGByqGSM49AgEGCCqGSM49AwEHA0IABH6SsPQTaXydUcNX
YxImcvOFGfyuo2TkgbDckxepOLBcyKrMuX3wqfSEY28Av0Jx8pERXGK+3xkGoThF
d5U8v2WjTjBMMBoGA1UdEQQTMBGCCWxvY2FsaG9zdIcEfwAAATAPBgNVHRMBAf8E
BTADAQH/MB0GA1UdDgQWBBRRaS45ngAm1RQhKh5TvnVzGEKuKjAKBggqhkjOPQQD
AgNIADBFAiEAuoPkwDCHZrtZz7Six0vYUNLsGh7MJa4b51Wnr4h/cAsCIA9aeenW
bn6KBbEBb01H7V27oAD1EltoLR7GsqEGvxst
-----END CERTIFICATE-----`

const key = `-----BEGIN PRIVATE KEY-----
MIGHAgEAMBMGByqGSM49AgEGCCqGSM49AwEHBG0wawIBAQQg7Fh2sNDDVB5g4U7/
VFwtfILhABiv3mGQtXDLXnGRez2hRANCAAR+krD0E2l8nVHDV2MSJnLzhRn8rqNk
5IGw3JMXqTiwXMiqzLl98Kn0hGNvAL9CcfKREVxivt8ZBqE4RXeVPL9l
-----END PRIVATE KEY-----`

export const make = (server: {
  readonly host: string
  readonly port: number
}): Effect.Effect<{ readonly host: string; readonly port: number }, never, Scope.Scope> =>
  Effect.gen(function*() {
    const sockets = new Set<Net.Socket>()
    const listener = yield* Effect.acquireRelease(
      Effect.async<Tls.Server>((resume) => {
        const listener = Tls.createServer({ key, cert: certificate }, (client) => {
          const upstream = Net.connect(server.port, server.host)
          for (const socket of [client, upstream]) {
            sockets.add(socket)
            socket.on("error", () => {})
            socket.on("close", () => {
              client.destroy()
              upstream.destroy()
              sockets.delete(socket)
            })
          }
          client.pipe(upstream)
          upstream.pipe(client)
        })
        listener.on("tlsClientError", () => {})
        listener.listen(0, "127.0.0.1", () => resume(Effect.succeed(listener)))
      }),
      (listener) =>
        Effect.async<void>((resume) => {
          listener.close(() => resume(Effect.void))
          for (const socket of sockets) socket.destroy()
        })
    )
    const address = listener.address()
    return { host: "localhost", port: typeof address === "object" && address !== null ? address.port : 0 }
  })
