use forebay_types::{Result, RunId};
use rusqlite::params;

use crate::connection::sql;
use crate::store::Store;

impl Store {
    /// Remembers the commit that a run's Git source was found at; the first one stays.
    ///
    /// # Errors
    /// When the database refuses, or the run is gone.
    pub async fn run_checkout_set(&self, run: RunId, commit: &str) -> Result<()> {
        let commit = commit.to_owned();
        self.write(move |tx| {
            tx.prepare_cached("INSERT OR IGNORE INTO run_checkout VALUES (?1, ?2)")
                .and_then(|mut statement| statement.execute(params![run.0, commit]))
                .map(drop)
                .map_err(|e| sql("remember the commit of a run", e))
        })
        .await
    }
}
