-- What is to be on a cluster. Runs take what is here, but for what failed.
CREATE TABLE cluster_library (
  cluster_id TEXT NOT NULL REFERENCES cluster (id) ON DELETE CASCADE,
  -- What was asked for, as JSON with sorted keys: two that say the same are one.
  library TEXT NOT NULL,
  -- In this order they are installed.
  position INTEGER NOT NULL,
  -- The wire's name, such as 'INSTALLED'
  state TEXT NOT NULL,
  -- JSON list of texts, such as the installer's log.
  messages TEXT NOT NULL DEFAULT '[]',
  -- SHA-256 of the file it names, as it was when it was installed: runs get these bytes.
  digest TEXT,
  -- Who asked for it: a file is read with their rights.
  user_id INTEGER NOT NULL,
  -- Comes with every cluster.
  for_all INTEGER NOT NULL DEFAULT 0,
  -- Counts changes: background work writes only what it has read.
  version INTEGER NOT NULL DEFAULT 0,
  PRIMARY KEY (cluster_id, library)
) STRICT, WITHOUT ROWID;
