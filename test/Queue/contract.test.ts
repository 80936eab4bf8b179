import { everywhere } from "../kit/contract.js"
import { controlSuite } from "./controlSuite.js"
import { groupsSuite } from "./groupsSuite.js"
import { resultsSuite } from "./resultsSuite.js"
import { schedulesSuite } from "./schedulesSuite.js"
import { suite } from "./suite.js"

everywhere(suite, controlSuite, groupsSuite, schedulesSuite, resultsSuite)
