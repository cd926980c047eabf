use forebay_types::{
    ClusterId, ClusterSource, ClusterState, Error, Millis, ObjectKind, ObjectRef, Principal,
    Result, RunId,
};
use rusqlite::{Connection, OptionalExtension, Row, Transaction, params};
use serde_json::{Map, Value};

use crate::cluster_libraries::libraries_begin_again;
use crate::connection::sql;
use crate::libraries::libraries_of_all_clusters;
use crate::permissions::{permission_clear, permission_put};
use crate::store::Store;

/// The form of the stored settings. A change of form gets a new number and a reader for the old.
const SETTINGS_VERSION: i64 = 1;
/// Older events of a cluster are forgotten.
const EVENTS_MAX: i64 = 1000;

/// A cluster's definition and where it stands.
#[derive(Debug, Clone, PartialEq)]
pub struct Cluster {
    pub id: ClusterId,
    /// What the caller sent, with the fields we do not know.
    pub settings: Map<String, Value>,
    pub creator: String,
    pub source: ClusterSource,
    pub state: ClusterState,
    pub state_message: String,
    /// Grows with every write; see [`Store::cluster_update`].
    pub version: i64,
    pub pinned: bool,
    pub created_at: Millis,
    pub started_at: Option<Millis>,
    pub restarted_at: Option<Millis>,
    pub terminated_at: Option<Millis>,
    pub last_used_at: Millis,
    /// The wire's `termination_reason`.
    pub termination: Option<Value>,
}

/// For whom a cluster is made, which ends with that.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ClusterOwner {
    /// A run, or an attempt.
    pub id: RunId,
    /// Which of several that it has.
    pub key: String,
}

#[derive(Debug, Clone, PartialEq)]
pub struct ClusterEvent {
    pub at: Millis,
    /// The wire's name, such as `RUNNING`.
    pub kind: String,
    pub details: Value,
}

const COLUMNS: &str = "id, settings, creator, source, state, state_message, version, pinned, \
     created_at, started_at, restarted_at, terminated_at, last_used_at, termination";

fn from_row(row: &Row<'_>) -> rusqlite::Result<Cluster> {
    let at = |index| row.get::<_, Option<i64>>(index).map(|at| at.map(Millis));
    let json = |index: usize, text: String| {
        serde_json::from_str::<Value>(&text).map_err(|e| {
            rusqlite::Error::FromSqlConversionFailure(
                index,
                rusqlite::types::Type::Text,
                Box::new(e),
            )
        })
    };
    let settings = match json(1, row.get(1)?)? {
        Value::Object(settings) => settings,
        _ => Map::new(),
    };
    let source = match row.get::<_, String>(3)?.as_str() {
        "JOB" => ClusterSource::Job,
        _ => ClusterSource::Api,
    };
    let termination = row.get::<_, Option<String>>(13)?;
    Ok(Cluster {
        id: ClusterId(row.get(0)?),
        settings,
        creator: row.get(2)?,
        source,
        state: ClusterState::parse(&row.get::<_, String>(4)?).unwrap_or(ClusterState::Error),
        state_message: row.get(5)?,
        version: row.get(6)?,
        pinned: row.get(7)?,
        created_at: Millis(row.get(8)?),
        started_at: at(9)?,
        restarted_at: at(10)?,
        terminated_at: at(11)?,
        last_used_at: Millis(row.get(12)?),
        termination: termination.map(|text| json(13, text)).transpose()?,
    })
}

fn get(conn: &Connection, id: &ClusterId) -> Result<Option<Cluster>> {
    conn.prepare_cached(&format!("SELECT {COLUMNS} FROM cluster WHERE id = ?1"))
        .and_then(|mut statement| statement.query_row([&id.0], from_row).optional())
        .map_err(|e| sql("read a cluster", e))
}

fn add_event(tx: &Transaction<'_>, id: &ClusterId, event: &ClusterEvent) -> Result<()> {
    tx.prepare_cached(
        "INSERT INTO cluster_event (cluster_id, at, type, details) VALUES (?1, ?2, ?3, ?4)",
    )
    .and_then(|mut statement| {
        statement.execute(params![
            id.0,
            event.at.0,
            event.kind,
            event.details.to_string()
        ])
    })
    .map_err(|e| sql("note a cluster's event", e))?;
    tx.prepare_cached(
        "DELETE FROM cluster_event WHERE cluster_id = ?1 AND id <= (
           SELECT id FROM cluster_event WHERE cluster_id = ?1 ORDER BY id DESC LIMIT 1 OFFSET ?2)",
    )
    .and_then(|mut statement| statement.execute(params![id.0, EVENTS_MAX]))
    .map_err(|e| sql("forget a cluster's old events", e))?;
    Ok(())
}

fn save(tx: &Transaction<'_>, cluster: &Cluster) -> Result<()> {
    tx.prepare_cached(
        "UPDATE cluster SET settings = ?2, settings_version = ?3, creator = ?4, state = ?5,
           state_message = ?6, version = version + 1, pinned = ?7, started_at = ?8,
           restarted_at = ?9, terminated_at = ?10, last_used_at = ?11, termination = ?12
         WHERE id = ?1",
    )
    .and_then(|mut statement| {
        statement.execute(params![
            cluster.id.0,
            Value::Object(cluster.settings.clone()).to_string(),
            SETTINGS_VERSION,
            cluster.creator,
            cluster.state.as_str(),
            cluster.state_message,
            cluster.pinned,
            cluster.started_at.map(|at| at.0),
            cluster.restarted_at.map(|at| at.0),
            cluster.terminated_at.map(|at| at.0),
            cluster.last_used_at.0,
            cluster.termination.as_ref().map(Value::to_string),
        ])
    })
    .map_err(|e| sql("save a cluster", e))?;
    Ok(())
}

/// Every cluster of the API, by id.
pub(crate) fn clusters_on(conn: &Connection) -> Result<Vec<Cluster>> {
    conn.prepare_cached(&format!(
        "SELECT {COLUMNS} FROM cluster WHERE source = 'API' ORDER BY id"
    ))
    .and_then(|mut statement| statement.query_map([], from_row)?.collect())
    .map_err(|e| sql("read all clusters", e))
}

fn of_owner(conn: &Connection, owner: &ClusterOwner) -> Result<Option<ClusterId>> {
    conn.prepare_cached("SELECT id FROM cluster WHERE owner = ?1 AND owner_key = ?2")
        .and_then(|mut statement| {
            let id = |row: &Row<'_>| row.get(0).map(ClusterId);
            statement
                .query_row(params![owner.id.0, owner.key], id)
                .optional()
        })
        .map_err(|e| sql("read the cluster of a run", e))
}

/// See [`Store::cluster_update`].
pub(crate) fn change_on(
    tx: &Transaction<'_>,
    id: &ClusterId,
    only_version: Option<i64>,
    change: impl FnOnce(&mut Cluster) -> Result<Option<ClusterEvent>>,
) -> Result<Option<Cluster>> {
    let found = get(tx, id)?;
    let mut cluster = match (found, only_version) {
        (Some(cluster), None) => cluster,
        (Some(cluster), Some(version)) if cluster.version == version => cluster,
        (_, Some(_)) => return Ok(None),
        (None, None) => return Err(missing(id)),
    };
    let times = |it: &Cluster| (it.started_at, it.restarted_at, it.terminated_at);
    let before = times(&cluster);
    let event = change(&mut cluster)?;
    save(tx, &cluster)?;
    if times(&cluster) != before {
        libraries_begin_again(tx, id)?;
    }
    cluster.version += 1;
    if let Some(event) = event {
        add_event(tx, id, &event)?;
    }
    Ok(Some(cluster))
}

impl Store {
    /// Keeps a new cluster with its first event, and makes its creator its manager.
    ///
    /// A repeated `idempotency_token` gives the cluster that the first call made, and so does the
    /// same owner.
    ///
    /// # Errors
    /// `RESOURCE_ALREADY_EXISTS` when the id is taken.
    pub async fn cluster_create(
        &self,
        cluster: Cluster,
        idempotency_token: Option<String>,
        owner: Option<ClusterOwner>,
        event: ClusterEvent,
    ) -> Result<ClusterId> {
        // Each task of a run that shares a cluster asks, and need not wait for the writer.
        if let Some(owner) = &owner
            && let Some(id) = self.glance(|conn| of_owner(conn, owner))?
        {
            return Ok(id);
        }
        self.write(move |tx| {
            let (owner, key) = owner.map(|owner| (owner.id.0, owner.key)).unzip();
            let earlier: Option<String> = tx
                .prepare_cached(
                    "SELECT id FROM cluster WHERE idempotency_token = ?1
                       OR (owner = ?2 AND owner_key = ?3)",
                )
                .and_then(|mut statement| {
                    let same = params![idempotency_token, owner, key];
                    statement.query_row(same, |row| row.get(0)).optional()
                })
                .map_err(|e| sql("read a cluster", e))?;
            if let Some(id) = earlier {
                return Ok(ClusterId(id));
            }
            if get(tx, &cluster.id)?.is_some() {
                return Err(Error::exists(format!(
                    "Cluster {} already exists",
                    cluster.id
                )));
            }
            tx.prepare_cached(
                "INSERT INTO cluster (id, settings, settings_version, creator, source, state,
                   state_message, version, created_at, last_used_at, idempotency_token,
                   owner, owner_key)
                 VALUES (?1, '{}', ?2, ?3, ?4, ?5, '', 0, ?6, ?6, ?7, ?8, ?9)",
            )
            .and_then(|mut statement| {
                statement.execute(params![
                    cluster.id.0,
                    SETTINGS_VERSION,
                    cluster.creator,
                    cluster.source.as_str(),
                    cluster.state.as_str(),
                    cluster.created_at.0,
                    idempotency_token,
                    owner,
                    key
                ])
            })
            .map_err(|e| sql("create a cluster", e))?;
            save(tx, &cluster)?;
            if cluster.source == ClusterSource::Api {
                libraries_of_all_clusters(tx, &cluster.id)?;
            }
            let object = ObjectRef::new(ObjectKind::Cluster, &cluster.id);
            let creator = Principal::User(cluster.creator.clone());
            permission_put(tx, &object, &creator, ObjectKind::Cluster.creator_level())?;
            add_event(tx, &cluster.id, &event)?;
            Ok(cluster.id)
        })
        .await
    }

    /// # Errors
    /// When the database refuses.
    pub async fn cluster_get(&self, id: &ClusterId) -> Result<Option<Cluster>> {
        let id = id.clone();
        self.glance(|conn| get(conn, &id))
    }

    /// Whether the owner of a cluster has not ended yet; no for one without owner.
    ///
    /// # Errors
    /// When the database refuses.
    pub async fn cluster_is_owned(&self, id: &ClusterId) -> Result<bool> {
        let id = id.clone();
        self.glance(|conn| {
            conn.prepare_cached(
                "SELECT EXISTS (SELECT 1 FROM cluster JOIN run ON run.id = owner
                     WHERE cluster.id = ?1 AND run.phase <> 'ended')
                   OR EXISTS (SELECT 1 FROM cluster JOIN attempt ON attempt.id = owner
                     WHERE cluster.id = ?1 AND attempt.phase <> 'ended')",
            )
            .and_then(|mut statement| statement.query_row([&id.0], |row| row.get(0)))
            .map_err(|e| sql("look for the owner of a cluster", e))
        })
    }

    /// All clusters, newest first; with `states` only those in one of them.
    ///
    /// # Errors
    /// When the database refuses.
    pub async fn cluster_list(&self, states: &'static [ClusterState]) -> Result<Vec<Cluster>> {
        self.read(move |conn| {
            let names: Vec<_> = states
                .iter()
                .map(|state| format!("'{}'", state.as_str()))
                .collect();
            let only = match names.as_slice() {
                [] => String::new(),
                names => format!("WHERE state IN ({})", names.join(", ")),
            };
            conn.prepare_cached(&format!(
                "SELECT {COLUMNS} FROM cluster {only} ORDER BY created_at DESC, id LIMIT 10000"
            ))
            .and_then(|mut statement| statement.query_map([], from_row)?.collect())
            .map_err(|e| sql("list clusters", e))
        })
        .await
    }

    /// Changes a cluster in one transaction and notes the event that `change` returns.
    ///
    /// With `only_version` nothing happens, and the answer is `None`, when the cluster was changed
    /// since that version was read; so slow background work cannot undo a later call.
    ///
    /// # Errors
    /// What `change` returned; then nothing was changed. `None` also when there is no such cluster
    /// and `only_version` is given, else `INVALID_PARAMETER_VALUE`.
    pub async fn cluster_update(
        &self,
        id: &ClusterId,
        only_version: Option<i64>,
        change: impl FnOnce(&mut Cluster) -> Result<Option<ClusterEvent>> + Send + 'static,
    ) -> Result<Option<Cluster>> {
        let id = id.clone();
        self.write(move |tx| change_on(tx, &id, only_version, change))
            .await
    }

    /// Notes that a cluster is in use; not a change of it, so its version stays.
    ///
    /// # Errors
    /// When the database refuses.
    pub async fn cluster_touch(&self, id: &ClusterId, now: Millis) -> Result<()> {
        let id = id.clone();
        self.write(move |tx| {
            tx.prepare_cached("UPDATE cluster SET last_used_at = ?2 WHERE id = ?1")
                .and_then(|mut statement| statement.execute(params![id.0, now.0]))
                .map_err(|e| sql("note a cluster's use", e))?;
            Ok(())
        })
        .await
    }

    /// Removes a cluster, its events and its permissions for good.
    ///
    /// # Errors
    /// `INVALID_PARAMETER_VALUE` when there is none.
    pub async fn cluster_remove(&self, id: &ClusterId) -> Result<()> {
        let id = id.clone();
        self.write(move |tx| {
            let removed = tx
                .execute("DELETE FROM cluster WHERE id = ?1", [&id.0])
                .map_err(|e| sql("remove a cluster", e))?;
            if removed == 0 {
                return Err(missing(&id));
            }
            permission_clear(tx, &ObjectRef::new(ObjectKind::Cluster, &id))
        })
        .await
    }

    /// The events of a cluster, oldest first.
    ///
    /// # Errors
    /// When the database refuses.
    pub async fn cluster_events(&self, id: &ClusterId) -> Result<Vec<ClusterEvent>> {
        let id = id.clone();
        self.read(move |conn| {
            let rows: Vec<(i64, String, String)> = conn
                .prepare_cached(
                    "SELECT at, type, details FROM cluster_event
                     WHERE cluster_id = ?1 ORDER BY at, id LIMIT 10000",
                )
                .and_then(|mut statement| {
                    statement
                        .query_map([&id.0], |row| Ok((row.get(0)?, row.get(1)?, row.get(2)?)))?
                        .collect()
                })
                .map_err(|e| sql("read a cluster's events", e))?;
            let events = rows.into_iter().map(|(at, kind, details)| ClusterEvent {
                at: Millis(at),
                kind,
                details: serde_json::from_str(&details).unwrap_or_default(),
            });
            Ok(events.collect())
        })
        .await
    }
}

/// The wording and the code that the SDKs read as "does not exist".
fn missing(id: &ClusterId) -> Error {
    Error::invalid(format!("Cluster {id} does not exist"))
}
