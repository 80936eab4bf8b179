/**
 * What Redis 7.0 answers in the states of a server that tests bring about.
 */

/** @internal */
export const LOADING_TEXT = "LOADING Redis is loading the dataset in memory"

/** @internal */
export const READ_ONLY_TEXT = "READONLY You can't write against a read only replica."

/** @internal */
export const OOM_TEXT = "OOM command not allowed when used memory > 'maxmemory'."

/** @internal */
export const NO_SCRIPT_TEXT = "NOSCRIPT No matching script. Please use EVAL."
