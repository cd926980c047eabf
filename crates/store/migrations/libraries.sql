-- Libraries of the workspace. Where one is in the tree, its object says; its content lies in the
-- folder of libraries by its digest, and never changes.
CREATE TABLE library (
  -- Of its object.
  id INTEGER PRIMARY KEY,
  -- 'java-jar', 'python-egg' or 'python-whl'
  kind TEXT NOT NULL,
  -- The name of its file in dbfs:/FileStore/jars
  file TEXT NOT NULL UNIQUE,
  -- SHA-256
  digest TEXT NOT NULL,
  size_bytes INTEGER NOT NULL,
  creator TEXT NOT NULL,
  user_id INTEGER NOT NULL,
  created_at INTEGER NOT NULL,
  -- Comes with every cluster.
  for_all INTEGER NOT NULL DEFAULT 0
) STRICT;
