-- Whether an attempt needs a slot. Conditions, for-each and run-job tasks need none: they are
-- given their start whatever the cap, or a run that fills the cap with waiting tasks would hang.
ALTER TABLE attempt ADD COLUMN takes_slot INTEGER NOT NULL DEFAULT 1;
CREATE INDEX attempt_waiting_without_slot ON attempt (id)
  WHERE phase IN ('pending', 'waiting_for_retry') AND NOT takes_slot;

-- The runs that an attempt without a slot waits for, planned before the first of them starts:
-- the iterations of a for-each, or the one run of a run-job.
CREATE TABLE child (
  attempt_id INTEGER NOT NULL REFERENCES attempt (id) ON DELETE CASCADE,
  -- From 0; they start in this order.
  number INTEGER NOT NULL,
  -- The element of a for-each, as JSON.
  input TEXT,
  -- Null until it is started; written in the transaction that makes the run, so a crash in
  -- between starts it neither twice nor never.
  run_id INTEGER,
  PRIMARY KEY (attempt_id, number)
) STRICT, WITHOUT ROWID;
CREATE INDEX child_unstarted ON child (attempt_id, number) WHERE run_id IS NULL;
CREATE INDEX child_by_run ON child (run_id) WHERE run_id IS NOT NULL;
CREATE INDEX run_active_by_parent ON run (parent_attempt)
  WHERE parent_attempt IS NOT NULL AND phase <> 'ended';
