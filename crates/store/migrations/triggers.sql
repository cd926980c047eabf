-- When jobs run by themselves. A row says what its job's settings say, and what came of it so far.
CREATE TABLE trigger (
  job_id INTEGER NOT NULL REFERENCES job (id),
  kind TEXT NOT NULL,
  -- The settings it was made from, without their pause_status.
  spec TEXT NOT NULL,
  paused INTEGER NOT NULL,
  -- When somebody has to look at it; null when only an event can make it due.
  due_at INTEGER,
  -- What its kind remembers, as JSON.
  state TEXT NOT NULL,
  -- Counts the changes of the row: who decided on an older one decides again.
  version INTEGER NOT NULL,
  -- The job whose ends it waits for, or the topic whose events.
  watches TEXT,
  last_fired_at INTEGER,
  last_run_id INTEGER,
  error TEXT,
  -- Why it was paused by itself.
  brake TEXT,
  PRIMARY KEY (job_id, kind)
) STRICT, WITHOUT ROWID;
CREATE INDEX trigger_by_due ON trigger (due_at) WHERE paused = 0 AND due_at IS NOT NULL;
CREATE INDEX trigger_by_watched ON trigger (kind, watches) WHERE watches IS NOT NULL;

-- One row per firing, in the transaction that makes its run: the same cause fires once.
CREATE TABLE trigger_firing (
  job_id INTEGER NOT NULL,
  kind TEXT NOT NULL,
  -- The due time, the run that ended, the event: whatever it fired for.
  cause TEXT NOT NULL,
  fired_at INTEGER NOT NULL,
  run_id INTEGER,
  PRIMARY KEY (job_id, kind, cause)
) STRICT, WITHOUT ROWID;
CREATE INDEX trigger_firing_by_time ON trigger_firing (job_id, fired_at);

-- The files that a file arrival trigger knows, of which those that are waiting get a run.
CREATE TABLE trigger_file (
  job_id INTEGER NOT NULL,
  path TEXT NOT NULL,
  size_bytes INTEGER NOT NULL,
  modified_at INTEGER NOT NULL,
  changed_at INTEGER NOT NULL,
  waiting INTEGER NOT NULL,
  PRIMARY KEY (job_id, path)
) STRICT, WITHOUT ROWID;

-- Ends of runs that a job waited for and that have not fired yet.
CREATE TABLE trigger_ended_run (
  job_id INTEGER NOT NULL,
  run_id INTEGER NOT NULL,
  verdict TEXT NOT NULL,
  PRIMARY KEY (job_id, run_id)
) STRICT, WITHOUT ROWID;

-- Events as they came in, and for which jobs they have not been turned into runs yet.
CREATE TABLE event (
  id INTEGER PRIMARY KEY,
  topic TEXT NOT NULL,
  key TEXT,
  body TEXT NOT NULL,
  idempotency_key TEXT UNIQUE,
  sender TEXT NOT NULL,
  received_at INTEGER NOT NULL
) STRICT;
CREATE INDEX event_by_time ON event (received_at);

CREATE TABLE event_delivery (
  job_id INTEGER NOT NULL,
  event_id INTEGER NOT NULL REFERENCES event (id) ON DELETE CASCADE,
  PRIMARY KEY (job_id, event_id)
) STRICT, WITHOUT ROWID;
CREATE INDEX event_delivery_by_event ON event_delivery (event_id);
