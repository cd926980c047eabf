use std::collections::HashSet;

use forebay_types::{Result, RunId};
use rusqlite::{Transaction, params};
use serde_json::Value;

use crate::connection::sql;
use crate::store::Store;

/// Notes the files among an attempt's libraries, as its facts have them.
pub(super) fn files_put(tx: &Transaction<'_>, attempt: RunId, facts: &Value) -> Result<()> {
    let files = facts.pointer("/inputs/files").and_then(Value::as_array);
    let libraries = files.into_iter().flatten().filter(|file| {
        let kind = file["kind"].as_str();
        kind.is_some_and(|kind| ["library", "installed"].contains(&kind))
    });
    for digest in libraries.filter_map(|file| file["sha256"].as_str()) {
        tx.prepare_cached("INSERT OR IGNORE INTO attempt_file VALUES (?1, ?2)")
            .and_then(|mut insert| insert.execute(params![attempt.0, digest]))
            .map_err(|e| sql("note the files of an attempt", e))?;
    }
    Ok(())
}

impl Store {
    /// Which of these digests are of files that attempts had whose output is kept.
    ///
    /// # Errors
    /// When the database refuses.
    pub async fn attempt_files_of(&self, digests: Vec<String>) -> Result<HashSet<String>> {
        self.read(move |conn| {
            let failed = |e| sql("look for the files of attempts", e);
            let mut known = conn
                .prepare_cached("SELECT 1 FROM attempt_file WHERE digest = ?1 LIMIT 1")
                .map_err(failed)?;
            let mut found = HashSet::new();
            for digest in digests {
                if known.exists([&digest]).map_err(failed)? {
                    found.insert(digest);
                }
            }
            Ok(found)
        })
        .await
    }
}
