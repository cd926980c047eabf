//! What attempts used: added up when they end, and asked for by day, job and user.

use forebay_types::{JobId, Millis, Result, RunId};
use rusqlite::{Row, Transaction, params};
use serde_json::Value;

use crate::connection::sql;
use crate::store::Store;

const DAY_MS: i64 = 86_400_000;

/// The day of `at`, counted from the epoch in UTC.
#[must_use]
pub fn day_of(at: Millis) -> i64 {
    at.0.div_euclid(DAY_MS)
}

/// Sums over attempts.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Used {
    pub attempts: i64,
    pub wall_ms: i64,
    pub cpu_ms: i64,
    pub read_bytes: i64,
    pub write_bytes: i64,
    /// The largest of any attempt.
    pub memory_peak_bytes: i64,
    /// Attempts for which the host did not tell; their use is not in the sums.
    pub cpu_unknown: i64,
    pub bytes_unknown: i64,
}

impl Used {
    /// What one attempt used, by the facts of its end.
    #[must_use]
    pub fn of_facts(facts: &Value) -> Self {
        let usage = &facts["usage"];
        let number = |name: &str| usage[name].as_i64();
        let bytes = number("read_bytes").zip(number("write_bytes"));
        let (read_bytes, write_bytes) = bytes.unwrap_or_default();
        Self {
            attempts: 1,
            wall_ms: number("wall_ms").unwrap_or(0),
            cpu_ms: number("cpu_ms").unwrap_or(0),
            read_bytes,
            write_bytes,
            memory_peak_bytes: number("memory_peak_bytes").unwrap_or(0),
            cpu_unknown: i64::from(number("cpu_ms").is_none()),
            bytes_unknown: i64::from(bytes.is_none()),
        }
    }

    pub fn add(&mut self, other: &Self) {
        self.attempts += other.attempts;
        self.wall_ms += other.wall_ms;
        self.cpu_ms += other.cpu_ms;
        self.read_bytes += other.read_bytes;
        self.write_bytes += other.write_bytes;
        self.memory_peak_bytes = self.memory_peak_bytes.max(other.memory_peak_bytes);
        self.cpu_unknown += other.cpu_unknown;
        self.bytes_unknown += other.bytes_unknown;
    }
}

/// By what sums are told apart.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum CostBy {
    Day,
    Job,
    User,
}

/// One sum; only what it is told apart by is set.
#[derive(Debug, Clone, Default)]
pub struct Cost {
    pub day: Option<i64>,
    /// 0 stands for runs without a job.
    pub job_id: Option<i64>,
    /// Of the job, when it is still there.
    pub job_name: Option<String>,
    pub user_name: Option<String>,
    pub used: Used,
}

/// Adds what an attempt used to the sums of its day.
pub(crate) fn add(tx: &Transaction<'_>, run: RunId, facts: &Value, now: Millis) -> Result<()> {
    // An attempt that never began used nothing.
    if !facts["usage"].is_object() {
        return Ok(());
    }
    let used = Used::of_facts(facts);
    tx.prepare_cached(
        // An iteration and a notebook that a notebook called are parts of the run above them; the run
        // of a job that a task started counts for its own job.
        "WITH RECURSIVE up (job_id, creator_name, parent, kind, height) AS (
           SELECT job_id, creator_name, parent_attempt, kind, 0 FROM run WHERE id = ?1
           UNION ALL
           SELECT run.job_id, run.creator_name, run.parent_attempt, run.kind, height + 1
           FROM up JOIN attempt ON attempt.id = up.parent JOIN run ON run.id = attempt.run_id
           WHERE up.kind <> 'JOB_RUN')
         INSERT INTO usage_day
         SELECT ?2, coalesce(job_id, 0), creator_name, 1, ?3, ?4, ?5, ?6, ?7, ?8, ?9
         FROM up WHERE height = (SELECT max(height) FROM up)
         ON CONFLICT DO UPDATE SET
           attempts = attempts + 1,
           wall_ms = wall_ms + excluded.wall_ms,
           cpu_ms = cpu_ms + excluded.cpu_ms,
           read_bytes = read_bytes + excluded.read_bytes,
           write_bytes = write_bytes + excluded.write_bytes,
           memory_peak_bytes = max(memory_peak_bytes, excluded.memory_peak_bytes),
           cpu_unknown = cpu_unknown + excluded.cpu_unknown,
           bytes_unknown = bytes_unknown + excluded.bytes_unknown",
    )
    .and_then(|mut statement| {
        statement.execute(params![
            run.0,
            day_of(now),
            used.wall_ms,
            used.cpu_ms,
            used.read_bytes,
            used.write_bytes,
            used.memory_peak_bytes,
            used.cpu_unknown,
            used.bytes_unknown,
        ])
    })
    .map_err(|e| sql("add up what an attempt used", e))?;
    Ok(())
}

fn used_from_row(row: &Row<'_>) -> rusqlite::Result<Used> {
    Ok(Used {
        attempts: row.get(2)?,
        wall_ms: row.get(3)?,
        cpu_ms: row.get(4)?,
        read_bytes: row.get(5)?,
        write_bytes: row.get(6)?,
        memory_peak_bytes: row.get(7)?,
        cpu_unknown: row.get(8)?,
        bytes_unknown: row.get(9)?,
    })
}

impl Store {
    /// Sums of the days `from` to `to`, both included, of one user or of all. By day they come in
    /// the order of days, else the most CPU time first.
    ///
    /// # Errors
    /// When the database refuses.
    pub async fn cost_list(
        &self,
        by: CostBy,
        (from, to): (i64, i64),
        user: Option<String>,
    ) -> Result<Vec<Cost>> {
        let (column, order) = match by {
            CostBy::Day => ("day", "day"),
            CostBy::Job => ("job_id", "sum(cpu_ms) DESC"),
            CostBy::User => ("user_name", "sum(cpu_ms) DESC"),
        };
        self.read(move |conn| {
            conn.prepare_cached(&format!(
                "SELECT {column}, (SELECT name FROM job WHERE job.id = usage_day.job_id),
                   sum(attempts), sum(wall_ms), sum(cpu_ms), sum(read_bytes), sum(write_bytes),
                   max(memory_peak_bytes), sum(cpu_unknown), sum(bytes_unknown)
                 FROM usage_day
                 WHERE day BETWEEN ?1 AND ?2 AND (?3 IS NULL OR user_name = ?3)
                 GROUP BY {column} ORDER BY {order}"
            ))
            .and_then(|mut statement| {
                let rows = statement.query_map(params![from, to, user], |row| {
                    let mut cost = Cost {
                        used: used_from_row(row)?,
                        ..Cost::default()
                    };
                    match by {
                        CostBy::Day => cost.day = row.get(0)?,
                        CostBy::User => cost.user_name = row.get(0)?,
                        CostBy::Job => {
                            cost.job_id = row.get(0)?;
                            cost.job_name = row.get(1)?;
                        }
                    }
                    Ok(cost)
                })?;
                rows.collect()
            })
            .map_err(|e| sql("add up costs", e))
        })
        .await
    }

    /// CPU time that ended attempts used on a day: those of a job, and all.
    ///
    /// # Errors
    /// When the database refuses.
    pub async fn cost_of_day(&self, day: i64, job: Option<JobId>) -> Result<(i64, i64)> {
        self.read(move |conn| {
            conn.prepare_cached(
                "SELECT coalesce(sum(CASE WHEN job_id = ?2 THEN cpu_ms END), 0),
                   coalesce(sum(cpu_ms), 0) FROM usage_day WHERE day = ?1",
            )
            .and_then(|mut statement| {
                let bounds = params![day, job.map(|id| id.0)];
                statement.query_row(bounds, |row| Ok((row.get(0)?, row.get(1)?)))
            })
            .map_err(|e| sql("add up a day", e))
        })
        .await
    }
}
