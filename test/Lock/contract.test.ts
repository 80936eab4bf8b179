import { everywhere } from "../kit/contract.js"
import { severalNames } from "./severalNames.js"
import { suite } from "./suite.js"

everywhere(suite, severalNames)
