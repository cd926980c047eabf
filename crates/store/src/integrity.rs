use std::path::Path;

use forebay_types::Result;

use crate::connection::{open_reader, sql};

/// Checks a database from its first page to its last, without changing it: SQLite's own check, and
/// references that point at nothing. Gives one line per problem.
///
/// # Errors
/// When the file cannot be opened or is no database.
pub fn integrity_problems(path: &Path) -> Result<Vec<String>> {
    let conn = open_reader(path)?;
    let mut problems = Vec::new();
    let doing = "check the database";
    let mut check = conn
        .prepare("PRAGMA integrity_check(20)")
        .map_err(|e| sql(doing, e))?;
    let lines = check
        .query_map([], |row| row.get::<_, String>(0))
        .map_err(|e| sql(doing, e))?;
    for line in lines {
        let line = line.map_err(|e| sql(doing, e))?;
        if line != "ok" {
            problems.push(line);
        }
    }
    let mut check = conn
        .prepare(
            "SELECT \"table\", parent, count(*) FROM pragma_foreign_key_check
             GROUP BY 1, 2 ORDER BY 1, 2",
        )
        .map_err(|e| sql(doing, e))?;
    let rows = check
        .query_map([], |row| {
            let (table, parent): (String, String) = (row.get(0)?, row.get(1)?);
            Ok(match row.get::<_, i64>(2)? {
                1 => format!("a row of {table} points at nothing in {parent}"),
                count => format!("{count} rows of {table} point at nothing in {parent}"),
            })
        })
        .map_err(|e| sql(doing, e))?;
    for row in rows {
        problems.push(row.map_err(|e| sql(doing, e))?);
    }
    Ok(problems)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::Store;

    #[tokio::test]
    async fn a_sound_database_has_no_problems_and_a_spoilt_one_does() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("forebay.db");
        let store = Store::open(&path).unwrap();
        store.workspace_id_or(7).await.unwrap();
        drop(store);
        assert_eq!(integrity_problems(&path).unwrap(), Vec::<String>::new());

        let conn = rusqlite::Connection::open(&path).unwrap();
        let spoil = "PRAGMA foreign_keys = OFF;
            INSERT INTO run_event VALUES (1, 1, 1, '{}'), (1, 2, 1, '{}');
            INSERT INTO run_admission VALUES (1, 0, 'user:1', 1, 1, '', 0, 'ended', 1);";
        conn.execute_batch(spoil).unwrap();
        let expected = [
            "a row of run_admission points at nothing in run",
            "2 rows of run_event point at nothing in run",
        ];
        assert_eq!(integrity_problems(&path).unwrap(), expected);

        // Another file: the writer may still be closing the first one.
        let spoilt = folder.path().join("spoilt.db");
        std::fs::write(
            &spoilt,
            "this is no database, but long enough to be read as one",
        )
        .unwrap();
        assert!(integrity_problems(&spoilt).is_err());
    }
}
