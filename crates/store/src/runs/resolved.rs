use forebay_types::{Result, RunId};
use rusqlite::{Transaction, params};
use serde_json::Value;

use crate::connection::sql;
use crate::store::Store;

pub(super) fn resolved_put(tx: &Transaction<'_>, attempt: RunId, resolved: &Value) -> Result<()> {
    tx.prepare_cached("INSERT OR REPLACE INTO attempt_resolved VALUES (?1, ?2)")
        .and_then(|mut insert| insert.execute(params![attempt.0, resolved.to_string()]))
        .map_err(|e| sql("keep resolved values", e))?;
    Ok(())
}

impl Store {
    /// Keeps the parameters of an attempt as they are after its references were filled in.
    ///
    /// # Errors
    /// When the database refuses.
    pub async fn attempt_resolved(&self, attempt: RunId, resolved: Value) -> Result<()> {
        self.write(move |tx| resolved_put(tx, attempt, &resolved))
            .await
    }

    /// By attempt, for all of a run's that have any.
    ///
    /// # Errors
    /// When the database refuses.
    pub async fn attempt_list_resolved(&self, run: RunId) -> Result<Vec<(RunId, Value)>> {
        self.read(move |conn| {
            conn.prepare_cached(
                "SELECT attempt_id, resolved FROM attempt_resolved
                 JOIN attempt ON attempt.id = attempt_id WHERE run_id = ?1",
            )
            .and_then(|mut statement| {
                statement
                    .query_map([run.0], |row| {
                        let value = serde_json::from_str(row.get_ref(1)?.as_str()?);
                        Ok((RunId(row.get(0)?), value.unwrap_or_default()))
                    })?
                    .collect()
            })
            .map_err(|e| sql("read resolved values", e))
        })
        .await
    }
}
