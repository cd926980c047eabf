//! Copies of a database that a server is working in, for backups.

use std::path::Path;

use forebay_types::Result;
use rusqlite::{Connection, OpenFlags};

use crate::connection::{open_reader, sql};
use crate::migrations::MIGRATIONS_COUNT;

/// The newest form of a database that this program knows.
pub const SCHEMA_VERSION: usize = MIGRATIONS_COUNT;

/// Writes the database at `path`, as it is at one moment, to the new file `into`. Nobody who
/// writes has to wait for that.
///
/// # Errors
/// When either file refuses; a full disk is told as such.
pub fn copy_database(path: &Path, into: &Path) -> Result<()> {
    let conn = open_reader(path)?;
    conn.execute("VACUUM INTO ?1", [into.to_string_lossy()])
        .map_err(|e| sql("copy the database", e))?;
    Ok(())
}

/// The form of the database at `path`, to compare with [`SCHEMA_VERSION`].
///
/// # Errors
/// When the file cannot be opened or is no database.
pub fn schema_version(path: &Path) -> Result<usize> {
    let version: i64 = open_reader(path)?
        .query_row("PRAGMA user_version", [], |row| row.get(0))
        .map_err(|e| sql("read the schema version", e))?;
    Ok(version.try_into().unwrap_or(usize::MAX))
}

/// Takes out of the database `copy` the runs and repos that `live` does not have any more: what
/// was deleted since the copy was made has no files beside it. Returns how many those are.
///
/// # Errors
/// When either file refuses.
pub fn forget_deleted(copy: &Path, live: &Path) -> Result<usize> {
    let doing = "compare the copy with the database";
    let flags = OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    let conn = Connection::open_with_flags(copy, flags).map_err(|e| sql(doing, e))?;
    conn.execute_batch("PRAGMA foreign_keys=ON; PRAGMA journal_mode=MEMORY")
        .map_err(|e| sql(doing, e))?;
    conn.execute("ATTACH ?1 AS live", [live.to_string_lossy()])
        .map_err(|e| sql(doing, e))?;
    let mut forgotten = 0;
    for table in ["run", "repo"] {
        let gone = format!("DELETE FROM {table} WHERE id NOT IN (SELECT id FROM live.{table})");
        forgotten += conn.execute(&gone, []).map_err(|e| sql(doing, e))?;
    }
    Ok(forgotten)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::Store;

    #[tokio::test]
    async fn a_copy_is_whole_and_forgets_what_was_deleted_since() {
        let folder = tempfile::tempdir().unwrap();
        let (live, copy) = (folder.path().join("live.db"), folder.path().join("copy.db"));
        let store = Store::open(&live).unwrap();
        let insert = "INSERT INTO run (id, kind, name, creator_id, creator_name, settings,
            parameters, trigger, concurrency_max, timeout_ms, phase, created_at)
            VALUES (?1, 'SUBMIT_RUN', 'n', 1, 'c', '{}', '{}', 'ONE_TIME', 0, 0, 'ended', 1)";
        let write = async |text: &'static str, id: i64| {
            let work = store.write(move |tx| tx.execute(text, [id]).map_err(|e| sql("put", e)));
            work.await.unwrap();
        };
        write(insert, 1).await;
        write(insert, 2).await;
        copy_database(&live, &copy).unwrap();
        write("DELETE FROM run WHERE id = ?1", 1).await;
        write(insert, 3).await;
        assert_eq!(schema_version(&copy).unwrap(), SCHEMA_VERSION);
        assert_eq!(forget_deleted(&copy, &live).unwrap(), 1);
        let left: Vec<i64> = open_reader(&copy)
            .unwrap()
            .prepare("SELECT id FROM run")
            .unwrap()
            .query_map([], |row| row.get(0))
            .unwrap()
            .map(std::result::Result::unwrap)
            .collect();
        assert_eq!(left, [2]);
        assert!(copy_database(&live, &copy).is_err(), "never over a file");
    }
}
