-- The commit that a run's Git source was found at: all its tasks, retries and repairs use it.
CREATE TABLE run_checkout (
  run_id INTEGER PRIMARY KEY REFERENCES run (id) ON DELETE CASCADE,
  used_commit TEXT NOT NULL
) STRICT;
