use forebay_types::{Error, ErrorCode, Millis, Result, SecretPermission};
use rusqlite::{Connection, OptionalExtension, Row, Transaction, params};

use crate::connection::sql;
use crate::store::{Store, next_id};

/// A named set of secrets with its own list of who may do what.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SecretScope {
    pub id: i64,
    /// Unique, compared without case.
    pub name: String,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SecretAcl {
    pub principal: String,
    pub permission: SecretPermission,
}

/// A key of a scope, without its value.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SecretEntry {
    pub key: String,
    pub updated_at: Millis,
}

/// A value as it is kept: only the workspace's key opens it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SealedSecret {
    /// As it was first spelled; keys are compared without case.
    pub key: String,
    pub sealed: Vec<u8>,
}

/// Scopes per workspace and secrets per scope.
const SCOPES_MAX: i64 = 1000;
const SECRETS_MAX: i64 = 1000;

fn scope_from_row(row: &Row<'_>) -> rusqlite::Result<SecretScope> {
    Ok(SecretScope {
        id: row.get(0)?,
        name: row.get(1)?,
    })
}

fn acl_from_row(row: &Row<'_>) -> rusqlite::Result<SecretAcl> {
    let text: String = row.get(1)?;
    let permission = SecretPermission::parse(&text).ok_or_else(|| {
        let reason = format!("unknown secret permission {text}");
        rusqlite::Error::FromSqlConversionFailure(1, rusqlite::types::Type::Text, reason.into())
    })?;
    Ok(SecretAcl {
        principal: row.get(0)?,
        permission,
    })
}

fn scope_missing(name: &str) -> Error {
    Error::missing(format!("Scope {name} does not exist."))
}

fn full(what: &str, max: i64) -> Error {
    Error::new(
        ErrorCode::ResourceLimitExceeded,
        format!("{what} is full: at most {max} are allowed. Delete what is no longer needed."),
    )
}

/// The scope may have gone between the caller's permission check and this write.
fn require_scope(tx: &Transaction<'_>, scope: &SecretScope) -> Result<()> {
    let found: bool = tx
        .query_row(
            "SELECT EXISTS (SELECT 1 FROM secret_scope WHERE id = ?1)",
            [scope.id],
            |row| row.get(0),
        )
        .map_err(|e| sql("read a secret scope", e))?;
    if found {
        Ok(())
    } else {
        Err(scope_missing(&scope.name))
    }
}

fn acl_list(conn: &Connection, scope_id: i64) -> Result<Vec<SecretAcl>> {
    conn.prepare_cached(
        "SELECT principal, permission FROM secret_acl WHERE scope_id = ?1
         ORDER BY principal LIMIT 10000",
    )
    .and_then(|mut statement| statement.query_map([scope_id], acl_from_row)?.collect())
    .map_err(|e| sql("list who may use a secret scope", e))
}

impl Store {
    /// Creates a scope that `owner` manages.
    ///
    /// # Errors
    /// `RESOURCE_ALREADY_EXISTS` when the name is taken, `RESOURCE_LIMIT_EXCEEDED` when the
    /// workspace has too many.
    pub async fn secret_scope_create(&self, name: &str, owner: &str) -> Result<()> {
        let (name, owner) = (name.to_owned(), owner.to_owned());
        self.write(move |tx| {
            let count: i64 = tx
                .query_row("SELECT count(*) FROM secret_scope", [], |row| row.get(0))
                .map_err(|e| sql("count secret scopes", e))?;
            if count >= SCOPES_MAX {
                return Err(full("The workspace's list of secret scopes", SCOPES_MAX));
            }
            let id = next_id(tx)?;
            let inserted = tx
                .execute(
                    "INSERT OR IGNORE INTO secret_scope (id, name) VALUES (?1, ?2)",
                    params![id, name],
                )
                .map_err(|e| sql("create a secret scope", e))?;
            if inserted == 0 {
                return Err(Error::exists(format!("Scope {name} already exists.")));
            }
            tx.execute(
                "INSERT INTO secret_acl (scope_id, principal, permission) VALUES (?1, ?2, ?3)",
                params![id, owner, SecretPermission::Manage.as_str()],
            )
            .map_err(|e| sql("give a secret scope its owner", e))?;
            Ok(())
        })
        .await
    }

    /// A scope and everyone's permissions on it.
    ///
    /// # Errors
    /// `RESOURCE_DOES_NOT_EXIST` when there is none of that name.
    pub async fn secret_scope_get(&self, name: &str) -> Result<(SecretScope, Vec<SecretAcl>)> {
        let name = name.to_owned();
        self.read(move |conn| {
            let scope = conn
                .prepare_cached("SELECT id, name FROM secret_scope WHERE name = ?1")
                .and_then(|mut statement| statement.query_row([&name], scope_from_row).optional())
                .map_err(|e| sql("read a secret scope", e))?
                .ok_or_else(|| scope_missing(&name))?;
            let acls = acl_list(conn, scope.id)?;
            Ok((scope, acls))
        })
        .await
    }

    /// Scopes by name: those one of `principals` has any permission on, or all for `None`.
    ///
    /// # Errors
    /// When the database refuses.
    pub async fn secret_scope_list(
        &self,
        principals: Option<Vec<String>>,
    ) -> Result<Vec<SecretScope>> {
        self.read(move |conn| {
            let principals = principals.map(|list| serde_json::json!(list).to_string());
            conn.prepare_cached(
                "SELECT id, name FROM secret_scope WHERE ?1 IS NULL OR id IN (
                     SELECT scope_id FROM secret_acl JOIN json_each(?1)
                     ON json_each.value = secret_acl.principal COLLATE NOCASE)
                 ORDER BY name LIMIT 1000",
            )
            .and_then(|mut statement| statement.query_map([principals], scope_from_row)?.collect())
            .map_err(|e| sql("list secret scopes", e))
        })
        .await
    }

    /// Deletes a scope with all that is in it.
    ///
    /// # Errors
    /// `RESOURCE_DOES_NOT_EXIST` when it has gone.
    pub async fn secret_scope_delete(&self, scope: SecretScope) -> Result<()> {
        self.write(move |tx| {
            require_scope(tx, &scope)?;
            tx.execute("DELETE FROM secret_scope WHERE id = ?1", [scope.id])
                .map_err(|e| sql("delete a secret scope", e))?;
            Ok(())
        })
        .await
    }

    /// Keeps a sealed value, replacing the one of the same key.
    ///
    /// # Errors
    /// `RESOURCE_DOES_NOT_EXIST` when the scope has gone, `RESOURCE_LIMIT_EXCEEDED` when it is
    /// full.
    pub async fn secret_put(
        &self,
        scope: SecretScope,
        secret: SealedSecret,
        now: Millis,
    ) -> Result<()> {
        self.write(move |tx| {
            require_scope(tx, &scope)?;
            let others: i64 = tx
                .query_row(
                    "SELECT count(*) FROM secret WHERE scope_id = ?1 AND key <> ?2",
                    params![scope.id, secret.key],
                    |row| row.get(0),
                )
                .map_err(|e| sql("count secrets", e))?;
            if others >= SECRETS_MAX {
                return Err(full(&format!("Scope {}", scope.name), SECRETS_MAX));
            }
            tx.execute(
                "INSERT INTO secret (scope_id, key, sealed, updated_at) VALUES (?1, ?2, ?3, ?4)
                 ON CONFLICT DO UPDATE SET sealed = excluded.sealed,
                                           updated_at = excluded.updated_at",
                params![scope.id, secret.key, secret.sealed, now.0],
            )
            .map_err(|e| sql("put a secret", e))?;
            Ok(())
        })
        .await
    }

    /// # Errors
    /// `RESOURCE_DOES_NOT_EXIST` when the scope has no such key.
    pub async fn secret_get(&self, scope: SecretScope, key: &str) -> Result<SealedSecret> {
        let key = key.to_owned();
        self.read(move |conn| {
            conn.prepare_cached("SELECT key, sealed FROM secret WHERE scope_id = ?1 AND key = ?2")
                .and_then(|mut statement| {
                    let sealed = |row: &Row<'_>| {
                        Ok(SealedSecret {
                            key: row.get(0)?,
                            sealed: row.get(1)?,
                        })
                    };
                    statement
                        .query_row(params![scope.id, key], sealed)
                        .optional()
                })
                .map_err(|e| sql("read a secret", e))?
                .ok_or_else(|| secret_missing(&scope, &key))
        })
        .await
    }

    /// The keys of a scope, by name.
    ///
    /// # Errors
    /// When the database refuses.
    pub async fn secret_list(&self, scope: SecretScope) -> Result<Vec<SecretEntry>> {
        self.read(move |conn| {
            let entry = |row: &Row<'_>| {
                Ok(SecretEntry {
                    key: row.get(0)?,
                    updated_at: Millis(row.get(1)?),
                })
            };
            conn.prepare_cached(
                "SELECT key, updated_at FROM secret WHERE scope_id = ?1 ORDER BY key LIMIT 1000",
            )
            .and_then(|mut statement| statement.query_map([scope.id], entry)?.collect())
            .map_err(|e| sql("list secrets", e))
        })
        .await
    }

    /// # Errors
    /// `RESOURCE_DOES_NOT_EXIST` when the scope has no such key.
    pub async fn secret_delete(&self, scope: SecretScope, key: &str) -> Result<()> {
        let key = key.to_owned();
        self.write(move |tx| {
            let deleted = tx
                .execute(
                    "DELETE FROM secret WHERE scope_id = ?1 AND key = ?2",
                    params![scope.id, key],
                )
                .map_err(|e| sql("delete a secret", e))?;
            if deleted == 0 {
                return Err(secret_missing(&scope, &key));
            }
            Ok(())
        })
        .await
    }

    /// Sets what a principal may do, replacing what it might do before.
    ///
    /// # Errors
    /// `RESOURCE_DOES_NOT_EXIST` when the scope has gone.
    pub async fn secret_acl_put(&self, scope: SecretScope, acl: SecretAcl) -> Result<()> {
        self.write(move |tx| {
            require_scope(tx, &scope)?;
            tx.execute(
                "INSERT INTO secret_acl (scope_id, principal, permission) VALUES (?1, ?2, ?3)
                 ON CONFLICT DO UPDATE SET permission = excluded.permission",
                params![scope.id, acl.principal, acl.permission.as_str()],
            )
            .map_err(|e| sql("set who may use a secret scope", e))?;
            Ok(())
        })
        .await
    }

    /// # Errors
    /// `RESOURCE_DOES_NOT_EXIST` when the principal has no permission of its own.
    pub async fn secret_acl_delete(&self, scope: SecretScope, principal: &str) -> Result<()> {
        let principal = principal.to_owned();
        self.write(move |tx| {
            let deleted = tx
                .execute(
                    "DELETE FROM secret_acl WHERE scope_id = ?1 AND principal = ?2",
                    params![scope.id, principal],
                )
                .map_err(|e| sql("end who may use a secret scope", e))?;
            if deleted == 0 {
                return Err(Error::missing(format!(
                    "Principal {principal} has no permission on scope {}.",
                    scope.name
                )));
            }
            Ok(())
        })
        .await
    }
}

fn secret_missing(scope: &SecretScope, key: &str) -> Error {
    Error::missing(format!(
        "Secret does not exist with scope: {} and key: {key}",
        scope.name
    ))
}
