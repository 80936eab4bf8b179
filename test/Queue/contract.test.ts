import { everywhere } from "../kit/contract.js"
import { batchesSuite } from "./batchesSuite.js"
import { controlSuite } from "./controlSuite.js"
import { exportSuite } from "./exportSuite.js"
import { flowSuite } from "./flowSuite.js"
import { groupsSuite } from "./groupsSuite.js"
import { inspectionSuite } from "./inspectionSuite.js"
import { resultsSuite } from "./resultsSuite.js"
import { schedulesSuite } from "./schedulesSuite.js"
import { suite } from "./suite.js"

everywhere(
  suite,
  controlSuite,
  groupsSuite,
  schedulesSuite,
  flowSuite,
  batchesSuite,
  exportSuite,
  inspectionSuite,
  resultsSuite
)
