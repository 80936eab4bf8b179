/**
 * Transactions: commands are queued between MULTI and EXEC, and then run with nothing between them.
 */
import { allKeys, type Table } from "../command.js"
import { ErrorReply, OK } from "../reply.js"

export const transactions: Table = {
  MULTI: {
    arity: 1,
    flags: ["noscript", "unqueued"],
    run(_, __, session) {
      if (session.transaction !== undefined) return new ErrorReply("ERR MULTI calls can not be nested")
      session.transaction = []
      return OK
    }
  },
  DISCARD: {
    arity: 1,
    flags: ["noscript", "unqueued"],
    run(engine, _, session) {
      if (session.transaction === undefined) return new ErrorReply("ERR DISCARD without MULTI")
      engine.discard(session)
      return OK
    }
  },
  EXEC: {
    arity: 1,
    flags: ["noscript", "unqueued"],
    run(engine, _, session) {
      const queue = session.transaction
      if (queue === undefined) return new ErrorReply("ERR EXEC without MULTI")
      const failed = session.transactionFailed
      const changed = session.watchedChanged
      engine.discard(session)
      if (failed) return new ErrorReply("EXECABORT Transaction discarded because of previous errors.")
      if (changed) return null
      return engine.atomically(() => queue.map(({ argv, command }) => engine.call(session, command, argv)))
    }
  },
  WATCH: {
    arity: -2,
    flags: ["noscript", "unqueued"],
    keys: allKeys,
    run(engine, argv, session) {
      if (session.transaction !== undefined) return new ErrorReply("ERR WATCH inside MULTI is not allowed")
      for (const key of argv.slice(1)) engine.watch(session, key)
      return OK
    }
  },
  UNWATCH: {
    arity: 1,
    flags: ["noscript"],
    run(engine, _, session) {
      engine.unwatch(session)
      return OK
    }
  }
}
