/**
 * Runs before every test file. Random examples have a seed. The deep comparison of the assertion library looks at what an object holds and not at
 * what it is, so that an empty `Option` equals any other; that of Node looks at both.
 */
import * as FastCheck from "effect/FastCheck"
import * as NodeAssert from "node:assert"
import { assert } from "vitest"

Object.assign(assert, {
  deepStrictEqual: NodeAssert.deepStrictEqual,
  notDeepStrictEqual: NodeAssert.notDeepStrictEqual,
  deepEqual: NodeAssert.deepStrictEqual,
  notDeepEqual: NodeAssert.notDeepStrictEqual
})

// The same examples each time, so that a change is judged by what it changes. Other ones: `FC_SEED=$RANDOM npm test`.
FastCheck.configureGlobal({ ...FastCheck.readConfigureGlobal(), seed: Number(process.env.FC_SEED ?? 1) })
