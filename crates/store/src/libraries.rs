use forebay_types::{
    ClusterId, ClusterState, Error, JobId, Millis, ObjectId, Result, UserId, WorkspacePath,
};
use rusqlite::{Connection, OptionalExtension, Row, Transaction, params};
use serde_json::{Map, Value};

use crate::cluster_libraries::{
    ClusterLibrary, all_on, library_put, library_replace, library_take,
};
use crate::clusters::{Cluster, ClusterEvent, change_on, clusters_on};
use crate::connection::sql;
use crate::jobs::{Job, jobs_on};
use crate::store::{Store, next_id};

/// A library of the workspace.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LibraryRow {
    pub id: ObjectId,
    /// In the workspace tree.
    pub path: WorkspacePath,
    /// The wire's name, such as `java-jar`.
    pub kind: String,
    /// The name of its file in `dbfs:/FileStore/jars`.
    pub file: String,
    pub digest: String,
    pub size_bytes: u64,
    pub creator: String,
    pub created_at: Millis,
    /// Whether it comes with every cluster.
    pub for_all: bool,
}

/// A library to be.
#[derive(Debug, Clone)]
pub struct NewLibrary {
    pub path: WorkspacePath,
    pub kind: String,
    /// The name its file is to have.
    pub file: String,
    /// Whether something else has that name in `dbfs:/FileStore/jars`.
    pub is_taken: bool,
    pub digest: String,
    pub size_bytes: u64,
    pub creator: (UserId, String),
}

/// Everything that names libraries, at one moment.
#[derive(Debug)]
pub struct LibraryUse {
    pub libraries: Vec<LibraryRow>,
    pub jobs: Vec<Job>,
    /// Those that clients made.
    pub clusters: Vec<Cluster>,
    pub on_clusters: Vec<ClusterLibrary>,
}

/// What a move comes to.
#[derive(Debug, Default)]
pub struct LibraryMove {
    /// Jobs and their settings from now on.
    pub jobs: Vec<(JobId, Map<String, Value>)>,
    /// Of clusters: a library, and the one in its place.
    pub on_clusters: Vec<(ClusterId, String, String)>,
    /// Clusters as they are from now on, and what they note about it.
    pub clusters: Vec<(Cluster, ClusterEvent)>,
}

const SELECT: &str = "SELECT l.id, o.path, l.kind, l.file, l.digest, l.size_bytes, l.creator, \
     l.created_at, l.for_all FROM library l JOIN object o ON o.id = l.id";

fn from_row(row: &Row<'_>) -> rusqlite::Result<LibraryRow> {
    let path = WorkspacePath::parse(row.get_ref(1)?.as_str()?).map_err(|e| {
        let text = rusqlite::types::Type::Text;
        rusqlite::Error::FromSqlConversionFailure(1, text, Box::new(e))
    })?;
    Ok(LibraryRow {
        id: ObjectId(row.get(0)?),
        path,
        kind: row.get(2)?,
        file: row.get(3)?,
        digest: row.get(4)?,
        size_bytes: row.get::<_, i64>(5)?.unsigned_abs(),
        creator: row.get(6)?,
        created_at: Millis(row.get(7)?),
        for_all: row.get(8)?,
    })
}

fn get_on(conn: &Connection, id: ObjectId) -> Result<Option<LibraryRow>> {
    conn.prepare_cached(&format!("{SELECT} WHERE l.id = ?1"))
        .and_then(|mut statement| statement.query_row([id.0], from_row).optional())
        .map_err(|e| sql("read a library", e))
}

/// All of them, by path.
pub(crate) fn libraries_on(conn: &Connection) -> Result<Vec<LibraryRow>> {
    conn.prepare_cached(&format!("{SELECT} ORDER BY o.path"))
        .and_then(|mut statement| statement.query_map([], from_row)?.collect())
        .map_err(|e| sql("list libraries", e))
}

fn use_on(conn: &Connection) -> Result<LibraryUse> {
    Ok(LibraryUse {
        libraries: libraries_on(conn)?,
        jobs: jobs_on(conn)?,
        clusters: clusters_on(conn)?,
        on_clusters: all_on(conn)?,
    })
}

/// Libraries with this column are put on every new cluster.
pub(crate) fn libraries_of_all_clusters(tx: &Transaction<'_>, cluster: &ClusterId) -> Result<()> {
    let all: Vec<(String, String, i64)> = tx
        .prepare_cached("SELECT kind, file, user_id FROM library WHERE for_all ORDER BY id")
        .and_then(|mut statement| {
            statement
                .query_map([], |row| Ok((row.get(0)?, row.get(1)?, row.get(2)?)))?
                .collect()
        })
        .map_err(|e| sql("read the libraries of all clusters", e))?;
    for (kind, file, user) in all {
        let library = library_text(&kind, &file);
        library_put(tx, &cluster.0, &library, UserId(user), true)?;
    }
    Ok(())
}

/// A library of the workspace as jobs and clusters name it, as JSON with sorted keys.
#[must_use]
pub fn library_text(kind: &str, file: &str) -> String {
    let field = match kind {
        "python-egg" => "egg",
        "python-whl" => "whl",
        _ => "jar",
    };
    serde_json::json!({ field: format!("dbfs:/FileStore/jars/{file}") }).to_string()
}

impl Store {
    /// Keeps a new library, under a file name that no other has.
    ///
    /// # Errors
    /// `RESOURCE_ALREADY_EXISTS` when there is one at its path.
    pub async fn library_create(&self, new: NewLibrary, now: Millis) -> Result<LibraryRow> {
        self.write(move |tx| {
            let known = libraries_on(tx)?;
            if let Some(old) = known.iter().find(|old| old.path == new.path) {
                let content = match old.digest == new.digest {
                    true => "with this content",
                    false => "with other content; a version is never replaced, give it a new one",
                };
                return Err(Error::exists(format!(
                    "Library {} already exists {content}.",
                    new.path
                )));
            }
            let id = next_id(tx)?;
            let is_taken = new.is_taken || known.iter().any(|old| old.file == new.file);
            let file = match is_taken {
                true => format!("{id}-{}", new.file),
                false => new.file,
            };
            let size = i64::try_from(new.size_bytes).unwrap_or(i64::MAX);
            tx.execute("DELETE FROM object WHERE path = ?1", [new.path.as_str()])
                .and_then(|_| {
                    tx.execute(
                        "INSERT INTO object (path, id, created_at) VALUES (?1, ?2, ?3)",
                        params![new.path.as_str(), id, now.0],
                    )
                })
                .and_then(|_| {
                    tx.execute(
                        "INSERT INTO library (id, kind, file, digest, size_bytes, creator, user_id,
                           created_at) VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8)",
                        params![
                            id,
                            new.kind,
                            file,
                            new.digest,
                            size,
                            new.creator.1,
                            new.creator.0.0,
                            now.0
                        ],
                    )
                })
                .map_err(|e| sql("keep a library", e))?;
            get_on(tx, ObjectId(id))?
                .ok_or_else(|| Error::internal("a library is gone at once", new.path.to_string()))
        })
        .await
    }

    /// All libraries of the workspace, by path.
    ///
    /// # Errors
    /// When the database refuses.
    pub async fn library_list(&self) -> Result<Vec<LibraryRow>> {
        self.read(libraries_on).await
    }

    /// # Errors
    /// When the database refuses.
    pub async fn library_get(&self, id: ObjectId) -> Result<Option<LibraryRow>> {
        self.read(move |conn| get_on(conn, id)).await
    }

    /// The library whose file this is.
    ///
    /// # Errors
    /// When the database refuses.
    pub async fn library_by_file(&self, file: &str) -> Result<Option<LibraryRow>> {
        let file = file.to_owned();
        self.read(move |conn| {
            conn.prepare_cached(&format!("{SELECT} WHERE l.file = ?1"))
                .and_then(|mut statement| statement.query_row([file], from_row).optional())
                .map_err(|e| sql("find a library", e))
        })
        .await
    }

    /// # Errors
    /// When the database refuses.
    pub async fn library_use(&self) -> Result<LibraryUse> {
        self.read(use_on).await
    }

    /// Moves jobs and clusters to what `plan` makes of all of them: in one transaction, so all of them
    /// or none.
    ///
    /// # Errors
    /// What `plan` refused; then nothing was changed.
    pub async fn library_move<T: Send + 'static>(
        &self,
        user: UserId,
        plan: impl FnOnce(LibraryUse) -> Result<(LibraryMove, T)> + Send + 'static,
    ) -> Result<T> {
        self.write(move |tx| {
            let (change, answer) = plan(use_on(tx)?)?;
            for (job, settings) in change.jobs {
                tx.prepare_cached("UPDATE job SET settings = ?2 WHERE id = ?1")
                    .and_then(|mut statement| {
                        let text = Value::Object(settings).to_string();
                        statement.execute(params![job.0, text])
                    })
                    .map_err(|e| sql("move a job to another library", e))?;
            }
            for (cluster, old, new) in change.on_clusters {
                library_replace(tx, &cluster, &old, &new, user)?;
            }
            for (cluster, event) in change.clusters {
                let id = cluster.id.clone();
                change_on(tx, &id, None, move |there| {
                    *there = cluster;
                    Ok(Some(event))
                })?;
            }
            Ok(answer)
        })
        .await
    }

    /// Removes a library, if `check` lets it: it sees all jobs and all libraries of clusters.
    ///
    /// # Errors
    /// What `check` refused; then nothing was changed.
    pub async fn library_delete(
        &self,
        id: ObjectId,
        check: impl FnOnce(&LibraryRow, Vec<Job>, Vec<ClusterLibrary>) -> Result<()> + Send + 'static,
    ) -> Result<Option<LibraryRow>> {
        self.write(move |tx| {
            let Some(library) = get_on(tx, id)? else {
                return Ok(None);
            };
            check(&library, jobs_on(tx)?, all_on(tx)?)?;
            tx.execute("DELETE FROM library WHERE id = ?1", [id.0])
                .and_then(|_| tx.execute("DELETE FROM object WHERE id = ?1", [id.0]))
                .map_err(|e| sql("remove a library", e))?;
            Ok(Some(library))
        })
        .await
    }

    /// Lets a library come with every cluster, those there are and those to come; or no more.
    ///
    /// # Errors
    /// When the database refuses.
    pub async fn library_for_all(&self, library: LibraryRow, user: UserId, on: bool) -> Result<()> {
        self.write(move |tx| {
            tx.execute(
                "UPDATE library SET for_all = ?2, user_id = ?3 WHERE id = ?1",
                params![library.id.0, on, user.0],
            )
            .map_err(|e| sql("change a library", e))?;
            let text = library_text(&library.kind, &library.file);
            let clusters: Vec<(String, String)> = tx
                .prepare_cached("SELECT id, state FROM cluster WHERE source = 'API'")
                .and_then(|mut statement| {
                    statement
                        .query_map([], |row| Ok((row.get(0)?, row.get(1)?)))?
                        .collect()
                })
                .map_err(|e| sql("list clusters", e))?;
            for (id, state) in clusters {
                if on {
                    library_put(tx, &id, &text, user, true)?;
                } else {
                    let state = ClusterState::parse(&state).unwrap_or(ClusterState::Error);
                    library_take(tx, &ClusterId(id), state, &text)?;
                }
            }
            Ok(())
        })
        .await
    }
}
