/**
 * Scripts.
 */
import { NO_SCRIPT_TEXT } from "../../internal/serverTexts.js"
import { type Argv, countedKeys, integer, is, type Run, type Table } from "../command.js"
import { type EngineReply, ErrorReply, OK } from "../reply.js"
import { container } from "./container.js"

const parameters = (argv: Argv): readonly [keys: Argv, args: Argv] | ErrorReply => {
  const count = integer(argv[2]!)
  if (count > argv.length - 3) return new ErrorReply("ERR Number of keys can't be greater than number of args")
  if (count < 0) return new ErrorReply("ERR Number of keys can't be negative")
  return [argv.slice(3, 3 + count), argv.slice(3 + count)]
}

const evaluate = (readOnly: boolean): Run => (engine, argv, session): EngineReply => {
  const found = parameters(argv)
  if (found instanceof ErrorReply) return found
  const script = engine.scripts.load(argv[1]!)
  return script instanceof ErrorReply ? script : engine.scripts.run(session, script, found[0], found[1], readOnly)
}

const NO_SCRIPT = new ErrorReply(NO_SCRIPT_TEXT)

const evaluateSha = (readOnly: boolean): Run => (engine, argv, session): EngineReply => {
  if (argv[1]!.length !== 40) return NO_SCRIPT
  const found = parameters(argv)
  if (found instanceof ErrorReply) return found
  const script = engine.scripts.find(argv[1]!)
  return script === undefined ? NO_SCRIPT : engine.scripts.run(session, script, found[0], found[1], readOnly)
}

const keys = countedKeys(2, 2)

export const scripting: Table = {
  EVAL: { arity: -3, flags: ["noscript"], keys, run: evaluate(false) },
  EVAL_RO: { arity: -3, flags: ["noscript", "readonly"], keys, run: evaluate(true) },
  EVALSHA: { arity: -3, flags: ["noscript"], keys, run: evaluateSha(false) },
  EVALSHA_RO: { arity: -3, flags: ["noscript", "readonly"], keys, run: evaluateSha(true) },
  ...container("SCRIPT", {
    LOAD: {
      arity: 3,
      flags: ["noscript"],
      run(engine, argv) {
        const script = engine.scripts.load(argv[2]!)
        return script instanceof ErrorReply ? script : script.sha
      }
    },
    EXISTS: {
      arity: -3,
      flags: ["noscript"],
      run: (engine, argv) => argv.slice(2).map((sha) => engine.scripts.find(sha) === undefined ? 0 : 1)
    },
    FLUSH: {
      arity: -2,
      flags: ["noscript"],
      run(engine, argv) {
        if (argv.length > 3 || (argv.length === 3 && !is(argv[2], "SYNC") && !is(argv[2], "ASYNC"))) {
          return new ErrorReply("ERR SCRIPT FLUSH only support SYNC|ASYNC option")
        }
        engine.scripts.flush()
        return OK
      }
    }
  })
}
