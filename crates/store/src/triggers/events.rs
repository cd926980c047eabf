use forebay_types::{Error, ErrorCode, JobId, Millis, Result};
use rusqlite::{OptionalExtension, params};

use crate::connection::sql;
use crate::store::{Store, next_id};

/// Events that may wait for one job.
const PENDING_MAX: u32 = 10_000;
/// Events that are looked at in one go.
const BATCH_MAX: u32 = 1_000;
/// How long an event that has become runs is kept, so that a repeated call is known.
const KEPT_MS: i64 = 7 * 24 * 3_600_000;

#[derive(Debug, Clone)]
pub struct NewEvent {
    pub topic: String,
    pub key: Option<String>,
    /// JSON.
    pub body: String,
    /// The same one makes one event.
    pub idempotency_key: Option<String>,
    pub sender: String,
}

/// An event that has not become a run of a job yet.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PendingEvent {
    pub id: i64,
    pub key: Option<String>,
    pub body: String,
    pub received_at: Millis,
}

impl Store {
    /// The jobs that want the events of a topic.
    ///
    /// # Errors
    /// When the database refuses.
    pub async fn event_subscribers(&self, topic: String) -> Result<Vec<JobId>> {
        self.read(move |conn| {
            conn.prepare_cached("SELECT job_id FROM trigger WHERE kind = 'event' AND watches = ?1")
                .and_then(|mut statement| {
                    statement
                        .query_map([topic], |row| row.get("job_id").map(JobId))?
                        .collect()
                })
                .map_err(|e| sql("look for subscribers", e))
        })
        .await
    }

    /// Stores an event for `jobs` and makes their triggers due. A repeated idempotency key gives
    /// the first event's id and changes nothing.
    ///
    /// # Errors
    /// `REQUEST_LIMIT_EXCEEDED` when too many events wait for one of the jobs.
    pub async fn event_create(&self, new: NewEvent, jobs: Vec<JobId>, now: Millis) -> Result<i64> {
        self.write(move |tx| {
            let known = tx
                .prepare_cached("SELECT id FROM event WHERE idempotency_key = ?1")
                .and_then(|mut statement| {
                    statement
                        .query_row([&new.idempotency_key], |row| row.get("id"))
                        .optional()
                })
                .map_err(|e| sql("look for a repeated event", e))?;
            if let Some(id) = known {
                return Ok(id);
            }
            let id = next_id(tx)?;
            tx.execute(
                "INSERT INTO event (id, topic, key, body, idempotency_key, sender, received_at)
                 VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7)",
                params![
                    id,
                    new.topic,
                    new.key,
                    new.body,
                    new.idempotency_key,
                    new.sender,
                    now.0
                ],
            )
            .map_err(|e| sql("store an event", e))?;
            for job in jobs {
                deliver(tx, job, id, now)?;
            }
            tx.execute(
                "DELETE FROM event WHERE received_at < ?1
                   AND NOT EXISTS (SELECT 1 FROM event_delivery WHERE event_id = event.id)",
                [now.0 - KEPT_MS],
            )
            .map_err(|e| sql("forget old events", e))?;
            Ok(id)
        })
        .await
    }

    /// The oldest events that wait for a job.
    ///
    /// # Errors
    /// When the database refuses.
    pub async fn event_pending(&self, job: JobId) -> Result<Vec<PendingEvent>> {
        self.read(move |conn| {
            conn.prepare_cached(&format!(
                "SELECT event.id, event.key, event.body, event.received_at
                 FROM event_delivery JOIN event ON event.id = event_id
                 WHERE job_id = ?1 ORDER BY event.id LIMIT {BATCH_MAX}"
            ))
            .and_then(|mut statement| {
                statement
                    .query_map([job.0], |row| {
                        Ok(PendingEvent {
                            id: row.get("id")?,
                            key: row.get("key")?,
                            body: row.get("body")?,
                            received_at: Millis(row.get("received_at")?),
                        })
                    })?
                    .collect()
            })
            .map_err(|e| sql("read waiting events", e))
        })
        .await
    }

    /// How many events wait for a job.
    ///
    /// # Errors
    /// When the database refuses.
    pub async fn event_pending_count(&self, job: JobId) -> Result<u32> {
        self.read(move |conn| pending_count(conn, job)).await
    }
}

fn pending_count(conn: &rusqlite::Connection, job: JobId) -> Result<u32> {
    conn.prepare_cached("SELECT count(*) FROM event_delivery WHERE job_id = ?1")
        .and_then(|mut statement| statement.query_row([job.0], |row| row.get(0)))
        .map_err(|e| sql("count waiting events", e))
}

fn deliver(tx: &rusqlite::Transaction<'_>, job: JobId, event: i64, now: Millis) -> Result<()> {
    if pending_count(tx, job)? >= PENDING_MAX {
        let message = format!("{PENDING_MAX} events wait for job {job}, as many as may.");
        return Err(Error::new(ErrorCode::RequestLimitExceeded, message));
    }
    // The job may have stopped to listen since it was asked.
    let made_due = tx
        .execute(
            "UPDATE trigger SET due_at = min(coalesce(due_at, ?2), ?2), version = version + 1
             WHERE job_id = ?1 AND kind = 'event'",
            [job.0, now.0],
        )
        .map_err(|e| sql("make a trigger due", e))?;
    if made_due > 0 {
        tx.execute(
            "INSERT INTO event_delivery (job_id, event_id) VALUES (?1, ?2)",
            [job.0, event],
        )
        .map_err(|e| sql("deliver an event", e))?;
    }
    Ok(())
}
