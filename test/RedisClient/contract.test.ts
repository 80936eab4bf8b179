import { drivers } from "../kit/layers.js"
import { suite } from "./suite.js"

for (const [name, layer, options] of drivers) suite(name, layer, options)
