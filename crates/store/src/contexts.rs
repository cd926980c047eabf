//! Execution contexts, which are runs, and the commands they take.

use forebay_engine::Plan;
use forebay_types::{ClusterId, Error, ErrorCode, Millis, Result, RunId};
use rusqlite::{Connection, OptionalExtension, Row, Transaction, params};

use crate::connection::sql;
use crate::runs::{Created, NewRun, count, create_on};
use crate::store::Store;

/// Commands of one context that may wait for it.
const WAITING_MAX: usize = 100;

#[derive(Debug, Clone)]
pub struct NewContext {
    pub cluster_id: ClusterId,
    pub language: String,
    /// Live contexts of the cluster.
    pub cluster_max: usize,
    /// Live contexts of the workspace.
    pub max: usize,
}

#[derive(Debug, Clone)]
pub struct ContextRow {
    pub run_id: RunId,
    pub cluster_id: ClusterId,
    pub language: String,
    pub ready_at: Option<Millis>,
    pub reason: Option<String>,
}

#[derive(Debug, Clone)]
pub struct CommandRow {
    pub number: u32,
    pub source: String,
    pub taken_at: Option<Millis>,
    pub output_from: u64,
    pub canceled_at: Option<Millis>,
}

fn context_from_row(row: &Row<'_>) -> rusqlite::Result<ContextRow> {
    Ok(ContextRow {
        run_id: RunId(row.get("run_id")?),
        cluster_id: ClusterId(row.get("cluster_id")?),
        language: row.get("language")?,
        ready_at: row.get::<_, Option<i64>>("ready_at")?.map(Millis),
        reason: row.get("reason")?,
    })
}

fn command_from_row(row: &Row<'_>) -> rusqlite::Result<CommandRow> {
    Ok(CommandRow {
        number: row.get("number")?,
        source: row.get("source")?,
        taken_at: row.get::<_, Option<i64>>("taken_at")?.map(Millis),
        output_from: row.get::<_, i64>("output_from")?.max(0).cast_unsigned(),
        canceled_at: row.get::<_, Option<i64>>("canceled_at")?.map(Millis),
    })
}

fn full(whose: &str, live: usize) -> Error {
    Error::new(
        ErrorCode::ResourceLimitExceeded,
        format!(
            "{whose} has {live} execution contexts, as many as it may: destroy one that is not \
             needed any more."
        ),
    )
}

fn check_room(tx: &Transaction<'_>, new: &NewContext) -> Result<()> {
    const LIVE: &str = "SELECT count(*) FROM context JOIN run ON run.id = run_id
         WHERE run.phase <> 'ended'";
    let all = count(tx, LIVE, [])?;
    if all >= new.max {
        return Err(full("The workspace", all));
    }
    let of_cluster = count(
        tx,
        &format!("{LIVE} AND context.cluster_id = ?1"),
        [&new.cluster_id.0],
    )?;
    if of_cluster >= new.cluster_max {
        return Err(full(&format!("Cluster {}", new.cluster_id), of_cluster));
    }
    Ok(())
}

fn command_on(conn: &Connection, run: RunId, number: u32) -> Result<Option<CommandRow>> {
    conn.prepare_cached("SELECT * FROM command WHERE run_id = ?1 AND number = ?2")
        .and_then(|mut statement| {
            statement
                .query_row(params![run.0, number], command_from_row)
                .optional()
        })
        .map_err(|e| sql("read a command", e))
}

impl Store {
    /// Records a run that is a context, where cluster and workspace have room for one; it begins at
    /// once and takes no slot.
    ///
    /// # Errors
    /// `RESOURCE_LIMIT_EXCEEDED` when there is no room.
    pub async fn context_create(
        &self,
        run: NewRun,
        plan: Plan,
        new: NewContext,
        now: Millis,
    ) -> Result<Created> {
        self.write(move |tx| {
            check_room(tx, &new)?;
            let created = create_on(tx, &run, &plan, None, now)?;
            tx.execute(
                "INSERT INTO context (run_id, cluster_id, language) VALUES (?1, ?2, ?3)",
                params![created.id.0, new.cluster_id.0, new.language],
            )
            .map_err(|e| sql("create a context", e))?;
            Ok(created)
        })
        .await
    }

    /// # Errors
    /// When the database refuses.
    pub async fn context_get(&self, run: RunId) -> Result<Option<ContextRow>> {
        self.read(move |conn| {
            conn.prepare_cached("SELECT * FROM context WHERE run_id = ?1")
                .and_then(|mut statement| statement.query_row([run.0], context_from_row).optional())
                .map_err(|e| sql("read a context", e))
        })
        .await
    }

    /// Notes why a context ends; the first reason stands.
    ///
    /// # Errors
    /// When the database refuses.
    pub async fn context_end(&self, run: RunId, reason: String) -> Result<()> {
        self.write(move |tx| {
            tx.execute(
                "UPDATE context SET reason = ?2 WHERE run_id = ?1 AND reason IS NULL",
                params![run.0, reason],
            )
            .map(drop)
            .map_err(|e| sql("end a context", e))
        })
        .await
    }

    /// Adds a command to those that wait for a context, and gives its number.
    ///
    /// # Errors
    /// `INVALID_STATE` when the context has ended or is about to; `RESOURCE_LIMIT_EXCEEDED` when too many wait.
    pub async fn command_add(&self, run: RunId, source: String, now: Millis) -> Result<u32> {
        self.write(move |tx| {
            let open = "SELECT count(*) FROM context JOIN run ON run.id = run_id
                 WHERE run_id = ?1 AND reason IS NULL AND run.phase <> 'ended'
                   AND run.stopping IS NULL";
            if count(tx, open, [run.0])? == 0 {
                return Err(Error::state(format!("Context {run} has ended.")));
            }
            let waiting = "SELECT count(*) FROM command
                 WHERE run_id = ?1 AND taken_at IS NULL AND canceled_at IS NULL";
            let waiting = count(tx, waiting, [run.0])?;
            if waiting >= WAITING_MAX {
                return Err(Error::new(
                    ErrorCode::ResourceLimitExceeded,
                    format!("{waiting} commands wait for context {run}, as many as may."),
                ));
            }
            tx.prepare_cached(
                "INSERT INTO command (run_id, number, source, created_at)
                 SELECT ?1, coalesce(max(number), 0) + 1, ?2, ?3 FROM command WHERE run_id = ?1
                 RETURNING number",
            )
            .and_then(|mut statement| {
                statement.query_row(params![run.0, source, now.0], |row| row.get(0))
            })
            .map_err(|e| sql("add a command", e))
        })
        .await
    }

    /// The first command above `after` that was not canceled before it was taken; it is taken from
    /// here on, by who asks and whoever asks again. `output`: the size of the run's output. Says
    /// also that the context is ready.
    ///
    /// # Errors
    /// When the database refuses.
    pub async fn command_next(
        &self,
        run: RunId,
        after: u32,
        output: u64,
        now: Millis,
    ) -> Result<Option<CommandRow>> {
        self.write(move |tx| {
            tx.prepare_cached(
                "UPDATE context SET ready_at = ?2 WHERE run_id = ?1 AND ready_at IS NULL",
            )
            .and_then(|mut statement| statement.execute(params![run.0, now.0]))
            .map_err(|e| sql("note that a context is ready", e))?;
            let next = "SELECT min(number) FROM command WHERE run_id = ?1 AND number > ?2
                 AND (taken_at IS NOT NULL OR canceled_at IS NULL)";
            let next: Option<u32> = tx
                .prepare_cached(next)
                .and_then(|mut statement| statement.query_row(params![run.0, after], |r| r.get(0)))
                .map_err(|e| sql("look for a command", e))?;
            let Some(number) = next else {
                return Ok(None);
            };
            tx.prepare_cached(
                "UPDATE command SET taken_at = ?3, output_from = ?4
                 WHERE run_id = ?1 AND number = ?2 AND taken_at IS NULL",
            )
            .and_then(|mut statement| {
                statement.execute(params![run.0, number, now.0, output.cast_signed()])
            })
            .map_err(|e| sql("take a command", e))?;
            command_on(tx, run, number)
        })
        .await
    }

    /// The first command above `after` that was canceled after it had been taken.
    ///
    /// # Errors
    /// When the database refuses.
    pub async fn command_to_interrupt(&self, run: RunId, after: u32) -> Result<Option<u32>> {
        self.read(move |conn| {
            conn.prepare_cached(
                "SELECT min(number) FROM command WHERE run_id = ?1 AND number > ?2
                   AND taken_at IS NOT NULL AND canceled_at IS NOT NULL",
            )
            .and_then(|mut statement| statement.query_row(params![run.0, after], |r| r.get(0)))
            .map_err(|e| sql("look for a canceled command", e))
        })
        .await
    }

    /// # Errors
    /// When the database refuses.
    pub async fn command_get(&self, run: RunId, number: u32) -> Result<Option<CommandRow>> {
        self.read(move |conn| command_on(conn, run, number)).await
    }

    /// Notes that a command is not wanted any more.
    ///
    /// # Errors
    /// When the database refuses.
    pub async fn command_cancel(&self, run: RunId, number: u32, now: Millis) -> Result<()> {
        self.write(move |tx| {
            tx.execute(
                "UPDATE command SET canceled_at = ?3
                 WHERE run_id = ?1 AND number = ?2 AND canceled_at IS NULL",
                params![run.0, number, now.0],
            )
            .map(drop)
            .map_err(|e| sql("cancel a command", e))
        })
        .await
    }

    /// All commands of a context, in order.
    ///
    /// # Errors
    /// When the database refuses.
    pub async fn command_list(&self, run: RunId) -> Result<Vec<CommandRow>> {
        self.read(move |conn| {
            conn.prepare_cached("SELECT * FROM command WHERE run_id = ?1 ORDER BY number")
                .and_then(|mut statement| statement.query_map([run.0], command_from_row)?.collect())
                .map_err(|e| sql("list commands", e))
        })
        .await
    }
}
