use forebay_types::{CredentialId, Error, Result, UserId};
use rusqlite::{Connection, OptionalExtension, Row, params};

use crate::connection::sql;
use crate::store::{Store, next_id};

/// A user's key to a Git provider, as it is kept: only the workspace's key opens the token.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct GitCredentialRow {
    pub id: CredentialId,
    pub user_id: UserId,
    pub provider: String,
    pub name: Option<String>,
    pub username: Option<String>,
    pub email: Option<String>,
    pub sealed: Vec<u8>,
}

const COLUMNS: &str = "id, user_id, provider, name, username, email, sealed";

fn credential_from_row(row: &Row<'_>) -> rusqlite::Result<GitCredentialRow> {
    Ok(GitCredentialRow {
        id: CredentialId(row.get(0)?),
        user_id: UserId(row.get(1)?),
        provider: row.get(2)?,
        name: row.get(3)?,
        username: row.get(4)?,
        email: row.get(5)?,
        sealed: row.get(6)?,
    })
}

fn one(
    conn: &Connection,
    clause: &str,
    values: impl rusqlite::Params,
) -> Result<Option<GitCredentialRow>> {
    conn.prepare_cached(&format!(
        "SELECT {COLUMNS} FROM git_credential WHERE {clause}"
    ))
    .and_then(|mut statement| statement.query_row(values, credential_from_row).optional())
    .map_err(|e| sql("read a Git credential", e))
}

fn missing(id: CredentialId) -> Error {
    Error::missing(format!("Git credential {id} does not exist."))
}

/// One per user and provider, which is also what decides whose key a repository gets.
fn require_free(conn: &Connection, row: &GitCredentialRow) -> Result<()> {
    let taken = one(
        conn,
        "user_id = ?1 AND provider = ?2 AND id <> ?3",
        params![row.user_id.0, row.provider, row.id.0],
    )?;
    match taken {
        None => Ok(()),
        Some(other) => Err(Error::exists(format!(
            "Git credential {} for {} already exists; update or delete it.",
            other.id, row.provider
        ))),
    }
}

impl Store {
    /// A fresh id, which the token is sealed for.
    ///
    /// # Errors
    /// When the database refuses.
    pub async fn git_credential_id(&self) -> Result<CredentialId> {
        self.write(|tx| Ok(CredentialId(next_id(tx)?))).await
    }

    /// Keeps a new credential.
    ///
    /// # Errors
    /// `RESOURCE_ALREADY_EXISTS` when the user has another one for the provider.
    pub async fn git_credential_create(&self, row: GitCredentialRow) -> Result<()> {
        self.write(move |tx| {
            require_free(tx, &row)?;
            tx.execute(
                &format!(
                    "INSERT INTO git_credential ({COLUMNS}) VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7)"
                ),
                params![
                    row.id.0,
                    row.user_id.0,
                    row.provider,
                    row.name,
                    row.username,
                    row.email,
                    row.sealed
                ],
            )
            .map_err(|e| sql("keep a Git credential", e))?;
            Ok(())
        })
        .await
    }

    /// Replaces a credential by its new form.
    ///
    /// # Errors
    /// `RESOURCE_DOES_NOT_EXIST`; `RESOURCE_ALREADY_EXISTS` when the user has another one for the
    /// new provider.
    pub async fn git_credential_update(&self, row: GitCredentialRow) -> Result<()> {
        self.write(move |tx| {
            require_free(tx, &row)?;
            let updated = tx
                .execute(
                    "UPDATE git_credential SET provider = ?3, name = ?4, username = ?5, email = ?6,
                     sealed = ?7 WHERE id = ?1 AND user_id = ?2",
                    params![
                        row.id.0,
                        row.user_id.0,
                        row.provider,
                        row.name,
                        row.username,
                        row.email,
                        row.sealed
                    ],
                )
                .map_err(|e| sql("change a Git credential", e))?;
            if updated == 0 {
                Err(missing(row.id))
            } else {
                Ok(())
            }
        })
        .await
    }

    /// One of a user's credentials.
    ///
    /// # Errors
    /// `RESOURCE_DOES_NOT_EXIST`.
    pub async fn git_credential_get(
        &self,
        user: UserId,
        id: CredentialId,
    ) -> Result<GitCredentialRow> {
        self.read(move |conn| {
            let found = one(conn, "user_id = ?1 AND id = ?2", params![user.0, id.0])?;
            found.ok_or_else(|| missing(id))
        })
        .await
    }

    /// A user's credential for a provider.
    ///
    /// # Errors
    /// When the database refuses.
    pub async fn git_credential_for(
        &self,
        user: UserId,
        provider: &str,
    ) -> Result<Option<GitCredentialRow>> {
        let provider = provider.to_owned();
        self.read(move |conn| {
            let clause = "user_id = ?1 AND provider = ?2";
            one(conn, clause, params![user.0, provider])
        })
        .await
    }

    /// A user's credentials, oldest first.
    ///
    /// # Errors
    /// When the database refuses.
    pub async fn git_credential_list(&self, user: UserId) -> Result<Vec<GitCredentialRow>> {
        self.read(move |conn| {
            conn.prepare_cached(&format!(
                "SELECT {COLUMNS} FROM git_credential WHERE user_id = ?1 ORDER BY id LIMIT 1000"
            ))
            .and_then(|mut statement| {
                statement
                    .query_map([user.0], credential_from_row)?
                    .collect()
            })
            .map_err(|e| sql("list Git credentials", e))
        })
        .await
    }

    /// # Errors
    /// `RESOURCE_DOES_NOT_EXIST`.
    pub async fn git_credential_delete(&self, user: UserId, id: CredentialId) -> Result<()> {
        self.write(move |tx| {
            let deleted = tx
                .execute(
                    "DELETE FROM git_credential WHERE user_id = ?1 AND id = ?2",
                    params![user.0, id.0],
                )
                .map_err(|e| sql("delete a Git credential", e))?;
            if deleted == 0 {
                Err(missing(id))
            } else {
                Ok(())
            }
        })
        .await
    }
}
