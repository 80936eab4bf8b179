/**
 * The keys of a queue. All share a hash tag, and so a slot.
 *
 * A job is in one state at any moment: *ready* in a list, *delayed*, *blocked* by its children, *running* with a lease,
 * *dead*, or *completed* when those are kept. Its envelope stays in `jobs` from the first moment to the last. The owner of
 * the keys are the jobs: when none is left, only `meta` is.
 */

/** How many levels of priority there are at most. */
export const LEVELS = 8

export interface Keys {
  /** HASH id → envelope, a text that only clients read. */
  readonly jobs: string
  /** LISTs of ids that are ready, by level. `ready[0]` is for the priority 0, which comes last. */
  readonly ready: ReadonlyArray<string>
  /** HASH id → level, of jobs whose priority is not 0. */
  readonly levels: string
  /** ZSET id → when it is due in milliseconds, and a fraction of n/4096 for the order of equals. */
  readonly delayed: string
  /** ZSET `worker:call:i|id` → end of the lease in milliseconds. Whoever removes the member owns the job. */
  readonly leases: string
  /** HASH id → attempts that have failed, or ended with a lost lease. */
  readonly failures: string
  /** HASH id → instant in milliseconds from which on the job is not started. */
  readonly deadlines: string
  /** ZSET id → when it became a dead letter, in milliseconds. */
  readonly dead: string
  /** HASH id → JSON about a dead letter. */
  readonly deadInfo: string
  /** HASH deduplication key → id. */
  readonly unique: string
  /** ZSET deduplication key → its end in milliseconds, for those that have one. */
  readonly uniqueUntil: string
  /** HASH id → deduplication key. */
  readonly uniqueOf: string
  /**
   * HASH deduplication key → the job that follows the running one, as `id level due envelope`; empty as long as there is
   * none. The field is there from the start of the running one.
   */
  readonly uniqueNext: string
  /** ZSET id → when it was completed, in milliseconds, of those that are kept. */
  readonly kept: string
  /** HASH id → how many attempts of a kept job have failed, and the JSON of its result behind a space. */
  readonly keptInfo: string
  /** HASH id → what its handlers have logged: a line about the last call, and one for each line. */
  readonly logs: string
  /** STREAM of what happened, when the definition wants it. */
  readonly events: string
  /** HASH of settings (`paused`, `concurrency`, `limit`, `window`) and counters (`completed`, `failed`, `dead`). */
  readonly meta: string
  /** ZSET of the last starts, in microseconds, as long as the queue has a rate limit. */
  readonly starts: string
  /** ZSET on which workers wait: the member `0` says that there is something to do. Not used on a Cluster. */
  readonly marker: string
  /** SET of ids whose running handler shall be interrupted. */
  readonly cancelled: string
  /** HASH id → JSON of the progress that a handler has told. */
  readonly progress: string
  /**
   * HASH `level|id` → how many of the first ones of this id in the list of the level are no job: it was removed while it was
   * ready, or got another level.
   */
  readonly removed: string
  /** HASH of what belongs to flows, see `flowLua.ts`. */
  readonly flows: string
  /** ZSET of parents that wait for children → since when, in milliseconds. */
  readonly blocked: string
  /** ZSET of what other queues have to be told → stamp. */
  readonly outbox: string
  /**
   * ZSET sender → stamp of what came from it last, and of what was sent last under an empty text. It lives for a day. It
   * outlives the queue, or what is sent after its end would seem to be known.
   */
  readonly stamps: string
  /** HASH id of a schedule → when its slots are, its limits, and what its jobs are made of, with NUL between them. */
  readonly schedules: string
  /** ZSET id of a schedule → its next slot in milliseconds; `inf` for one that is paused or has ended. */
  readonly schedulesDue: string
  /** HASH id of a schedule → `revision flag fired last`: see `scheduleScripts.ts`. */
  readonly schedulesState: string
  /** ZSET `group NUL place id`, score 0: jobs of groups that are ready. A place is a digit for the level and 16 for the order. */
  readonly groupJobs: string
  /** ZSET group → place in the ring of those whose turn comes; the empty text for all jobs without a group. */
  readonly groupTurns: string
  /** ZSET group → when its rate admits the next job, in milliseconds. */
  readonly groupLater: string
  /** SET of groups with ready jobs that are paused, or run as many as they may. */
  readonly groupHeld: string
  /** ZSET `group NUL member of its lease`, score 0: the running jobs of each group. */
  readonly groupRunning: string
  /** HASH id → the place that it has or had, and its group behind that. */
  readonly groupOf: string
  /** HASH group → whether it is paused, and its own limits. Its owner is whoever has set them. */
  readonly groupLimits: string
  /** ZSET `group NUL instant in microseconds and member of the lease`, score 0: the last starts of groups with a rate. */
  readonly groupStarts: string
  /** ZSET group → when none of its starts counts any more, in milliseconds. */
  readonly groupQuiet: string
  /** STRINGs are this with a producer behind it: what the server replied to its last call. They live for a minute. */
  readonly sent: string
  /** STRINGs are this with a worker behind it: what it settled and took last. They live for a minute, or two leases. */
  readonly taken: string
  /** ZSET worker → until when it counts as alive, in milliseconds; of the thousand that reported last. */
  readonly workers: string
  /** HASH worker → JSON about it. */
  readonly workersInfo: string
  /** HASH minute → counters at the first and at the last report in it, for the last hour. */
  readonly history: string
  /** What scripts get as KEYS, in the order of `names`, and the lists behind them. */
  readonly plain: ReadonlyArray<string>
  /** Those of the groups, in the order of `groupNames`. */
  readonly groups: ReadonlyArray<string>
  /** All of both. */
  readonly all: ReadonlyArray<string>
  /** Channels, without the prefix of the client: something to do (on a Cluster), and `cancel ID` or `schedules`. */
  readonly wake: string
  readonly control: string
  /** Ids of jobs that have ended, for those who await results; an empty text for any number. Lua knows it as `wake` and `:done`. */
  readonly done: string
}

/** `%`, `:` and `}` would end something early; `%` is what they are written with. */
const RESERVED = /[%:}]/g

/** What the keys of a queue begin with. */
export const rootOf = (name: string): string => `queue:{${name.replace(RESERVED, encodeURIComponent)}}`

/** ZSET queue → when somebody announced it last, in milliseconds; of the queues that are inspected. */
export const registryKey = "queue:registry"

const keysUnder = (root: string) => ({
  jobs: `${root}:jobs`,
  levels: `${root}:levels`,
  delayed: `${root}:delayed`,
  leases: `${root}:leases`,
  failures: `${root}:failures`,
  deadlines: `${root}:deadlines`,
  dead: `${root}:dead`,
  deadInfo: `${root}:dead:info`,
  unique: `${root}:unique`,
  uniqueUntil: `${root}:unique:until`,
  uniqueOf: `${root}:unique:of`,
  uniqueNext: `${root}:unique:next`,
  meta: `${root}:meta`,
  starts: `${root}:starts`,
  marker: `${root}:marker`,
  cancelled: `${root}:cancelled`,
  progress: `${root}:progress`,
  removed: `${root}:removed`,
  flows: `${root}:flows`,
  blocked: `${root}:blocked`,
  outbox: `${root}:outbox`,
  stamps: `${root}:stamps`,
  kept: `${root}:kept`,
  keptInfo: `${root}:kept:info`,
  logs: `${root}:logs`,
  events: `${root}:events`,
  schedules: `${root}:schedules`,
  schedulesDue: `${root}:schedules:due`,
  schedulesState: `${root}:schedules:state`
})

const groupKeysUnder = (root: string) => ({
  groupJobs: `${root}:group:jobs`,
  groupTurns: `${root}:group:turns`,
  groupLater: `${root}:group:later`,
  groupHeld: `${root}:group:held`,
  groupRunning: `${root}:group:running`,
  groupOf: `${root}:group:of`,
  groupLimits: `${root}:group:limits`,
  groupStarts: `${root}:group:starts`,
  groupQuiet: `${root}:group:quiet`
})

export const keysOf = (name: string): Keys => {
  const root = rootOf(name)
  const ready = Array.from({ length: LEVELS }, (_, level) => `${root}:ready:${level}`)
  const keys = keysUnder(root)
  const ofGroups = groupKeysUnder(root)
  const plain = [...Object.values(keys), ...ready.slice().reverse()]
  const groups = Object.values(ofGroups)
  return {
    ...keys,
    ...ofGroups,
    ready,
    sent: `${root}:sent`,
    taken: `${root}:taken`,
    workers: `${root}:workers`,
    workersInfo: `${root}:workers:info`,
    history: `${root}:history`,
    plain,
    groups,
    all: [...plain, ...groups],
    wake: `${root}:wake`,
    control: `${root}:control`,
    done: `${root}:wake:done`
  }
}

const fields = Object.keys(keysUnder(""))

/** Where the lists begin and end among the keys, from the most urgent level to level 0. */
export const FIRST_READY = fields.length + 1
export const LAST_READY = fields.length + LEVELS

const inLua = (field: string): string => field.replace(/[A-Z]/g, (letter) => `_${letter.toLowerCase()}`)

const namesOf = (fields: ReadonlyArray<string>, before: number): string =>
  fields.map((field, i) => `local ${inLua(field)} = KEYS[${before + i + 1}]`).join("\n")

/** The names of the keys of the groups in Lua, when so many other keys stand before them. */
export const groupNames = (before: number): string => namesOf(Object.keys(groupKeysUnder("")), before)

/** The names of the keys in Lua: those above, with `_` for a capital, and `ready(level)`. */
export const names = `
${namesOf(fields, 0)}
local function ready(level)
  return KEYS[${LAST_READY} - level]
end
`
