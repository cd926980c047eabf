//! Lists of runs: in the order of their creation, newest first, by pages.
//!
//! Creation is what clients are shown as a run's start. It is not the order of ids where the clock was
//! put back in between, so a cursor names both, and holds also when its run has been deleted.

use std::fmt;
use std::str::FromStr;

use forebay_types::{Error, JobId, Millis, Result, RunId, UserId};
use rusqlite::types::Value as SqlValue;
use rusqlite::{Connection, OptionalExtension, Row, params_from_iter};

use super::{Attempt, RUN_COLUMNS, Run, RunKind, attempts_on, run_from_row};
use crate::connection::sql;
use crate::store::Store;

/// The last run of a page. As a text it is `ID.MILLISECONDS`, or only `ID`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RunCursor {
    pub id: RunId,
    /// Where it is not known, it is looked up.
    pub created_at: Option<Millis>,
}

impl RunCursor {
    #[must_use]
    pub fn new(id: RunId, created_at: Millis) -> Self {
        Self {
            id,
            created_at: Some(created_at),
        }
    }

    /// When the run was created; of one that is gone, when the one before it was.
    fn created_on(self, conn: &Connection) -> Result<Millis> {
        if let Some(at) = self.created_at {
            return Ok(at);
        }
        conn.prepare_cached("SELECT created_at FROM run WHERE id <= ?1 ORDER BY id DESC LIMIT 1")
            .and_then(|mut statement| {
                statement
                    .query_row([self.id.0], |row| row.get(0).map(Millis))
                    .optional()
            })
            .map(|found| found.unwrap_or(Millis(i64::MIN)))
            .map_err(|e| sql("look for where a page begins", e))
    }
}

impl fmt::Display for RunCursor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.created_at {
            Some(at) => write!(f, "{}.{}", self.id.0, at.0),
            None => write!(f, "{}", self.id.0),
        }
    }
}

impl FromStr for RunCursor {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        let number = |text: &str| {
            let number = text.parse::<i64>().ok();
            number.ok_or_else(|| Error::invalid(format!("'{text}' is no place in a list of runs.")))
        };
        let (id, at) = match text.split_once('.') {
            Some((id, at)) => (id, Some(number(at)?)),
            None => (text, None),
        };
        Ok(Self {
            id: RunId(number(id)?),
            created_at: at.map(Millis),
        })
    }
}

#[derive(Debug, Clone, Default)]
pub struct RunFilter {
    pub job_id: Option<JobId>,
    /// `Some(true)` for active runs, `Some(false)` for ended ones.
    pub active: Option<bool>,
    pub kind: Option<RunKind>,
    /// Whether contexts are in the list when no kind is asked for.
    pub contexts: bool,
    /// Only runs that ended badly, by their own fault, by time or by ours.
    pub failed: bool,
    pub started_from: Option<Millis>,
    pub started_to: Option<Millis>,
    /// Only what comes after this run in the list.
    pub before: Option<RunCursor>,
    pub offset: usize,
    pub limit: usize,
    /// Only runs of this user, and those that were shared, themselves or with their job, with the
    /// user or with everybody.
    pub visible_to: Option<(UserId, String)>,
}

const ORDER: &str = "ORDER BY run.created_at DESC, run.id DESC";

/// Up to so many shared jobs are looked through one by one; of more of them, some run is soon found
/// on a walk over all runs.
const SHARED_FEW: usize = 64;

/// Jobs, and runs without a job, that a user may see.
const SHARED: &str = "SELECT CAST(object_id AS INTEGER) AS id FROM permission WHERE kind = 'jobs'
    AND ((principal_kind = 'user' AND principal = ?)
      OR (principal_kind = 'group' AND principal = 'users'))";

/// Whose runs are in a list.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Seen {
    All,
    Own,
    OwnAndFew,
    OwnAndMany,
}

impl RunFilter {
    /// Only the conditions that are asked for, so that each list finds its index.
    fn conditions(&self, before: Option<(Millis, RunId)>, seen: Seen) -> (String, Vec<SqlValue>) {
        let mut texts: Vec<String> = Vec::new();
        let mut bounds: Vec<SqlValue> = Vec::new();
        let mut add = |text: &str, values: Vec<SqlValue>| {
            texts.push(text.to_owned());
            bounds.extend(values);
        };
        // A column with a plus is not looked for in an index: most runs are of one kind, and what else
        // is asked for is rarer.
        let rarer = self.job_id.is_some()
            || self.active == Some(true)
            || self.failed
            || self.visible_to.is_some();
        match self.kind {
            Some(kind) => add(
                if rarer {
                    "+run.kind = ?"
                } else {
                    "run.kind = ?"
                },
                vec![kind.as_str().to_owned().into()],
            ),
            None if self.contexts => {
                add("run.kind NOT IN ('WORKFLOW_RUN', 'ITERATION')", Vec::new());
            }
            None => add(
                "run.kind NOT IN ('WORKFLOW_RUN', 'ITERATION', 'CONTEXT')",
                Vec::new(),
            ),
        }
        if let Some(job) = self.job_id {
            add(
                // Who may not see a job has hardly any run of it.
                match seen {
                    Seen::Own => "+run.job_id = ?",
                    _ => "run.job_id = ?",
                },
                vec![job.0.into()],
            );
        }
        match self.active {
            Some(true) => add("run.phase <> 'ended'", Vec::new()),
            Some(false) => add("run.phase = 'ended'", Vec::new()),
            None => {}
        }
        if let Some(from) = self.started_from {
            add("run.created_at >= ?", vec![from.0.into()]);
        }
        // One upper bound, the lower of the two: of two, the index would take either.
        match (before, self.started_to) {
            (Some((at, id)), to) if to.is_none_or(|to| at <= to) => add(
                "(run.created_at, run.id) < (?, ?)",
                vec![at.0.into(), id.0.into()],
            ),
            (_, Some(to)) => add("run.created_at <= ?", vec![to.0.into()]),
            (_, None) => {}
        }
        if self.failed {
            add(
                "run.verdict IN ('failed', 'timed_out', 'internal_error')",
                Vec::new(),
            );
        }
        (texts.join(" AND "), bounds)
    }

    fn seen_on(&self, conn: &Connection) -> Result<Seen> {
        let Some((_, name)) = &self.visible_to else {
            return Ok(Seen::All);
        };
        let few = SHARED_FEW + 1;
        let counted = |condition: &str, job: Option<JobId>| -> rusqlite::Result<usize> {
            let query =
                format!("SELECT count(*) FROM (SELECT 1 FROM ({SHARED}) {condition} LIMIT {few})");
            let bounds = [
                Some(SqlValue::from(name.clone())),
                job.map(|job| job.0.into()),
            ];
            let mut statement = conn.prepare_cached(&query)?;
            statement.query_row(params_from_iter(bounds.into_iter().flatten()), |row| {
                row.get(0)
            })
        };
        let seen = match self.job_id {
            Some(job) => counted("WHERE id = ?", Some(job)).map(|count| match count {
                0 => Seen::Own,
                _ => Seen::All,
            }),
            None => counted("", None).map(|count| match count {
                0 => Seen::Own,
                // Active runs are few, all users' together.
                1..=SHARED_FEW if self.active != Some(true) => Seen::OwnAndFew,
                _ => Seen::OwnAndMany,
            }),
        };
        seen.map_err(|e| sql("look for what is shared", e))
    }

    /// A query for the ids of the page. Each part of what a user may see is walked in the order of
    /// the list, and only as far as the page needs.
    fn ids(&self, before: Option<(Millis, RunId)>, seen: Seen) -> (String, Vec<SqlValue>) {
        let (conditions, bounds) = self.conditions(before, seen);
        let page = format!("{ORDER} LIMIT {} OFFSET {}", self.limit, self.offset);
        let part = |columns: &str, whose: &str| {
            format!(
                "SELECT {columns} FROM run WHERE {whose} AND {conditions} {ORDER} LIMIT {}",
                self.offset + self.limit
            )
        };
        let (Some((id, name)), true) = (&self.visible_to, seen != Seen::All) else {
            let query = format!("SELECT run.id FROM run WHERE {conditions} {page}");
            return (query, bounds);
        };
        let place = "run.created_at, run.id";
        let own = part(
            place,
            // A user's ended runs are many.
            match self.active {
                Some(true) => "+run.creator_id = ?",
                _ => "run.creator_id = ?",
            },
        );
        let shared = match seen {
            Seen::All | Seen::Own => Vec::new(),
            Seen::OwnAndFew => {
                let alone = part(place, "run.id IN shared AND +run.job_id IS NULL");
                let of_jobs = part("run.id", "run.job_id = shared.id");
                let of_jobs =
                    format!("SELECT {place} FROM shared JOIN run ON run.id IN ({of_jobs})");
                match self.kind {
                    // No job has such runs, and one may have a million of others.
                    Some(RunKind::Submit) => vec![alone],
                    _ => vec![alone, of_jobs],
                }
            }
            Seen::OwnAndMany => vec![part(place, "coalesce(run.job_id, run.id) IN shared")],
        };
        let mut all: Vec<SqlValue> = vec![name.clone().into(), id.0.into()];
        all.extend(bounds.iter().cloned());
        let mut parts = format!("SELECT * FROM ({own})");
        for part in shared {
            parts.push_str(&format!(" UNION SELECT * FROM ({part})"));
            all.extend(bounds.iter().cloned());
        }
        let query = format!(
            "WITH shared AS MATERIALIZED ({SHARED}) SELECT run.id FROM ({parts}) AS run {page}"
        );
        (query, all)
    }

    fn query_on(&self, conn: &Connection, columns: &str) -> Result<(String, Vec<SqlValue>)> {
        let before = match self.before {
            Some(cursor) => Some((cursor.created_on(conn)?, cursor.id)),
            None => None,
        };
        let (ids, bounds) = self.ids(before, self.seen_on(conn)?);
        let query = format!("SELECT {columns} FROM run WHERE run.id IN ({ids}) {ORDER}");
        Ok((query, bounds))
    }

    /// The page.
    pub(super) fn rows_on<T>(
        &self,
        conn: &Connection,
        columns: &str,
        read: fn(&Row<'_>) -> rusqlite::Result<T>,
    ) -> Result<Vec<T>> {
        let (query, bounds) = self.query_on(conn, columns)?;
        conn.prepare_cached(&query)
            .and_then(|mut statement| {
                let rows = statement.query_map(params_from_iter(bounds), read)?;
                rows.collect()
            })
            .map_err(|e| sql("list runs", e))
    }
}

impl Store {
    /// Runs by the filter, newest first, each with its attempts.
    ///
    /// # Errors
    /// When the database refuses.
    pub async fn run_list(&self, filter: RunFilter) -> Result<Vec<(Run, Vec<Attempt>)>> {
        self.read(move |conn| {
            let runs = filter.rows_on(conn, RUN_COLUMNS, run_from_row)?;
            runs.into_iter()
                .map(|run| Ok((attempts_on(conn, run.id)?, run)))
                .map(|row| row.map(|(attempts, run)| (run, attempts)))
                .collect()
        })
        .await
    }
}

#[cfg(test)]
mod tests;
