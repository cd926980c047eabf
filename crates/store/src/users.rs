use forebay_types::{Error, Millis, Result, UserId};
use rusqlite::{OptionalExtension, Row, params};

use crate::connection::sql;
use crate::store::{Store, next_id};

/// A person or service that may call the workspace.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct User {
    pub id: UserId,
    /// Unique, compared without case; an e-mail address by habit. Names the home folder.
    pub name: String,
    pub display_name: String,
    pub admin: bool,
    pub active: bool,
    pub created_at: Millis,
}

const COLUMNS: &str =
    "user.id, user.name, user.display_name, user.admin, user.active, user.created_at";

pub(crate) fn user_from_row(row: &Row<'_>) -> rusqlite::Result<User> {
    Ok(User {
        id: UserId(row.get(0)?),
        name: row.get(1)?,
        display_name: row.get(2)?,
        admin: row.get(3)?,
        active: row.get(4)?,
        created_at: Millis(row.get(5)?),
    })
}

/// What a user is made of.
#[derive(Debug, Clone)]
pub struct NewUser {
    pub name: String,
    pub display_name: String,
    pub admin: bool,
    pub active: bool,
}

/// `None` leaves a field as it is.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct UserChange {
    pub display_name: Option<String>,
    pub admin: Option<bool>,
    pub active: Option<bool>,
}

impl Store {
    /// Creates an active user whose display name is the name.
    ///
    /// # Errors
    /// As [`Store::user_add`].
    pub async fn user_create(&self, name: &str, admin: bool, now: Millis) -> Result<User> {
        let new = NewUser {
            name: name.to_owned(),
            display_name: name.to_owned(),
            admin,
            active: true,
        };
        self.user_add(new, now).await
    }

    /// Creates a user. A deleted user of that name comes back under the old id and spelling,
    /// because what they made still names them.
    ///
    /// # Errors
    /// `RESOURCE_ALREADY_EXISTS` when the name is taken.
    pub async fn user_add(&self, new: NewUser, now: Millis) -> Result<User> {
        self.write(move |tx| {
            let id = next_id(tx)?;
            let query = format!(
                "INSERT INTO user (id, name, display_name, admin, active, created_at)
                 VALUES (?1, ?2, ?3, ?4, ?5, ?6)
                 ON CONFLICT (name) DO UPDATE SET deleted_at = NULL, display_name = ?3, admin = ?4,
                   active = ?5 WHERE deleted_at IS NOT NULL
                 RETURNING {COLUMNS}"
            );
            let bounds = params![id, new.name, new.display_name, new.admin, new.active, now.0];
            let user = tx.query_row(&query, bounds, user_from_row).optional();
            user.map_err(|e| sql("create a user", e))?
                .ok_or_else(|| Error::exists(format!("User {} already exists.", new.name)))
        })
        .await
    }

    /// # Errors
    /// When the database refuses.
    pub async fn user_get(&self, id: UserId) -> Result<Option<User>> {
        self.glance(|conn| {
            conn.prepare_cached(&format!(
                "SELECT {COLUMNS} FROM user WHERE id = ?1 AND deleted_at IS NULL"
            ))
            .and_then(|mut statement| statement.query_row([id.0], user_from_row).optional())
            .map_err(|e| sql("read a user", e))
        })
    }

    /// Looks a user up by name, without case.
    ///
    /// # Errors
    /// When the database refuses.
    pub async fn user_get_by_name(&self, name: &str) -> Result<Option<User>> {
        let name = name.to_owned();
        self.read(move |conn| {
            conn.prepare_cached(&format!(
                "SELECT {COLUMNS} FROM user WHERE name = ?1 AND deleted_at IS NULL"
            ))
            .and_then(|mut statement| statement.query_row([name], user_from_row).optional())
            .map_err(|e| sql("read a user", e))
        })
        .await
    }

    /// All users by name.
    ///
    /// # Errors
    /// When the database refuses.
    pub async fn user_list(&self) -> Result<Vec<User>> {
        self.read(|conn| {
            conn.prepare_cached(&format!(
                "SELECT {COLUMNS} FROM user WHERE deleted_at IS NULL ORDER BY name LIMIT 10000"
            ))
            .and_then(|mut statement| statement.query_map([], user_from_row)?.collect())
            .map_err(|e| sql("list users", e))
        })
        .await
    }

    /// `None` when there is no such user.
    ///
    /// # Errors
    /// When the database refuses.
    pub async fn user_change(&self, id: UserId, change: UserChange) -> Result<Option<User>> {
        self.write(move |tx| {
            let query = format!(
                "UPDATE user SET display_name = coalesce(?2, display_name),
                   admin = coalesce(?3, admin), active = coalesce(?4, active)
                 WHERE id = ?1 AND deleted_at IS NULL RETURNING {COLUMNS}"
            );
            let bounds = params![id.0, change.display_name, change.admin, change.active];
            tx.query_row(&query, bounds, user_from_row)
                .optional()
                .map_err(|e| sql("change a user", e))
        })
        .await
    }

    /// Hides a user and ends their tokens; `false` when there is none.
    ///
    /// # Errors
    /// When the database refuses.
    pub async fn user_delete(&self, id: UserId, now: Millis) -> Result<bool> {
        self.write(move |tx| {
            let deleted = tx
                .execute(
                    "UPDATE user SET deleted_at = ?2, active = 0
                     WHERE id = ?1 AND deleted_at IS NULL",
                    params![id.0, now.0],
                )
                .map_err(|e| sql("delete a user", e))?;
            tx.execute("DELETE FROM token WHERE user_id = ?1", [id.0])
                .map_err(|e| sql("end a user's tokens", e))?;
            Ok(deleted > 0)
        })
        .await
    }
}

pub(crate) const USER_COLUMNS: &str = COLUMNS;
