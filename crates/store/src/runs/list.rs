//! Lists of runs: in the order of their creation, newest first, by pages.
//!
//! Creation is what clients are shown as a run's start. It is not the order of ids where the clock was
//! put back in between, so a cursor names both, and holds also when its run has been deleted.

use std::fmt;
use std::str::FromStr;

use forebay_types::{Error, JobId, Millis, Result, RunId, UserId};
use rusqlite::{Connection, OptionalExtension, Row, params_from_iter};

use super::{Attempt, RUN_COLUMNS, Run, RunKind, attempts_on, run_from_row};
use crate::connection::sql;
use crate::store::Store;

mod walk;

use walk::{ORDER, Query};

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

impl RunFilter {
    fn query_on(&self, conn: &Connection, columns: &str) -> Result<Query> {
        let before = match self.before {
            Some(cursor) => Some((cursor.created_on(conn)?, cursor.id)),
            None => None,
        };
        let mut query = Query::of(&format!("SELECT {columns} FROM run WHERE run.id IN ("));
        query.add(self.ids(before, self.seen_on(conn)?));
        query.push(&format!(") {ORDER}"));
        Ok(query)
    }

    /// The page.
    pub(super) fn rows_on<T>(
        &self,
        conn: &Connection,
        columns: &str,
        read: fn(&Row<'_>) -> rusqlite::Result<T>,
    ) -> Result<Vec<T>> {
        let Query { text, values } = self.query_on(conn, columns)?;
        conn.prepare_cached(&text)
            .and_then(|mut statement| {
                let rows = statement.query_map(params_from_iter(values), read)?;
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
