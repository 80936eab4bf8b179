/**
 * One evening at the box office: the same program on a server and in memory.
 */
import { Clock, Duration, Effect, Schedule } from "effect"
import { audit } from "./audit.js"
import { backstage } from "./backstage.js"
import { putOnMap } from "./discover.js"
import { allDelivered } from "./mail.js"
import { progress } from "./report.js"
import { open, type Sale } from "./sale.js"

export interface Screen {
  readonly show: (line: string) => Effect.Effect<void>
  readonly every: Duration.DurationInput
}

/**
 * Opens the sale, lets `selling` sell while the screen shows how it goes, brings the mails, and audits what was sold.
 */
export const evening = <E, R>(sale: Sale, selling: Effect.Effect<void, E, R>, screen: Screen) =>
  Effect.gen(function*() {
    yield* open(sale)
    yield* backstage(sale)
    yield* putOnMap(sale)
    const start = yield* Clock.currentTimeMillis
    const elapsed = Effect.map(Clock.currentTimeMillis, (now) => Duration.millis(now - start))
    const watching = elapsed.pipe(
      Effect.flatMap((time) => progress(sale, time)),
      Effect.flatMap(screen.show),
      // A server that is away for a moment is nothing to end an evening for.
      Effect.ignore,
      Effect.schedule(Schedule.spaced(screen.every))
    )
    yield* Effect.raceFirst(selling, Effect.zipRight(watching, Effect.never))
    const time = yield* elapsed
    yield* allDelivered(sale)
    return { time, audit: yield* audit(sale) }
  }).pipe(Effect.scoped)
