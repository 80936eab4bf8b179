/** Shares a number of sequences out in the proportion that the tests have; all of the shares together are the number. */
export const spread = <S extends { readonly sequences: number }>(
  suites: ReadonlyArray<S>,
  sequences: number
): ReadonlyArray<readonly [suite: S, share: number]> => {
  const total = suites.reduce((sum, suite) => sum + suite.sequences, 0)
  let before = 0
  // What is shared out up to here, less what was before it: no rounding is lost.
  return suites.map((suite) => {
    const from = Math.floor(before * sequences / total)
    before += suite.sequences
    return [suite, Math.floor(before * sequences / total) - from] as const
  }).filter(([, share]) => share > 0)
}
