//! Attempts without a slot, and the runs they wait for.

use std::collections::HashMap;
use std::ops::Range;

use forebay_engine::Children;
use forebay_types::{Error, Result, RunId};
use rusqlite::{Connection, OptionalExtension, Transaction, params};
use serde_json::Value;

use super::{
    ATTEMPT_COLUMNS, Attempt, NewRun, RUN_COLUMNS, Run, attempt_from_row, attempts_on, run_from_row,
};
use crate::connection::sql;
use crate::store::Store;

/// One planned child of a container, by its number.
pub(super) struct Child {
    attempt: RunId,
    number: usize,
}

impl Child {
    pub(super) fn of(new: &NewRun) -> Option<Self> {
        Some(Self {
            attempt: new.parent_attempt?,
            number: new.child_number?,
        })
    }

    /// The run that an earlier call started for this child.
    pub(super) fn started(&self, tx: &Transaction<'_>) -> Result<Option<RunId>> {
        let place = tx
            .prepare_cached(
                "SELECT child.run_id, attempt.phase = 'running' FROM child
                 JOIN attempt ON attempt.id = child.attempt_id
                 WHERE child.attempt_id = ?1 AND child.number = ?2",
            )
            .and_then(|mut statement| {
                let found = |row: &rusqlite::Row<'_>| {
                    Ok((row.get::<_, Option<i64>>(0)?, row.get::<_, bool>(1)?))
                };
                statement
                    .query_row(params![self.attempt.0, self.number], found)
                    .optional()
            })
            .map_err(|e| sql("look for a child", e))?;
        match place {
            Some((Some(run), _)) => Ok(Some(RunId(run))),
            Some((None, true)) => Ok(None),
            _ => Err(Error::state(format!(
                "Run {} does not wait for child {} any more.",
                self.attempt, self.number
            ))),
        }
    }

    pub(super) fn start(&self, tx: &Transaction<'_>, run: RunId) -> Result<()> {
        tx.prepare_cached("UPDATE child SET run_id = ?3 WHERE attempt_id = ?1 AND number = ?2")
            .and_then(|mut statement| {
                statement.execute(params![self.attempt.0, self.number, run.0])
            })
            .map_err(|e| sql("start a child", e))?;
        Ok(())
    }
}

/// A child as a client sees it in a list.
#[derive(Debug, Clone)]
pub struct ChildRun {
    pub number: usize,
    pub input: Option<Value>,
    /// `None` until it is started, and when its run was deleted since.
    pub run: Option<(Run, Vec<Attempt>)>,
}

/// A child by its number alone.
#[derive(Debug, Clone)]
pub struct ChildPlace {
    pub number: usize,
    pub input: Option<Value>,
    /// `None` until it is started, and when its run was deleted since.
    pub run: Option<RunId>,
}

impl Store {
    /// Live attempts that hold no slot, oldest first.
    ///
    /// # Errors
    /// When the database refuses.
    pub async fn container_list(&self) -> Result<Vec<Attempt>> {
        self.read(|conn| {
            conn.prepare_cached(&format!(
                "SELECT {ATTEMPT_COLUMNS} FROM attempt
                 WHERE phase IN ('running', 'terminating') AND NOT takes_slot ORDER BY id"
            ))
            .and_then(|mut statement| statement.query_map([], attempt_from_row)?.collect())
            .map_err(|e| sql("list containers", e))
        })
        .await
    }

    /// Writes down the children that an attempt will have, one for each element. A second call
    /// changes nothing. Where the attempt before it of the same task ended badly, children of the
    /// same number and element that ended well are taken over, and do not run again.
    ///
    /// # Errors
    /// When the database refuses.
    pub async fn container_plan(&self, attempt: RunId, inputs: Vec<Option<Value>>) -> Result<()> {
        self.write(move |tx| {
            for (number, input) in inputs.iter().enumerate() {
                tx.prepare_cached(
                    "INSERT OR IGNORE INTO child (attempt_id, number, input) VALUES (?1, ?2, ?3)",
                )
                .and_then(|mut statement| {
                    let input = input.as_ref().map(Value::to_string);
                    statement.execute(params![attempt.0, number, input])
                })
                .map_err(|e| sql("plan a child", e))?;
            }
            take_over(tx, attempt)
        })
        .await
    }

    /// How the children of an attempt stand; `None` before they were planned.
    ///
    /// # Errors
    /// When the database refuses.
    pub async fn container_children(&self, attempt: RunId) -> Result<Option<Children>> {
        self.read(move |conn| children(conn, attempt, false)).await
    }

    /// The same with ended children told apart also while others are active.
    ///
    /// # Errors
    /// When the database refuses.
    pub async fn container_counts(&self, attempt: RunId) -> Result<Option<Children>> {
        self.read(move |conn| children(conn, attempt, true)).await
    }

    /// The same of several containers; those without children are left out.
    ///
    /// # Errors
    /// When the database refuses.
    pub async fn container_list_counts(
        &self,
        attempts: Vec<RunId>,
    ) -> Result<HashMap<RunId, Children>> {
        if attempts.is_empty() {
            return Ok(HashMap::new());
        }
        self.read(move |conn| {
            let counts = attempts.into_iter().map(|attempt| {
                let counts = children(conn, attempt, true)?;
                Ok(counts.map(|counts| (attempt, counts)))
            });
            counts.filter_map(Result::transpose).collect()
        })
        .await
    }

    /// The elements of some children, in order.
    ///
    /// # Errors
    /// When the database refuses.
    pub async fn container_inputs(
        &self,
        attempt: RunId,
        numbers: Range<usize>,
    ) -> Result<Vec<Option<Value>>> {
        self.read(move |conn| {
            conn.prepare_cached(
                "SELECT input FROM child WHERE attempt_id = ?1 AND number >= ?2 AND number < ?3
                 ORDER BY number",
            )
            .and_then(|mut statement| {
                let bounds = params![attempt.0, numbers.start, numbers.end];
                statement
                    .query_map(bounds, |row| row.get(0).map(json))?
                    .collect()
            })
            .map_err(|e| sql("read the elements of children", e))
        })
        .await
    }

    /// The children that are still under way.
    ///
    /// # Errors
    /// When the database refuses.
    pub async fn container_active(&self, attempt: RunId) -> Result<Vec<Run>> {
        self.read(move |conn| {
            conn.prepare_cached(&format!(
                "SELECT {RUN_COLUMNS} FROM run WHERE parent_attempt = ?1 AND phase <> 'ended'"
            ))
            .and_then(|mut statement| statement.query_map([attempt.0], run_from_row)?.collect())
            .map_err(|e| sql("list active children", e))
        })
        .await
    }

    /// The children with numbers from `start` on, at most `limit`.
    ///
    /// # Errors
    /// When the database refuses.
    pub async fn container_page(
        &self,
        attempt: RunId,
        start: usize,
        limit: usize,
    ) -> Result<Vec<ChildRun>> {
        self.read(move |conn| {
            let rows: Vec<(usize, Option<Value>, Option<i64>)> = conn
                .prepare_cached(
                    "SELECT number, input, run_id FROM child
                     WHERE attempt_id = ?1 AND number >= ?2 ORDER BY number LIMIT ?3",
                )
                .and_then(|mut statement| {
                    statement
                        .query_map(params![attempt.0, start, limit], |row| {
                            let number = row.get::<_, u32>(0)? as usize;
                            Ok((number, json(row.get(1)?), row.get(2)?))
                        })?
                        .collect()
                })
                .map_err(|e| sql("list children", e))?;
            let with_run = |(number, input, run): (usize, Option<Value>, Option<i64>)| {
                let found = match run {
                    Some(id) => super::run_get_on(conn, RunId(id))?,
                    None => None,
                };
                let run = found
                    .map(|run| attempts_on(conn, run.id).map(|attempts| (run, attempts)))
                    .transpose()?;
                Ok(ChildRun { number, input, run })
            };
            rows.into_iter().map(with_run).collect()
        })
        .await
    }

    /// All children, without what their runs are.
    ///
    /// # Errors
    /// When the database refuses.
    pub async fn container_places(&self, attempt: RunId) -> Result<Vec<ChildPlace>> {
        self.read(move |conn| {
            conn.prepare_cached(
                "SELECT number, input, run.id AS run FROM child
                 LEFT JOIN run ON run.id = child.run_id WHERE attempt_id = ?1 ORDER BY number",
            )
            .and_then(|mut statement| {
                let place = |row: &rusqlite::Row<'_>| {
                    Ok(ChildPlace {
                        number: row.get::<_, u32>("number")? as usize,
                        input: json(row.get("input")?),
                        run: row.get::<_, Option<i64>>("run")?.map(RunId),
                    })
                };
                statement.query_map([attempt.0], place)?.collect()
            })
            .map_err(|e| sql("list the places of children", e))
        })
        .await
    }

    /// Why children ended badly, by their programs' errors where there are any, with how many said so,
    /// most frequent first.
    ///
    /// # Errors
    /// When the database refuses.
    pub async fn container_failures(&self, attempt: RunId) -> Result<Vec<(String, u32)>> {
        self.read(move |conn| {
            conn.prepare_cached(
                "SELECT coalesce(
                     (SELECT substr(error, 1, 500) FROM attempt
                      WHERE attempt.run_id = run.id AND error <> '' ORDER BY id DESC LIMIT 1),
                     message) AS reason, count(*) AS often
                 FROM run WHERE parent_attempt = ?1 AND phase = 'ended'
                   AND verdict NOT IN ('succeeded', 'succeeded_with_failures')
                 GROUP BY reason ORDER BY often DESC, min(run.id) LIMIT 10",
            )
            .and_then(|mut statement| {
                statement
                    .query_map([attempt.0], |row| Ok((row.get(0)?, row.get(1)?)))?
                    .collect()
            })
            .map_err(|e| sql("read the failures of children", e))
        })
        .await
    }
}

fn take_over(tx: &Transaction<'_>, attempt: RunId) -> Result<()> {
    tx.prepare_cached(
        "UPDATE child SET run_id = earlier.run_id
         FROM attempt AS own
         JOIN attempt AS before ON before.run_id = own.run_id AND before.task = own.task
           AND before.attempt = own.attempt - 1
         JOIN child AS earlier ON earlier.attempt_id = before.id
         JOIN run ON run.id = earlier.run_id
         WHERE own.id = ?1 AND child.attempt_id = ?1 AND child.run_id IS NULL
           AND child.number = earlier.number AND child.input = earlier.input
           AND before.verdict NOT IN ('succeeded', 'succeeded_with_failures')
           AND run.verdict IN ('succeeded', 'succeeded_with_failures')",
    )
    .and_then(|mut statement| statement.execute([attempt.0]))
    .map(drop)
    .map_err(|e| sql("take over children", e))
}

fn json(text: Option<String>) -> Option<Value> {
    text.and_then(|text| serde_json::from_str(&text).ok())
}

/// Cheap until all have ended, unless all are to be counted: many ends come, each with a look.
fn children(conn: &Connection, attempt: RunId, all: bool) -> Result<Option<Children>> {
    let one = |query: &str| -> Result<Option<u32>> {
        conn.prepare_cached(query)
            .and_then(|mut statement| statement.query_row([attempt.0], |row| row.get(0)))
            .map_err(|e| sql("count children", e))
    };
    let Some(last) = one("SELECT max(number) FROM child WHERE attempt_id = ?1")? else {
        return Ok(None);
    };
    let planned = last as usize + 1;
    let unstarted = one("SELECT min(number) FROM child WHERE attempt_id = ?1 AND run_id IS NULL")?;
    let active = one("SELECT count(*) FROM run WHERE parent_attempt = ?1 AND phase <> 'ended'")?;
    let mut children = Children {
        planned,
        started: unstarted.map_or(planned, |first| first as usize),
        active: active.unwrap_or(0) as usize,
        ..Children::default()
    };
    if all || (children.active == 0 && unstarted.is_none()) {
        // A child that was deleted since cannot be said to have succeeded.
        let by_verdict = |condition: &str| {
            one(&format!(
                "SELECT count(*) FROM child LEFT JOIN run ON run.id = child.run_id
                 WHERE child.attempt_id = ?1 AND child.run_id IS NOT NULL AND {condition}"
            ))
        };
        let canceled = by_verdict("run.verdict = 'canceled'")?;
        let failed = by_verdict(
            "coalesce(run.phase, 'ended') = 'ended' AND coalesce(run.verdict, '')
               NOT IN ('succeeded', 'succeeded_with_failures', 'canceled')",
        )?;
        children.canceled = canceled.unwrap_or(0) as usize;
        children.failed = failed.unwrap_or(0) as usize;
    }
    Ok(Some(children))
}
