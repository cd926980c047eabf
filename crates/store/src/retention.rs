//! Which runs might go, and their going: rows in one transaction, with a note of the files that
//! have to follow.

use std::collections::BTreeMap;

use forebay_engine::{KeepRules, KeptRun};
use forebay_types::{JobId, Millis, Result, RunId};
use rusqlite::{OptionalExtension, Row, Transaction, params};

use crate::connection::sql;
use crate::runs::{missing_run, run_get_on};
use crate::store::Store;

/// The rules of a workspace, and of the jobs that have their own.
#[derive(Debug, Clone, Default)]
pub struct RetentionRules {
    pub workspace: KeepRules,
    pub jobs: BTreeMap<JobId, KeepRules>,
}

impl RetentionRules {
    #[must_use]
    pub fn of(&self, job: Option<JobId>) -> &KeepRules {
        let own = job.and_then(|job| self.jobs.get(&job));
        own.unwrap_or(&self.workspace)
    }
}

/// A run that might go, with what the decision needs.
#[derive(Debug, Clone)]
pub struct Candidate {
    pub id: RunId,
    pub job_id: Option<JobId>,
    pub name: String,
    pub facts: KeptRun,
}

/// A run goes with its parts: the iterations of its for-eaches, and what its notebooks started. A
/// run of another job is no part; it goes by the rules of that job.
const IS_PART: &str = "run.kind IN ('ITERATION', 'WORKFLOW_RUN')
    AND EXISTS (SELECT 1 FROM attempt WHERE id = run.parent_attempt)";

/// The run `?1` and its parts, down to the last.
const TREE: &str = "WITH RECURSIVE tree (id) AS (
    SELECT ?1 UNION ALL SELECT run.id FROM tree JOIN attempt ON attempt.run_id = tree.id
      JOIN run ON run.parent_attempt = attempt.id
    WHERE run.kind IN ('ITERATION', 'WORKFLOW_RUN'))";

/// Runs that are pinned, and those that have a pinned part.
const PINNED: &str = "WITH RECURSIVE pinned (id) AS (
    SELECT run_id FROM run_pin UNION SELECT attempt.run_id FROM pinned
      JOIN run ON run.id = pinned.id JOIN attempt ON attempt.id = run.parent_attempt
    WHERE run.kind IN ('ITERATION', 'WORKFLOW_RUN'))
  SELECT id FROM pinned";

fn columns() -> String {
    format!(
        "run.id, run.job_id, run.name, run.ended_at, run.id IN ({PINNED}),
         run.parent_attempt IS NOT NULL
           AND EXISTS (SELECT 1 FROM attempt WHERE id = run.parent_attempt),
         NOT EXISTS (SELECT 1 FROM run_output_gone WHERE run_id = run.id AND at >= run.ended_at)"
    )
}

fn candidate(row: &Row<'_>, newer: Option<u64>) -> rusqlite::Result<Candidate> {
    Ok(Candidate {
        id: RunId(row.get(0)?),
        job_id: row.get::<_, Option<i64>>(1)?.map(JobId),
        name: row.get(2)?,
        facts: KeptRun {
            ended_at: row.get::<_, Option<i64>>(3)?.map(Millis),
            pinned: row.get(4)?,
            needed: row.get(5)?,
            has_output: row.get(6)?,
            newer,
        },
    })
}

impl Store {
    /// Ended runs of `job`, or of all, oldest end first, that ended before `before` and come after
    /// the place `after` (end and id of the last one seen); at most `limit`.
    ///
    /// # Errors
    /// When the database refuses.
    pub async fn retention_by_age(
        &self,
        job: Option<JobId>,
        after: (Millis, RunId),
        before: Millis,
        limit: usize,
    ) -> Result<Vec<Candidate>> {
        self.read(move |conn| {
            // A condition that always holds would keep the other index from being used.
            let of_job = match job {
                Some(job) => format!("run.job_id = {job} AND"),
                None => String::new(),
            };
            conn.prepare_cached(&format!(
                "SELECT {} FROM run
                     WHERE {of_job} run.ended_at < ?3 AND (run.ended_at, run.id) > (?1, ?2)
                       AND NOT ({IS_PART})
                     ORDER BY run.ended_at, run.id LIMIT ?4",
                columns()
            ))
            .and_then(|mut statement| {
                let bounds = params![after.0.0, after.1.0, before.0, limit];
                statement
                    .query_map(bounds, |row| candidate(row, None))?
                    .collect()
            })
            .map_err(|e| sql("look for old runs", e))
        })
        .await
    }

    /// Jobs with more runs than `runs_max`, where a job's own rule goes before the workspace's.
    ///
    /// # Errors
    /// When the database refuses.
    pub async fn retention_crowded(&self, rules: RetentionRules) -> Result<Vec<JobId>> {
        self.read(move |conn| {
            let counts: Vec<(JobId, u64)> = conn
                .prepare_cached(
                    "SELECT job_id, count(*) FROM run WHERE job_id IS NOT NULL GROUP BY job_id",
                )
                .and_then(|mut statement| {
                    statement
                        .query_map([], |row| Ok((JobId(row.get(0)?), row.get(1)?)))?
                        .collect()
                })
                .map_err(|e| sql("count the runs of jobs", e))?;
            let crowded = counts.into_iter().filter(|(job, count)| {
                let max = rules.of(Some(*job)).runs_max;
                max.is_some_and(|max| *count > max)
            });
            Ok(crowded.map(|(job, _)| job).collect())
        })
        .await
    }

    /// The ended runs of `job` beyond its newest `kept`, newest first, below the id `before`; at
    /// most `limit`.
    ///
    /// # Errors
    /// When the database refuses.
    pub async fn retention_by_count(
        &self,
        job: JobId,
        kept: u64,
        before: RunId,
        limit: usize,
    ) -> Result<Vec<Candidate>> {
        self.read(move |conn| {
            let last_kept: Option<i64> = match kept.checked_sub(1) {
                None => Some(i64::MAX),
                Some(skipped) => conn
                    .prepare_cached(
                        "SELECT id FROM run WHERE job_id = ?1 AND phase = 'ended'
                         ORDER BY id DESC LIMIT 1 OFFSET ?2",
                    )
                    .and_then(|mut statement| {
                        let bounds = params![job.0, i64::try_from(skipped).unwrap_or(i64::MAX)];
                        statement.query_row(bounds, |row| row.get(0)).optional()
                    })
                    .map_err(|e| sql("look for the newest runs of a job", e))?,
            };
            let Some(last_kept) = last_kept else {
                return Ok(Vec::new());
            };
            conn.prepare_cached(&format!(
                "SELECT {} FROM run
                     WHERE run.job_id = ?1 AND run.phase = 'ended' AND run.id < ?2
                     ORDER BY run.id DESC LIMIT ?3",
                columns()
            ))
            .and_then(|mut statement| {
                let bounds = params![job.0, last_kept.min(before.0), limit];
                statement
                    .query_map(bounds, |row| candidate(row, Some(kept)))?
                    .collect()
            })
            .map_err(|e| sql("look for old runs of a job", e))
        })
        .await
    }

    /// The attempts of a run and of its parts.
    ///
    /// # Errors
    /// When the database refuses.
    pub async fn retention_attempts(&self, run: RunId) -> Result<Vec<RunId>> {
        self.read(move |conn| {
            conn.prepare_cached(&format!(
                "{TREE} SELECT attempt.id FROM tree JOIN attempt ON run_id = tree.id"
            ))
            .and_then(|mut statement| {
                let ids = statement.query_map([run.0], |row| row.get(0).map(RunId))?;
                ids.collect()
            })
            .map_err(|e| sql("read the attempts of a run", e))
        })
        .await
    }

    /// Removes these runs, except those that have become active, pinned or needed since they were
    /// looked at. Their files are noted for [`Store::trash_list`], their parts for
    /// [`Store::run_purge`].
    ///
    /// # Errors
    /// When the database refuses.
    pub async fn retention_remove(&self, runs: Vec<RunId>) -> Result<usize> {
        self.write(move |tx| {
            let mut removed = 0;
            for id in runs {
                if !may_go(tx, id)? {
                    continue;
                }
                trash_run(tx, id)?;
                removed += 1;
            }
            Ok(removed)
        })
        .await
    }

    /// Removes some of the parts of runs that are gone, at most `limit`, and gives the attempts they
    /// had: their files are noted for [`Store::trash_list`]. Nothing when there are none left.
    ///
    /// # Errors
    /// When the database refuses.
    pub async fn run_purge(&self, limit: usize) -> Result<Option<Vec<RunId>>> {
        // Looked for by a reader: the writer only does what is to be done.
        let some = self.read(move |conn| {
            conn.prepare_cached("SELECT run_id FROM run_trash LIMIT ?1")
                .and_then(|mut statement| {
                    let ids = statement.query_map([limit], |row| row.get(0).map(RunId))?;
                    ids.collect::<rusqlite::Result<Vec<RunId>>>()
                })
                .map_err(|e| sql("look for parts of deleted runs", e))
        });
        let some = some.await?;
        if some.is_empty() {
            return Ok(None);
        }
        self.write(move |tx| {
            let mut attempts = Vec::new();
            for id in some {
                attempts.extend(trash_attempts(tx, id)?);
                delete_run(tx, id)?;
                tx.prepare_cached("DELETE FROM run_trash WHERE run_id = ?1")
                    .and_then(|mut statement| statement.execute([id.0]))
                    .map_err(|e| sql("forget a deleted run", e))?;
            }
            Ok(Some(attempts))
        })
        .await
    }

    /// Notes that what these runs and their parts put out goes, while they stay.
    ///
    /// # Errors
    /// When the database refuses.
    pub async fn retention_remove_output(&self, runs: Vec<RunId>, now: Millis) -> Result<usize> {
        self.write(move |tx| {
            let mut removed = 0;
            for id in runs {
                if !may_lose_output(tx, id)? {
                    continue;
                }
                // A repair puts out anew what goes anew.
                let bounds = params![id.0, now.0];
                tx.prepare_cached(&format!(
                    "{TREE} INSERT INTO run_output_gone SELECT id, ?2 FROM tree WHERE true
                     ON CONFLICT DO UPDATE SET at = excluded.at"
                ))
                .and_then(|mut statement| statement.execute(bounds))
                .and_then(|_| {
                    tx.prepare_cached(&format!(
                        "{TREE} INSERT OR IGNORE INTO attempt_trash
                         SELECT attempt.id FROM tree JOIN attempt ON run_id = tree.id"
                    ))
                })
                .and_then(|mut statement| statement.execute([id.0]))
                .and_then(|_| {
                    tx.prepare_cached(&format!(
                        "{TREE} DELETE FROM attempt_file WHERE attempt_id IN
                         (SELECT attempt.id FROM tree JOIN attempt ON run_id = tree.id)"
                    ))
                })
                .and_then(|mut statement| statement.execute([id.0]))
                .map_err(|e| sql("remove a run's output", e))?;
                removed += 1;
            }
            Ok(removed)
        })
        .await
    }

    /// Attempts whose files are to be deleted, at most `limit`, by their ids from above `after` on.
    ///
    /// # Errors
    /// When the database refuses.
    pub async fn trash_list(&self, after: RunId, limit: usize) -> Result<Vec<RunId>> {
        self.read(move |conn| {
            let query = "SELECT attempt_id FROM attempt_trash WHERE attempt_id > ?1
                 ORDER BY attempt_id LIMIT ?2";
            conn.prepare_cached(query)
                .and_then(|mut statement| {
                    statement
                        .query_map(params![after.0, limit], |row| row.get(0).map(RunId))?
                        .collect()
                })
                .map_err(|e| sql("list files to delete", e))
        })
        .await
    }

    /// Forgets attempts whose files have gone.
    ///
    /// # Errors
    /// When the database refuses.
    pub async fn trash_forget(&self, attempts: Vec<RunId>) -> Result<()> {
        self.write(move |tx| {
            for id in attempts {
                tx.prepare_cached("DELETE FROM attempt_trash WHERE attempt_id = ?1")
                    .and_then(|mut statement| statement.execute([id.0]))
                    .map_err(|e| sql("forget deleted files", e))?;
            }
            Ok(())
        })
        .await
    }

    /// Keeps a run from retention, or gives it back to it.
    ///
    /// # Errors
    /// `Run N does not exist.`
    pub async fn run_pin(&self, id: RunId, by: Option<String>, now: Millis) -> Result<()> {
        self.write(move |tx| {
            run_get_on(tx, id)?.ok_or_else(|| missing_run(id))?;
            match by {
                Some(name) => tx.execute(
                    "INSERT OR IGNORE INTO run_pin VALUES (?1, ?2, ?3)",
                    params![id.0, name, now.0],
                ),
                None => tx.execute("DELETE FROM run_pin WHERE run_id = ?1", [id.0]),
            }
            .map_err(|e| sql("pin a run", e))?;
            Ok(())
        })
        .await
    }

    /// Whether a run is pinned, and when what it had put out until then was removed.
    ///
    /// # Errors
    /// When the database refuses.
    pub async fn run_kept(&self, id: RunId) -> Result<(bool, Option<Millis>)> {
        self.read(move |conn| {
            conn.query_row(
                "SELECT EXISTS (SELECT 1 FROM run_pin WHERE run_id = ?1),
                        (SELECT at FROM run_output_gone WHERE run_id = ?1)",
                [id.0],
                |row| Ok((row.get(0)?, row.get::<_, Option<i64>>(1)?.map(Millis))),
            )
            .map_err(|e| sql("look for a pin", e))
        })
        .await
    }

    /// Lets go of the idempotency tokens of runs created before `before`, at most `limit`, and of
    /// access tokens that expired before it. Returns how many of both.
    ///
    /// # Errors
    /// When the database refuses.
    pub async fn retention_tokens(&self, before: Millis, limit: usize) -> Result<usize> {
        // Looked for by a reader: the writer only does what is to be done.
        let runs: Vec<i64> = self
            .read(move |conn| {
                conn.prepare_cached(
                    "SELECT id FROM run WHERE idempotency_token IS NOT NULL AND created_at < ?1
                     LIMIT ?2",
                )
                .and_then(|mut statement| {
                    let bounds = params![before.0, limit];
                    statement.query_map(bounds, |row| row.get(0))?.collect()
                })
                .map_err(|e| sql("look for old tokens", e))
            })
            .await?;
        self.write(move |tx| {
            let mut gone = tx
                .execute("DELETE FROM token WHERE expires_at < ?1", [before.0])
                .map_err(|e| sql("delete expired tokens", e))?;
            for table in ["coalesced_token", "deleted_run_token"] {
                gone += tx
                    .execute(
                        &format!("DELETE FROM {table} WHERE created_at < ?1"),
                        [before.0],
                    )
                    .map_err(|e| sql("let go of tokens", e))?;
            }
            for id in runs {
                gone += tx
                    .prepare_cached("UPDATE run SET idempotency_token = NULL WHERE id = ?1")
                    .and_then(|mut statement| statement.execute([id]))
                    .map_err(|e| sql("let go of a token", e))?;
            }
            Ok(gone)
        })
        .await
    }
}

fn may_go(tx: &Transaction<'_>, id: RunId) -> Result<bool> {
    let kept = tx
        .prepare_cached(&format!(
            "SELECT run.id IN ({PINNED})
               OR EXISTS (SELECT 1 FROM attempt WHERE id = run.parent_attempt)
             FROM run WHERE id = ?1"
        ))
        .and_then(|mut statement| statement.query_row([id.0], |row| row.get(0)).optional())
        .map_err(|e| sql("look at a run once more", e))?;
    Ok(kept == Some(false) && active_in(tx, id)?.is_none())
}

/// Whether it has ended for longer than anybody asked for what it put out.
fn may_lose_output(tx: &Transaction<'_>, id: RunId) -> Result<bool> {
    let kept = tx
        .prepare_cached(&format!(
            "SELECT run.id IN ({PINNED}) OR EXISTS (SELECT 1 FROM run_output_gone
               WHERE run_id = run.id AND at >= run.ended_at)
             FROM run WHERE id = ?1"
        ))
        .and_then(|mut statement| statement.query_row([id.0], |row| row.get(0)).optional())
        .map_err(|e| sql("look at a run once more", e))?;
    Ok(kept == Some(false) && active_in(tx, id)?.is_none())
}

/// One of the run and its parts that has not ended.
pub(crate) fn active_in(tx: &Transaction<'_>, id: RunId) -> Result<Option<RunId>> {
    tx.prepare_cached(&format!(
        "{TREE} SELECT run.id FROM tree JOIN run ON run.id = tree.id
         WHERE run.phase <> 'ended' LIMIT 1"
    ))
    .and_then(|mut statement| statement.query_row([id.0], |row| row.get(0)).optional())
    .map(|id| id.map(RunId))
    .map_err(|e| sql("look at the parts of a run", e))
}

/// Deletes an ended run with a note of its files, and notes its parts, of which there may be
/// thousands, for [`Store::run_purge`]. Gives the attempts of the run itself.
pub(crate) fn trash_run(tx: &Transaction<'_>, id: RunId) -> Result<Vec<RunId>> {
    tx.prepare_cached(&format!(
        "{TREE} INSERT OR IGNORE INTO run_trash SELECT id FROM tree WHERE id <> ?1"
    ))
    .and_then(|mut statement| statement.execute([id.0]))
    .map_err(|e| sql("note the parts of a run", e))?;
    tx.prepare_cached(
        "INSERT OR IGNORE INTO deleted_run_token
         SELECT idempotency_token, id, created_at FROM run
           WHERE id = ?1 AND idempotency_token IS NOT NULL
         UNION ALL SELECT token, run_id, created_at FROM coalesced_token WHERE run_id = ?1",
    )
    .and_then(|mut statement| statement.execute([id.0]))
    .map_err(|e| sql("note the tokens of a run", e))?;
    let attempts = trash_attempts(tx, id)?;
    delete_run(tx, id)?;
    Ok(attempts)
}

/// Notes the files of a run for deletion.
fn trash_attempts(tx: &Transaction<'_>, run: RunId) -> Result<Vec<RunId>> {
    tx.prepare_cached(
        "INSERT INTO attempt_trash SELECT id FROM attempt WHERE run_id = ?1
         ON CONFLICT DO UPDATE SET attempt_id = excluded.attempt_id RETURNING attempt_id",
    )
    .and_then(|mut statement| {
        let ids = statement.query_map([run.0], |row| row.get(0).map(RunId))?;
        ids.collect()
    })
    .map_err(|e| sql("note files to delete", e))
}

fn delete_run(tx: &Transaction<'_>, id: RunId) -> Result<usize> {
    tx.prepare_cached("DELETE FROM run WHERE id = ?1")
        .and_then(|mut statement| statement.execute([id.0]))
        .map_err(|e| sql("remove a run", e))
}
