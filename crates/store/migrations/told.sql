-- What people are told: who asked for a repair (empty for those of before), and which triggers a
-- brake paused.
ALTER TABLE repair ADD COLUMN creator_name TEXT NOT NULL DEFAULT '';
CREATE INDEX trigger_braked ON trigger (job_id) WHERE brake IS NOT NULL;
