//! The table that a SQL task came to: the last one that its attempt put out as data, which it does for
//! queries alone.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use forebay_engine::{Table, TaskOutput, Verdict};
use forebay_exec::{Event, TABLE, TRUNCATED};
use forebay_runtime::blocking;
use forebay_store::Attempt;
use forebay_types::{Result, RunId};
use serde_json::Value;

use super::Inner;
use super::output::{self, Cursor, PAGE_BYTES, PAGE_MAX, is_gone, read_page};

/// Tables that are kept.
const KEPT_MAX: usize = 8;

/// By attempt: each iteration of a for-each asks for the same ones. Losing them does no harm.
#[derive(Default)]
pub(crate) struct Tables(Mutex<BTreeMap<RunId, Arc<Table>>>);

impl Tables {
    fn lock(&self) -> MutexGuard<'_, BTreeMap<RunId, Arc<Table>>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn kept(&self, attempt: RunId) -> Option<Arc<Table>> {
        self.lock().get(&attempt).cloned()
    }

    fn keep(&self, attempt: RunId, table: &Arc<Table>) {
        let mut kept = self.lock();
        if kept.len() >= KEPT_MAX {
            // The ids of attempts grow: the first is the least likely to be asked for.
            kept.pop_first();
        }
        kept.insert(attempt, Arc::clone(table));
    }
}

/// Of an attempt that has ended, so that nothing is added to what it put out.
///
/// # Errors
/// When what it put out cannot be read.
pub(super) async fn of(inner: &Inner, attempt: &Attempt) -> Result<TaskOutput> {
    let missing = |why: &str| Ok(TaskOutput::Missing(why.to_owned()));
    if let Some(why) = no_table(attempt.phase.verdict()) {
        return missing(why);
    }
    if let Some(kept) = inner.tables.kept(attempt.id) {
        return Ok(TaskOutput::Table(kept));
    }
    let path = output::file(&inner.dirs, attempt.id);
    match blocking(move || last(&path)).await? {
        Some(table) => {
            let table = Arc::new(table);
            inner.tables.keep(attempt.id, &table);
            Ok(TaskOutput::Table(table))
        }
        None if is_gone(inner, attempt).await? => {
            missing("has no table any more: retention removed what it put out")
        }
        None => missing("has shown no table, or more than a cell may put out"),
    }
}

/// Why an attempt with this end has no table.
fn no_table(verdict: Option<Verdict>) -> Option<&'static str> {
    match verdict {
        Some(verdict) if verdict.is_left_out() => Some("was left out of this run"),
        Some(verdict) if verdict.is_fine() => None,
        _ => Some("has not succeeded"),
    }
}

/// None when output was dropped for its size after the last table that is there: what was dropped may
/// have been the last one.
fn last(path: &PathBuf) -> Result<Option<Table>> {
    let mut table = None;
    let mut cursor = Cursor::default();
    loop {
        let page = read_page(path, cursor, PAGE_MAX, PAGE_BYTES)?;
        for stored in page.events {
            match stored.event {
                Event::Display { mut data, .. } | Event::Result { mut data, .. } => {
                    if let Some(found) = data.get_mut(TABLE) {
                        table = Some(read(found.take()));
                    }
                }
                Event::Stream { text, .. } if text.contains(TRUNCATED) => table = None,
                _ => {}
            }
        }
        if page.end {
            return Ok(table);
        }
        cursor = page.next;
    }
}

fn read(mut data: Value) -> Table {
    let columns = data["schema"].as_array().into_iter().flatten();
    let name = |column: &Value| column["name"].as_str().unwrap_or_default().to_owned();
    let columns = columns.map(name).collect();
    let rows = match data["rows"].take() {
        Value::Array(rows) => rows,
        _ => Vec::new(),
    };
    let cells = |row| match row {
        Value::Array(cells) => cells,
        other => vec![other],
    };
    Table {
        columns,
        rows: rows.into_iter().map(cells).collect(),
        more: data["more"] == Value::Bool(true),
    }
}

#[cfg(test)]
mod tests {
    use forebay_exec::StreamName;
    use forebay_types::Millis;
    use serde_json::{Map, json};

    use super::super::output::StoredEvent;
    use super::*;

    fn shown(data: &Value) -> Event {
        Event::Display {
            cell: 0,
            data: data.as_object().cloned().unwrap_or_default(),
            metadata: Map::new(),
            display_id: None,
        }
    }

    fn of_n(value: i64) -> Event {
        let schema = json!([{"name": "n", "type": "long"}]);
        shown(
            &json!({"text/plain": "n", TABLE: {"schema": schema, "rows": [[value]], "more": true}}),
        )
    }

    fn said(text: &str) -> Event {
        Event::Stream {
            cell: 0,
            name: StreamName::Stderr,
            text: text.to_owned(),
        }
    }

    #[test]
    fn who_was_left_out_did_not_fail() {
        assert_eq!(no_table(Some(Verdict::Succeeded)), None);
        for verdict in [Verdict::Excluded, Verdict::Disabled] {
            assert_eq!(no_table(Some(verdict)), Some("was left out of this run"));
        }
        for verdict in [None, Some(Verdict::Failed)] {
            assert_eq!(no_table(verdict), Some("has not succeeded"));
        }
    }

    #[test]
    fn only_so_many_tables_are_kept() {
        let (tables, table) = (Tables::default(), Arc::new(Table::default()));
        (0..=KEPT_MAX as i64).for_each(|id| tables.keep(RunId(id), &table));
        assert_eq!(tables.kept(RunId(0)), None);
        assert_eq!(tables.kept(RunId(1)), Some(table));
    }

    #[test]
    fn the_last_table_counts_unless_what_came_after_it_was_dropped() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("output.jsonl");
        assert_eq!(last(&path).unwrap(), None);
        let two = Table {
            columns: vec!["n".to_owned()],
            rows: vec![vec![json!(2)]],
            more: true,
        };
        let picture = || shown(&json!({"image/png": "aGk="}));
        let dropped = || said(&format!("\n{TRUNCATED} this cell wrote more]\n"));
        for (events, expected) in [
            (vec![of_n(1), of_n(2), picture(), said("done")], Some(&two)),
            (vec![of_n(1), dropped(), of_n(2)], Some(&two)),
            (vec![of_n(2), dropped()], None),
            (vec![picture()], None),
        ] {
            let line = |(seq, event)| {
                let at = Millis(1);
                serde_json::to_string(&StoredEvent { seq, at, event }).unwrap() + "\n"
            };
            let lines: String = (1..).zip(events).map(line).collect();
            std::fs::write(&path, lines).unwrap();
            assert_eq!(last(&path).unwrap().as_ref(), expected);
        }
    }
}
