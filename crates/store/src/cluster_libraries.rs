use forebay_types::{ClusterId, ClusterState, Error, Result, UserId};
use rusqlite::{Connection, OptionalExtension, Row, Transaction, params};

use crate::connection::sql;
use crate::store::Store;

/// Where a library of a cluster stands, in the words of the API.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LibraryState {
    /// Waits for its cluster, or for its turn.
    Pending,
    Installing,
    Installed,
    /// It is there, and means nothing to the cluster's own runs.
    Skipped,
    Failed,
    /// Goes when its cluster ends or starts again.
    UninstallOnRestart,
}

impl LibraryState {
    const ALL: [Self; 6] = [
        Self::Pending,
        Self::Installing,
        Self::Installed,
        Self::Skipped,
        Self::Failed,
        Self::UninstallOnRestart,
    ];

    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Pending => "PENDING",
            Self::Installing => "INSTALLING",
            Self::Installed => "INSTALLED",
            Self::Skipped => "SKIPPED",
            Self::Failed => "FAILED",
            Self::UninstallOnRestart => "UNINSTALL_ON_RESTART",
        }
    }

    fn parse(text: &str) -> Self {
        let found = Self::ALL.into_iter().find(|state| state.as_str() == text);
        found.unwrap_or(Self::Failed)
    }
}

/// One library of one cluster.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ClusterLibrary {
    pub cluster: ClusterId,
    /// JSON with sorted keys.
    pub library: String,
    pub state: LibraryState,
    pub messages: Vec<String>,
    /// Of the file it names, once that was taken.
    pub digest: Option<String>,
    /// With whose rights its file is read.
    pub user: UserId,
    pub for_all: bool,
    /// See [`Store::cluster_library_set`].
    pub version: i64,
}

const COLUMNS: &str = "cluster_id, library, state, messages, digest, user_id, for_all, version";

fn from_row(row: &Row<'_>) -> rusqlite::Result<ClusterLibrary> {
    Ok(ClusterLibrary {
        cluster: ClusterId(row.get(0)?),
        library: row.get(1)?,
        state: LibraryState::parse(row.get_ref(2)?.as_str()?),
        messages: serde_json::from_str(row.get_ref(3)?.as_str()?).unwrap_or_default(),
        digest: row.get(4)?,
        user: UserId(row.get(5)?),
        for_all: row.get(6)?,
        version: row.get(7)?,
    })
}

fn state_of_cluster(conn: &Connection, id: &ClusterId) -> Result<ClusterState> {
    let found: Option<String> = conn
        .prepare_cached("SELECT state FROM cluster WHERE id = ?1")
        .and_then(|mut statement| statement.query_row([&id.0], |row| row.get(0)).optional())
        .map_err(|e| sql("read a cluster", e))?;
    let text = found.ok_or_else(|| Error::invalid(format!("Cluster {id} does not exist")))?;
    Ok(ClusterState::parse(&text).unwrap_or(ClusterState::Error))
}

/// For a cluster that ends, starts, or starts again: what was to go is gone, and the rest is looked at
/// anew.
pub(crate) fn libraries_begin_again(tx: &Transaction<'_>, id: &ClusterId) -> Result<()> {
    tx.execute(
        "DELETE FROM cluster_library WHERE cluster_id = ?1 AND state = 'UNINSTALL_ON_RESTART'",
        [&id.0],
    )
    .and_then(|_| {
        tx.execute(
            "UPDATE cluster_library SET state = 'PENDING', messages = '[]', digest = NULL,
               version = version + 1 WHERE cluster_id = ?1",
            [&id.0],
        )
    })
    .map_err(|e| sql("begin the libraries of a cluster again", e))?;
    Ok(())
}

/// Puts a library on a cluster, last in order.
pub(crate) fn library_put(
    tx: &Transaction<'_>,
    cluster: &str,
    library: &str,
    user: UserId,
    for_all: bool,
) -> Result<()> {
    tx.prepare_cached(
        "INSERT INTO cluster_library (cluster_id, library, position, state, user_id, for_all)
         VALUES (?1, ?2, (SELECT coalesce(max(position), 0) + 1 FROM cluster_library
           WHERE cluster_id = ?1), 'PENDING', ?3, ?4)
         ON CONFLICT DO UPDATE SET state = 'PENDING', messages = '[]', digest = NULL, user_id = ?3,
           for_all = max(for_all, ?4), version = version + 1
         WHERE state IN ('FAILED', 'UNINSTALL_ON_RESTART') OR for_all < ?4",
    )
    .and_then(|mut statement| statement.execute(params![cluster, library, user.0, for_all]))
    .map_err(|e| sql("put a library on a cluster", e))?;
    Ok(())
}

/// Puts a library in the place of another one; what was there is gone at once, as each run has its own
/// process.
pub(crate) fn library_replace(
    tx: &Transaction<'_>,
    cluster: &ClusterId,
    old: &str,
    new: &str,
    user: UserId,
) -> Result<()> {
    let there = "SELECT 1 FROM cluster_library WHERE cluster_id = ?1 AND library = ?2";
    let has_new = tx
        .prepare_cached(there)
        .and_then(|mut statement| statement.exists(params![cluster.0, new]))
        .map_err(|e| sql("read the libraries of a cluster", e))?;
    let statement = match has_new {
        true => {
            "DELETE FROM cluster_library WHERE cluster_id = ?1 AND library = ?2 AND ?3 <> '' AND ?4"
        }
        false => {
            "UPDATE cluster_library SET library = ?3, state = 'PENDING', messages = '[]',
               digest = NULL, user_id = ?4, version = version + 1
             WHERE cluster_id = ?1 AND library = ?2"
        }
    };
    tx.prepare_cached(statement)
        .and_then(|mut statement| statement.execute(params![cluster.0, old, new, user.0]))
        .map_err(|e| sql("move a cluster to another library", e))?;
    Ok(())
}

/// Takes a library from a cluster: at once, or with its next start where runs have it already.
pub(crate) fn library_take(
    tx: &Transaction<'_>,
    cluster: &ClusterId,
    state: ClusterState,
    library: &str,
) -> Result<()> {
    let later = tx
        .prepare_cached(
            "UPDATE cluster_library SET state = 'UNINSTALL_ON_RESTART', messages = '[]',
               version = version + 1
             WHERE cluster_id = ?1 AND library = ?2 AND ?3
               AND state IN ('INSTALLING', 'INSTALLED', 'SKIPPED', 'UNINSTALL_ON_RESTART')",
        )
        .and_then(|mut statement| statement.execute(params![cluster.0, library, state.is_active()]))
        .map_err(|e| sql("take a library from a cluster", e))?;
    if later == 0 {
        tx.prepare_cached("DELETE FROM cluster_library WHERE cluster_id = ?1 AND library = ?2")
            .and_then(|mut statement| statement.execute(params![cluster.0, library]))
            .map_err(|e| sql("take a library from a cluster", e))?;
    }
    Ok(())
}

/// The libraries of all clusters, in order.
pub(crate) fn all_on(conn: &Connection) -> Result<Vec<ClusterLibrary>> {
    list_on(conn, None)
}

/// In one query for both, the condition would keep the index out.
fn list_on(conn: &Connection, cluster: Option<&ClusterId>) -> Result<Vec<ClusterLibrary>> {
    let found = match cluster {
        Some(id) => conn
            .prepare_cached(&format!(
                "SELECT {COLUMNS} FROM cluster_library WHERE cluster_id = ?1 ORDER BY position"
            ))
            .and_then(|mut statement| statement.query_map([&id.0], from_row)?.collect()),
        None => conn
            .prepare_cached(&format!(
                "SELECT {COLUMNS} FROM cluster_library ORDER BY cluster_id, position"
            ))
            .and_then(|mut statement| statement.query_map([], from_row)?.collect()),
    };
    found.map_err(|e| sql("read the libraries of clusters", e))
}

impl Store {
    /// Puts libraries on a cluster. One that is there stays as it is, but for one that failed or was
    /// to go, which is looked at anew.
    ///
    /// # Errors
    /// `INVALID_PARAMETER_VALUE` when there is no such cluster.
    pub async fn cluster_library_install(
        &self,
        cluster: &ClusterId,
        libraries: Vec<String>,
        user: UserId,
    ) -> Result<()> {
        let cluster = cluster.clone();
        self.write(move |tx| {
            state_of_cluster(tx, &cluster)?;
            for library in &libraries {
                library_put(tx, &cluster.0, library, user, false)?;
            }
            Ok(())
        })
        .await
    }

    /// Takes libraries from a cluster: at once when it is not up or they are not there yet, else when
    /// it starts again. What is not there is left out.
    ///
    /// # Errors
    /// `INVALID_PARAMETER_VALUE` when there is no such cluster.
    pub async fn cluster_library_uninstall(
        &self,
        cluster: &ClusterId,
        libraries: Vec<String>,
    ) -> Result<()> {
        let cluster = cluster.clone();
        self.write(move |tx| {
            let state = state_of_cluster(tx, &cluster)?;
            for library in &libraries {
                library_take(tx, &cluster, state, library)?;
            }
            Ok(())
        })
        .await
    }

    /// The libraries of one cluster or of all, in order.
    ///
    /// # Errors
    /// When the database refuses.
    pub async fn cluster_libraries(
        &self,
        cluster: Option<&ClusterId>,
    ) -> Result<Vec<ClusterLibrary>> {
        match cluster {
            // Every run on a cluster asks.
            Some(_) => self.glance(|conn| list_on(conn, cluster)),
            None => self.read(|conn| list_on(conn, None)).await,
        }
    }

    /// Notes where a library of a running cluster stands; `false`, and nothing happens, when it was
    /// changed or taken away since `seen` was read, or the cluster runs no more.
    ///
    /// # Errors
    /// When the database refuses.
    pub async fn cluster_library_set(
        &self,
        seen: ClusterLibrary,
        state: LibraryState,
        messages: Vec<String>,
        digest: Option<String>,
    ) -> Result<bool> {
        self.write(move |tx| {
            let messages = serde_json::to_string(&messages).unwrap_or_default();
            tx.prepare_cached(
                "UPDATE cluster_library SET state = ?4, messages = ?5, digest = ?6,
                   version = version + 1
                 WHERE cluster_id = ?1 AND library = ?2 AND version = ?3
                   AND 'RUNNING' = (SELECT state FROM cluster WHERE id = ?1)",
            )
            .and_then(|mut statement| {
                statement.execute(params![
                    seen.cluster.0,
                    seen.library,
                    seen.version,
                    state.as_str(),
                    messages,
                    digest
                ])
            })
            .map(|changed| changed == 1)
            .map_err(|e| sql("note where a library stands", e))
        })
        .await
    }
}
