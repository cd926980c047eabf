-- A list is made of walks, each over runs of one kind: iterations and contexts, of which there may be a
-- million, are in hardly any list, and a user may have many runs of one kind and none of another.
DROP INDEX run_by_creation;
DROP INDEX run_by_creator;
DROP INDEX run_failed;
DROP INDEX run_active;
DROP INDEX run_ended;
CREATE INDEX run_by_creator ON run (creator_id, kind, created_at);
CREATE INDEX run_by_job_creator ON run (job_id, creator_id, created_at);
CREATE INDEX run_failed ON run (kind, created_at)
  WHERE verdict IN ('failed', 'timed_out', 'internal_error');
CREATE INDEX run_failed_by_creator ON run (creator_id, kind, created_at)
  WHERE verdict IN ('failed', 'timed_out', 'internal_error');
-- Active runs are few: kind and creator only spare a look at the run itself.
CREATE INDEX run_active ON run (created_at, id, kind, creator_id) WHERE phase <> 'ended';
CREATE INDEX run_ended ON run (kind, created_at) WHERE phase = 'ended';
