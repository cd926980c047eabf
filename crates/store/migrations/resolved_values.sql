-- The parameters of an attempt after its references were filled in: JSON, as clients read it.
CREATE TABLE attempt_resolved (
  attempt_id INTEGER PRIMARY KEY REFERENCES attempt (id) ON DELETE CASCADE,
  resolved TEXT NOT NULL
) STRICT;
