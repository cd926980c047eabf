-- Git folders of the workspace tree. The id is the object id of the root folder.
CREATE TABLE repo (
  id INTEGER PRIMARY KEY,
  path TEXT NOT NULL UNIQUE,
  url TEXT NOT NULL,
  provider TEXT NOT NULL,
  -- A JSON list of folders, for a sparse checkout.
  sparse TEXT,
  creator_id INTEGER NOT NULL,
  -- 0 while the clone is under way; a start that finds such a row finishes or removes it.
  ready INTEGER NOT NULL,
  -- Of the root folder when it was made: tells whether it had reached its place.
  inode INTEGER NOT NULL
) STRICT;

-- The token is sealed with the workspace's key file.
CREATE TABLE git_credential (
  id INTEGER PRIMARY KEY,
  user_id INTEGER NOT NULL REFERENCES user (id) ON DELETE CASCADE,
  provider TEXT NOT NULL,
  name TEXT,
  username TEXT,
  email TEXT,
  sealed BLOB NOT NULL,
  UNIQUE (user_id, provider)
) STRICT;
