/** Transactions: ours, and those that the caller brings along. */
import type { PostgresSession } from "./drivers/postgres_session.ts";
import type { TransactionConnection } from "./sql/driver.ts";

/**
 * Executes a statement in the caller's transaction: the text with the placeholders of the database, and the values.
 * Resolves to the rows, or to an object that has them as `rows`. With `pg` it is
 * `(text, values) => client.query(text, values)`.
 */
export type Execute = (
  text: string,
  values: (string | number | bigint | null)[],
) => Promise<readonly unknown[] | { readonly rows: readonly unknown[] }>;

/** What may be given as `tx`: a transaction of the store, one of a `postgres` client, or a function that executes. */
export type TransactionLike = Execute | PostgresSession | Transaction;

/** A transaction of the store: valid until the callback of `store.transaction` has ended. */
export class Transaction {
  readonly #connection: TransactionConnection;

  /** Made by `store.transaction`. */
  constructor(connection: TransactionConnection) {
    this.#connection = connection;
  }

  /**
   * Executes a statement of the caller and resolves to its rows. The text is sent as it is, with the placeholders of the
   * database: `$1` on Postgres, `?` on SQLite and libSQL.
   *
   * @throws {DatabaseError} when the database refuses it.
   * @throws {StateError} after the transaction has ended.
   */
  async query<Row extends Record<string, unknown> = Record<string, unknown>>(
    text: string,
    values: readonly unknown[] = [],
  ): Promise<Row[]> {
    return await this.#connection.run(text, values) as Row[];
  }

  /** The connection behind a transaction: for the roles of this package. */
  static connectionOf(transaction: Transaction): TransactionConnection {
    return transaction.#connection;
  }
}
