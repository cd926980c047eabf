use forebay_types::Error;
use rusqlite::Connection;

use crate::connection::sql;

/// In order; a file that has shipped is never edited, a change is a new file.
const MIGRATIONS: &[(&str, &str)] = &[
    ("base", include_str!("../migrations/base.sql")),
    ("secrets", include_str!("../migrations/secrets.sql")),
    ("runs", include_str!("../migrations/runs.sql")),
    ("objects", include_str!("../migrations/objects.sql")),
    ("compute", include_str!("../migrations/compute.sql")),
    ("repos", include_str!("../migrations/repos.sql")),
    (
        "run_checkout",
        include_str!("../migrations/run_checkout.sql"),
    ),
    ("containers", include_str!("../migrations/containers.sql")),
    (
        "tree_permissions",
        include_str!("../migrations/tree_permissions.sql"),
    ),
    ("triggers", include_str!("../migrations/triggers.sql")),
    ("retention", include_str!("../migrations/retention.sql")),
    ("cost", include_str!("../migrations/cost.sql")),
    (
        "notifications",
        include_str!("../migrations/notifications.sql"),
    ),
    ("admission", include_str!("../migrations/admission.sql")),
    ("run_lists", include_str!("../migrations/run_lists.sql")),
    ("repairs", include_str!("../migrations/repairs.sql")),
    (
        "resolved_values",
        include_str!("../migrations/resolved_values.sql"),
    ),
    ("run_trees", include_str!("../migrations/run_trees.sql")),
    ("told", include_str!("../migrations/told.sql")),
    ("contexts", include_str!("../migrations/contexts.sql")),
    (
        "cluster_libraries",
        include_str!("../migrations/cluster_libraries.sql"),
    ),
    ("libraries", include_str!("../migrations/libraries.sql")),
    (
        "attempt_files",
        include_str!("../migrations/attempt_files.sql"),
    ),
    (
        "deleted_run_tokens",
        include_str!("../migrations/deleted_run_tokens.sql"),
    ),
    (
        "cluster_owner",
        include_str!("../migrations/cluster_owner.sql"),
    ),
    (
        "admission_whole",
        include_str!("../migrations/admission_whole.sql"),
    ),
    (
        "run_lists_by_creation",
        include_str!("../migrations/run_lists_by_creation.sql"),
    ),
    (
        "run_lists_by_kind",
        include_str!("../migrations/run_lists_by_kind.sql"),
    ),
];

/// How many steps lead to the newest form.
pub(crate) const MIGRATIONS_COUNT: usize = MIGRATIONS.len();

/// Brings the database to the newest form, each step in a transaction of its own.
pub(crate) fn migrate(conn: &mut Connection) -> Result<(), Error> {
    let current: usize = conn
        .query_row("PRAGMA user_version", [], |row| row.get::<_, i64>(0))
        .map_err(|e| sql("read the schema version", e))?
        .try_into()
        .unwrap_or(usize::MAX);
    if current > MIGRATIONS.len() {
        return Err(Error::state(format!(
            "the database has schema version {current}, this program knows {} at most: \
             it was written by a newer Forebay",
            MIGRATIONS.len()
        )));
    }
    for (index, (name, script)) in MIGRATIONS.iter().enumerate().skip(current) {
        let tx = conn
            .transaction()
            .map_err(|e| sql("begin a migration", e))?;
        tx.execute_batch(script)
            .map_err(|e| sql(&format!("run migration {name}"), e))?;
        tx.pragma_update(None, "user_version", index + 1)
            .map_err(|e| sql("record a migration", e))?;
        tx.commit()
            .map_err(|e| sql(&format!("commit migration {name}"), e))?;
    }
    Ok(())
}
