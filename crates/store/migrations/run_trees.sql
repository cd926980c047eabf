-- The idempotency tokens of calls that became one with a run that waited already.
CREATE TABLE coalesced_token (
  token TEXT PRIMARY KEY,
  run_id INTEGER NOT NULL REFERENCES run (id) ON DELETE CASCADE,
  created_at INTEGER NOT NULL
) STRICT, WITHOUT ROWID;
CREATE INDEX coalesced_token_by_run ON coalesced_token (run_id);
CREATE INDEX coalesced_token_by_time ON coalesced_token (created_at);

-- Runs that have been deleted together with the run above them: they go some at a time.
CREATE TABLE run_trash (run_id INTEGER PRIMARY KEY) STRICT;

-- The repair that led to the end of a run: each of its ends may fire once.
ALTER TABLE trigger_ended_run ADD COLUMN repair_id INTEGER;

-- The walk of retention over one job's ends.
CREATE INDEX run_by_job_end ON run (job_id, ended_at, id) WHERE job_id IS NOT NULL;

-- Those of jobs that were deleted were never pruned.
DELETE FROM trigger_firing WHERE job_id IN (SELECT id FROM job WHERE deleted_at IS NOT NULL);
