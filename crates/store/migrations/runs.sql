CREATE TABLE job (
  id INTEGER PRIMARY KEY,
  creator_id INTEGER NOT NULL,
  creator_name TEXT NOT NULL,
  name TEXT NOT NULL COLLATE NOCASE,
  -- The whole document as the client wrote it, unknown fields included.
  settings TEXT NOT NULL,
  created_at INTEGER NOT NULL,
  deleted_at INTEGER
) STRICT;
CREATE INDEX job_by_name ON job (name) WHERE deleted_at IS NULL;

CREATE TABLE run (
  id INTEGER PRIMARY KEY,
  job_id INTEGER,
  kind TEXT NOT NULL,
  name TEXT NOT NULL,
  creator_id INTEGER NOT NULL,
  creator_name TEXT NOT NULL,
  -- What this run runs, fixed at its start: a later change of the job does not touch it.
  settings TEXT NOT NULL,
  parameters TEXT NOT NULL,
  trigger TEXT NOT NULL,
  idempotency_token TEXT UNIQUE,
  -- The attempt that started this run through dbutils.notebook.run; it shares that one's slot.
  parent_attempt INTEGER,
  concurrency_max INTEGER NOT NULL,
  timeout_ms INTEGER NOT NULL,
  phase TEXT NOT NULL,
  verdict TEXT,
  stopping TEXT,
  message TEXT NOT NULL DEFAULT '',
  created_at INTEGER NOT NULL,
  started_at INTEGER,
  ended_at INTEGER
) STRICT;
CREATE INDEX run_by_job ON run (job_id, id);
CREATE INDEX run_active ON run (job_id, id) WHERE phase <> 'ended';
CREATE INDEX run_by_creator ON run (creator_id, id);
CREATE INDEX run_by_end ON run (ended_at);
CREATE INDEX run_by_parent ON run (parent_attempt) WHERE parent_attempt IS NOT NULL;

CREATE TABLE attempt (
  -- What clients call the task's run_id.
  id INTEGER PRIMARY KEY,
  run_id INTEGER NOT NULL REFERENCES run (id) ON DELETE CASCADE,
  task INTEGER NOT NULL,
  task_key TEXT NOT NULL,
  attempt INTEGER NOT NULL,
  -- Shares the slot of the attempt that started its run, so it takes none of its own.
  nested INTEGER NOT NULL,
  phase TEXT NOT NULL,
  verdict TEXT,
  code TEXT,
  message TEXT NOT NULL DEFAULT '',
  error TEXT,
  trace TEXT,
  exit_value TEXT,
  cluster_id TEXT,
  created_at INTEGER NOT NULL,
  due_at INTEGER,
  started_at INTEGER,
  executed_at INTEGER,
  ended_at INTEGER,
  -- What the operating system counted, and what exactly ran: JSON, null while it runs.
  facts TEXT,
  UNIQUE (run_id, task, attempt)
) STRICT;
CREATE INDEX attempt_waiting ON attempt (id) WHERE phase IN ('pending', 'waiting_for_retry');
CREATE INDEX attempt_live ON attempt (id) WHERE phase IN ('running', 'terminating');

-- Everything that happened to a run, in order; the rows above can be rebuilt from it.
CREATE TABLE run_event (
  run_id INTEGER NOT NULL REFERENCES run (id) ON DELETE CASCADE,
  seq INTEGER NOT NULL,
  at INTEGER NOT NULL,
  event TEXT NOT NULL,
  PRIMARY KEY (run_id, seq)
) STRICT, WITHOUT ROWID;

CREATE TABLE task_value (
  run_id INTEGER NOT NULL REFERENCES run (id) ON DELETE CASCADE,
  task_key TEXT NOT NULL,
  key TEXT NOT NULL,
  value TEXT NOT NULL,
  PRIMARY KEY (run_id, task_key, key)
) STRICT, WITHOUT ROWID;
