-- What attempts used, summed by day (since the epoch, UTC), job (0: none) and user. The sums are
-- made in the transaction that ends an attempt, and stay when the runs go.
CREATE TABLE usage_day (
  day INTEGER NOT NULL,
  job_id INTEGER NOT NULL,
  user_name TEXT NOT NULL,
  attempts INTEGER NOT NULL,
  wall_ms INTEGER NOT NULL,
  cpu_ms INTEGER NOT NULL,
  read_bytes INTEGER NOT NULL,
  write_bytes INTEGER NOT NULL,
  -- The largest of any attempt.
  memory_peak_bytes INTEGER NOT NULL,
  -- Attempts for which the host did not tell; their use is not in the sums.
  cpu_unknown INTEGER NOT NULL,
  bytes_unknown INTEGER NOT NULL,
  PRIMARY KEY (day, job_id, user_name)
) STRICT, WITHOUT ROWID;
