/**
 * Runs before every test file. The deep comparison of the assertion library looks at what an object holds and not at
 * what it is, so that an empty `Option` equals any other; that of Node looks at both.
 */
import * as NodeAssert from "node:assert"
import { assert } from "vitest"

Object.assign(assert, {
  deepStrictEqual: NodeAssert.deepStrictEqual,
  notDeepStrictEqual: NodeAssert.notDeepStrictEqual,
  deepEqual: NodeAssert.deepStrictEqual,
  notDeepEqual: NodeAssert.notDeepStrictEqual
})
