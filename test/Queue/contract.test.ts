import { everywhere } from "../kit/contract.js"
import { batchesSuite } from "./batchesSuite.js"
import { controlSuite } from "./controlSuite.js"
import { exportSuite } from "./exportSuite.js"
import { groupsSuite } from "./groupsSuite.js"
import { inspectionSuite } from "./inspectionSuite.js"
import { suite } from "./suite.js"

everywhere(suite, controlSuite, groupsSuite, batchesSuite, exportSuite, inspectionSuite)
