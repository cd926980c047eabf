use std::path::Path;

use forebay_types::{Error, ErrorCode};
use rusqlite::config::DbConfig;
use rusqlite::{Connection, OpenFlags};

/// Opens the writer's connection. `synchronous=FULL` in WAL mode survives a power cut: what a
/// caller was told is committed stays committed.
pub(crate) fn open_writer(path: &Path) -> Result<Connection, Error> {
    let conn = Connection::open(path).map_err(|e| sql("open the database", e))?;
    conn.execute_batch(
        "PRAGMA journal_mode=WAL; PRAGMA synchronous=FULL; PRAGMA foreign_keys=ON;
         PRAGMA temp_store=MEMORY; PRAGMA wal_autocheckpoint=4000;",
    )
    .map_err(|e| sql("configure the database", e))?;
    keep_plans(&conn)?;
    conn.set_prepared_statement_cache_capacity(256);
    Ok(conn)
}

pub(crate) fn open_reader(path: &Path) -> Result<Connection, Error> {
    let flags = OpenFlags::SQLITE_OPEN_READ_ONLY | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    let conn = Connection::open_with_flags(path, flags).map_err(|e| sql("open a reader", e))?;
    conn.busy_timeout(std::time::Duration::from_secs(5))
        .map_err(|e| sql("open a reader", e))?;
    keep_plans(&conn)?;
    conn.set_prepared_statement_cache_capacity(128);
    Ok(conn)
}

/// A plan must not depend on the values that are bound: SQLite would prepare a statement with
/// `LIMIT ?` anew for each execution. So what chooses a partial index is written out in the query.
fn keep_plans(conn: &Connection) -> Result<(), Error> {
    conn.set_db_config(DbConfig::SQLITE_DBCONFIG_ENABLE_QPSG, true)
        .map(drop)
        .map_err(|e| sql("configure the database", e))
}

/// Turns SQLite's error into ours; a full disk is the operator's to mend and may be retried.
pub(crate) fn sql(doing: &str, error: rusqlite::Error) -> Error {
    use rusqlite::ErrorCode as Sqlite;
    match error.sqlite_error_code() {
        Some(Sqlite::DiskFull) => Error::new(
            ErrorCode::TemporarilyUnavailable,
            "The server's disk is full; nothing was changed. Free some space and repeat the call.",
        )
        .because(error),
        _ => Error::internal(format!("failed to {doing}"), error),
    }
}
