use forebay_types::{Error, Millis, RepoId, Result, UserId, WorkspacePath};
use rusqlite::{Connection, Row, params};

use crate::connection::sql;
use crate::objects::below;
use crate::store::{Store, next_id};

/// A Git folder of the workspace tree; its branch and commit stand in its Git folder.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RepoRow {
    pub id: RepoId,
    pub path: WorkspacePath,
    pub url: String,
    pub provider: String,
    /// The folders of a sparse checkout; `None` when everything is checked out.
    pub sparse: Option<Vec<String>>,
    pub creator: UserId,
    /// The clone has reached its place.
    pub ready: bool,
}

/// What is known before the clone begins.
#[derive(Debug, Clone)]
pub struct NewRepo {
    pub path: WorkspacePath,
    pub url: String,
    pub provider: String,
    pub sparse: Option<Vec<String>>,
    pub creator: UserId,
    /// Of the folder that will become the root.
    pub inode: u64,
}

const COLUMNS: &str = "id, path, url, provider, sparse, creator_id, ready";

fn repo_from_row(row: &Row<'_>) -> rusqlite::Result<RepoRow> {
    let broken = |index, reason: String| {
        let kind = rusqlite::types::Type::Text;
        rusqlite::Error::FromSqlConversionFailure(index, kind, reason.into())
    };
    let path: String = row.get(1)?;
    let sparse: Option<String> = row.get(4)?;
    let sparse = sparse.map(|text| serde_json::from_str(&text)).transpose();
    Ok(RepoRow {
        id: RepoId(row.get(0)?),
        path: WorkspacePath::parse(&path).map_err(|e| broken(1, e.to_string()))?,
        url: row.get(2)?,
        provider: row.get(3)?,
        sparse: sparse.map_err(|e| broken(4, e.to_string()))?,
        creator: UserId(row.get(5)?),
        ready: row.get(6)?,
    })
}

fn repos(conn: &Connection, tail: &str, values: impl rusqlite::Params) -> Result<Vec<RepoRow>> {
    conn.prepare_cached(&format!("SELECT {COLUMNS} FROM repo {tail}"))
        .and_then(|mut statement| statement.query_map(values, repo_from_row)?.collect())
        .map_err(|e| sql("list Git folders", e))
}

fn text(sparse: Option<&Vec<String>>) -> Option<String> {
    sparse.map(|patterns| serde_json::json!(patterns).to_string())
}

impl Store {
    /// Reserves a path for a clone, and its root's object id.
    ///
    /// # Errors
    /// `RESOURCE_ALREADY_EXISTS` when there is a Git folder, or one is being made, at the path;
    /// `INVALID_PARAMETER_VALUE` when the path lies in another or around one.
    pub async fn repo_begin(&self, new: NewRepo, now: Millis) -> Result<RepoId> {
        self.write(move |tx| {
            let path = new.path.as_str();
            // A path is around another when that one starts with it and a slash.
            let near = "WHERE path = ?1 OR substr(?1, 1, length(path) + 1) = path || '/'
                        OR substr(path, 1, length(?1) + 1) = ?1 || '/' LIMIT 1";
            if let Some(other) = repos(tx, near, [path])?.first() {
                let other = &other.path;
                return Err(if *other == new.path {
                    Error::exists(format!("Git folder {path} already exists."))
                } else {
                    Error::invalid(format!(
                        "Git folders cannot be nested: {path} and the existing {other}."
                    ))
                });
            }
            let id = next_id(tx)?;
            let inode = i64::from_ne_bytes(new.inode.to_ne_bytes());
            tx.execute(
                "INSERT INTO repo (id, path, url, provider, sparse, creator_id, ready, inode)
                 VALUES (?1, ?2, ?3, ?4, ?5, ?6, 0, ?7)",
                params![
                    id,
                    path,
                    new.url,
                    new.provider,
                    text(new.sparse.as_ref()),
                    new.creator.0,
                    inode
                ],
            )
            // An id left over from something that is no longer at the path gives way.
            .and_then(|_| tx.execute("DELETE FROM object WHERE path = ?1", [path]))
            .and_then(|_| {
                tx.execute(
                    "INSERT INTO object (path, id, created_at) VALUES (?1, ?2, ?3)",
                    params![path, id, now.0],
                )
            })
            .map_err(|e| sql("begin a Git folder", e))?;
            Ok(RepoId(id))
        })
        .await
    }

    /// The clone has reached its place.
    ///
    /// # Errors
    /// When the database refuses.
    pub async fn repo_ready(&self, id: RepoId) -> Result<()> {
        self.write(move |tx| {
            tx.execute("UPDATE repo SET ready = 1 WHERE id = ?1", [id.0])
                .map_err(|e| sql("finish a Git folder", e))?;
            Ok(())
        })
        .await
    }

    /// Records which folders a sparse checkout has.
    ///
    /// # Errors
    /// When the database refuses.
    pub async fn repo_set_sparse(&self, id: RepoId, patterns: Vec<String>) -> Result<()> {
        self.write(move |tx| {
            let patterns = text(Some(&patterns));
            tx.execute(
                "UPDATE repo SET sparse = ?2 WHERE id = ?1",
                params![id.0, patterns],
            )
            .map_err(|e| sql("change a Git folder", e))?;
            Ok(())
        })
        .await
    }

    /// A Git folder whose clone is complete.
    ///
    /// # Errors
    /// `RESOURCE_DOES_NOT_EXIST`.
    pub async fn repo_get(&self, id: RepoId) -> Result<RepoRow> {
        let found = self
            .read(move |conn| repos(conn, "WHERE id = ?1 AND ready", [id.0]))
            .await?;
        let found = found.into_iter().next();
        found.ok_or_else(|| Error::missing(format!("Repo {id} does not exist.")))
    }

    /// Complete Git folders after `after`, by id, whose path begins with `prefix`.
    ///
    /// # Errors
    /// When the database refuses.
    pub async fn repo_list(
        &self,
        prefix: &str,
        after: RepoId,
        limit: usize,
    ) -> Result<Vec<RepoRow>> {
        let prefix = prefix.to_owned();
        self.read(move |conn| {
            let tail = "WHERE ready AND id > ?1 AND substr(path, 1, length(?2)) = ?2
                        ORDER BY id LIMIT ?3";
            repos(conn, tail, params![after.0, prefix, limit])
        })
        .await
    }

    /// The complete Git folder that is `path` or around it.
    ///
    /// # Errors
    /// When the database refuses.
    pub async fn repo_around(&self, path: &WorkspacePath) -> Result<Option<RepoRow>> {
        let path = path.clone();
        self.read(move |conn| {
            let ancestors: Vec<String> = std::iter::successors(Some(path), WorkspacePath::parent)
                .map(|path| path.to_string())
                .collect();
            let tail = "WHERE ready AND path IN (SELECT value FROM json_each(?1)) LIMIT 1";
            let found = repos(conn, tail, [serde_json::json!(ancestors).to_string()])?;
            Ok(found.into_iter().next())
        })
        .await
    }

    /// The complete Git folders at or below `folder`.
    ///
    /// # Errors
    /// When the database refuses.
    pub async fn repo_within(&self, folder: &WorkspacePath) -> Result<Vec<RepoRow>> {
        let (from, to) = below(folder);
        let folder = folder.to_string();
        self.read(move |conn| {
            let tail = "WHERE ready AND (path = ?1 OR (path >= ?2 AND path < ?3)) LIMIT 10000";
            repos(conn, tail, params![folder, from, to])
        })
        .await
    }

    /// All rows, complete or not, each with its root's inode; for the start.
    ///
    /// # Errors
    /// When the database refuses.
    pub async fn repo_all(&self) -> Result<Vec<(RepoRow, u64)>> {
        self.read(|conn| {
            let with_inode = |row: &Row<'_>| {
                let inode = i64::to_ne_bytes(row.get(7)?);
                Ok((repo_from_row(row)?, u64::from_ne_bytes(inode)))
            };
            conn.prepare(&format!("SELECT {COLUMNS}, inode FROM repo"))
                .and_then(|mut statement| statement.query_map([], with_inode)?.collect())
                .map_err(|e| sql("list Git folders", e))
        })
        .await
    }

    /// Forgets Git folders and the object ids of their roots.
    ///
    /// # Errors
    /// When the database refuses.
    pub async fn repo_forget(&self, ids: Vec<RepoId>) -> Result<()> {
        self.write(move |tx| {
            for id in &ids {
                tx.execute("DELETE FROM object WHERE id = ?1", [id.0])
                    .and_then(|_| tx.execute("DELETE FROM repo WHERE id = ?1", [id.0]))
                    .map_err(|e| sql("forget a Git folder", e))?;
            }
            Ok(())
        })
        .await
    }

    /// The row at a path, complete or not.
    ///
    /// # Errors
    /// When the database refuses.
    pub async fn repo_at(&self, path: &WorkspacePath) -> Result<Option<RepoRow>> {
        let path = path.to_string();
        self.read(move |conn| {
            let found = repos(conn, "WHERE path = ?1", [path])?;
            Ok(found.into_iter().next())
        })
        .await
    }
}
