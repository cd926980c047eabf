//! The rows of runs beside what their histories say. Reads only, so it may be asked of a folder
//! that a server is working in.

mod places;

use std::collections::BTreeMap;
use std::path::Path;

use forebay_engine::{AttemptFacts, Record, RecordError, RunFacts, rebuild};
use forebay_types::{Millis, Result, RunId};
use rusqlite::{Connection, params};

use crate::connection::{open_reader, sql};
use crate::runs::{attempts_on, run_get_on};

/// Runs that are looked at in one look at the database: a reader that stays longer would keep
/// the server from putting its journal away.
const RUNS_AT_ONCE: usize = 256;
/// Problems that are told in full; the others are counted.
const PROBLEMS_MAX: usize = 100;

/// What a comparison of all runs of a workspace found.
#[derive(Debug, Default)]
pub struct HistoryReport {
    pub runs: usize,
    pub events: usize,
    pub event_bytes: usize,
    /// Runs from before their histories told everything; nothing can be compared.
    pub old: usize,
    /// Runs whose rows differ from their history or from their places in the lines, or whose history
    /// cannot be read.
    pub differing: usize,
    /// What differs, one line each; at most the first hundred.
    pub problems: Vec<String>,
}

/// Compares the rows of every run in the database at `path` with the state that its history
/// leads to, and with the lines by which slots and active runs are counted.
///
/// # Errors
/// When the file cannot be opened or is no database of ours.
pub fn history_check(path: &Path) -> Result<HistoryReport> {
    let conn = open_reader(path)?;
    let mut report = HistoryReport::default();
    let mut after = 0;
    loop {
        // Rows and events of a run are read from the same moment.
        let look = conn
            .unchecked_transaction()
            .map_err(|e| sql("read the runs", e))?;
        let ids = runs_after(&look, after)?;
        let Some(last) = ids.last() else {
            return Ok(report);
        };
        after = last.0;
        for id in ids {
            check_run(&look, id, &mut report)?;
        }
    }
}

fn runs_after(conn: &Connection, after: i64) -> Result<Vec<RunId>> {
    conn.prepare_cached("SELECT id FROM run WHERE id > ?1 ORDER BY id LIMIT ?2")
        .and_then(|mut statement| {
            let bounds = params![after, RUNS_AT_ONCE];
            statement
                .query_map(bounds, |row| row.get(0).map(RunId))?
                .collect()
        })
        .map_err(|e| sql("list runs", e))
}

fn check_run(conn: &Connection, id: RunId, report: &mut HistoryReport) -> Result<()> {
    let texts = events_on(conn, id)?;
    report.runs += 1;
    report.events += texts.len();
    report.event_bytes += texts.iter().map(|(_, text)| text.len()).sum::<usize>();
    let mut problems = match read(&texts) {
        Err(RecordError::Old) => {
            report.old += 1;
            return Ok(());
        }
        Err(unreadable) => vec![format!("a record of its history {unreadable}")],
        Ok(history) => match rebuild(&history) {
            Err(hole) => vec![hole],
            Ok(rebuilt) => rebuilt.differences(&rows_on(conn, id)?),
        },
    };
    problems.extend(places::differences(conn, id)?);
    report.differing += usize::from(!problems.is_empty());
    for problem in problems {
        if report.problems.len() < PROBLEMS_MAX {
            report.problems.push(format!("run {id}: {problem}"));
        }
    }
    Ok(())
}

fn events_on(conn: &Connection, id: RunId) -> Result<Vec<(Millis, String)>> {
    conn.prepare_cached("SELECT at, event FROM run_event WHERE run_id = ?1 ORDER BY seq")
        .and_then(|mut statement| {
            statement
                .query_map([id.0], |row| Ok((Millis(row.get(0)?), row.get(1)?)))?
                .collect()
        })
        .map_err(|e| sql("read a run's history", e))
}

fn read(texts: &[(Millis, String)]) -> std::result::Result<Vec<(Millis, Record)>, RecordError> {
    let records = texts.iter();
    records
        .map(|(at, text)| Record::parse(text).map(|record| (*at, record)))
        .collect()
}

fn rows_on(conn: &Connection, id: RunId) -> Result<RunFacts> {
    let run = run_get_on(conn, id)?.ok_or_else(|| crate::runs::missing_run(id))?;
    let mut due: BTreeMap<i64, Option<Millis>> = conn
        .prepare_cached("SELECT id, due_at FROM attempt WHERE run_id = ?1")
        .and_then(|mut statement| {
            let pairs = statement.query_map([id.0], |row| {
                Ok((row.get(0)?, row.get::<_, Option<i64>>(1)?.map(Millis)))
            })?;
            pairs.collect()
        })
        .map_err(|e| sql("read a run's attempts", e))?;
    let attempts = attempts_on(conn, id)?.into_iter().map(|attempt| {
        let facts = AttemptFacts {
            id: attempt.id.0,
            phase: attempt.phase,
            code: attempt.code,
            due_at: due.remove(&attempt.id.0).flatten(),
            started_at: attempt.started_at,
            executed_at: attempt.executed_at,
            ended_at: attempt.ended_at,
        };
        ((attempt.task, attempt.attempt), facts)
    });
    Ok(RunFacts {
        phase: run.phase,
        stopping: run.stopping,
        started_at: run.started_at,
        ended_at: run.ended_at,
        attempts: attempts.collect(),
    })
}

#[cfg(test)]
mod tests;
