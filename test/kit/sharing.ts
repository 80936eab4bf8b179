/**
 * Servers that all suites of a file share, where each would start its own.
 */
import { Effect, Exit, Layer, Scope } from "effect"
import { afterAll, beforeAll } from "vitest"

/** Builds the layers before the suites and holds them until the last one has ended; the options of those suites. */
export const sharing = <E>(...layers: ReadonlyArray<Layer.Layer<never, E>>) => {
  const memoMap = Effect.runSync(Layer.makeMemoMap)
  const scope = Effect.runSync(Scope.make())
  beforeAll(() =>
    Effect.runPromise(
      Effect.forEach(layers, (layer) => Layer.buildWithMemoMap(layer, memoMap, scope), { discard: true })
    )
  )
  afterAll(() => Effect.runPromise(Scope.close(scope, Exit.void)))
  return { excludeTestServices: true, memoMap }
}
