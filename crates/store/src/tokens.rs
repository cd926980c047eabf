use forebay_types::{Error, Millis, Result, TokenId, UserId};
use rusqlite::{OptionalExtension, Row, params};

use crate::connection::sql;
use crate::store::Store;
use crate::users::{USER_COLUMNS, User, user_from_row};

/// A token as it is kept: the value itself was shown once and is not stored.
#[derive(Debug, Clone)]
pub struct TokenRow {
    pub id: TokenId,
    pub user_id: UserId,
    pub comment: String,
    pub created_at: Millis,
    pub expires_at: Option<Millis>,
}

#[derive(Debug, Clone)]
pub struct NewToken {
    pub row: TokenRow,
    /// SHA-256 of the token's value.
    pub digest: [u8; 32],
}

fn token_from_row(row: &Row<'_>) -> rusqlite::Result<TokenRow> {
    Ok(TokenRow {
        id: TokenId(row.get(0)?),
        user_id: UserId(row.get(1)?),
        comment: row.get(2)?,
        created_at: Millis(row.get(3)?),
        expires_at: row.get::<_, Option<i64>>(4)?.map(Millis),
    })
}

impl Store {
    /// Keeps a new token.
    ///
    /// # Errors
    /// When the database refuses.
    pub async fn token_create(&self, new: NewToken) -> Result<()> {
        self.write(move |tx| {
            let row = &new.row;
            tx.execute(
                "INSERT INTO token (id, user_id, digest, comment, created_at, expires_at)
                 VALUES (?1, ?2, ?3, ?4, ?5, ?6)",
                params![
                    row.id.0,
                    row.user_id.0,
                    new.digest,
                    row.comment,
                    row.created_at.0,
                    row.expires_at.map(|at| at.0)
                ],
            )
            .map_err(|e| sql("create a token", e))?;
            Ok(())
        })
        .await
    }

    /// The active user behind a token that has not expired.
    ///
    /// # Errors
    /// When the database refuses.
    pub async fn token_authenticate(&self, digest: [u8; 32], now: Millis) -> Result<Option<User>> {
        self.glance(|conn| {
            let query = format!(
                "SELECT {USER_COLUMNS} FROM token JOIN user ON user.id = token.user_id
                 WHERE token.digest = ?1 AND user.active
                   AND (token.expires_at IS NULL OR token.expires_at > ?2)"
            );
            conn.prepare_cached(&query)
                .and_then(|mut statement| {
                    statement
                        .query_row(params![digest, now.0], user_from_row)
                        .optional()
                })
                .map_err(|e| sql("check a token", e))
        })
    }

    /// The tokens of one user, oldest first.
    ///
    /// # Errors
    /// When the database refuses.
    pub async fn token_list(&self, user: UserId) -> Result<Vec<TokenRow>> {
        self.read(move |conn| {
            conn.prepare_cached(
                "SELECT id, user_id, comment, created_at, expires_at FROM token
                 WHERE user_id = ?1 ORDER BY created_at, id LIMIT 10000",
            )
            .and_then(|mut statement| statement.query_map([user.0], token_from_row)?.collect())
            .map_err(|e| sql("list tokens", e))
        })
        .await
    }

    /// The tokens of all users with their owners, oldest first.
    ///
    /// # Errors
    /// When the database refuses.
    pub async fn token_list_all(&self) -> Result<Vec<(TokenRow, User)>> {
        self.read(move |conn| {
            conn.prepare_cached(&format!(
                "SELECT {USER_COLUMNS}, token.id, token.user_id, token.comment, token.created_at,
                   token.expires_at
                 FROM token JOIN user ON user.id = token.user_id
                 ORDER BY token.created_at, token.id LIMIT 10000"
            ))
            .and_then(|mut statement| {
                let rows = statement.query_map([], |row| {
                    let token = TokenRow {
                        id: TokenId(row.get(6)?),
                        user_id: UserId(row.get(7)?),
                        comment: row.get(8)?,
                        created_at: Millis(row.get(9)?),
                        expires_at: row.get::<_, Option<i64>>(10)?.map(Millis),
                    };
                    Ok((token, user_from_row(row)?))
                })?;
                rows.collect()
            })
            .map_err(|e| sql("list tokens", e))
        })
        .await
    }

    /// Gives a token of `user` another comment.
    ///
    /// # Errors
    /// `RESOURCE_DOES_NOT_EXIST` when there is no such token.
    pub async fn token_comment(&self, id: TokenId, user: UserId, comment: String) -> Result<()> {
        self.write(move |tx| {
            let changed = tx
                .execute(
                    "UPDATE token SET comment = ?3 WHERE id = ?1 AND user_id = ?2",
                    params![id.0, user.0, comment],
                )
                .map_err(|e| sql("change a token", e))?;
            if changed == 0 {
                return Err(Error::missing(format!("Token with id {id} does not exist")));
            }
            Ok(())
        })
        .await
    }

    /// Ends a token of `user`; of any user when `user` is `None`.
    ///
    /// # Errors
    /// `RESOURCE_DOES_NOT_EXIST` when there is no such token.
    pub async fn token_delete(&self, id: TokenId, user: Option<UserId>) -> Result<()> {
        self.write(move |tx| {
            let deleted = tx
                .execute(
                    "DELETE FROM token WHERE id = ?1 AND (?2 IS NULL OR user_id = ?2)",
                    params![id.0, user.map(|user| user.0)],
                )
                .map_err(|e| sql("delete a token", e))?;
            if deleted == 0 {
                return Err(Error::missing(format!("Token with id {id} does not exist")));
            }
            Ok(())
        })
        .await
    }

    /// Ends the token of this value's digest; one that is gone already is fine.
    ///
    /// # Errors
    /// When the database refuses.
    pub async fn token_forget(&self, digest: [u8; 32]) -> Result<()> {
        self.write(move |tx| {
            tx.execute("DELETE FROM token WHERE digest = ?1", params![digest])
                .map_err(|e| sql("end a token", e))?;
            Ok(())
        })
        .await
    }
}
