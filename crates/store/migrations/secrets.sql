CREATE TABLE secret_scope (
  id INTEGER PRIMARY KEY,
  name TEXT NOT NULL UNIQUE COLLATE NOCASE
) STRICT;

-- Values are sealed with the workspace's key file before they come here.
CREATE TABLE secret (
  scope_id INTEGER NOT NULL REFERENCES secret_scope (id) ON DELETE CASCADE,
  key TEXT NOT NULL COLLATE NOCASE,
  sealed BLOB NOT NULL,
  updated_at INTEGER NOT NULL,
  PRIMARY KEY (scope_id, key)
) STRICT, WITHOUT ROWID;

-- The principal is a user's name or a group's.
CREATE TABLE secret_acl (
  scope_id INTEGER NOT NULL REFERENCES secret_scope (id) ON DELETE CASCADE,
  principal TEXT NOT NULL COLLATE NOCASE,
  permission TEXT NOT NULL,
  PRIMARY KEY (scope_id, principal)
) STRICT, WITHOUT ROWID;
