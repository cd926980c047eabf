//! The admission of runs: which of them may put attempts in line, as far as job and key have room.

use forebay_engine::admission::{Admission, Room, admit, rank};
use forebay_engine::{Effect, Event, Phase, Plan, Record, Verdict};
use forebay_types::{Error, ErrorCode, JobId, Millis, Result, RunId};
use rusqlite::{Connection, Transaction, params};
use serde_json::Value;

use super::claim::{count, one};
use super::transition::{Head, advance, log};
use super::{NewRun, Run, RunKind, run_get_on};
use crate::connection::sql;
use crate::store::Store;
use crate::triggers;

/// How many keys of a job one look compares; the next look goes on from there.
const KEYS_MAX: usize = 64;
/// When to try again to add to a queue that is too long.
const CEILING_WAIT_S: u32 = 10;
/// How many freed rooms one look takes on.
const ROOMS_MAX: usize = 16;

/// Where a run stands among others: what its job says, or its submitter.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Standing {
    /// Runs of the same key share a cap and slots, whatever their job; empty for none.
    pub key: String,
    /// Runs of the key that may be active at once; 0 for any number.
    pub key_max: usize,
    pub priority: i64,
    pub weight: u32,
    /// Runs of the job or the key that may wait; 0 for any number.
    pub queue_max: usize,
    /// Whether the run is one with an older run of its job (or user) and key that has not started.
    pub coalesce: bool,
    /// Whether the run has all tasks of its job. One that has some of them is never one with another:
    /// what one of them leaves out, the other would have done.
    pub whole: bool,
}

impl Default for Standing {
    fn default() -> Self {
        Self {
            key: String::new(),
            key_max: 0,
            priority: 0,
            weight: 1,
            queue_max: 0,
            coalesce: false,
            whole: true,
        }
    }
}

/// Decides on a run that is about to be written.
pub(super) fn admission(tx: &Transaction<'_>, new: &NewRun) -> Result<Admission> {
    let job = match new.job_id {
        Some(job) => Some(job_room(tx, job, max_of(new.concurrency_max))?),
        None => None,
    };
    let key = key_room(tx, key_of(tx, new)?, new.standing.key_max)?;
    Ok(admit(job, key, new.queue))
}

/// The stored form of a cap; less than nothing is nothing.
fn max_of(max: i64) -> usize {
    usize::try_from(max).unwrap_or(0)
}

pub(crate) fn job_room(tx: &Connection, job: JobId, max: usize) -> Result<Room> {
    let active = "SELECT count(*) FROM (SELECT 1 FROM run_admission
         WHERE job_id = ?1 AND job_id > 0 AND stage IN ('admitted', 'started') LIMIT ?2)";
    let queued =
        "SELECT EXISTS (SELECT 1 FROM run_admission WHERE stage = 'queued' AND job_id = ?1)";
    Ok(Room {
        active: count(tx, active, params![job.0, max])?,
        max,
        queued: count(tx, queued, [job.0])? > 0,
    })
}

pub(crate) fn key_room(tx: &Connection, key: &str, max: usize) -> Result<Option<Room>> {
    if key.is_empty() || max == 0 {
        return Ok(None);
    }
    let active = "SELECT count(*) FROM (SELECT 1 FROM run_admission
         WHERE key = ?1 AND key <> '' AND stage IN ('admitted', 'started') LIMIT ?2)";
    let queued = "SELECT EXISTS (SELECT 1 FROM run_admission
         WHERE stage = 'queued' AND key <> '' AND key = ?1)";
    Ok(Some(Room {
        active: count(tx, active, params![key, max])?,
        max,
        queued: count(tx, queued, [key])? > 0,
    }))
}

pub(super) fn insert(tx: &Transaction<'_>, run: RunId, new: &NewRun, now: Millis) -> Result<()> {
    if new.kind == RunKind::Iteration {
        return insert_below(tx, run, new);
    }
    let (standing, key) = (&new.standing, key_of(tx, new)?);
    tx.prepare_cached(
        "INSERT INTO run_admission
           (run_id, job_id, tenant, weight, rank, key, key_max, whole, stage)
         VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, 'admitted')",
    )
    .and_then(|mut statement| {
        statement.execute(params![
            run.0,
            new.job_id.map_or(0, |job| job.0),
            tenant(new),
            standing.weight.max(1),
            rank(now.0, standing.priority),
            key,
            standing.key_max,
            standing.whole,
        ])
    })
    .map_err(|e| sql("put a run in line", e))?;
    Ok(())
}

/// An iteration is a part of its run, and stands in line where that does.
fn insert_below(tx: &Transaction<'_>, run: RunId, new: &NewRun) -> Result<()> {
    tx.prepare_cached(
        "INSERT INTO run_admission (run_id, job_id, tenant, weight, rank, key, key_max, stage)
         SELECT ?1, 0, tenant, weight, rank, '', 0, 'admitted' FROM attempt
         JOIN run_admission USING (run_id) WHERE attempt.id = ?2",
    )
    .and_then(|mut statement| statement.execute(params![run.0, new.parent_attempt.map(|id| id.0)]))
    .map_err(|e| sql("put an iteration in line", e))?;
    Ok(())
}

/// The key that a new run is counted by: none when a run above it has that key already. Who waits
/// for a child must not be what the child waits for, so both have one place.
fn key_of<'a>(tx: &Transaction<'_>, new: &'a NewRun) -> Result<&'a str> {
    let key = &new.standing.key;
    let Some(parent) = new.parent_attempt.filter(|_| !key.is_empty()) else {
        return Ok(key);
    };
    let above = "WITH RECURSIVE above (id) AS (
           SELECT run_id FROM attempt WHERE id = ?1
           UNION ALL SELECT attempt.run_id FROM above
             JOIN run ON run.id = above.id JOIN attempt ON attempt.id = run.parent_attempt)
         SELECT 1 FROM above JOIN run_admission ON run_id = above.id WHERE key = ?2 LIMIT 1";
    let held = one(tx, above, params![parent.0, key], |_| Ok(()))?.is_some();
    Ok(if held { "" } else { key })
}

fn tenant(new: &NewRun) -> String {
    match new.job_id {
        _ if !new.standing.key.is_empty() => format!("key:{}", new.standing.key),
        Some(job) => format!("job:{job}"),
        None => format!("user:{}", new.creator_id),
    }
}

/// Leaves word that somebody may be admitted to the rooms of a run.
pub(super) fn look_at_rooms(tx: &Transaction<'_>, run: RunId) -> Result<()> {
    tx.prepare_cached(
        "INSERT OR REPLACE INTO room_freed (job_id, key)
         SELECT job_id, key FROM run_admission WHERE run_id = ?1",
    )
    .and_then(|mut statement| statement.execute([run.0]))
    .map_err(|e| sql("queue a run", e))?;
    Ok(())
}

/// The run that a new one would only repeat: same key, same job (or user), all tasks, and nothing of
/// it has started. The new parameters are noted on it.
pub(super) fn coalesced(tx: &Transaction<'_>, new: &NewRun, now: Millis) -> Result<Option<RunId>> {
    let alone = new.parent_attempt.is_none();
    let standing = &new.standing;
    if !alone || !standing.coalesce || !standing.whole || standing.key.is_empty() {
        return Ok(None);
    }
    let older = one(
        tx,
        "SELECT run_id FROM run_admission JOIN run ON run.id = run_id
         WHERE stage IN ('queued', 'admitted') AND key <> '' AND key = ?1
           AND run_admission.job_id = ?2 AND (?2 > 0 OR creator_id = ?3) AND stopping IS NULL
           AND whole
         ORDER BY run_id LIMIT 1",
        params![
            standing.key,
            new.job_id.map_or(0, |job| job.0),
            new.creator_id.0
        ],
        |row| row.get("run_id").map(RunId),
    )?;
    if let Some(id) = older {
        let asked = Record::Coalesced {
            by: new.creator_name.clone(),
            parameters: Value::Object(new.parameters.clone()),
        };
        log(tx, id, now, &asked)?;
    }
    Ok(older)
}

/// Refuses a run that would make a queue too long.
pub(super) fn check_ceiling(tx: &Transaction<'_>, new: &NewRun) -> Result<()> {
    let max = new.standing.queue_max;
    if max == 0 {
        return Ok(());
    }
    let key = key_of(tx, new)?;
    let (what, waiting) = match new.job_id {
        _ if !key.is_empty() => {
            let query = "SELECT count(*) FROM (SELECT 1 FROM run_admission
                 WHERE stage IN ('queued', 'admitted') AND key <> '' AND key = ?1 LIMIT ?2)";
            (format!("Key '{key}'"), count(tx, query, params![key, max])?)
        }
        Some(job) => {
            let query = "SELECT count(*) FROM (SELECT 1 FROM run_admission
                 WHERE stage IN ('queued', 'admitted') AND job_id > 0 AND job_id = ?1 LIMIT ?2)";
            (format!("Job {job}"), count(tx, query, params![job.0, max])?)
        }
        None => return Ok(()),
    };
    if waiting < max {
        return Ok(());
    }
    Err(Error::new(
        ErrorCode::RequestLimitExceeded,
        format!(
            "{what} has {waiting} runs waiting, as many as queue_max allows; repeat the call \
             when some have started."
        ),
    )
    .retry_after_s(CEILING_WAIT_S))
}

/// Takes an ended run back in, for a repair. It does not queue: who repairs is told at once, and has
/// chosen the moment.
pub(super) fn readmit(tx: &Transaction<'_>, id: RunId) -> Result<()> {
    // What shared the place of a run above it has to have one of its own now.
    tx.prepare_cached(
        "UPDATE run_admission SET key = substr(tenant, 5) WHERE run_id = ?1 AND key = ''
           AND job_id > 0 AND tenant LIKE 'key:%'",
    )
    .and_then(|mut statement| statement.execute([id.0]))
    .map_err(|e| sql("take a run back in", e))?;
    let (job, key) = rooms_of(tx, id)?;
    let full = |what: &str, room: Option<Room>| {
        let room = room.filter(|room| room.active >= room.max)?;
        let message = format!(
            "Run {id} cannot be repaired now: {what} has {} of {} active runs; \
             repeat the call when one has ended.",
            room.active, room.max
        );
        Some(Error::new(ErrorCode::ResourceConflict, message))
    };
    let full = full("its job", job).or_else(|| full("its key", key));
    full.map_or(Ok(()), Err)
}

impl Store {
    /// Queued runs whose job and key have room now, best first of each; the caller admits them with
    /// their plans and asks again, until there are none.
    ///
    /// # Errors
    /// When the database refuses.
    pub async fn run_admissible(&self) -> Result<Vec<RunId>> {
        let rooms = "SELECT EXISTS (SELECT 1 FROM room_freed)";
        let any = self.glance(|conn| {
            conn.prepare_cached(rooms)
                .and_then(|mut statement| statement.query_row([], |row| row.get::<_, bool>(0)))
                .map_err(|e| sql("look for room", e))
        });
        if !any? {
            return Ok(Vec::new());
        }
        self.write(admissible).await
    }

    /// Admits a queued run if there is still room for it; otherwise nothing happens.
    ///
    /// # Errors
    /// When the database refuses.
    pub async fn run_admit(&self, id: RunId, plan: Plan, now: Millis) -> Result<Vec<Effect>> {
        self.write(move |tx| {
            if has_room(tx, id)? {
                advance(tx, id, &plan, (&Event::Admitted, None), now)
            } else {
                Ok(Vec::new())
            }
        })
        .await
    }

    /// Ends queued runs that were created before `before`: they waited too long. At most 100, which
    /// are the caller's to tell of.
    ///
    /// # Errors
    /// When the database refuses.
    pub async fn run_expire(
        &self,
        before: Millis,
        message: String,
        now: Millis,
    ) -> Result<Vec<Run>> {
        // Ids are given in the order of creation, so only the first of the queue can be too old.
        let old = "SELECT run_id FROM
               (SELECT run_id FROM run_admission WHERE stage = 'queued' ORDER BY run_id LIMIT 100)
             JOIN run ON run.id = run_id WHERE created_at < ?1";
        let old = self.glance(|conn| {
            conn.prepare_cached(old)
                .and_then(|mut statement| {
                    let ids = statement.query_map([before.0], |row| row.get(0).map(RunId))?;
                    ids.collect::<rusqlite::Result<Vec<RunId>>>()
                })
                .map_err(|e| sql("look for runs that wait too long", e))
        });
        let old = old?;
        if old.is_empty() {
            return Ok(Vec::new());
        }
        self.write(move |tx| {
            let mut ended = Vec::new();
            for id in old {
                let run = run_get_on(tx, id)?;
                let Some(run) = run.filter(|run| run.phase == Phase::Queued) else {
                    continue;
                };
                super::change::skip(tx, id, &message, now)?;
                // Unlike a run that was never let in, this one is waited for.
                triggers::run_ended(tx, &Head::from(&run), Verdict::Skipped, now)?;
                ended.push(run);
            }
            Ok(ended)
        })
        .await
    }
}

struct Freed {
    job: i64,
    key: String,
    after: String,
}

fn admissible(tx: &Transaction<'_>) -> Result<Vec<RunId>> {
    let rooms: Vec<Freed> = tx
        .prepare_cached("SELECT job_id, key, after FROM room_freed LIMIT ?1")
        .and_then(|mut statement| {
            let read = |row: &rusqlite::Row<'_>| {
                Ok(Freed {
                    job: row.get("job_id")?,
                    key: row.get("key")?,
                    after: row.get("after")?,
                })
            };
            statement.query_map([ROOMS_MAX], read)?.collect()
        })
        .map_err(|e| sql("look for room", e))?;
    let mut found = Vec::new();
    for room in &rooms {
        let (in_job, more) = first_of_job(tx, room)?;
        let best = [in_job, first_of_key(tx, &room.key)?];
        let best: Vec<RunId> = best.into_iter().flatten().collect();
        if best.is_empty() {
            set_after(tx, room, more)?;
        }
        found.extend(best);
    }
    found.sort_unstable();
    found.dedup();
    // Nothing in these rooms, but the walk is not over.
    if found.is_empty() && !rooms.is_empty() {
        return admissible(tx);
    }
    Ok(found)
}

/// The next key to look from, or that nobody can be admitted through this row any more.
fn set_after(tx: &Transaction<'_>, room: &Freed, more: Option<String>) -> Result<()> {
    let bounds = params![room.job, room.key, more];
    let change = if more.is_some() {
        "UPDATE room_freed SET after = ?3 WHERE job_id = ?1 AND key = ?2"
    } else {
        "DELETE FROM room_freed WHERE job_id = ?1 AND key = ?2 AND ?3 IS NULL"
    };
    tx.prepare_cached(change)
        .and_then(|mut statement| statement.execute(bounds))
        .map_err(|e| sql("note what was looked at", e))?;
    Ok(())
}

/// The best queued run of a job among [`KEYS_MAX`] of its keys, and where to go on.
fn first_of_job(tx: &Transaction<'_>, room: &Freed) -> Result<(Option<RunId>, Option<String>)> {
    let mut best: Option<(i64, RunId)> = None;
    let mut after = room.after.clone();
    // The empty key comes first, and only at the start of the walk.
    let mut key = if after.is_empty() {
        Some(String::new())
    } else {
        None
    };
    if room.job == 0 {
        return Ok((None, None));
    }
    for _ in 0..KEYS_MAX {
        let from = match key.take() {
            Some(key) => key,
            None => match key_after(tx, room.job, &after)? {
                Some(key) => key,
                None => return Ok((best.map(|(_, id)| id), None)),
            },
        };
        if let Some(first) = first_of_pair(tx, room.job, &from)? {
            best = Some(best.map_or(first, |best| best.min(first)));
        }
        after = from;
    }
    Ok((best.map(|(_, id)| id), Some(after)))
}

fn key_after(tx: &Transaction<'_>, job: i64, after: &str) -> Result<Option<String>> {
    one(
        tx,
        "SELECT key FROM run_admission WHERE stage = 'queued' AND job_id = ?1 AND key > ?2
         ORDER BY key LIMIT 1",
        params![job, after],
        |row| row.get("key"),
    )
}

/// The best queued run of a key, over all jobs that use it.
fn first_of_key(tx: &Transaction<'_>, key: &str) -> Result<Option<RunId>> {
    let mut best: Option<(i64, RunId)> = None;
    let mut job = -1;
    while let Some(next) = one(
        tx,
        "SELECT job_id FROM run_admission
         WHERE stage = 'queued' AND key <> '' AND key = ?1 AND job_id > ?2
         ORDER BY job_id LIMIT 1",
        params![key, job],
        |row| row.get("job_id"),
    )? {
        if let Some(first) = first_of_pair(tx, next, key)? {
            best = Some(best.map_or(first, |best| best.min(first)));
        }
        job = next;
    }
    Ok(best.map(|(_, id)| id))
}

/// The first queued run of a job and key, if both have room for it.
fn first_of_pair(tx: &Transaction<'_>, job: i64, key: &str) -> Result<Option<(i64, RunId)>> {
    let first = one(
        tx,
        "SELECT rank, run_id FROM run_admission
         WHERE stage = 'queued' AND job_id = ?1 AND key = ?2 ORDER BY rank, run_id LIMIT 1",
        params![job, key],
        |row| Ok((row.get("rank")?, RunId(row.get("run_id")?))),
    )?;
    match first {
        Some((rank, id)) if has_room(tx, id)? => Ok(Some((rank, id))),
        _ => Ok(None),
    }
}

/// Whether job and key of a queued run have room for it.
fn has_room(tx: &Transaction<'_>, id: RunId) -> Result<bool> {
    let queued = "SELECT 1 FROM run_admission WHERE run_id = ?1 AND stage = 'queued'";
    if one(tx, queued, [id.0], |_| Ok(()))?.is_none() {
        return Ok(false);
    }
    let (job, key) = rooms_of(tx, id)?;
    let full = |room: Option<Room>| room.is_some_and(|room| room.active >= room.max);
    Ok(!full(job) && !full(key))
}

/// How full the job and the key of a run are.
pub(crate) fn rooms_of(conn: &Connection, id: RunId) -> Result<(Option<Room>, Option<Room>)> {
    let row = one(
        conn,
        "SELECT run_admission.job_id AS job_id, key, key_max, concurrency_max
         FROM run_admission JOIN run ON run.id = run_id WHERE run_id = ?1",
        [id.0],
        |row| {
            let key: String = row.get("key")?;
            let key_max = row.get::<_, u32>("key_max")? as usize;
            let job_max = max_of(row.get("concurrency_max")?);
            Ok((JobId(row.get("job_id")?), job_max, key, key_max))
        },
    )?;
    let Some((job, job_max, key, key_max)) = row else {
        return Ok((None, None));
    };
    let of_job = match job {
        JobId(0) => None,
        job => Some(job_room(conn, job, job_max)?),
    };
    Ok((of_job, key_room(conn, &key, key_max)?))
}
