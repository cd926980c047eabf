use std::cmp::Reverse;

use super::walk::{Seen, Walk};
use super::*;
use crate::runs::tests::{World, new_run};
use crate::runs::{NewRun, STOPPABLE};
use rusqlite::types::Value as SqlValue;

const USER: UserId = UserId(2);

/// A run of this user.
fn of(user: UserId) -> NewRun {
    NewRun {
        creator_id: user,
        ..new_run(RunKind::Submit)
    }
}

/// Runs at these times, each second one of `USER` and the first one shared with all; in the order
/// of their ids.
async fn runs_at(world: &World, times: &[i64]) -> Vec<RunCursor> {
    let mut runs = Vec::new();
    for (number, at) in times.iter().enumerate() {
        let user = if number % 2 == 0 { UserId(1) } else { USER };
        let id = world.create(of(user), *at).await.id;
        runs.push(RunCursor::new(id, Millis(*at)));
    }
    let first = runs[0].id.to_string();
    change(
        world,
        "INSERT INTO permission VALUES ('jobs', ?1, 'group', 'users', 'CAN_VIEW')",
        first,
    )
    .await;
    runs
}

async fn change(world: &World, statement: &'static str, bound: String) {
    let write = world
        .store
        .write(move |tx| tx.execute(statement, [bound]).map_err(|e| sql("change", e)));
    assert_eq!(write.await.unwrap(), 1);
}

/// As retention does it, which asks first whether it may.
async fn delete(world: &World, run: RunId) {
    change(world, "DELETE FROM run WHERE id = ?1", run.to_string()).await;
}

async fn page(world: &World, filter: &RunFilter) -> Vec<RunCursor> {
    let runs = world.store.run_list(filter.clone()).await.unwrap();
    let brief = world.store.run_list_brief(filter.clone()).await.unwrap();
    let cursors: Vec<RunCursor> = runs
        .iter()
        .map(|(run, _)| RunCursor::new(run.id, run.created_at))
        .collect();
    let brief = brief
        .iter()
        .map(|run| RunCursor::new(run.id, run.created_at));
    assert_eq!(brief.collect::<Vec<_>>(), cursors);
    cursors
}

/// What of `runs` the filter lets through, in the order of the list.
fn expected(runs: &[RunCursor], filter: &RunFilter) -> Vec<RunCursor> {
    let mut found: Vec<RunCursor> = runs
        .iter()
        .enumerate()
        .filter(|(number, run)| {
            let seen = filter.visible_to.is_none() || number % 2 == 1 || *number == 0;
            let at = run.created_at;
            seen && filter
                .started_from
                .is_none_or(|_| at >= filter.started_from)
                && filter.started_to.is_none_or(|_| at <= filter.started_to)
        })
        .map(|(_, run)| *run)
        .collect();
    found.sort_by_key(|run| Reverse((run.created_at, run.id)));
    found
}

/// Each list, of all and of one user, whole and of a window.
fn lists() -> Vec<RunFilter> {
    let mut lists = Vec::new();
    for visible_to in [None, Some((USER, "c@b.c".to_owned()))] {
        for (from, to) in [(None, None), (Some(15), Some(40)), (Some(15), None)] {
            lists.push(RunFilter {
                visible_to: visible_to.clone(),
                started_from: from.map(Millis),
                started_to: to.map(Millis),
                limit: 2,
                ..RunFilter::default()
            });
        }
    }
    lists
}

/// The clock was put back twice, and some runs are of the same millisecond.
const TIMES: [i64; 14] = [10, 20, 30, 30, 30, 15, 40, 40, 50, 12, 12, 30, 60, 61];

#[tokio::test]
async fn pages_show_each_run_once_also_when_the_clock_was_put_back() {
    let world = World::new(1);
    let runs = runs_at(&world, &TIMES).await;
    for list in lists() {
        for known in [true, false] {
            let (mut seen, mut next) = (Vec::new(), list.clone());
            loop {
                let runs = page(&world, &next).await;
                let Some(last) = runs.last() else { break };
                next.before = Some(RunCursor {
                    created_at: last.created_at.filter(|_| known),
                    ..*last
                });
                seen.extend(runs);
            }
            assert_eq!(seen, expected(&runs, &list), "{list:?}");
        }
        let mut seen = Vec::new();
        for offset in (0..TIMES.len()).step_by(list.limit) {
            let next = RunFilter {
                offset,
                ..list.clone()
            };
            seen.extend(page(&world, &next).await);
        }
        assert_eq!(seen, expected(&runs, &list), "by offset: {list:?}");
    }
}

#[tokio::test]
async fn a_page_goes_on_where_the_last_one_ended_also_when_that_run_is_gone() {
    for list in lists() {
        let world = World::new(1);
        let runs = runs_at(&world, &TIMES).await;
        let (mut seen, mut next) = (Vec::new(), list.clone());
        loop {
            let runs = page(&world, &next).await;
            let Some(last) = runs.last() else { break };
            delete(&world, last.id).await;
            next.before = Some(*last);
            seen.extend(runs);
        }
        assert_eq!(seen, expected(&runs, &list), "{list:?}");
    }
}

#[tokio::test]
async fn a_cursor_from_after_the_window_leaves_out_nothing_and_lets_in_nothing() {
    let world = World::new(1);
    let runs = runs_at(&world, &[10, 20, 30, 40]).await;
    let list = RunFilter {
        before: Some(runs[3]),
        started_to: Some(Millis(20)),
        limit: 10,
        ..RunFilter::default()
    };
    assert_eq!(page(&world, &list).await, [runs[1], runs[0]]);
}

/// What tells runs of a history apart.
#[derive(Debug, Clone, Copy)]
struct Fact {
    at: i64,
    kind: RunKind,
    job: Option<i64>,
    user: UserId,
    verdict: Option<&'static str>,
}

impl Fact {
    /// Each combination comes up; times are in no order.
    fn of(number: i64) -> Self {
        let kind = match number % 7 {
            0..=2 => RunKind::Job,
            3 | 4 => RunKind::Submit,
            5 => RunKind::Context,
            _ => RunKind::Iteration,
        };
        Self {
            at: number * 37 % 50,
            kind,
            job: (kind == RunKind::Job).then_some(7 + number / 3 % 4),
            user: UserId(1 + number / 2 % 2),
            verdict: [None, Some("failed"), Some("succeeded")][(number / 5 % 3) as usize],
        }
    }

    fn is_in(&self, id: RunId, list: &RunFilter, shared: &[i64]) -> bool {
        let listed = match list.kind {
            Some(kind) => self.kind == kind,
            None => match self.kind {
                RunKind::Job | RunKind::Submit => true,
                kind => list.contexts && kind == RunKind::Context,
            },
        };
        listed
            && list.job_id.is_none_or(|job| self.job == Some(job.0))
            && list
                .active
                .is_none_or(|active| active == self.verdict.is_none())
            && (!list.failed || self.verdict == Some("failed"))
            && list.started_from.is_none_or(|from| self.at >= from.0)
            && list.started_to.is_none_or(|to| self.at <= to.0)
            && list.visible_to.as_ref().is_none_or(|(user, _)| {
                self.user == *user || shared.contains(&self.job.unwrap_or(id.0))
            })
    }
}

/// Lists with each filter there is, of all and of one user.
fn every_list() -> Vec<RunFilter> {
    let mut lists = vec![RunFilter::default()];
    let mut with = |values: &[&dyn Fn(&mut RunFilter)]| {
        let with_one = |list: &RunFilter, change: &dyn Fn(&mut RunFilter)| {
            let mut list = list.clone();
            change(&mut list);
            list
        };
        let each = |list: &RunFilter| -> Vec<RunFilter> {
            values.iter().map(|change| with_one(list, change)).collect()
        };
        lists = lists.iter().flat_map(each).collect();
    };
    with(&[&|_| {}, &|list| list.job_id = Some(JobId(7)), &|list| {
        list.job_id = Some(JobId(8))
    }]);
    with(&[&|_| {}, &|list| list.active = Some(true), &|list| {
        list.active = Some(false)
    }]);
    with(&[
        &|_| {},
        &|list| list.contexts = true,
        &|list| list.kind = Some(RunKind::Job),
        &|list| list.kind = Some(RunKind::Submit),
    ]);
    with(&[&|_| {}, &|list| list.failed = true]);
    with(&[
        &|_| {},
        &|list| list.started_from = Some(Millis(10)),
        &|list| {
            list.started_from = Some(Millis(10));
            list.started_to = Some(Millis(30));
        },
    ]);
    with(&[&|_| {}, &|list| {
        list.visible_to = Some((USER, "c@b.c".to_owned()))
    }]);
    lists
}

#[tokio::test]
async fn each_list_has_what_a_look_at_every_run_finds() {
    let world = World::new(1);
    let mut runs = Vec::new();
    for fact in (0..84).map(Fact::of) {
        let new = NewRun {
            job_id: fact.job.map(JobId),
            creator_id: fact.user,
            ..new_run(fact.kind)
        };
        let id = world.create(new, fact.at).await.id;
        let write = world.store.write(move |tx| {
            tx.execute(
                "UPDATE run SET verdict = ?2, phase = iif(?2 IS NULL, 'running', 'ended') WHERE id = ?1",
                (id.0, fact.verdict),
            )
            .map_err(|e| sql("end", e))
        });
        write.await.unwrap();
        runs.push((id, fact));
    }
    runs.sort_by_key(|(id, fact)| Reverse((fact.at, *id)));
    let of_others = runs
        .iter()
        .find(|(_, fact)| fact.kind == RunKind::Submit && fact.user != USER);
    let mut shared = Vec::new();
    // One more of each round: nothing, a job of which few runs are left, others, and a run.
    for more in [
        None,
        Some(8),
        Some(7),
        Some(9),
        Some(10),
        Some(99),
        of_others.map(|(id, _)| id.0),
    ] {
        shared.extend(more);
        share(&world, more).await;
        for list in every_list() {
            let expected: Vec<RunId> = runs
                .iter()
                .filter(|(id, fact)| fact.is_in(*id, &list, &shared))
                .map(|(id, _)| *id)
                .collect();
            for (offset, limit) in [(0, 100), (0, 2), (3, 2)] {
                let list = RunFilter {
                    offset,
                    limit,
                    ..list.clone()
                };
                let found: Vec<RunId> =
                    page(&world, &list).await.iter().map(|run| run.id).collect();
                let expected: Vec<RunId> =
                    expected.iter().copied().skip(offset).take(limit).collect();
                assert_eq!(found, expected, "shared {shared:?}: {list:?}");
            }
        }
    }
}

/// With a user and with everybody, so that it is there twice.
async fn share(world: &World, id: Option<i64>) {
    let write = world.store.write(move |tx| {
        for (kind, principal) in [("user", "c@b.c"), ("group", "users")] {
            tx.execute(
                "INSERT INTO permission SELECT 'jobs', ?1, ?2, ?3, 'CAN_VIEW' WHERE ?1 IS NOT NULL",
                (id.map(|id| id.to_string()), kind, principal),
            )
            .map_err(|e| sql("share", e))?;
        }
        Ok(())
    });
    write.await.unwrap();
}

#[tokio::test]
async fn a_run_that_is_gone_is_a_place_by_its_id_alone() {
    let world = World::new(1);
    let mut runs = runs_at(&world, &[10, 20, 20, 20, 30]).await;
    let list = |id: RunId| RunFilter {
        before: Some(id.to_string().parse().unwrap()),
        limit: 10,
        ..RunFilter::default()
    };
    let middle = runs.remove(2).id;
    delete(&world, middle).await;
    assert_eq!(page(&world, &list(middle)).await, [runs[1], runs[0]]);
    let first = runs[0].id;
    delete(&world, first).await;
    assert!(page(&world, &list(first)).await.is_empty());
}

#[test]
fn a_cursor_is_read_as_it_is_written_and_nothing_else_is_one() {
    for text in ["42.1700000000000", "42"] {
        assert_eq!(text.parse::<RunCursor>().unwrap().to_string(), text);
    }
    for text in ["", "x", "42.", ".42", "1.2.3", "4 2"] {
        assert!(text.parse::<RunCursor>().is_err(), "{text}");
    }
}

/// What SQLite does for a query, a line for each step.
fn plan_on(conn: &Connection, query: &str, bounds: Vec<SqlValue>) -> Vec<String> {
    let mut statement = conn
        .prepare(&format!("EXPLAIN QUERY PLAN {query}"))
        .unwrap();
    let rows = statement.query_map(params_from_iter(bounds), |row| row.get("detail"));
    rows.unwrap().map(rusqlite::Result::unwrap).collect()
}

/// With a million runs in history each list must find its page in an index.
#[tokio::test]
async fn no_list_sorts_more_than_its_page_or_walks_over_what_is_outside_of_its_window() {
    let world = World::new(1);
    let mut checked = Vec::new();
    for shared in [None, Some(8)] {
        share(&world, shared).await;
        let check = |conn: &Connection| {
            let mut checked = Vec::new();
            for list in every_list() {
                for before in [None, Some("42.17".parse().unwrap())] {
                    let list = RunFilter {
                        before,
                        limit: 25,
                        ..list.clone()
                    };
                    checked.push(check_plan(conn, &list));
                }
            }
            Ok(checked)
        };
        checked.extend(world.store.read(check).await.unwrap());
    }
    for whose in [Seen::All, Seen::Own(USER), Seen::OwnAndShared(USER)] {
        assert!(checked.contains(&whose), "{whose:?}");
    }
}

fn check_plan(conn: &Connection, list: &RunFilter) -> Seen {
    let seen = list.seen_on(conn).unwrap();
    let walks = list.walks(seen);
    let query = list.query_on(conn, "run.id, run.settings").unwrap();
    let plan = plan_on(conn, &query.text, query.values);
    let case = format!("{list:?} {seen:?}\n{plan:#?}");
    // The walks' runs together and the page itself, the newest of shared jobs, and the few runs that
    // are shared themselves.
    let sorts = |walk: &Walk| match walk {
        Walk::SharedJobs | Walk::SharedRuns(_) => 1,
        _ => 0,
    };
    let sorted = plan.iter().filter(|step| step.contains("ORDER BY"));
    assert_eq!(
        sorted.count(),
        2 + walks.iter().map(sorts).sum::<usize>(),
        "{case}"
    );
    let indexes = |walk: &Walk| match walk {
        Walk::SharedJobs => 2,
        Walk::SharedRuns(_) => 0,
        _ => 1,
    };
    let indexed = plan.iter().filter(|step| step.contains("INDEX run_"));
    let indexed: Vec<&String> = indexed.collect();
    assert_eq!(
        indexed.len(),
        walks.iter().map(indexes).sum::<usize>(),
        "{case}"
    );
    for step in indexed {
        let bound = |sign: &str| step.contains(&format!("created_at{sign}?"));
        assert_eq!(bound(">"), list.started_from.is_some(), "{case}");
        let ends = list.started_to.is_some() || list.before.is_some();
        assert_eq!(bound("<"), ends, "{case}");
    }
    seen
}

#[tokio::test]
async fn runs_that_can_be_stopped_are_looked_for_among_the_active_ones() {
    let world = World::new(1);
    let check = |conn: &Connection| {
        let bounds = vec![SqlValue::Null, SqlValue::Null, false.into()];
        let plan = plan_on(conn, &format!("SELECT settings {STOPPABLE}"), bounds);
        assert_eq!(plan, ["SCAN run USING INDEX run_active"]);
        Ok(())
    };
    world.store.read(check).await.unwrap();
}
