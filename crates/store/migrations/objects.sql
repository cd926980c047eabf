-- The ids of the workspace tree. The files themselves say what exists; a row is made when an
-- object is first shown, and goes when the API deletes the object.
CREATE TABLE object (
  path TEXT PRIMARY KEY,
  id INTEGER NOT NULL UNIQUE,
  created_at INTEGER NOT NULL
) STRICT, WITHOUT ROWID;
