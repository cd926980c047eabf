//! The queue as people look at it: what holds slots, what waits for one, and which runs wait for
//! their job or key.

use forebay_engine::admission::{Claimant, Line, Room, Use, before, merged};
use forebay_types::{JobId, Millis, Result, RunId, UserId};
use rusqlite::{Connection, Params, Row, named_params, params};

use crate::connection::sql;
use crate::runs::{count, job_room, key_room, one, rooms_of};
use crate::store::Store;

/// Caps of jobs and keys that are listed at most.
const ROOMS_MAX: usize = 100;
/// Runs that are named as holding a cap.
const HOLDERS_MAX: usize = 20;

/// Who asks; `None` for somebody who may see everything.
pub type Viewer = Option<(UserId, String)>;

/// An attempt with a slot, or something that waits.
#[derive(Debug, Clone)]
pub struct QueueEntry {
    pub run_id: RunId,
    /// `None` for a run that waits to be admitted.
    pub attempt_id: Option<RunId>,
    pub job_id: Option<JobId>,
    pub name: String,
    pub task_key: String,
    pub creator_name: String,
    pub key: String,
    /// When it got its slot, or came into the queue.
    pub since: Millis,
    /// How full its job and its key are; only for a run that waits for them.
    pub rooms: (Option<Room>, Option<Room>),
    pub visible: bool,
}

/// An attempt that waits for its time.
#[derive(Debug, Clone)]
pub struct DueEntry {
    pub entry: QueueEntry,
    pub due_at: Millis,
    /// Whether it is between two tries; else something holds its run.
    pub is_retry: bool,
    /// What holds its run.
    pub message: String,
}

/// A cap of a job or key that is in use.
#[derive(Debug, Clone)]
pub struct RoomUse {
    pub job_id: Option<JobId>,
    pub key: Option<String>,
    pub fill: Use,
    pub queued: usize,
}

#[derive(Debug, Clone, Default)]
pub struct Queue {
    pub running: Vec<QueueEntry>,
    pub running_total: usize,
    /// In the order in which they would start.
    pub waiting: Vec<QueueEntry>,
    pub waiting_total: usize,
    /// Runs whose job or key is full, by priority and age.
    pub queued: Vec<QueueEntry>,
    pub queued_total: usize,
}

/// Where a waiting run stands.
#[derive(Debug, Clone)]
pub enum RunPlace {
    /// Its first attempt waits for a slot, behind so many others.
    Slot { before: usize },
    /// Its job or key is full; so many runs of the same job and key are before it.
    Room {
        before: usize,
        job: Option<Room>,
        key: Option<Room>,
        /// Some of the runs that have the room.
        holders: Vec<RunId>,
    },
}

const COLUMNS: &str = "run.id AS run_id, run.job_id AS job_id, run.name AS name,
    run.creator_name AS creator_name, coalesce(run_admission.key, '') AS key,
    (:user IS NULL OR run.creator_id = :user OR run.job_id IN (
      SELECT CAST(object_id AS INTEGER) FROM permission WHERE kind = 'jobs'
        AND ((principal_kind = 'user' AND principal = :name)
          OR (principal_kind = 'group' AND principal = 'users')))) AS visible";

const OF_ATTEMPT: &str = "FROM line JOIN attempt ON attempt.id = attempt_id
    JOIN run ON run.id = attempt.run_id LEFT JOIN run_admission ON run_admission.run_id = run.id";

fn entry(row: &Row<'_>) -> rusqlite::Result<QueueEntry> {
    Ok(QueueEntry {
        run_id: RunId(row.get("run_id")?),
        attempt_id: row.get::<_, Option<i64>>("attempt_id")?.map(RunId),
        job_id: row.get::<_, Option<i64>>("job_id")?.map(JobId),
        name: row.get("name")?,
        task_key: row.get("task_key")?,
        creator_name: row.get("creator_name")?,
        key: row.get("key")?,
        since: Millis(row.get("since")?),
        rooms: (None, None),
        visible: row.get("visible")?,
    })
}

impl Store {
    /// What runs, and what waits: each from `skip` on, at most `take`; queued runs come behind the
    /// attempts that wait. Entries that the viewer may not see are there, marked.
    ///
    /// # Errors
    /// When the database refuses.
    pub async fn queue(&self, viewer: Viewer, skip: usize, take: usize) -> Result<Queue> {
        self.read(move |conn| {
            let lines = lines(conn)?;
            let (running, running_total) = running(conn, &viewer, skip, take)?;
            let waiting = waiting(conn, &viewer, &lines, (skip, take))?;
            let waiting_total = lines.iter().map(|line| line.line.waiting).sum();
            // Behind the attempts, so that places on a page have no gap.
            let skip_queued = skip.saturating_sub(waiting_total);
            let take_queued = take.saturating_sub(waiting.len());
            let (queued, queued_total) = queued(conn, &viewer, skip_queued, take_queued)?;
            Ok(Queue {
                running,
                running_total,
                waiting,
                waiting_total,
                queued,
                queued_total,
            })
        })
        .await
    }

    /// The attempts that wait for their time, the earliest first, at most `take`; with those that the
    /// viewer may not see.
    ///
    /// # Errors
    /// When the database refuses.
    pub async fn queue_due(&self, viewer: Viewer, take: usize) -> Result<Vec<DueEntry>> {
        self.read(move |conn| {
            let query = format!(
                "SELECT {COLUMNS}, attempt_id, task_key, attempt.created_at AS since,
                   line.due_at AS due_at, attempt.phase = 'waiting_for_retry' AS is_retry, run.message
                 {OF_ATTEMPT} WHERE line.state = 'due' ORDER BY line.due_at, attempt_id LIMIT :take"
            );
            let (user, name) = viewer.map_or((None, String::new()), |(id, name)| (Some(id.0), name));
            conn.prepare_cached(&query)
                .and_then(|mut statement| {
                    let read = |row: &Row<'_>| {
                        Ok(DueEntry {
                            entry: entry(row)?,
                            due_at: Millis(row.get("due_at")?),
                            is_retry: row.get("is_retry")?,
                            message: row.get("message")?,
                        })
                    };
                    let bounds = named_params! {":user": user, ":name": name, ":take": take};
                    statement.query_map(bounds, read)?.collect()
                })
                .map_err(|e| sql("read what waits for its time", e))
        })
        .await
    }

    /// The caps of jobs and keys that somebody waits for, the fullest queues first, at most 100.
    ///
    /// # Errors
    /// When the database refuses.
    pub async fn queue_rooms(&self) -> Result<Vec<RoomUse>> {
        self.read(|conn| {
            let waited_for = conn
                .prepare_cached(
                    // The inner part needs only an index, however many queue.
                    "SELECT full.job_id AS job_id, full.key AS key, queued, key_max,
                       concurrency_max AS job_max
                     FROM (SELECT job_id, key, count(*) AS queued, min(run_id) AS first
                           FROM run_admission WHERE stage = 'queued' GROUP BY job_id, key
                           ORDER BY queued DESC LIMIT ?1) AS full
                     JOIN run ON run.id = first JOIN run_admission ON run_id = first
                     ORDER BY queued DESC",
                )
                .and_then(|mut statement| {
                    let read = |row: &Row<'_>| {
                        let job = JobId(row.get("job_id")?);
                        let (key, key_max): (String, u32) = (row.get("key")?, row.get("key_max")?);
                        let (max, queued): (u32, u32) = (row.get("job_max")?, row.get("queued")?);
                        Ok((job, max as usize, key, key_max as usize, queued as usize))
                    };
                    let rows = statement.query_map([ROOMS_MAX], read)?;
                    rows.collect::<rusqlite::Result<Vec<_>>>()
                })
                .map_err(|e| sql("list full caps", e))?;
            let mut rooms: Vec<RoomUse> = Vec::new();
            for (job, max, key, key_max, queued) in waited_for {
                let of_job = if job.0 > 0 {
                    Some(job_room(conn, job, max)?)
                } else {
                    None
                };
                let of_key = key_room(conn, &key, key_max)?;
                add(&mut rooms, Some(job), None, of_job, queued);
                add(&mut rooms, None, Some(key), of_key, queued);
            }
            Ok(rooms)
        })
        .await
    }

    /// Where a run waits; `None` when nothing of it does.
    ///
    /// # Errors
    /// When the database refuses.
    pub async fn run_place(&self, run: RunId) -> Result<Option<RunPlace>> {
        self.read(move |conn| match in_line(conn, run)? {
            Some(before) => Ok(Some(RunPlace::Slot { before })),
            None => in_queue(conn, run),
        })
        .await
    }

    /// Runs that hold slots, longest first, at most 20.
    ///
    /// # Errors
    /// When the database refuses.
    pub async fn slot_holders(&self) -> Result<Vec<RunId>> {
        self.read(|conn| {
            ids(
                conn,
                "SELECT DISTINCT run_id FROM line JOIN attempt ON attempt.id = attempt_id
                 WHERE line.state = 'live' ORDER BY started_at LIMIT ?1",
                [HOLDERS_MAX],
            )
        })
        .await
    }
}

fn add(
    rooms: &mut Vec<RoomUse>,
    job_id: Option<JobId>,
    key: Option<String>,
    room: Option<Room>,
    queued: usize,
) {
    let known = rooms
        .iter_mut()
        .find(|known| known.job_id == job_id && known.key == key);
    match (known, room) {
        (Some(known), Some(_)) => known.queued += queued,
        (None, Some(Room { active, max, .. })) => rooms.push(RoomUse {
            job_id,
            key,
            fill: Use { live: active, max },
            queued,
        }),
        (_, None) => {}
    }
}

struct TenantLine {
    tenant: String,
    line: Line,
}

fn lines(conn: &Connection) -> Result<Vec<TenantLine>> {
    conn.prepare_cached(
        "SELECT tenant, count(*) AS waiting, min(rank) AS rank, attempt_id, weight,
           (SELECT count(*) FROM line AS held WHERE held.state = 'live' AND held.tenant = line.tenant)
             AS live
         FROM line WHERE state = 'waiting' GROUP BY tenant ORDER BY tenant",
    )
    .and_then(|mut statement| {
        let read = |row: &Row<'_>| {
            Ok(TenantLine {
                tenant: row.get("tenant")?,
                line: Line {
                    claimant: Claimant {
                        live: row.get::<_, u32>("live")? as usize,
                        weight: row.get("weight")?,
                    },
                    waiting: row.get::<_, u32>("waiting")? as usize,
                    head: (row.get("rank")?, row.get("attempt_id")?),
                },
            })
        };
        statement.query_map([], read)?.collect()
    })
    .map_err(|e| sql("read the line", e))
}

fn running(
    conn: &Connection,
    viewer: &Viewer,
    skip: usize,
    take: usize,
) -> Result<(Vec<QueueEntry>, usize)> {
    let query = format!(
        "SELECT {COLUMNS}, attempt_id, task_key, coalesce(attempt.started_at, 0) AS since
         {OF_ATTEMPT} WHERE line.state = 'live' ORDER BY since, attempt_id LIMIT :take OFFSET :skip"
    );
    let found = entries(conn, &query, viewer, "", (skip, take))?;
    Ok((
        found,
        count(conn, "SELECT count(*) FROM line WHERE state = 'live'", [])?,
    ))
}

fn waiting(
    conn: &Connection,
    viewer: &Viewer,
    lines: &[TenantLine],
    (skip, take): (usize, usize),
) -> Result<Vec<QueueEntry>> {
    let plain: Vec<Line> = lines.iter().map(|line| line.line).collect();
    let order = merged(&plain, skip, take);
    let query = format!(
        "SELECT {COLUMNS}, attempt_id, task_key, attempt.created_at AS since
         {OF_ATTEMPT} WHERE line.state = 'waiting' AND line.tenant = :tenant
         ORDER BY line.rank, attempt_id LIMIT :take OFFSET :skip"
    );
    let mut found: Vec<Option<QueueEntry>> = vec![None; order.len()];
    for (index, line) in lines.iter().enumerate() {
        // The places of one line in the merged one are a stretch of that line.
        let places: Vec<usize> = (0..order.len())
            .filter(|place| order[*place].0 == index)
            .collect();
        let Some(first) = places.first() else {
            continue;
        };
        let stretch = (order[*first].1, places.len());
        let rows = entries(conn, &query, viewer, &line.tenant, stretch)?;
        for (place, row) in places.into_iter().zip(rows) {
            found[place] = Some(row);
        }
    }
    Ok(found.into_iter().flatten().collect())
}

fn queued(
    conn: &Connection,
    viewer: &Viewer,
    skip: usize,
    take: usize,
) -> Result<(Vec<QueueEntry>, usize)> {
    let query = format!(
        "SELECT {COLUMNS}, NULL AS attempt_id, '' AS task_key, run.created_at AS since
         FROM run_admission JOIN run ON run.id = run_admission.run_id
         WHERE stage = 'queued' ORDER BY rank, run_admission.run_id LIMIT :take OFFSET :skip"
    );
    let mut found = entries(conn, &query, viewer, "", (skip, take))?;
    for entry in &mut found {
        entry.rooms = rooms_of(conn, entry.run_id)?;
    }
    let total = "SELECT count(*) FROM run_admission WHERE stage = 'queued'";
    Ok((found, count(conn, total, [])?))
}

fn entries(
    conn: &Connection,
    query: &str,
    viewer: &Viewer,
    tenant: &str,
    (skip, take): (usize, usize),
) -> Result<Vec<QueueEntry>> {
    let (user, name) = match viewer {
        Some((id, name)) => (Some(id.0), name.as_str()),
        None => (None, ""),
    };
    let run = || -> rusqlite::Result<Vec<QueueEntry>> {
        let mut statement = conn.prepare_cached(query)?;
        let tenanted = statement.parameter_index(":tenant")?.is_some();
        if tenanted {
            let bounds = named_params! {":user": user, ":name": name, ":tenant": tenant,
            ":take": take, ":skip": skip};
            statement.query_map(bounds, entry)?.collect()
        } else {
            let bounds = named_params! {":user": user, ":name": name, ":take": take, ":skip": skip};
            statement.query_map(bounds, entry)?.collect()
        }
    };
    run().map_err(|e| sql("read the queue", e))
}

/// How many attempts are before the first waiting one of a run.
fn in_line(conn: &Connection, run: RunId) -> Result<Option<usize>> {
    let first = one(
        conn,
        "SELECT tenant, rank, attempt_id FROM line
         WHERE state = 'waiting' AND attempt_id IN (SELECT id FROM attempt WHERE run_id = ?1)
         ORDER BY rank, attempt_id LIMIT 1",
        [run.0],
        |row| {
            let at: (i64, i64) = (row.get("rank")?, row.get("attempt_id")?);
            Ok((row.get::<_, String>("tenant")?, at))
        },
    )?;
    let Some((tenant, (rank, attempt))) = first else {
        return Ok(None);
    };
    let ahead = "SELECT count(*) FROM line WHERE state = 'waiting' AND tenant = ?1
         AND (rank, attempt_id) < (?2, ?3)";
    let position = count(conn, ahead, params![tenant, rank, attempt])?;
    let lines = lines(conn)?;
    let mine = lines.iter().position(|line| line.tenant == tenant);
    let plain: Vec<Line> = lines.into_iter().map(|line| line.line).collect();
    Ok(Some(
        mine.map_or(position, |mine| before(&plain, mine, position)),
    ))
}

fn in_queue(conn: &Connection, run: RunId) -> Result<Option<RunPlace>> {
    let row = one(
        conn,
        "SELECT job_id, key, rank FROM run_admission WHERE run_id = ?1 AND stage = 'queued'",
        [run.0],
        |row| {
            let key: String = row.get("key")?;
            Ok((
                row.get::<_, i64>("job_id")?,
                key,
                row.get::<_, i64>("rank")?,
            ))
        },
    )?;
    let Some((job_id, key, rank)) = row else {
        return Ok(None);
    };
    let ahead = "SELECT count(*) FROM run_admission WHERE stage = 'queued' AND job_id = ?1
         AND key = ?2 AND (rank, run_id) < (?3, ?4)";
    let before = count(conn, ahead, params![job_id, key, rank, run.0])?;
    let (job, of_key) = rooms_of(conn, run)?;
    let full = |room: Option<Room>| room.is_some_and(|room| room.active >= room.max);
    let holders = if full(job) {
        let holders = "SELECT run_id FROM run_admission
             WHERE job_id = ?2 AND job_id > 0 AND stage IN ('admitted', 'started') LIMIT ?1";
        ids(conn, holders, params![HOLDERS_MAX, job_id])?
    } else {
        let holders = "SELECT run_id FROM run_admission
             WHERE key = ?2 AND key <> '' AND stage IN ('admitted', 'started') LIMIT ?1";
        ids(conn, holders, params![HOLDERS_MAX, key])?
    };
    Ok(Some(RunPlace::Room {
        before,
        job,
        key: of_key,
        holders,
    }))
}

fn ids(conn: &Connection, query: &str, bounds: impl Params) -> Result<Vec<RunId>> {
    conn.prepare_cached(query)
        .and_then(|mut statement| {
            let rows = statement.query_map(bounds, |row| row.get(0).map(RunId))?;
            rows.collect()
        })
        .map_err(|e| sql("read who holds a cap", e))
}
