use forebay_types::{Error, Result};
use rusqlite::{OptionalExtension, params};

use crate::connection::sql;
use crate::store::Store;

impl Store {
    /// The workspace's numeric id; the first caller's proposal becomes it for ever.
    ///
    /// # Errors
    /// When the database refuses.
    pub async fn workspace_id_or(&self, proposal: i64) -> Result<i64> {
        self.write(move |tx| {
            tx.execute(
                "INSERT OR IGNORE INTO meta VALUES ('workspace_id', ?1)",
                params![proposal.to_string()],
            )
            .map_err(|e| sql("name the workspace", e))?;
            let text: String = tx
                .query_row(
                    "SELECT value FROM meta WHERE key = 'workspace_id'",
                    [],
                    |r| r.get(0),
                )
                .map_err(|e| sql("read the workspace's id", e))?;
            text.parse()
                .map_err(|e| Error::internal("the workspace's id is not a number", e))
        })
        .await
    }

    /// A fact of the workspace, if it is known.
    ///
    /// # Errors
    /// When the database refuses.
    pub async fn meta_get(&self, key: &'static str) -> Result<Option<String>> {
        self.read(move |conn| {
            conn.query_row("SELECT value FROM meta WHERE key = ?1", [key], |row| {
                row.get(0)
            })
            .optional()
            .map_err(|e| sql("read a fact of the workspace", e))
        })
        .await
    }

    /// Records a fact of the workspace.
    ///
    /// # Errors
    /// When the database refuses.
    pub async fn meta_set(&self, key: &'static str, value: String) -> Result<()> {
        self.write(move |tx| {
            tx.execute(
                "INSERT INTO meta VALUES (?1, ?2)
                 ON CONFLICT DO UPDATE SET value = excluded.value",
                params![key, value],
            )
            .map_err(|e| sql("record a fact of the workspace", e))?;
            Ok(())
        })
        .await
    }
}
