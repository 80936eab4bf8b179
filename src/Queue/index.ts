/**
 * @since 0.1.0
 */
export {
  BatchFailures,
  batchFailures,
  type BatchHandler,
  type BatchOptions,
  type BatchResults,
  type JobError
} from "./Batch.js"
export {
  type Control,
  type Counts,
  type JobInfo,
  JobIsRunning,
  JobNotDelayed,
  JobNotFound,
  JobNotWaiting,
  type JobPage,
  type JobState,
  type PageOptions,
  QueueIsBusy,
  type QueueRateLimit,
  type Status,
  type When
} from "./Control.js"
export {
  type DeadLetterExport,
  DeadLetterRecord,
  type ExportedDeadLetter,
  type ExportOptions,
  type Imported
} from "./DeadLetterExport.js"
export {
  type DeadLetter,
  type DeadLetterPage,
  type DeadLetters,
  JobNotDead,
  type ReplayOptions
} from "./DeadLetters.js"
export {
  type Backoff,
  type Deduplication,
  define,
  type Definition,
  type Enqueued,
  type EnqueueOptions,
  type Firing,
  type GroupDefaults,
  type Job,
  type Options
} from "./Definition.js"
export type { DeadReason } from "./envelope.js"
export type {
  EventPosition,
  Events,
  EventsMissed,
  EventsOptions,
  EventsPage,
  EventsPageOptions,
  JobEvent
} from "./Events.js"
export {
  child,
  ChildFailed,
  type ChildOptions,
  type ChildOutcome,
  childResults,
  type Flow,
  flow,
  type FlowChild,
  type FlowNode,
  type FlowOptions,
  type Flows,
  type OnFailure
} from "./flows.js"
export * from "./groupOperations.js"
export type { GroupInfo, GroupLimits, GroupPage, GroupPageOptions, Groups } from "./Groups.js"
export { type HandlerByType, type Handlers, handlers } from "./Handlers.js"
export {
  type Inspection,
  type JobStory,
  type Overview,
  type RunningJob,
  type Throughput,
  type WorkerInfo
} from "./Inspection.js"
export * from "./operations.js"
export * from "./Queue.js"
export {
  JobResultInvalid,
  JobTimedOut,
  PayloadTooLarge,
  postpone,
  Postponed,
  QueueFull,
  Unrecoverable,
  unrecoverable
} from "./QueueError.js"
export * from "./resultOperations.js"
export {
  type AwaitError,
  type AwaitOptions,
  AwaitTimedOut,
  type CompletedJob,
  type CompletedPage,
  type EnqueueAndWaitOptions,
  JobFailed,
  type LogLine,
  type Results
} from "./Results.js"
export * from "./scheduleOperations.js"
export {
  type CatchUp,
  type ScheduleInfo,
  ScheduleNotFound,
  type ScheduleOptions,
  type SchedulePage,
  type Schedules,
  type ScheduleTiming,
  TooManySchedules
} from "./Schedules.js"
export type { Handler, Worker, WorkerOptions } from "./Worker.js"
