import { everywhere } from "../kit/contract.js"
import { controlSuite } from "./controlSuite.js"
import { resultsSuite } from "./resultsSuite.js"
import { suite } from "./suite.js"

everywhere(suite, controlSuite, resultsSuite)
