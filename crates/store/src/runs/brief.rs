//! Runs as lists show them, and their tasks as the matrix of a job does: without what makes them
//! heavy. A run may have a thousand tasks, and each definition as many.

use forebay_engine::Phase;
use forebay_types::{JobId, Millis, Result, RunId};
use rusqlite::{Connection, OptionalExtension, Row};
use serde_json::Value;

use super::{RunFilter, phase};
use crate::connection::sql;
use crate::store::Store;

/// A run in one line.
#[derive(Debug, Clone)]
pub struct RunBrief {
    pub id: RunId,
    pub job_id: Option<JobId>,
    pub name: String,
    pub creator_name: String,
    /// For a person: an admitted run of which nothing is under way only waits.
    pub phase: Phase,
    pub message: String,
    /// Whether any of it was ever under way.
    pub has_begun: bool,
    pub created_at: Millis,
    pub ended_at: Option<Millis>,
    /// Between its ends and the repairs that followed, in milliseconds.
    pub idle_ms: i64,
    pub task_count: usize,
    /// The definition of its task, when there is one alone.
    pub only_task: Option<Value>,
    /// Key and error of the first task that failed.
    pub failed: Option<(String, String)>,
}

impl RunBrief {
    /// Why the run has not begun, where something other than a cap holds it, such as a budget.
    #[must_use]
    pub fn held(&self) -> Option<&str> {
        let is_held = !self.has_begun && !self.phase.is_ended() && !self.message.is_empty();
        is_held.then_some(&self.message)
    }
}

/// A task in a run by its newest attempt.
#[derive(Debug, Clone)]
pub struct TaskBrief {
    pub run_id: RunId,
    pub id: RunId,
    pub task_key: String,
    pub phase: Phase,
    /// How many attempts there are.
    pub tries: usize,
    pub started_at: Option<Millis>,
    pub ended_at: Option<Millis>,
}

const COLUMNS: &str = "run.id, run.job_id, run.name, run.creator_name, run.phase, run.verdict,
    run.message, run.created_at, run.ended_at,
    json_array_length(run.settings, '$.tasks') AS task_count,
    CASE WHEN json_array_length(run.settings, '$.tasks') = 1
      THEN json_extract(run.settings, '$.tasks[0]') END AS only_task,
    CASE WHEN run.phase = 'running' AND NOT EXISTS (SELECT 1 FROM attempt
        WHERE run_id = run.id AND phase IN ('running', 'terminating'))
      THEN (SELECT phase FROM attempt
        WHERE run_id = run.id AND phase IN ('pending', 'waiting_for_retry') LIMIT 1) END AS waits,
    run.phase = 'ended' OR EXISTS (SELECT 1 FROM attempt
      WHERE run_id = run.id AND started_at IS NOT NULL) AS has_begun,
    (SELECT coalesce(sum(max(repair.created_at - ended_before, 0)), 0) FROM repair
      WHERE repair.run_id = run.id) AS idle_ms";

fn brief(row: &Row<'_>) -> rusqlite::Result<RunBrief> {
    let verdict: Option<String> = row.get("verdict")?;
    let waits: Option<String> = row.get("waits")?;
    let of_run = row.get_ref("phase")?.as_str()?;
    let only_task: Option<String> = row.get("only_task")?;
    Ok(RunBrief {
        id: RunId(row.get("id")?),
        job_id: row.get::<_, Option<i64>>("job_id")?.map(JobId),
        name: row.get("name")?,
        creator_name: row.get("creator_name")?,
        phase: phase(waits.as_deref().unwrap_or(of_run), verdict.as_deref()),
        message: row.get("message")?,
        has_begun: row.get("has_begun")?,
        created_at: Millis(row.get("created_at")?),
        ended_at: row.get::<_, Option<i64>>("ended_at")?.map(Millis),
        idle_ms: row.get("idle_ms")?,
        task_count: row.get::<_, Option<u32>>("task_count")?.unwrap_or(0) as usize,
        only_task: only_task.and_then(|text| serde_json::from_str(&text).ok()),
        failed: None,
    })
}

fn failed(conn: &Connection, run: RunId) -> Result<Option<(String, String)>> {
    conn.prepare_cached(
        "SELECT task_key, error FROM attempt AS one WHERE run_id = ?1 AND error IS NOT NULL
           AND NOT EXISTS (SELECT 1 FROM attempt AS newer WHERE newer.run_id = one.run_id
             AND newer.task = one.task AND newer.attempt > one.attempt)
         ORDER BY task LIMIT 1",
    )
    .and_then(|mut statement| {
        let read = |row: &Row<'_>| Ok((row.get(0)?, row.get(1)?));
        statement.query_row([run.0], read).optional()
    })
    .map_err(|e| sql("read what failed", e))
}

fn ids(runs: &[RunId]) -> String {
    let ids: Vec<i64> = runs.iter().map(|run| run.0).collect();
    serde_json::to_string(&ids).unwrap_or_default()
}

fn texts(keys: &[String]) -> String {
    serde_json::to_string(keys).unwrap_or_default()
}

impl Store {
    /// Runs by the filter, newest first.
    ///
    /// # Errors
    /// When the database refuses.
    pub async fn run_list_brief(&self, filter: RunFilter) -> Result<Vec<RunBrief>> {
        self.read(move |conn| {
            let mut runs = filter.rows_on(conn, COLUMNS, brief)?;
            for run in &mut runs {
                if run.phase != Phase::Ended(forebay_engine::Verdict::Succeeded) {
                    run.failed = failed(conn, run.id)?;
                }
            }
            Ok(runs)
        })
        .await
    }

    /// The tasks with these keys in these runs.
    ///
    /// # Errors
    /// When the database refuses.
    pub async fn task_list_brief(
        &self,
        runs: Vec<RunId>,
        keys: Vec<String>,
    ) -> Result<Vec<TaskBrief>> {
        self.read(move |conn| {
            conn.prepare_cached(
                // The other columns are those of the row with the greatest attempt.
                "SELECT run_id, id, task_key, phase, verdict, max(attempt), count(*) AS tries,
                   started_at, ended_at
                 FROM attempt WHERE run_id IN (SELECT value FROM json_each(?1))
                   AND task_key IN (SELECT value FROM json_each(?2))
                 GROUP BY run_id, task",
            )
            .and_then(|mut statement| {
                let read = |row: &Row<'_>| {
                    let verdict: Option<String> = row.get("verdict")?;
                    Ok(TaskBrief {
                        run_id: RunId(row.get("run_id")?),
                        id: RunId(row.get("id")?),
                        task_key: row.get("task_key")?,
                        phase: phase(row.get_ref("phase")?.as_str()?, verdict.as_deref()),
                        tries: row.get::<_, u32>("tries")? as usize,
                        started_at: row.get::<_, Option<i64>>("started_at")?.map(Millis),
                        ended_at: row.get::<_, Option<i64>>("ended_at")?.map(Millis),
                    })
                };
                let rows = statement.query_map([ids(&runs), texts(&keys)], read)?;
                rows.collect()
            })
            .map_err(|e| sql("list the tasks of runs", e))
        })
        .await
    }

    /// The keys that tasks of these runs have beside `keys`, in the order of the tasks.
    ///
    /// # Errors
    /// When the database refuses.
    pub async fn task_list_other_keys(
        &self,
        runs: Vec<RunId>,
        keys: Vec<String>,
    ) -> Result<Vec<String>> {
        self.read(move |conn| {
            conn.prepare_cached(
                "SELECT task_key FROM attempt WHERE run_id IN (SELECT value FROM json_each(?1))
                   AND task_key NOT IN (SELECT value FROM json_each(?2))
                 GROUP BY task_key ORDER BY min(task), task_key",
            )
            .and_then(|mut statement| {
                let rows = statement.query_map([ids(&runs), texts(&keys)], |row| row.get(0))?;
                rows.collect()
            })
            .map_err(|e| sql("list the tasks of older runs", e))
        })
        .await
    }
}
