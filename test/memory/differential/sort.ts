/**
 * SORT.
 */
import { FastCheck as FC } from "effect"
import { type Argv, command, hash, many, odd, oneOf, string, words } from "./generators.js"

const sortPattern = oneOf("string*", "hash*->a", "nope", "zset*", "#", "*", "hash*->", "hash*->b", "s*1", "string*->a")
const sortOptions = many(
  FC.oneof(
    {
      weight: 4,
      arbitrary: words("ALPHA", "ASC", "DESC", "desc", "LIMIT 0 2", "LIMIT 1 -1", "LIMIT -1 3", "LIMIT 2 0")
    },
    { weight: 4, arbitrary: command(oneOf("BY", "GET"), sortPattern) },
    { weight: 1, arbitrary: words("LIMIT x 1", "LIMIT 1", "BY", "GET", "STORE", "FOO") }
  ),
  0,
  4
)
/** Elements that are equal to each other, or in no order, come in one that both agree on only when they are all of a list. */
const isSettled = ([, name = "", ...options]: Argv): boolean =>
  !options.includes("BY") ||
  (options.includes("ALPHA")
    ? name.startsWith("items") && !options.includes("LIMIT")
    : !(name.startsWith("bag") && /BY (?!\S*\*)/.test(options.join(" "))))
const numbers = oneOf("1", "2", "3", "10", "-1", "1.5", "1e2")
/** Keys of their own: none of them changes its type, and no sorted set has -0, which its compact form hides until then. */
const items = oneOf("items1", "items2")
const bag = oneOf("bag1", "bag2")
const ranked = oneOf("ranked1", "ranked2")
const sortable = FC.oneof(
  { weight: 5, arbitrary: items },
  { weight: 3, arbitrary: bag },
  { weight: 3, arbitrary: ranked },
  { weight: 1, arbitrary: oneOf("string1", "none") }
)
export const sorts = FC.oneof(
  { weight: 2, arbitrary: command("RPUSH", items, many(numbers, 1, 4)) },
  command("SADD", bag, many(numbers, 1, 4)),
  command("SET", string, numbers),
  command("HSET", hash, oneOf("a", "b"), numbers),
  command("ZADD", ranked, oneOf("0", "1", "-1", "1.5", "10"), numbers),
  {
    weight: 6,
    arbitrary: FC.oneof(
      { weight: 3, arbitrary: command("SORT", sortable, sortOptions) },
      { weight: 2, arbitrary: command("SORT", sortable, "ALPHA", sortOptions) },
      command("SORT", sortable, sortOptions, "STORE", items),
      command("SORT_RO", sortable, sortOptions, odd)
    ).map((argv) => argv.map((word) => ["alpha", "by"].includes(word) ? word.toUpperCase() : word)).filter(isSettled)
  }
)
