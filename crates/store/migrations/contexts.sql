-- A run that takes its cells from a client, one by one. What becomes of it is in its run's row.
CREATE TABLE context (
  run_id INTEGER PRIMARY KEY REFERENCES run (id) ON DELETE CASCADE,
  cluster_id TEXT NOT NULL,
  language TEXT NOT NULL,
  -- When its program asked for a command the first time.
  ready_at INTEGER,
  -- Why it was ended, when that was not its own doing.
  reason TEXT
) STRICT;

-- Numbered from 1 in each context, which takes them in this order. How a command ended is in the
-- output of the run: its cell is the number less one.
CREATE TABLE command (
  run_id INTEGER NOT NULL REFERENCES context (run_id) ON DELETE CASCADE,
  number INTEGER NOT NULL,
  source TEXT NOT NULL,
  created_at INTEGER NOT NULL,
  taken_at INTEGER,
  -- The size of the run's output then: what the command puts out comes after it.
  output_from INTEGER NOT NULL DEFAULT 0,
  canceled_at INTEGER,
  PRIMARY KEY (run_id, number)
) STRICT;
