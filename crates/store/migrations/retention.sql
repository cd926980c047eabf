-- Runs that retention leaves alone.
CREATE TABLE run_pin (
  run_id INTEGER PRIMARY KEY REFERENCES run (id) ON DELETE CASCADE,
  by_name TEXT NOT NULL,
  at INTEGER NOT NULL
) STRICT;

-- Runs that stay while what they put out has gone.
CREATE TABLE run_output_gone (
  run_id INTEGER PRIMARY KEY REFERENCES run (id) ON DELETE CASCADE,
  at INTEGER NOT NULL
) STRICT;

-- Attempts whose files are to be deleted: a row comes in the transaction that decides it and goes
-- when the files have gone.
CREATE TABLE attempt_trash (attempt_id INTEGER PRIMARY KEY) STRICT;
