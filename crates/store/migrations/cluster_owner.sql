-- For whom a cluster of source 'JOB' was made: a run, under the name that its tasks share the cluster
-- by, or an attempt that has it for itself, under the name ''. It ends with its owner.
ALTER TABLE cluster ADD COLUMN owner INTEGER;
ALTER TABLE cluster ADD COLUMN owner_key TEXT;
CREATE UNIQUE INDEX cluster_by_owner ON cluster (owner, owner_key) WHERE owner IS NOT NULL;
