//! The claim of slots. Counts and claim are one transaction, so the caps hold whoever asks.

use forebay_engine::Record;
use forebay_engine::admission::{Claimant, Tenant, Turn, next};
use forebay_types::{Millis, Result, RunId};
use rusqlite::{CachedStatement, Connection, OptionalExtension, Params, Row, Transaction, params};

use super::transition::log;
use super::{ATTEMPT_COLUMNS, Attempt, attempt_from_row};
use crate::connection::sql;
use crate::slots::{Slots, Walk};
use crate::store::Store;

/// How many tenants one claim compares. A claim starts after the last tenant of the one before, so
/// all are compared in turn, and the cost of a claim does not grow with their number.
const TENANTS_MAX: usize = 64;

/// Whether a claim would find anything to do just now. It would not where all slots are taken, which
/// is how most claims of a long queue end; who frees a slot claims in the same transaction.
pub(super) fn is_worth_a_claim(conn: &Connection, slots: &Slots, now: Millis) -> Result<bool> {
    conn.prepare_cached(
        "SELECT EXISTS (SELECT 1 FROM attempt WHERE phase IN ('pending', 'waiting_for_retry')
             AND NOT takes_slot AND (due_at IS NULL OR due_at <= ?1
               OR (phase = 'waiting_for_retry' AND created_at > ?1 + ?3)))
           OR EXISTS (SELECT 1 FROM line WHERE state = 'due' AND due_at <= ?1)
           OR (SELECT count(*) FROM line WHERE state = 'live') < ?2",
    )
    .and_then(|mut statement| {
        statement.query_row(params![now.0, slots.max(), CLOCK_SLACK_MS], |row| {
            row.get(0)
        })
    })
    .map_err(|e| sql("look for something to claim", e))
}

/// Gives free slots to waiting attempts: fairly between tenants, then by priority and age. What
/// needs no slot comes first, whatever the caps.
pub(super) fn claim(tx: &Transaction<'_>, slots: &Slots, now: Millis) -> Result<Vec<Attempt>> {
    let mut claimed = claim_without_slot(tx, now)?;
    bring_due(tx, now)?;
    let live = count(tx, "SELECT count(*) FROM line WHERE state = 'live'", [])?;
    let room = slots.max().saturating_sub(live);
    let waiting = "SELECT count(*) FROM (SELECT 1 FROM line WHERE state = 'waiting' LIMIT ?1)";
    let wanted = if room == 0 {
        0
    } else {
        count(tx, waiting, [room])?
    };
    let free = slots.ask(live, wanted, now);
    let given = give(tx, slots, free, now);
    slots.settle(live + given.as_ref().map_or(0, Vec::len));
    claimed.extend(given?);
    Ok(claimed)
}

/// How much a clock may be put back without anybody taking notice, in milliseconds.
const CLOCK_SLACK_MS: i64 = 60_000;

impl Store {
    /// Ends the waiting of tries that began it at a time that is to come: the clock was put back, and
    /// when their interval is over nobody can say. How many there were.
    ///
    /// # Errors
    /// When the database refuses.
    pub async fn attempt_overtaken(&self, now: Millis) -> Result<usize> {
        self.write(move |tx| {
            tx.execute(
                "UPDATE line SET state = 'waiting' WHERE state = 'due' AND EXISTS (
                   SELECT 1 FROM attempt WHERE id = attempt_id AND phase = 'waiting_for_retry'
                     AND created_at > ?1)",
                [now.0.saturating_add(CLOCK_SLACK_MS)],
            )
            .map_err(|e| sql("look for tries of a clock that was ahead", e))
        })
        .await
    }
}

/// Starts what only waits or compares: conditions, for-each and run-job tasks.
fn claim_without_slot(tx: &Transaction<'_>, now: Millis) -> Result<Vec<Attempt>> {
    let claimed: Vec<Attempt> = tx
        .prepare_cached(&format!(
            "UPDATE attempt SET phase = 'running', started_at = ?1
             WHERE phase IN ('pending', 'waiting_for_retry') AND NOT takes_slot
               AND (due_at IS NULL OR due_at <= ?1
                 OR (phase = 'waiting_for_retry' AND created_at > ?1 + {CLOCK_SLACK_MS}))
             RETURNING {ATTEMPT_COLUMNS}"
        ))
        .and_then(|mut statement| statement.query_map([now.0], attempt_from_row)?.collect())
        .map_err(|e| sql("claim attempts without slots", e))?;
    for attempt in &claimed {
        log_claim(tx, attempt, now)?;
    }
    Ok(claimed)
}

fn give(tx: &Transaction<'_>, slots: &Slots, free: usize, now: Millis) -> Result<Vec<Attempt>> {
    if free == 0 {
        return Ok(Vec::new());
    }
    let mut walk = slots.walk();
    let claimed = give_on(tx, &mut walk, free, now);
    slots.walked(walk);
    claimed
}

fn give_on(
    tx: &Transaction<'_>,
    walk: &mut Walk,
    free: usize,
    now: Millis,
) -> Result<Vec<Attempt>> {
    let mut candidates = candidates(tx, walk)?;
    walk.tenant = candidates
        .last()
        .map_or(String::new(), |last| last.name.clone());
    let mut claimed = Vec::with_capacity(free);
    while claimed.len() < free {
        let turn = Turn::of(walk.given);
        if turn == Turn::Eldest {
            add_eldest(tx, walk, &mut candidates)?;
        }
        let tenants: Vec<Tenant> = candidates.iter().map(|one| one.tenant).collect();
        let Some(index) = next(&tenants, turn) else {
            break;
        };
        let chosen = &mut candidates[index];
        match start(tx, RunId(chosen.tenant.head.1), now)? {
            Some(attempt) => {
                log_claim(tx, &attempt, now)?;
                claimed.push(attempt);
            }
            None => leave(tx, RunId(chosen.tenant.head.1))?,
        }
        walk.serve(&chosen.name);
        match head(tx, &chosen.name)? {
            Some((head, weight)) => {
                let live = chosen.tenant.claimant.live + 1;
                chosen.tenant = Tenant {
                    claimant: Claimant { live, weight },
                    served: walk.given,
                    head,
                };
            }
            None => drop(candidates.swap_remove(index)),
        }
    }
    Ok(claimed)
}

/// Attempts whose time has come wait for a slot from now on.
fn bring_due(tx: &Transaction<'_>, now: Millis) -> Result<()> {
    tx.prepare_cached("UPDATE line SET state = 'waiting' WHERE state = 'due' AND due_at <= ?1")
        .and_then(|mut statement| statement.execute([now.0]))
        .map_err(|e| sql("look for due attempts", e))?;
    Ok(())
}

struct Candidate {
    name: String,
    tenant: Tenant,
}

/// The tenants with waiting work that come after the last one looked at, and from the first on again: each by two
/// steps in an index, however many attempts it has.
fn candidates(tx: &Transaction<'_>, walk: &Walk) -> Result<Vec<Candidate>> {
    let mut found: Vec<Candidate> = Vec::new();
    let (mut from, mut wrapped) = (walk.tenant.clone(), walk.tenant.is_empty());
    while found.len() < TENANTS_MAX {
        let name = tenant_after(tx, &from)?;
        match name {
            Some(name) if found.first().is_some_and(|first| first.name == name) => break,
            Some(name) => {
                found.extend(candidate(tx, walk, &name)?);
                from = name;
            }
            None if wrapped => break,
            None => {
                from.clear();
                wrapped = true;
            }
        }
    }
    Ok(found)
}

fn tenant_after(tx: &Transaction<'_>, name: &str) -> Result<Option<String>> {
    one(
        tx,
        "SELECT tenant FROM line WHERE state = 'waiting' AND tenant > ?1 ORDER BY tenant LIMIT 1",
        [name],
        |row| row.get("tenant"),
    )
}

fn candidate(tx: &Transaction<'_>, walk: &Walk, name: &str) -> Result<Option<Candidate>> {
    let Some((head, weight)) = head(tx, name)? else {
        return Ok(None);
    };
    let live = "SELECT count(*) FROM line WHERE state = 'live' AND tenant = ?1";
    let live = count(tx, live, [name])?;
    Ok(Some(Candidate {
        name: name.to_owned(),
        tenant: Tenant {
            claimant: Claimant { live, weight },
            served: walk.served.get(name).copied().unwrap_or(0),
            head,
        },
    }))
}

/// Rank and id of a tenant's first waiting attempt, and the weight it brings.
fn head(tx: &Transaction<'_>, tenant: &str) -> Result<Option<((i64, i64), u32)>> {
    one(
        tx,
        "SELECT rank, attempt_id, weight FROM line WHERE state = 'waiting' AND tenant = ?1
         ORDER BY rank, attempt_id LIMIT 1",
        [tenant],
        |row| {
            let head = (row.get("rank")?, row.get("attempt_id")?);
            Ok((head, row.get("weight")?))
        },
    )
}

/// The tenant that has waited longest takes part, wherever the walk is.
fn add_eldest(tx: &Transaction<'_>, walk: &Walk, candidates: &mut Vec<Candidate>) -> Result<()> {
    let eldest = one(
        tx,
        "SELECT tenant FROM line WHERE state = 'waiting' ORDER BY rank, attempt_id LIMIT 1",
        [],
        |row| row.get::<_, String>("tenant"),
    )?;
    if let Some(name) = eldest
        && !candidates.iter().any(|candidate| candidate.name == name)
    {
        candidates.extend(candidate(tx, walk, &name)?);
    }
    Ok(())
}

fn start(tx: &Transaction<'_>, attempt: RunId, now: Millis) -> Result<Option<Attempt>> {
    let claim = format!(
        "UPDATE attempt SET phase = 'running', started_at = ?2
         WHERE id = ?1 AND phase IN ('pending', 'waiting_for_retry') RETURNING {ATTEMPT_COLUMNS}"
    );
    one(tx, &claim, params![attempt.0, now.0], attempt_from_row)
}

/// Writes down that an attempt got its slot; the time of a run that was held begins with the first.
pub(super) fn log_claim(tx: &Transaction<'_>, claimed: &Attempt, now: Millis) -> Result<()> {
    let Attempt { task, attempt, .. } = *claimed;
    tx.prepare_cached(
        "UPDATE run SET started_at = ?2, message = '' WHERE id = ?1 AND started_at IS NULL",
    )
    .and_then(|mut statement| statement.execute(params![claimed.run_id.0, now.0]))
    .map_err(|e| sql("start a run", e))?;
    log(tx, claimed.run_id, now, &Record::Claimed { task, attempt })
}

/// Takes one out of the line that does not belong there, so that it holds up nobody.
fn leave(tx: &Transaction<'_>, attempt: RunId) -> Result<()> {
    tx.execute("DELETE FROM line WHERE attempt_id = ?1", [attempt.0])
        .map_err(|e| sql("mend the line", e))?;
    Ok(())
}

pub(crate) fn one<T>(
    conn: &Connection,
    query: &str,
    bounds: impl Params,
    read: impl FnOnce(&Row<'_>) -> rusqlite::Result<T>,
) -> Result<Option<T>> {
    let found = |mut statement: CachedStatement<'_>| statement.query_row(bounds, read).optional();
    conn.prepare_cached(query)
        .and_then(found)
        .map_err(|e| sql("claim slots", e))
}

pub(crate) fn count(conn: &Connection, query: &str, bounds: impl Params) -> Result<usize> {
    let counted = one(conn, query, bounds, |row| row.get::<_, u32>(0))?;
    Ok(counted.unwrap_or(0) as usize)
}
