/**
 * Says which ioredis a process gets that a test starts.
 */
import { loaded } from "./loaded.js"

process.stdout.write(loaded())
