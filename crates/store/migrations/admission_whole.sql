-- Whether a run has all tasks of its job: others are one only with such a run.
ALTER TABLE run_admission ADD COLUMN whole INTEGER NOT NULL DEFAULT 1;
