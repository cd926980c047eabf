-- A deleted user keeps the row, because objects and history name it; the name may come back.
ALTER TABLE user ADD COLUMN deleted_at INTEGER;

-- Direct grants only. An object's creator has a row from the transaction that made the object.
CREATE TABLE permission (
  kind TEXT NOT NULL,
  object_id TEXT NOT NULL,
  -- 'user' or 'group'
  principal_kind TEXT NOT NULL,
  principal TEXT NOT NULL COLLATE NOCASE,
  level TEXT NOT NULL,
  PRIMARY KEY (kind, object_id, principal_kind, principal)
) STRICT, WITHOUT ROWID;
CREATE INDEX permission_by_principal ON permission (kind, principal_kind, principal);

CREATE TABLE cluster (
  id TEXT PRIMARY KEY,
  -- What the caller sent, as JSON, with the fields we do not know.
  settings TEXT NOT NULL,
  settings_version INTEGER NOT NULL,
  creator TEXT NOT NULL,
  -- 'API' or 'JOB'
  source TEXT NOT NULL,
  state TEXT NOT NULL,
  state_message TEXT NOT NULL,
  -- Counts every change of state and settings: background work writes only what it has read.
  version INTEGER NOT NULL,
  pinned INTEGER NOT NULL DEFAULT 0,
  created_at INTEGER NOT NULL,
  started_at INTEGER,
  restarted_at INTEGER,
  terminated_at INTEGER,
  last_used_at INTEGER NOT NULL,
  -- JSON of the wire's termination_reason.
  termination TEXT,
  -- Of the create call, to answer a repeated one with the same cluster.
  idempotency_token TEXT UNIQUE
) STRICT, WITHOUT ROWID;
CREATE INDEX cluster_by_state ON cluster (state);

CREATE TABLE cluster_event (
  id INTEGER PRIMARY KEY,
  cluster_id TEXT NOT NULL REFERENCES cluster (id) ON DELETE CASCADE,
  at INTEGER NOT NULL,
  type TEXT NOT NULL,
  details TEXT NOT NULL
) STRICT;
CREATE INDEX cluster_event_by_cluster ON cluster_event (cluster_id, at, id);
