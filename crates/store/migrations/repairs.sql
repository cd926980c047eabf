-- Each time an ended run did some of its tasks again.
CREATE TABLE repair (
  id INTEGER PRIMARY KEY,
  run_id INTEGER NOT NULL REFERENCES run (id) ON DELETE CASCADE,
  created_at INTEGER NOT NULL,
  -- How the run had ended before, which its own row forgets.
  verdict_before TEXT NOT NULL,
  message_before TEXT NOT NULL,
  ended_before INTEGER NOT NULL
) STRICT;
CREATE INDEX repair_by_run ON repair (run_id, id);

-- The first attempt of each task in a repair: its retries are counted from there.
CREATE TABLE repair_attempt (
  run_id INTEGER NOT NULL REFERENCES run (id) ON DELETE CASCADE,
  repair_id INTEGER NOT NULL,
  task INTEGER NOT NULL,
  attempt INTEGER NOT NULL,
  PRIMARY KEY (run_id, repair_id, task)
) STRICT, WITHOUT ROWID;
