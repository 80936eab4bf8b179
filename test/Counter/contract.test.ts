import { everywhere } from "../kit/contract.js"
import { suite } from "./suite.js"

everywhere(suite)
