/**
 * A job queue that lives in your database: Postgres in production, SQLite embedded, libSQL and Turso at the edge, with one
 * API and one meaning for all. There is no server to operate.
 *
 * Producers put messages on queues; consumers take them under a lease and settle them; what has ended is kept in an archive.
 *
 * @example A queue in a few lines
 * ```ts
 * import { connect } from "@pgqrs/pgqrs";
 * import assert from "node:assert/strict";
 *
 * await using store = await connect("sqlite::memory:");
 * await store.admin.install();
 * await store.admin.createQueue("tasks");
 *
 * await store.producer("tasks").enqueue({ task: "send_email", to: "ada@example.com" });
 *
 * const consumer = store.consumer("tasks");
 * for (const message of await consumer.dequeue({ limit: 10 })) {
 *   // … the work …
 *   assert.ok(await consumer.archive(message));
 * }
 * ```
 *
 * @module
 */

export { Admin } from "./src/admin.ts";
export {
  ArchiveAdmin,
  type ArchivePageOptions,
  type ArchiveQuery,
  DeadAdmin,
  type DeadQuery,
  type PurgeOptions,
} from "./src/admin/archive.ts";
export type { Finding } from "./src/admin/doctor.ts";
export { type ByIdOptions, MessageAdmin, type MessageQuery, type MessageUpdate } from "./src/admin/messages.ts";
export type { Page, PageOptions } from "./src/admin/page.ts";
export {
  type CreateQueueOptions,
  QueueAdmin,
  type QueueInfo,
  type QueueName,
  type QueueOptions,
} from "./src/admin/queues.ts";
export {
  RunAdmin,
  type RunDetails,
  type RunGetOptions,
  type RunInfo,
  type RunQuery,
  type RunWait,
} from "./src/admin/runs.ts";
export type { InstallOptions, MigrateOptions, MigrationStep } from "./src/admin/schema.ts";
export { type PurgeWorkersOptions, WorkerAdmin, type WorkerInfo, type WorkerStats } from "./src/admin/workers.ts";
export { Config, type ConfigSources, type ConfigValues, type LoadConfigOptions } from "./src/config.ts";
export { connect, type ConnectOptions, type ConnectTarget } from "./src/connect.ts";
export {
  type ArchiveOptions,
  Consumer,
  type ConsumerOptions,
  type DequeueOptions,
  type FailOptions,
  type Leased,
  type ReleaseOptions,
  type SettleOptions,
} from "./src/consumer.ts";
export type { CallLimits, Logger } from "./src/database.ts";
export type { LibsqlClient, LibsqlResult, LibsqlTransaction } from "./src/drivers/libsql.ts";
export type { PostgresClient, PostgresQuery, PostgresSession } from "./src/drivers/postgres_session.ts";
export type { SqliteClient, SqliteStatement } from "./src/drivers/sqlite.ts";
export {
  CancelledError,
  ConfigError,
  DatabaseError,
  type DatabaseFailure,
  type DatabaseReason,
  type ErrorCode,
  FailedError,
  InterruptedError,
  LeaseLostError,
  NonRetryableError,
  NotFoundError,
  type Outcome,
  PgqrsError,
  RetryError,
  SchemaError,
  StateError,
  TimeoutError,
} from "./src/errors.ts";
export type { EventListener, EventName, StoreEvents } from "./src/events.ts";
export {
  type BatchContext,
  type BatchHandler,
  type BatchJobOptions,
  type Job,
  job,
  type JobContext,
  type JobHandler,
  type JobOptions,
} from "./src/job.ts";
export type { ArchivedMessage, Message, MessageState, StoredError } from "./src/message.ts";
export {
  type EnqueueManyOptions,
  type EnqueueOptions,
  type Key,
  type MessageOptions,
  Producer,
} from "./src/producer.ts";
export {
  type Queue,
  queue,
  type QueueTypeOptions,
  type Schema,
  type SchemaIssue,
  type SchemaResult,
} from "./src/queue.ts";
export type { Backoff, RetryPolicy } from "./src/retry.ts";
export type { QueueMetrics } from "./src/sql/metrics.ts";
export type { ResultOptions } from "./src/results.ts";
export { type CancelOptions, RunHandle, type SendOptions, type StepInfo } from "./src/run.ts";
export type { RunCounts, RunStatus } from "./src/sql/run_reports.ts";
export type { StepKind, StepState } from "./src/sql/runs.ts";
export { type Pong, type StartOptions, Store, type TransactionOptions } from "./src/store.ts";
export { type Execute, Transaction, type TransactionLike } from "./src/transaction.ts";
export { type Drained, type RunOptions, Worker, type WorkerHealth, type WorkerOptions } from "./src/worker.ts";
export type { Maintained } from "./src/worker/maintenance.ts";
export {
  type MapOptions,
  type ReceiveOptions,
  type RunContext,
  type StepContext,
  type StepOptions,
  type Workflow,
  workflow,
  type WorkflowFunction,
  type WorkflowOptions,
  type WorkflowRef,
  workflowRef,
} from "./src/workflow.ts";
