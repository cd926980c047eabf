-- Where notifications can go. The configuration is sealed with the workspace's key file, since
-- addresses of chat services are secrets.
CREATE TABLE notification_destination (
  id TEXT PRIMARY KEY,
  display_name TEXT NOT NULL,
  kind TEXT NOT NULL,
  sealed BLOB NOT NULL,
  created_at INTEGER NOT NULL
) STRICT, WITHOUT ROWID;

-- What is to be told, and how that went: written in the transaction of what it tells of.
CREATE TABLE notification (
  -- The receiver sees the same id at each try.
  id TEXT PRIMARY KEY,
  run_id INTEGER NOT NULL REFERENCES run (id) ON DELETE CASCADE,
  -- Set when it is about a task.
  attempt_id INTEGER,
  -- 'on_start' and so on.
  moment TEXT NOT NULL,
  -- One of the two: a destination's id, or an address.
  destination TEXT,
  mail TEXT,
  -- What was so then, as JSON.
  facts TEXT NOT NULL,
  created_at INTEGER NOT NULL,
  -- 'due', 'delivered' or 'given_up'
  state TEXT NOT NULL,
  tries INTEGER NOT NULL DEFAULT 0,
  due_at INTEGER NOT NULL,
  tried_at INTEGER,
  error TEXT
) STRICT, WITHOUT ROWID;
CREATE INDEX notification_due ON notification (due_at) WHERE state = 'due';
CREATE INDEX notification_by_run ON notification (run_id);
