/** Being written: tx.query with values, close() in a transaction, nested calls, reserved connections. */
