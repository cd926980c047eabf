-- Lists of runs stay quick with a million of them in history: each has an index that is in its
-- order, or small.
CREATE INDEX run_active_id ON run (id) WHERE phase <> 'ended';
CREATE INDEX run_ended_id ON run (id) WHERE phase = 'ended';
CREATE INDEX run_failed ON run (id) WHERE verdict IN ('failed', 'timed_out', 'internal_error');
CREATE INDEX run_by_kind ON run (kind, id);
CREATE INDEX run_by_creation ON run (created_at, kind);
