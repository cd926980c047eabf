use std::cmp::Reverse;

use super::*;
use crate::runs::tests::{World, new_run};
use crate::runs::{NewRun, STOPPABLE};

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

#[tokio::test]
async fn runs_of_shared_jobs_are_there_once_however_many_are_shared() {
    let world = World::new(1);
    let mut runs = Vec::new();
    for (at, (job, user)) in [(7, 1), (8, 1), (7, 2), (8, 2), (90, 1)].iter().enumerate() {
        let new = NewRun {
            job_id: Some(JobId(*job)),
            ..of(UserId(*user))
        };
        runs.push(world.create(new, at as i64).await.id);
    }
    let seen = async |job_id: Option<i64>| {
        let list = RunFilter {
            job_id: job_id.map(JobId),
            visible_to: Some((USER, "c@b.c".to_owned())),
            limit: 10,
            ..RunFilter::default()
        };
        let ids: Vec<RunId> = page(&world, &list).await.iter().map(|run| run.id).collect();
        ids
    };
    assert_eq!(seen(None).await, [runs[3], runs[2]]);
    assert_eq!(seen(Some(7)).await, [runs[2]]);
    share(&world, 1).await;
    assert_eq!(seen(None).await, [runs[3], runs[2], runs[0]]);
    assert_eq!(seen(Some(7)).await, [runs[2], runs[0]]);
    assert_eq!(seen(Some(8)).await, [runs[3]]);
    share(&world, SHARED_FEW + 1).await;
    assert_eq!(seen(None).await, [runs[3], runs[2], runs[1], runs[0]]);
    assert!(seen(Some(90)).await.is_empty());
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
    let mut lists = Vec::new();
    for job_id in [None, Some(JobId(7))] {
        for active in [None, Some(true), Some(false)] {
            for kind in [None, Some(RunKind::Job)] {
                for failed in [false, true] {
                    for before in [None, Some("42.17".parse().unwrap())] {
                        lists.push(RunFilter {
                            job_id,
                            active,
                            kind,
                            failed,
                            before,
                            limit: 25,
                            ..RunFilter::default()
                        });
                    }
                }
            }
        }
    }
    let mut seen = Vec::new();
    for shared in [0, 1, SHARED_FEW + 1] {
        share(&world, shared).await;
        let lists = lists.clone();
        let check = move |conn: &Connection| Ok(check_plans(conn, &lists));
        seen.extend(world.store.read(check).await.unwrap());
    }
    for kind in [Seen::All, Seen::Own, Seen::OwnAndFew, Seen::OwnAndMany] {
        assert!(seen.contains(&kind), "{kind:?}");
    }
}

/// Shares so many jobs with all users, those of the tests among them.
async fn share(world: &World, count: usize) {
    let write = world.store.write(move |tx| {
        for job in 7..7 + count {
            tx.execute(
                "INSERT OR IGNORE INTO permission VALUES ('jobs', ?1, 'group', 'users', 'CAN_VIEW')",
                [job.to_string()],
            )
            .map_err(|e| sql("share", e))?;
        }
        Ok(())
    });
    write.await.unwrap();
}

/// Checks each list, of all and of one user, whole and of windows.
fn check_plans(conn: &Connection, lists: &[RunFilter]) -> Vec<Seen> {
    let mut found = Vec::new();
    for list in lists {
        for (from, to) in [(None, None), (Some(1), Some(99)), (Some(1), None)] {
            for visible_to in [None, Some((USER, "c@b.c".to_owned()))] {
                let list = RunFilter {
                    started_from: from.map(Millis),
                    started_to: to.map(Millis),
                    visible_to,
                    ..list.clone()
                };
                let seen = list.seen_on(conn).unwrap();
                let (query, bounds) = list.query_on(conn, "run.id, run.settings").unwrap();
                let plan = plan_on(conn, &query, bounds);
                let case = format!("{list:?} {seen:?}\n{plan:#?}");
                // The page itself is sorted, and where it has parts, they together; and the few
                // runs that are shared themselves.
                let (sorts, walks) = match seen {
                    Seen::All | Seen::Own => (1, 1),
                    Seen::OwnAndFew => (3, 2),
                    Seen::OwnAndMany => (2, 2),
                };
                let sorted = plan.iter().filter(|step| step.contains("ORDER BY"));
                assert_eq!(sorted.count(), sorts, "{case}");
                let indexed = plan.iter().filter(|step| step.contains("INDEX run_"));
                let indexed: Vec<&String> = indexed.collect();
                assert_eq!(indexed.len(), walks, "{case}");
                for step in indexed {
                    let bound = |sign: &str| step.contains(&format!("created_at{sign}?"));
                    assert_eq!(bound(">"), from.is_some(), "{case}");
                    let ends = to.is_some() || list.before.is_some();
                    assert_eq!(bound("<"), ends, "{case}");
                    if list.job_id.is_none() && list.active == Some(true) {
                        assert!(step.contains("run_active") || list.failed, "{case}");
                    }
                }
                found.push(seen);
            }
        }
    }
    found
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
