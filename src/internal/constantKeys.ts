/**
 * Keys that a script is called with again and again. A client writes its prefix before them once, where a new text for
 * each of them in each call costs more than all else that is done with them.
 */

const known = new WeakMap<ReadonlyArray<string>, Map<string, ReadonlyArray<string>>>()

/**
 * For keys that nobody changes, and that are well-formed.
 *
 * @internal
 */
export const constantKeys = (keys: ReadonlyArray<string>): ReadonlyArray<string> => {
  known.set(keys, new Map())
  return keys
}

/**
 * The keys with a prefix, when they are constant.
 *
 * @internal
 */
export const prefixedKeys = (keys: ReadonlyArray<string>, prefix: string): ReadonlyArray<string> | undefined => {
  const byPrefix = known.get(keys)
  if (byPrefix === undefined) return undefined
  let prefixed = byPrefix.get(prefix)
  if (prefixed === undefined) byPrefix.set(prefix, prefixed = keys.map((key) => prefix + key))
  return prefixed
}
