use std::collections::HashMap;

use forebay_types::{Error, Grant, ObjectKind, ObjectRef, PermissionLevel, Principal, Result};
use rusqlite::{Connection, OptionalExtension, Transaction, params};

use crate::connection::sql;
use crate::store::Store;

fn principal_kind(principal: &Principal) -> &'static str {
    match principal {
        Principal::User(_) => "user",
        Principal::Group(_) => "group",
    }
}

/// Gives a principal a level, in place of the one it had. Whoever creates an object calls this for
/// the creator in the same transaction.
pub(crate) fn permission_put(
    tx: &Transaction<'_>,
    object: &ObjectRef,
    principal: &Principal,
    level: PermissionLevel,
) -> Result<()> {
    tx.prepare_cached("INSERT OR REPLACE INTO permission VALUES (?1, ?2, ?3, ?4, ?5)")
        .and_then(|mut statement| {
            statement.execute(params![
                object.kind.plural(),
                object.id,
                principal_kind(principal),
                principal.name(),
                level.as_str()
            ])
        })
        .map_err(|e| sql("grant a permission", e))?;
    Ok(())
}

/// Removes every grant on an object that goes away.
pub(crate) fn permission_clear(tx: &Transaction<'_>, object: &ObjectRef) -> Result<()> {
    tx.prepare_cached("DELETE FROM permission WHERE kind = ?1 AND object_id = ?2")
        .and_then(|mut statement| statement.execute([object.kind.plural(), &object.id]))
        .map_err(|e| sql("clear permissions", e))?;
    Ok(())
}

pub(crate) fn stored_level(kind: ObjectKind, name: &str) -> Result<PermissionLevel> {
    kind.level(name)
        .map_err(|e| Error::internal("a stored permission has an unknown level", e))
}

fn grants(conn: &Connection, object: &ObjectRef) -> Result<Vec<Grant>> {
    let rows: Vec<(String, String, String)> = conn
        .prepare_cached(
            "SELECT principal_kind, principal, level FROM permission
             WHERE kind = ?1 AND object_id = ?2 ORDER BY principal_kind DESC, principal",
        )
        .and_then(|mut statement| {
            statement
                .query_map([object.kind.plural(), &object.id], |row| {
                    Ok((row.get(0)?, row.get(1)?, row.get(2)?))
                })?
                .collect()
        })
        .map_err(|e| sql("read permissions", e))?;
    rows.into_iter()
        .map(|(principal_kind, name, level)| {
            let principal = match principal_kind.as_str() {
                "group" => Principal::Group(name),
                _ => Principal::User(name),
            };
            let level = stored_level(object.kind, &level)?;
            Ok(Grant { principal, level })
        })
        .collect()
}

impl Store {
    /// The direct grants on an object; none when it does not exist or nobody has any.
    ///
    /// # Errors
    /// When the database refuses.
    pub async fn permission_list(&self, object: &ObjectRef) -> Result<Vec<Grant>> {
        self.glance(|conn| grants(conn, object))
    }

    /// Replaces the direct grants on an object by what `change` makes of them, in one transaction.
    ///
    /// # Errors
    /// What `change` returned; then nothing was changed.
    pub async fn permission_update(
        &self,
        object: &ObjectRef,
        change: impl FnOnce(Vec<Grant>) -> Result<Vec<Grant>> + Send + 'static,
    ) -> Result<Vec<Grant>> {
        let object = object.clone();
        self.write(move |tx| {
            let next = change(grants(tx, &object)?)?;
            permission_clear(tx, &object)?;
            for grant in &next {
                permission_put(tx, &object, &grant.principal, grant.level)?;
            }
            grants(tx, &object)
        })
        .await
    }

    /// The levels that a user has on all objects of a kind, of its own and through `groups`, by
    /// object id; the strongest where there are several.
    ///
    /// # Errors
    /// When the database refuses.
    pub async fn permission_levels(
        &self,
        kind: ObjectKind,
        user: &str,
        groups: &'static [&'static str],
    ) -> Result<HashMap<String, PermissionLevel>> {
        let user = user.to_owned();
        self.read(move |conn| {
            let mut levels: HashMap<String, PermissionLevel> = HashMap::new();
            let principals = std::iter::once(("user", user.as_str()))
                .chain(groups.iter().map(|group| ("group", *group)));
            for (principal_kind, principal) in principals {
                let rows: Vec<(String, String)> = conn
                    .prepare_cached(
                        "SELECT object_id, level FROM permission
                         WHERE kind = ?1 AND principal_kind = ?2 AND principal = ?3",
                    )
                    .and_then(|mut statement| {
                        statement
                            .query_map([kind.plural(), principal_kind, principal], |row| {
                                Ok((row.get(0)?, row.get(1)?))
                            })?
                            .collect()
                    })
                    .map_err(|e| sql("read permissions", e))?;
                for (id, name) in rows {
                    let level = stored_level(kind, &name)?;
                    let best = levels.entry(id).or_insert(level);
                    if kind.allows(level, *best) {
                        *best = level;
                    }
                }
            }
            Ok(levels)
        })
        .await
    }

    /// Whether the object exists; of the workspace tree, whether it was ever shown.
    ///
    /// # Errors
    /// When the database refuses.
    pub async fn permission_object_exists(&self, object: &ObjectRef) -> Result<bool> {
        let query = match object.kind {
            ObjectKind::Cluster => "SELECT 1 FROM cluster WHERE id = ?1",
            // A submitted run stands for the job it does not have.
            ObjectKind::Job => {
                "SELECT 1 FROM job WHERE id = ?1 AND deleted_at IS NULL
                 UNION ALL SELECT 1 FROM run WHERE id = ?1 AND job_id IS NULL"
            }
            ObjectKind::Directory | ObjectKind::Notebook | ObjectKind::File | ObjectKind::Repo => {
                "SELECT 1 FROM object WHERE id = CAST(?1 AS INTEGER)"
            }
        };
        let id = object.id.clone();
        self.read(move |conn| {
            let found = conn
                .prepare_cached(query)
                .and_then(|mut statement| statement.query_row([id], |_| Ok(())).optional())
                .map_err(|e| sql("look an object up", e))?;
            Ok(found.is_some())
        })
        .await
    }
}
