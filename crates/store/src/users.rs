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

impl Store {
    /// Creates a user.
    ///
    /// # Errors
    /// `RESOURCE_ALREADY_EXISTS` when the name is taken.
    pub async fn user_create(&self, name: &str, admin: bool, now: Millis) -> Result<User> {
        let name = name.to_owned();
        self.write(move |tx| {
            let id = next_id(tx)?;
            let inserted = tx
                .execute(
                    "INSERT OR IGNORE INTO user (id, name, display_name, admin, created_at)
                     VALUES (?1, ?2, ?2, ?3, ?4)",
                    params![id, name, admin, now.0],
                )
                .map_err(|e| sql("create a user", e))?;
            if inserted == 0 {
                return Err(Error::exists(format!("User {name} already exists.")));
            }
            Ok(User {
                id: UserId(id),
                display_name: name.clone(),
                name,
                admin,
                active: true,
                created_at: now,
            })
        })
        .await
    }

    /// # Errors
    /// When the database refuses.
    pub async fn user_get(&self, id: UserId) -> Result<Option<User>> {
        self.read(move |conn| {
            conn.prepare_cached(&format!("SELECT {COLUMNS} FROM user WHERE id = ?1"))
                .and_then(|mut statement| statement.query_row([id.0], user_from_row).optional())
                .map_err(|e| sql("read a user", e))
        })
        .await
    }

    /// Looks a user up by name, without case.
    ///
    /// # Errors
    /// When the database refuses.
    pub async fn user_get_by_name(&self, name: &str) -> Result<Option<User>> {
        let name = name.to_owned();
        self.read(move |conn| {
            conn.prepare_cached(&format!("SELECT {COLUMNS} FROM user WHERE name = ?1"))
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
                "SELECT {COLUMNS} FROM user ORDER BY name LIMIT 10000"
            ))
            .and_then(|mut statement| statement.query_map([], user_from_row)?.collect())
            .map_err(|e| sql("list users", e))
        })
        .await
    }
}

pub(crate) const USER_COLUMNS: &str = COLUMNS;
