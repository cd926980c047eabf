-- Idempotency tokens of runs that were deleted: who repeats the call learns that, and no second run
-- is made.
CREATE TABLE deleted_run_token (
  token TEXT PRIMARY KEY,
  run_id INTEGER NOT NULL,
  -- Of the call.
  created_at INTEGER NOT NULL
) STRICT, WITHOUT ROWID;
CREATE INDEX deleted_run_token_by_time ON deleted_run_token (created_at);
