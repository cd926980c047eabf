-- What admission needs to know of a run, fixed when the run was created. The stage follows the
-- run's phase by trigger, so that whoever moves a run cannot forget it.
CREATE TABLE run_admission (
  run_id INTEGER PRIMARY KEY REFERENCES run (id) ON DELETE CASCADE,
  -- 0 for a run without a job.
  job_id INTEGER NOT NULL,
  -- Who shares slots with whom: a key, a job or a user.
  tenant TEXT NOT NULL,
  weight INTEGER NOT NULL,
  -- Creation time less what the priority is worth: the smallest goes first.
  rank INTEGER NOT NULL,
  -- Empty for none.
  key TEXT NOT NULL,
  key_max INTEGER NOT NULL,
  -- queued (its job or key is full), admitted (nothing of it has started), started, ended
  stage TEXT NOT NULL
) STRICT;
CREATE INDEX admission_queued ON run_admission (job_id, key, rank, run_id) WHERE stage = 'queued';
CREATE INDEX admission_queued_key ON run_admission (key, job_id, rank, run_id)
  WHERE stage = 'queued' AND key <> '';
CREATE INDEX admission_oldest ON run_admission (run_id) WHERE stage = 'queued';
CREATE INDEX admission_active ON run_admission (job_id)
  WHERE stage IN ('admitted', 'started') AND job_id > 0;
CREATE INDEX admission_active_key ON run_admission (key)
  WHERE stage IN ('admitted', 'started') AND key <> '';
CREATE INDEX admission_waiting ON run_admission (job_id, key, run_id)
  WHERE stage IN ('queued', 'admitted') AND job_id > 0;
CREATE INDEX admission_waiting_key ON run_admission (key, run_id)
  WHERE stage IN ('queued', 'admitted') AND key <> '';

CREATE TRIGGER run_admission_stage AFTER UPDATE OF phase ON run WHEN NEW.phase <> OLD.phase
BEGIN
  UPDATE run_admission SET stage = CASE
      WHEN NEW.phase IN ('queued', 'ended') THEN NEW.phase
      WHEN stage = 'queued' THEN 'admitted'
      WHEN stage = 'ended' THEN 'started'
      ELSE stage
    END
  WHERE run_id = NEW.id;
END;

-- Jobs and keys in which a run ended while others queue: where the dispatcher looks for whom to
-- admit. A row stays until nobody can be admitted through it, so no end is forgotten by a crash.
CREATE TABLE room_freed (
  job_id INTEGER NOT NULL,
  key TEXT NOT NULL,
  -- Keys of the job up to here were looked at.
  after TEXT NOT NULL DEFAULT '',
  PRIMARY KEY (job_id, key)
) STRICT, WITHOUT ROWID;
CREATE TRIGGER run_admission_free AFTER UPDATE OF stage ON run_admission
WHEN NEW.stage = 'ended' AND OLD.stage <> 'ended' AND (
  EXISTS (SELECT 1 FROM run_admission WHERE stage = 'queued' AND job_id = NEW.job_id AND NEW.job_id > 0)
  OR EXISTS (SELECT 1 FROM run_admission WHERE stage = 'queued' AND key <> '' AND key = NEW.key))
BEGIN
  INSERT OR REPLACE INTO room_freed (job_id, key) VALUES (NEW.job_id, NEW.key);
END;

-- The attempts that wait for a slot or hold one. It follows the attempts by trigger; one that
-- shares the slot of its parent, or needs none, is not in it.
CREATE TABLE line (
  attempt_id INTEGER PRIMARY KEY REFERENCES attempt (id) ON DELETE CASCADE,
  tenant TEXT NOT NULL,
  weight INTEGER NOT NULL,
  rank INTEGER NOT NULL,
  due_at INTEGER,
  -- due (waits for its time), waiting (for a slot), live (has one)
  state TEXT NOT NULL
) STRICT;
CREATE INDEX line_waiting ON line (tenant, rank, attempt_id) WHERE state = 'waiting';
CREATE INDEX line_eldest ON line (rank, attempt_id) WHERE state = 'waiting';
CREATE INDEX line_due ON line (due_at) WHERE state = 'due';
CREATE INDEX line_live ON line (tenant) WHERE state = 'live';

CREATE TRIGGER line_insert AFTER INSERT ON attempt
WHEN NEW.takes_slot AND NOT NEW.nested AND NEW.phase IN ('pending', 'waiting_for_retry', 'running', 'terminating')
BEGIN
  INSERT OR REPLACE INTO line
  SELECT NEW.id, coalesce(tenant, 'user:' || creator_id), coalesce(weight, 1),
    coalesce(rank, run.created_at), NEW.due_at,
    CASE WHEN NEW.phase IN ('running', 'terminating') THEN 'live'
         WHEN NEW.due_at IS NULL THEN 'waiting' ELSE 'due' END
  FROM run LEFT JOIN run_admission ON run_id = run.id WHERE run.id = NEW.run_id;
END;
CREATE TRIGGER line_update AFTER UPDATE OF phase ON attempt
WHEN NEW.takes_slot AND NOT NEW.nested AND NEW.phase IN ('pending', 'waiting_for_retry', 'running', 'terminating')
BEGIN
  INSERT OR REPLACE INTO line
  SELECT NEW.id, coalesce(tenant, 'user:' || creator_id), coalesce(weight, 1),
    coalesce(rank, run.created_at), NEW.due_at,
    CASE WHEN NEW.phase IN ('running', 'terminating') THEN 'live'
         WHEN NEW.due_at IS NULL THEN 'waiting' ELSE 'due' END
  FROM run LEFT JOIN run_admission ON run_id = run.id WHERE run.id = NEW.run_id;
END;
CREATE TRIGGER line_leave AFTER UPDATE OF phase ON attempt
WHEN NEW.phase NOT IN ('pending', 'waiting_for_retry', 'running', 'terminating')
BEGIN
  DELETE FROM line WHERE attempt_id = NEW.id;
END;
CREATE TRIGGER run_admission_start AFTER UPDATE OF phase ON attempt WHEN NEW.phase = 'running'
BEGIN
  UPDATE run_admission SET stage = 'started' WHERE run_id = NEW.run_id AND stage = 'admitted';
END;

-- What an older program left under way.
INSERT INTO run_admission
SELECT id, coalesce(job_id, 0), CASE WHEN job_id IS NULL THEN 'user:' || creator_id ELSE 'job:' || job_id END,
  1, created_at, '', 0, CASE WHEN phase = 'queued' THEN 'queued' ELSE 'started' END
FROM run WHERE phase <> 'ended';
INSERT INTO room_freed (job_id, key)
SELECT DISTINCT job_id, key FROM run_admission WHERE stage = 'queued';
INSERT INTO line
SELECT attempt.id, tenant, weight, rank, due_at,
  CASE WHEN phase IN ('running', 'terminating') THEN 'live'
       WHEN due_at IS NULL THEN 'waiting' ELSE 'due' END
FROM attempt JOIN run_admission USING (run_id)
WHERE takes_slot AND NOT nested AND phase IN ('pending', 'waiting_for_retry', 'running', 'terminating');

-- Only the line of each list is looked at: rows of active runs are few beside those of the past.
DROP INDEX attempt_waiting;
CREATE INDEX run_timeout ON run (started_at + timeout_ms)
  WHERE phase <> 'ended' AND timeout_ms > 0 AND stopping IS NULL AND started_at IS NOT NULL;
