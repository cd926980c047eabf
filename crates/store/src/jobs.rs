use forebay_types::{Error, Grant, JobId, Millis, ObjectKind, ObjectRef, Result, UserId};
use rusqlite::{Connection, OptionalExtension, Row, params};
use serde_json::{Map, Value};

use crate::connection::sql;
use crate::permissions::permission_put;
use crate::store::{Store, next_id};
use crate::triggers::{NewTrigger, forget_triggers, sync_triggers};

/// A job definition. `settings` is the client's document, normalised to the many-task form.
#[derive(Debug, Clone)]
pub struct Job {
    pub id: JobId,
    pub creator_id: UserId,
    pub creator_name: String,
    pub settings: Map<String, Value>,
    pub created_at: Millis,
}

/// Which jobs to list; newest first.
#[derive(Debug, Clone, Default)]
pub struct JobFilter {
    /// Exact name, without case.
    pub name: Option<String>,
    /// Only jobs with smaller ids than this.
    pub before: Option<JobId>,
    pub offset: usize,
    pub limit: usize,
    /// Only jobs that were shared with this user or with everybody.
    pub visible_to: Option<String>,
}

const COLUMNS: &str = "id, creator_id, creator_name, settings, created_at";

fn job_from_row(row: &Row<'_>) -> rusqlite::Result<Job> {
    Ok(Job {
        id: JobId(row.get(0)?),
        creator_id: UserId(row.get(1)?),
        creator_name: row.get(2)?,
        settings: document(row.get_ref(3)?.as_str()?),
        created_at: Millis(row.get(4)?),
    })
}

/// Documents are written by us alone, so a broken one reads as empty rather than failing a list.
pub(crate) fn document(text: &str) -> Map<String, Value> {
    serde_json::from_str(text).unwrap_or_default()
}

/// Every job there is, by id.
pub(crate) fn jobs_on(conn: &Connection) -> Result<Vec<Job>> {
    conn.prepare_cached(&format!(
        "SELECT {COLUMNS} FROM job WHERE deleted_at IS NULL ORDER BY id"
    ))
    .and_then(|mut statement| statement.query_map([], job_from_row)?.collect())
    .map_err(|e| sql("read all jobs", e))
}

pub(crate) fn missing_job(id: JobId) -> Error {
    Error::invalid(format!("Job {id} does not exist."))
}

pub(crate) fn job_get_on(conn: &Connection, id: JobId) -> Result<Job> {
    conn.prepare_cached(&format!(
        "SELECT {COLUMNS} FROM job WHERE id = ?1 AND deleted_at IS NULL"
    ))
    .and_then(|mut statement| statement.query_row([id.0], job_from_row).optional())
    .map_err(|e| sql("read a job", e))?
    .ok_or_else(|| missing_job(id))
}

/// A job's document, and what follows from it.
#[derive(Debug, Clone)]
pub struct JobSettings {
    pub name: String,
    pub document: Map<String, Value>,
    /// When it runs by itself; kept in step with the document, in the same transaction.
    pub triggers: Vec<NewTrigger>,
}

impl Store {
    /// Makes a job with its first grants.
    ///
    /// # Errors
    /// When the database refuses.
    pub async fn job_create(
        &self,
        creator: (UserId, String),
        settings: JobSettings,
        grants: Vec<Grant>,
        now: Millis,
    ) -> Result<JobId> {
        let text = Value::Object(settings.document).to_string();
        self.write(move |tx| {
            let id = next_id(tx)?;
            tx.execute(
                "INSERT INTO job (id, creator_id, creator_name, name, settings, created_at)
                 VALUES (?1, ?2, ?3, ?4, ?5, ?6)",
                params![id, creator.0.0, creator.1, settings.name, text, now.0],
            )
            .map_err(|e| sql("create a job", e))?;
            // Grants outlive a deleted job: only who could see it hears that it is gone.
            let object = ObjectRef::new(ObjectKind::Job, id);
            for grant in &grants {
                permission_put(tx, &object, &grant.principal, grant.level)?;
            }
            sync_triggers(tx, JobId(id), &settings.triggers, now)?;
            Ok(JobId(id))
        })
        .await
    }

    /// # Errors
    /// `Job N does not exist.`, in the form that clients recognise.
    pub async fn job_get(&self, id: JobId) -> Result<Job> {
        self.read(move |conn| job_get_on(conn, id)).await
    }

    /// Who made a job, also when it was deleted since: its runs go on.
    ///
    /// # Errors
    /// When the database refuses.
    pub async fn job_creator(&self, id: JobId) -> Result<Option<UserId>> {
        self.read(move |conn| {
            conn.prepare_cached("SELECT creator_id FROM job WHERE id = ?1")
                .and_then(|mut statement| {
                    statement
                        .query_row([id.0], |row| row.get(0).map(UserId))
                        .optional()
                })
                .map_err(|e| sql("read a job", e))
        })
        .await
    }

    /// # Errors
    /// When the database refuses.
    pub async fn job_list(&self, filter: JobFilter) -> Result<Vec<Job>> {
        self.read(move |conn| {
            conn.prepare_cached(&format!(
                "SELECT {COLUMNS} FROM job
                 WHERE deleted_at IS NULL AND (?1 IS NULL OR name = ?1) AND (?2 IS NULL OR id < ?2)
                   AND (?5 IS NULL OR id IN (
                     SELECT CAST(object_id AS INTEGER) FROM permission WHERE kind = 'jobs'
                       AND ((principal_kind = 'user' AND principal = ?5)
                         OR (principal_kind = 'group' AND principal = 'users'))))
                 ORDER BY id DESC LIMIT ?3 OFFSET ?4"
            ))
            .and_then(|mut statement| {
                let before = filter.before.map(|id| id.0);
                let bounds = params![
                    filter.name,
                    before,
                    filter.limit,
                    filter.offset,
                    filter.visible_to
                ];
                statement.query_map(bounds, job_from_row)?.collect()
            })
            .map_err(|e| sql("list jobs", e))
        })
        .await
    }

    /// What jobs say in the object `field` of their own settings, as the JSON they wrote.
    ///
    /// # Errors
    /// When the database refuses.
    pub async fn job_own(&self, field: &'static str) -> Result<Vec<(JobId, Value)>> {
        self.read(move |conn| {
            conn.prepare_cached(
                "SELECT id, json_extract(settings, ?1) FROM job
                 WHERE deleted_at IS NULL AND json_type(settings, ?1) = 'object'",
            )
            .and_then(|mut statement| {
                let path = format!("$.forebay.{field}");
                let pairs = statement.query_map([path], |row| {
                    let text = row.get_ref(1)?.as_str()?;
                    let value = serde_json::from_str(text).unwrap_or(Value::Null);
                    Ok((JobId(row.get(0)?), value))
                })?;
                pairs.collect()
            })
            .map_err(|e| sql("read the own settings of jobs", e))
        })
        .await
    }

    /// Replaces the settings by what `change` makes of them, in one transaction.
    ///
    /// # Errors
    /// `Job N does not exist.`, or what `change` refused.
    pub async fn job_change(
        &self,
        id: JobId,
        change: impl FnOnce(Map<String, Value>) -> Result<JobSettings> + Send + 'static,
        now: Millis,
    ) -> Result<()> {
        self.write(move |tx| {
            let job = job_get_on(tx, id)?;
            let settings = change(job.settings)?;
            sync_triggers(tx, id, &settings.triggers, now)?;
            tx.execute(
                "UPDATE job SET name = ?2, settings = ?3 WHERE id = ?1",
                params![
                    id.0,
                    settings.name,
                    Value::Object(settings.document).to_string()
                ],
            )
            .map_err(|e| sql("change a job", e))?;
            Ok(())
        })
        .await
    }

    /// Hides the job; its runs stay in history.
    ///
    /// # Errors
    /// `Job N does not exist.`
    pub async fn job_delete(&self, id: JobId, now: Millis) -> Result<()> {
        self.write(move |tx| {
            let deleted = tx
                .execute(
                    "UPDATE job SET deleted_at = ?2 WHERE id = ?1 AND deleted_at IS NULL",
                    params![id.0, now.0],
                )
                .map_err(|e| sql("delete a job", e))?;
            if deleted == 0 {
                return Err(missing_job(id));
            }
            forget_triggers(tx, id)
        })
        .await
    }
}
