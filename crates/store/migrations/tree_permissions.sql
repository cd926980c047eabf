-- Grants go with what they were given on, whichever way it goes.
CREATE TRIGGER object_grants_go AFTER DELETE ON object BEGIN
  DELETE FROM permission
  WHERE kind IN ('directories', 'notebooks', 'files', 'repos') AND object_id = CAST(OLD.id AS TEXT);
END;
-- A submitted run carries its grants itself, as if it were its own job.
CREATE TRIGGER run_grants_go AFTER DELETE ON run WHEN OLD.job_id IS NULL BEGIN
  DELETE FROM permission WHERE kind = 'jobs' AND object_id = CAST(OLD.id AS TEXT);
END;
