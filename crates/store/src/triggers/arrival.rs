use forebay_types::{JobId, Millis, Result};
use rusqlite::{Transaction, params};

use super::{Trigger, moved};
use crate::connection::sql;
use crate::store::Store;

/// A file that a file arrival trigger has seen.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct KnownFile {
    /// Below the trigger's folder.
    pub path: String,
    pub size_bytes: i64,
    pub modified_at: Millis,
    /// When it was first seen, or seen to have changed while it waited.
    pub changed_at: Millis,
    /// Whether no run was made for it yet.
    pub waiting: bool,
}

impl KnownFile {
    pub(super) fn insert(
        &self,
        tx: &Transaction<'_>,
        job: JobId,
        now: Millis,
        waiting: bool,
    ) -> Result<()> {
        tx.prepare_cached(
            "INSERT INTO trigger_file (job_id, path, size_bytes, modified_at, changed_at, waiting)
             VALUES (?1, ?2, ?3, ?4, ?5, ?6)
             ON CONFLICT DO UPDATE SET size_bytes = excluded.size_bytes,
               modified_at = excluded.modified_at, changed_at = excluded.changed_at",
        )
        .and_then(|mut statement| {
            statement.execute(params![
                job.0,
                self.path,
                self.size_bytes,
                self.modified_at.0,
                now.0,
                waiting,
            ])
        })
        .map_err(|e| sql("note a file", e))?;
        Ok(())
    }
}

/// What a look at a folder found.
#[derive(Debug, Clone, Default)]
pub struct FileChanges {
    /// Files that are new, or that changed while they wait.
    pub changed: Vec<KnownFile>,
    /// Files that are not there any more.
    pub gone: Vec<String>,
    /// Whether the files are the first ones seen: those are not new.
    pub baseline: bool,
}

impl Store {
    /// The files that a trigger knows, by path.
    ///
    /// # Errors
    /// When the database refuses.
    pub async fn trigger_files(&self, job: JobId) -> Result<Vec<KnownFile>> {
        self.read(move |conn| {
            conn.prepare_cached(
                "SELECT path, size_bytes, modified_at, changed_at, waiting FROM trigger_file
                 WHERE job_id = ?1 ORDER BY path",
            )
            .and_then(|mut statement| {
                statement
                    .query_map([job.0], |row| {
                        Ok(KnownFile {
                            path: row.get("path")?,
                            size_bytes: row.get("size_bytes")?,
                            modified_at: Millis(row.get("modified_at")?),
                            changed_at: Millis(row.get("changed_at")?),
                            waiting: row.get("waiting")?,
                        })
                    })?
                    .collect()
            })
            .map_err(|e| sql("read known files", e))
        })
        .await
    }

    /// How many files a trigger knows, and how many of them wait for a run.
    ///
    /// # Errors
    /// When the database refuses.
    pub async fn trigger_file_counts(&self, job: JobId) -> Result<(u32, u32)> {
        self.read(move |conn| {
            conn.prepare_cached(
                "SELECT count(*), coalesce(sum(waiting), 0) FROM trigger_file WHERE job_id = ?1",
            )
            .and_then(|mut statement| {
                statement.query_row([job.0], |row| Ok((row.get(0)?, row.get(1)?)))
            })
            .map_err(|e| sql("count known files", e))
        })
        .await
    }

    /// Writes down what a look at a trigger's folder found.
    ///
    /// # Errors
    /// `INVALID_STATE` when the trigger has changed since it was looked at.
    pub async fn trigger_files_note(
        &self,
        trigger: &Trigger,
        changes: FileChanges,
        now: Millis,
    ) -> Result<()> {
        let (job, kind, version) = (trigger.job_id, trigger.kind, trigger.version);
        self.write(move |tx| {
            let changed = tx
                .execute(
                    "UPDATE trigger SET version = version + 1,
                       state = iif(?4, json_set(state, '$.seen', json('true')), state)
                     WHERE job_id = ?1 AND kind = ?2 AND version = ?3",
                    params![job.0, kind.as_str(), version, changes.baseline],
                )
                .map_err(|e| sql("note files", e))?;
            if changed == 0 {
                return Err(moved());
            }
            for file in &changes.changed {
                file.insert(tx, job, now, !changes.baseline)?;
            }
            for path in &changes.gone {
                tx.prepare_cached("DELETE FROM trigger_file WHERE job_id = ?1 AND path = ?2")
                    .and_then(|mut statement| statement.execute(params![job.0, path]))
                    .map_err(|e| sql("forget a file", e))?;
            }
            Ok(())
        })
        .await
    }
}
