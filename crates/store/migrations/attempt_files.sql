-- The files among the libraries of attempts, by the SHA-256 of their content: that is kept as long as
-- what the attempt put out.
CREATE TABLE attempt_file (
  attempt_id INTEGER NOT NULL REFERENCES attempt (id) ON DELETE CASCADE,
  digest TEXT NOT NULL,
  PRIMARY KEY (attempt_id, digest)
) STRICT, WITHOUT ROWID;
CREATE INDEX attempt_file_by_digest ON attempt_file (digest);
