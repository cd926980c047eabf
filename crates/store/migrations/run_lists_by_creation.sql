-- Lists of runs are in the order of creation, so that one of a span of time begins where the span
-- ends: each list has an index that is in this order. The id, which every index has at its end,
-- decides between runs of the same millisecond. run_by_job stays as it is: retention and the storm
-- brake walk over the ids of a job.
DROP INDEX run_by_creation;
DROP INDEX run_by_creator;
DROP INDEX run_by_kind;
DROP INDEX run_failed;
DROP INDEX run_active;
DROP INDEX run_active_id;
DROP INDEX run_ended_id;
-- The kind and the job tell who may see a run in which list without a look at the run itself.
CREATE INDEX run_by_creation ON run (created_at, id, kind, job_id);
CREATE INDEX run_by_creator ON run (creator_id, created_at);
CREATE INDEX run_by_kind ON run (kind, created_at);
CREATE INDEX run_by_job_creation ON run (job_id, created_at);
CREATE INDEX run_failed ON run (created_at)
  WHERE verdict IN ('failed', 'timed_out', 'internal_error');
CREATE INDEX run_failed_by_job ON run (job_id, created_at)
  WHERE verdict IN ('failed', 'timed_out', 'internal_error');
CREATE INDEX run_active ON run (created_at) WHERE phase <> 'ended';
CREATE INDEX run_active_by_job ON run (job_id, created_at) WHERE phase <> 'ended';
CREATE INDEX run_ended ON run (created_at) WHERE phase = 'ended';
