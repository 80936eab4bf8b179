/**
 * `npm run sizes`: measures the entries of the package and writes the table of the README.
 */
import { write } from "./sizes.js"

await write()
