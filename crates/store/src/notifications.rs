//! Destinations of notifications, and the outbox: what is to be told is written down in the
//! transaction of what it tells of, and delivered from there.

use forebay_engine::{Alerts, Effect, Event, Moment, Phase, Recipient, Verdict};
use forebay_types::{Error, Millis, Result, RunId};
use rusqlite::{Connection, OptionalExtension, Row, Transaction, params};
use serde_json::{Value, json};

use crate::connection::sql;
use crate::runs::{Run, run_get_on};
use crate::store::Store;

/// A destination, with its configuration sealed.
#[derive(Debug, Clone)]
pub struct DestinationRow {
    pub id: String,
    pub display_name: String,
    pub kind: String,
    pub sealed: Vec<u8>,
}

/// A message to one recipient.
#[derive(Debug, Clone)]
pub struct Notification {
    pub id: String,
    pub run_id: RunId,
    pub attempt_id: Option<RunId>,
    pub moment: Moment,
    pub to: Recipient,
    /// `{job_id, run_name, task_key, verdict, message}`; what does not apply is null.
    pub facts: Value,
    pub created_at: Millis,
    /// `due`, `delivered` or `given_up`.
    pub state: String,
    pub tries: u32,
    pub due_at: Millis,
    pub tried_at: Option<Millis>,
    pub error: Option<String>,
}

const COLUMNS: &str = "id, run_id, attempt_id, moment, destination, mail, facts, created_at, state,
    tries, due_at, tried_at, error";

fn notification(row: &Row<'_>) -> rusqlite::Result<Notification> {
    let destination: Option<String> = row.get("destination")?;
    let mail: Option<String> = row.get("mail")?;
    let facts: String = row.get("facts")?;
    let moment: String = row.get("moment")?;
    Ok(Notification {
        id: row.get("id")?,
        run_id: RunId(row.get("run_id")?),
        attempt_id: row.get::<_, Option<i64>>("attempt_id")?.map(RunId),
        moment: Moment::parse(&moment).unwrap_or(Moment::Failure),
        to: match destination {
            Some(id) => Recipient::Destination(id),
            None => Recipient::Mail(mail.unwrap_or_default()),
        },
        facts: serde_json::from_str(&facts).unwrap_or(Value::Null),
        created_at: Millis(row.get("created_at")?),
        state: row.get("state")?,
        tries: row.get("tries")?,
        due_at: Millis(row.get("due_at")?),
        tried_at: row.get::<_, Option<i64>>("tried_at")?.map(Millis),
        error: row.get("error")?,
    })
}

fn destination(row: &Row<'_>) -> rusqlite::Result<DestinationRow> {
    Ok(DestinationRow {
        id: row.get(0)?,
        display_name: row.get(1)?,
        kind: row.get(2)?,
        sealed: row.get(3)?,
    })
}

/// A task's attempt, as a notification names it.
#[derive(Clone, Copy)]
struct About<'a> {
    task: usize,
    attempt: u32,
    verdict: Option<&'a str>,
}

/// Writes down what is to be told of a change of a run.
pub(crate) fn follow(
    tx: &Transaction<'_>,
    id: RunId,
    event: &Event,
    (effects, phase): (&[Effect], Option<Phase>),
    now: Millis,
) -> Result<()> {
    let run = alerting(tx, id)?;
    let Some(run) = run.as_ref().filter(|run| mentions_alerts(run)) else {
        return Ok(());
    };
    if phase == Some(Phase::Running) {
        tell_run(tx, run, Moment::Start, None, now)?;
    }
    if let Event::AttemptEnded {
        task,
        attempt,
        verdict,
        ..
    } = event
    {
        let (task, attempt, verdict) = (*task, *attempt, *verdict);
        let again = effects.iter().any(|effect| {
            matches!(effect, Effect::Start { task: t, .. } | Effect::StartAt { task: t, .. } if *t == task)
        });
        let alerts = task_alerts(run, task);
        if let Some(moment) = alerts.end(verdict, !again) {
            let about = About {
                task,
                attempt,
                verdict: Some(verdict.as_str()),
            };
            tell_task(tx, run, &alerts, moment, about, now)?;
        }
    }
    for effect in effects {
        if let Effect::Finish(verdict) = effect {
            finished(tx, run, *verdict, now)?;
        }
    }
    Ok(())
}

/// The same for a run that was ended from outside: let in never, or given up.
pub(crate) fn ended(tx: &Transaction<'_>, id: RunId, verdict: Verdict, now: Millis) -> Result<()> {
    match alerting(tx, id)? {
        Some(run) => finished(tx, &run, verdict, now),
        None => Ok(()),
    }
}

/// The same for an attempt whose program began.
pub(crate) fn began(
    tx: &Transaction<'_>,
    id: RunId,
    (task, attempt): (usize, u32),
    now: Millis,
) -> Result<()> {
    let Some(run) = alerting(tx, id)? else {
        return Ok(());
    };
    let alerts = task_alerts(&run, task);
    let Some(moment) = alerts.start(attempt) else {
        return Ok(());
    };
    let about = About {
        task,
        attempt,
        verdict: None,
    };
    tell_task(tx, &run, &alerts, moment, about, now)
}

fn finished(tx: &Transaction<'_>, run: &Run, verdict: Verdict, now: Millis) -> Result<()> {
    match run_alerts(run).end(verdict, true) {
        Some(moment) => tell_run(tx, run, moment, Some(verdict.as_str()), now),
        None => Ok(()),
    }
}

/// The run, when its settings have anything to do with notifications. Most have not, and are not
/// even parsed.
fn alerting(conn: &Connection, id: RunId) -> Result<Option<Run>> {
    let alerting: bool = conn
        .prepare_cached("SELECT instr(settings, '_notifications\"') > 0 FROM run WHERE id = ?1")
        .and_then(|mut statement| statement.query_row([id.0], |row| row.get(0)).optional())
        .map_err(|e| sql("look for notifications", e))?
        .unwrap_or(false);
    if alerting {
        run_get_on(conn, id)
    } else {
        Ok(None)
    }
}

fn mentions_alerts(run: &Run) -> bool {
    let fields = ["webhook_notifications", "email_notifications"];
    let tasks = run.settings.get("tasks").and_then(Value::as_array);
    let mut tasks = tasks.into_iter().flatten();
    fields.iter().any(|field| run.settings.contains_key(*field))
        || tasks.any(|task| fields.iter().any(|field| task.get(field).is_some()))
}

fn run_alerts(run: &Run) -> Alerts {
    // It was checked when the job was written.
    Alerts::parse(&run.settings).unwrap_or_default()
}

fn task_of(run: &Run, task: usize) -> Option<&Value> {
    run.settings.get("tasks")?.get(task)
}

fn task_alerts(run: &Run, task: usize) -> Alerts {
    let settings = task_of(run, task).and_then(Value::as_object);
    settings
        .and_then(|settings| Alerts::parse(settings).ok())
        .unwrap_or_default()
}

fn tell_run(
    tx: &Transaction<'_>,
    run: &Run,
    moment: Moment,
    verdict: Option<&str>,
    now: Millis,
) -> Result<()> {
    for to in run_alerts(run).recipients(moment) {
        let facts = facts(tx, run, None, verdict)?;
        insert(tx, (run.id, None), moment, &to, &facts, now)?;
    }
    Ok(())
}

fn tell_task(
    tx: &Transaction<'_>,
    run: &Run,
    alerts: &Alerts,
    moment: Moment,
    about: About<'_>,
    now: Millis,
) -> Result<()> {
    let recipients = alerts.recipients(moment);
    if recipients.is_empty() {
        return Ok(());
    }
    let id: Option<i64> = tx
        .prepare_cached("SELECT id FROM attempt WHERE run_id = ?1 AND task = ?2 AND attempt = ?3")
        .and_then(|mut statement| {
            let bounds = params![run.id.0, about.task, about.attempt];
            statement.query_row(bounds, |row| row.get(0)).optional()
        })
        .map_err(|e| sql("find an attempt", e))?;
    let key = task_of(run, about.task).and_then(|task| task.get("task_key"));
    for to in recipients {
        let facts = facts(tx, run, key, about.verdict)?;
        let place = (run.id, id.map(RunId));
        insert(tx, place, moment, &to, &facts, now)?;
    }
    Ok(())
}

fn facts(
    tx: &Transaction<'_>,
    run: &Run,
    task_key: Option<&Value>,
    verdict: Option<&str>,
) -> Result<Value> {
    // The words of the end were written after the run was read.
    let message: String = tx
        .query_row("SELECT message FROM run WHERE id = ?1", [run.id.0], |row| {
            row.get(0)
        })
        .map_err(|e| sql("read a run's message", e))?;
    Ok(json!({
        "job_id": run.job_id,
        "run_name": run.name,
        "task_key": task_key,
        "verdict": verdict,
        "message": message,
    }))
}

fn insert(
    tx: &Transaction<'_>,
    (run, attempt): (RunId, Option<RunId>),
    moment: Moment,
    to: &Recipient,
    facts: &Value,
    now: Millis,
) -> Result<()> {
    let (destination, mail) = match to {
        Recipient::Destination(id) => (Some(id), None),
        Recipient::Mail(address) => (None, Some(address)),
    };
    tx.prepare_cached(
        "INSERT INTO notification (id, run_id, attempt_id, moment, destination, mail, facts,
           created_at, state, due_at)
         VALUES (lower(hex(randomblob(16))), ?1, ?2, ?3, ?4, ?5, ?6, ?7, 'due', ?7)",
    )
    .and_then(|mut statement| {
        statement.execute(params![
            run.0,
            attempt.map(|id| id.0),
            moment.as_str(),
            destination,
            mail,
            facts.to_string(),
            now.0
        ])
    })
    .map_err(|e| sql("note a notification", e))?;
    Ok(())
}

impl Store {
    /// Notes each active run and task that takes longer than its health rule says, once. Returns
    /// how many messages that made.
    ///
    /// # Errors
    /// When the database refuses.
    pub async fn notification_slow(&self, now: Millis) -> Result<usize> {
        let slow = self.read(move |conn| slow_on(conn, now)).await?;
        if slow.is_empty() {
            return Ok(0);
        }
        self.write(move |tx| {
            let mut made = 0;
            for (run, task) in slow {
                let told = already_slow(tx, &run, task)?;
                if told {
                    continue;
                }
                match task {
                    None => tell_run(tx, &run, Moment::Slow, None, now)?,
                    Some((task, attempt)) => {
                        let alerts = task_alerts(&run, task);
                        let about = About {
                            task,
                            attempt,
                            verdict: None,
                        };
                        tell_task(tx, &run, &alerts, Moment::Slow, about, now)?;
                    }
                }
                made += 1;
            }
            Ok(made)
        })
        .await
    }

    /// Messages that are due, oldest first, at most `limit`.
    ///
    /// # Errors
    /// When the database refuses.
    pub async fn notification_due(&self, now: Millis, limit: usize) -> Result<Vec<Notification>> {
        self.read(move |conn| {
            conn.prepare_cached(&format!(
                "SELECT {COLUMNS} FROM notification WHERE state = 'due' AND due_at <= ?1
                 ORDER BY due_at LIMIT ?2"
            ))
            .and_then(|mut statement| {
                let rows = statement.query_map(params![now.0, limit], notification)?;
                rows.collect()
            })
            .map_err(|e| sql("list due notifications", e))
        })
        .await
    }

    /// Has those messages delivered now that wait since a time that is to come: the clock was put back.
    ///
    /// # Errors
    /// When the database refuses.
    pub async fn notification_overtaken(&self, now: Millis) -> Result<()> {
        self.write(move |tx| {
            tx.execute(
                "UPDATE notification SET due_at = ?1
                 WHERE state = 'due' AND due_at > ?1 AND coalesce(tried_at, created_at) > ?1",
                [now.0],
            )
            .map(drop)
            .map_err(|e| sql("look at notifications anew", e))
        })
        .await
    }

    /// Records a try: delivered when there is no `error`, else due again at `again`, or given up.
    ///
    /// # Errors
    /// When the database refuses.
    pub async fn notification_tried(
        &self,
        id: String,
        error: Option<String>,
        again: Option<Millis>,
        now: Millis,
    ) -> Result<()> {
        let state = match (&error, again) {
            (None, _) => "delivered",
            (Some(_), Some(_)) => "due",
            (Some(_), None) => "given_up",
        };
        self.write(move |tx| {
            tx.prepare_cached(
                "UPDATE notification SET state = ?2, tries = tries + 1, tried_at = ?3, error = ?4,
                   due_at = coalesce(?5, due_at) WHERE id = ?1",
            )
            .and_then(|mut statement| {
                statement.execute(params![id, state, now.0, error, again.map(|at| at.0)])
            })
            .map_err(|e| sql("record a delivery", e))?;
            Ok(())
        })
        .await
    }

    /// # Errors
    /// When the database refuses.
    pub async fn notification_list(&self, run: RunId) -> Result<Vec<Notification>> {
        self.read(move |conn| {
            conn.prepare_cached(&format!(
                "SELECT {COLUMNS} FROM notification WHERE run_id = ?1 ORDER BY created_at, id"
            ))
            .and_then(|mut statement| statement.query_map([run.0], notification)?.collect())
            .map_err(|e| sql("list a run's notifications", e))
        })
        .await
    }

    /// # Errors
    /// When the database refuses.
    pub async fn notification_get(&self, id: String) -> Result<Option<Notification>> {
        self.read(move |conn| {
            conn.prepare_cached(&format!("SELECT {COLUMNS} FROM notification WHERE id = ?1"))
                .and_then(|mut statement| statement.query_row([id], notification).optional())
                .map_err(|e| sql("read a notification", e))
        })
        .await
    }

    /// Makes a message due again from its first try on, whatever became of it.
    ///
    /// # Errors
    /// When the database refuses.
    pub async fn notification_again(&self, id: String, now: Millis) -> Result<()> {
        self.write(move |tx| {
            tx.execute(
                "UPDATE notification SET state = 'due', tries = 0, due_at = ?2 WHERE id = ?1",
                params![id, now.0],
            )
            .map_err(|e| sql("deliver again", e))?;
            Ok(())
        })
        .await
    }

    /// # Errors
    /// When the database refuses.
    pub async fn destination_put(&self, row: DestinationRow, now: Millis) -> Result<()> {
        self.write(move |tx| {
            tx.execute(
                "INSERT INTO notification_destination VALUES (?1, ?2, ?3, ?4, ?5)
                 ON CONFLICT DO UPDATE SET display_name = excluded.display_name,
                   kind = excluded.kind, sealed = excluded.sealed",
                params![row.id, row.display_name, row.kind, row.sealed, now.0],
            )
            .map_err(|e| sql("keep a destination", e))?;
            Ok(())
        })
        .await
    }

    /// # Errors
    /// When the database refuses.
    pub async fn destination_get(&self, id: String) -> Result<Option<DestinationRow>> {
        self.read(move |conn| {
            conn.prepare_cached(
                "SELECT id, display_name, kind, sealed FROM notification_destination WHERE id = ?1",
            )
            .and_then(|mut statement| statement.query_row([id], destination).optional())
            .map_err(|e| sql("read a destination", e))
        })
        .await
    }

    /// All destinations after the id `after`, at most `limit`.
    ///
    /// # Errors
    /// When the database refuses.
    pub async fn destination_list(
        &self,
        after: String,
        limit: usize,
    ) -> Result<Vec<DestinationRow>> {
        self.read(move |conn| {
            conn.prepare_cached(
                "SELECT id, display_name, kind, sealed FROM notification_destination
                 WHERE id > ?1 ORDER BY id LIMIT ?2",
            )
            .and_then(|mut statement| {
                let rows = statement.query_map(params![after, limit], destination)?;
                rows.collect()
            })
            .map_err(|e| sql("list destinations", e))
        })
        .await
    }

    /// # Errors
    /// `RESOURCE_DOES_NOT_EXIST`.
    pub async fn destination_delete(&self, id: String) -> Result<()> {
        self.write(move |tx| {
            let deleted = tx
                .execute("DELETE FROM notification_destination WHERE id = ?1", [&id])
                .map_err(|e| sql("delete a destination", e))?;
            if deleted == 0 {
                let message = format!("Notification destination '{id}' does not exist.");
                return Err(Error::missing(message));
            }
            Ok(())
        })
        .await
    }
}

/// A run that is slow, or one of its tasks with the number of the attempt.
type Slow = (Run, Option<(usize, u32)>);

fn slow_on(conn: &Connection, now: Millis) -> Result<Vec<Slow>> {
    let ids: Vec<RunId> = conn
        .prepare_cached(
            "SELECT id FROM run WHERE phase <> 'ended' AND started_at IS NOT NULL
               AND instr(settings, 'RUN_DURATION_SECONDS') > 0",
        )
        .and_then(|mut statement| {
            let ids = statement.query_map([], |row| row.get(0).map(RunId))?;
            ids.collect()
        })
        .map_err(|e| sql("look for slow runs", e))?;
    let mut slow = Vec::new();
    for id in ids {
        let Some(run) = run_get_on(conn, id)? else {
            continue;
        };
        let over = |alerts: &Alerts, began: Option<Millis>| {
            let limit = alerts.slow_after_ms().zip(began);
            limit.is_some_and(|(limit, began)| now.since(began) > limit)
        };
        if over(&run_alerts(&run), began_on(conn, &run)?) && !already_slow(conn, &run, None)? {
            slow.push((run.clone(), None));
        }
        for attempt in crate::runs::attempts_on(conn, id)? {
            let place = (attempt.task, attempt.attempt);
            if !attempt.phase.is_ended()
                && over(&task_alerts(&run, attempt.task), attempt.started_at)
                && !already_slow(conn, &run, Some(place))?
            {
                slow.push((run.clone(), Some(place)));
            }
        }
    }
    Ok(slow)
}

/// When the time of a run began: with its last repair, if it had one.
fn began_on(conn: &Connection, run: &Run) -> Result<Option<Millis>> {
    let repaired: Option<i64> = conn
        .prepare_cached("SELECT max(created_at) FROM repair WHERE run_id = ?1")
        .and_then(|mut statement| statement.query_row([run.id.0], |row| row.get(0)))
        .map_err(|e| sql("look for a repair", e))?;
    Ok(run.started_at.max(repaired.map(Millis)))
}

/// Since the run began, or was last repaired.
fn already_slow(conn: &Connection, run: &Run, task: Option<(usize, u32)>) -> Result<bool> {
    let (task, attempt) = task.map_or((None, None), |(task, n)| (Some(task), Some(n)));
    conn.prepare_cached(
        "SELECT EXISTS (SELECT 1 FROM notification WHERE run_id = ?1 AND moment = ?2
           AND created_at >= coalesce((SELECT max(created_at) FROM repair WHERE run_id = ?1), 0)
           AND attempt_id IS (SELECT id FROM attempt
             WHERE run_id = ?1 AND task = ?3 AND attempt = ?4))",
    )
    .and_then(|mut statement| {
        let bounds = params![run.id.0, Moment::Slow.as_str(), task, attempt];
        statement.query_row(bounds, |row| row.get(0))
    })
    .map_err(|e| sql("look for an earlier warning", e))
}
