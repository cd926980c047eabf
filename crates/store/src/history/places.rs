//! What counts slots and active runs, beside the rows that it follows: a row too many would take
//! room for ever, and one too few would let a cap be exceeded.

use forebay_types::{Result, RunId};
use rusqlite::Connection;

use crate::connection::sql;

/// What differs between a run, its attempts, and their places in the lines; one line each.
///
/// # Errors
/// When the database refuses.
pub(super) fn differences(conn: &Connection, run: RunId) -> Result<Vec<String>> {
    let mut problems = Vec::new();
    problems.extend(stage(conn, run)?);
    problems.extend(slots(conn, run)?);
    Ok(problems)
}

fn stage(conn: &Connection, run: RunId) -> Result<Vec<String>> {
    lines(
        conn,
        run,
        "SELECT 'its place: the line says ' || coalesce(stage, 'nothing') || ', the rows ' || phase
         FROM run LEFT JOIN run_admission ON run_id = run.id
         WHERE run.id = ?1 AND CASE
           -- Before there was admission, runs ended without a place.
           WHEN stage IS NULL THEN phase <> 'ended' AND kind <> 'ITERATION'
           WHEN phase IN ('queued', 'ended') THEN stage <> phase
           ELSE stage NOT IN ('admitted', 'started') END",
    )
}

fn slots(conn: &Connection, run: RunId) -> Result<Vec<String>> {
    lines(
        conn,
        run,
        "SELECT 'attempt ' || id || ': the line says ' || found || ', the rows ' || wanted
         FROM (SELECT id,
             CASE WHEN line.state IS NULL THEN 'nothing' WHEN line.state = 'live' THEN 'a slot'
               ELSE 'waiting' END AS found,
             CASE WHEN nested OR NOT takes_slot THEN 'nothing'
               WHEN phase IN ('running', 'terminating') THEN 'a slot'
               WHEN phase IN ('pending', 'waiting_for_retry') THEN 'waiting'
               ELSE 'nothing' END AS wanted
           FROM attempt LEFT JOIN line ON attempt_id = attempt.id WHERE run_id = ?1)
         WHERE found <> wanted ORDER BY id",
    )
}

fn lines(conn: &Connection, run: RunId, query: &str) -> Result<Vec<String>> {
    conn.prepare_cached(query)
        .and_then(|mut statement| {
            let texts = statement.query_map([run.0], |row| row.get(0))?;
            texts.collect()
        })
        .map_err(|e| sql("read the places of a run", e))
}
