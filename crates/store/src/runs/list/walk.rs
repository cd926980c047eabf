//! The query for a page of runs: a union of walks, each through an index that is in the order of the
//! list, so that a page costs the same with ten runs in history and with a million.

use forebay_types::{JobId, Millis, Result, RunId, UserId};
use rusqlite::types::Value as SqlValue;
use rusqlite::{Connection, params_from_iter};

use super::{RunFilter, RunKind};
use crate::connection::sql;

pub(super) const ORDER: &str = "ORDER BY run.created_at DESC, run.id DESC";

/// Jobs, and runs without a job, that a user may see.
const SHARED: &str =
    "SELECT DISTINCT CAST(object_id AS INTEGER) AS id FROM permission WHERE kind = 'jobs'
    AND (principal_kind, principal) IN (VALUES ('user', ?), ('group', 'users'))";

/// Whose runs are in a list.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Seen {
    All,
    Own(UserId),
    /// And those of shared jobs, and shared ones without a job.
    OwnAndShared(UserId),
}

/// The runs of one index with one value at its head: in the order of the list, so that a page reads
/// no more of them than it shows.
#[derive(Debug, Clone, Copy)]
pub(super) enum Walk {
    Kind(RunKind),
    Own(UserId, RunKind),
    OwnOfJob(UserId, JobId),
    Job(JobId),
    /// Of those shared jobs whose newest runs are the newest: no other has a run in the page.
    SharedJobs,
    /// Runs without a job that are shared themselves.
    SharedRuns(RunKind),
}

/// A text with its values in the order of their marks.
#[derive(Debug, Clone, Default)]
pub(super) struct Query {
    pub text: String,
    pub values: Vec<SqlValue>,
}

impl Query {
    pub(super) fn of(text: &str) -> Self {
        Self {
            text: text.to_owned(),
            values: Vec::new(),
        }
    }

    pub(super) fn push(&mut self, text: &str) {
        self.text.push_str(text);
    }

    pub(super) fn bind(&mut self, text: &str, values: impl IntoIterator<Item = SqlValue>) {
        self.push(text);
        self.values.extend(values);
    }

    pub(super) fn add(&mut self, other: Self) {
        self.bind(&other.text, other.values);
    }
}

impl RunFilter {
    /// Only job runs have a job, and parts of other runs are in no list.
    fn kinds(&self) -> Vec<RunKind> {
        match (self.kind, self.job_id) {
            // Only ended runs have failed.
            _ if self.failed && self.active == Some(true) => Vec::new(),
            (Some(kind), None) => vec![kind],
            (kind, Some(_)) if kind.is_some_and(|kind| kind != RunKind::Job) => Vec::new(),
            (_, Some(_)) => vec![RunKind::Job],
            (None, None) if self.contexts => {
                vec![RunKind::Job, RunKind::Submit, RunKind::Context]
            }
            (None, None) => vec![RunKind::Job, RunKind::Submit],
        }
    }

    pub(super) fn seen_on(&self, conn: &Connection) -> Result<Seen> {
        let Some((user, name)) = &self.visible_to else {
            return Ok(Seen::All);
        };
        let mut query = Query::default();
        query.bind(
            &format!("SELECT EXISTS (SELECT 1 FROM ({SHARED})"),
            [name.clone().into()],
        );
        if let Some(job) = self.job_id {
            query.bind(" WHERE id = ?", [job.0.into()]);
        }
        query.push(")");
        let any = conn
            .prepare_cached(&query.text)
            .and_then(|mut found| found.query_row(params_from_iter(query.values), |row| row.get(0)))
            .map_err(|e| sql("look for what is shared", e))?;
        Ok(match (any, self.job_id) {
            (false, _) => Seen::Own(*user),
            // All of a job that is shared.
            (true, Some(_)) => Seen::All,
            (true, None) => Seen::OwnAndShared(*user),
        })
    }

    pub(super) fn walks(&self, seen: Seen) -> Vec<Walk> {
        let kinds = self.kinds();
        let own = |user| kinds.iter().map(move |kind| Walk::Own(user, *kind));
        match (seen, self.job_id) {
            _ if kinds.is_empty() => Vec::new(),
            (Seen::All, Some(job)) => vec![Walk::Job(job)],
            (Seen::All, None) => kinds.into_iter().map(Walk::Kind).collect(),
            (Seen::Own(user) | Seen::OwnAndShared(user), Some(job)) => {
                vec![Walk::OwnOfJob(user, job)]
            }
            (Seen::Own(user), None) => own(user).collect(),
            (Seen::OwnAndShared(user), None) => {
                let shared = kinds.iter().map(|kind| match kind {
                    RunKind::Job => Walk::SharedJobs,
                    kind => Walk::SharedRuns(*kind),
                });
                own(user).chain(shared).collect()
            }
        }
    }

    /// What all runs of the list have in common. Each condition is there only when it is asked for,
    /// so that an index can answer it.
    fn conditions(&self, before: Option<(Millis, RunId)>) -> Query {
        let mut all = Query::default();
        match self.active {
            Some(true) => all.push(" AND run.phase <> 'ended'"),
            Some(false) => all.push(" AND run.phase = 'ended'"),
            None => {}
        }
        if self.failed {
            all.push(" AND run.verdict IN ('failed', 'timed_out', 'internal_error')");
        }
        if let Some(from) = self.started_from {
            all.bind(" AND run.created_at >= ?", [from.0.into()]);
        }
        // One upper bound, the lower of the two: of two, the index would take either.
        match (before, self.started_to) {
            (Some((at, id)), to) if to.is_none_or(|to| at <= to) => all.bind(
                " AND (run.created_at, run.id) < (?, ?)",
                [at.0.into(), id.0.into()],
            ),
            (_, Some(to)) => all.bind(" AND run.created_at <= ?", [to.0.into()]),
            (_, None) => {}
        }
        all
    }

    /// Named, as nothing tells the planner how many runs have a value.
    fn index(&self, walk: Walk) -> &'static str {
        match walk {
            Walk::SharedRuns(_) => "NOT INDEXED",
            Walk::OwnOfJob(..) => "INDEXED BY run_by_job_creator",
            Walk::Kind(_) if self.failed => "INDEXED BY run_failed",
            Walk::Own(..) if self.failed => "INDEXED BY run_failed_by_creator",
            Walk::Job(_) | Walk::SharedJobs if self.failed => "INDEXED BY run_failed_by_job",
            // Active runs are few, those of all users together.
            Walk::Kind(_) | Walk::Own(..) if self.active == Some(true) => "INDEXED BY run_active",
            Walk::Job(_) | Walk::SharedJobs if self.active == Some(true) => {
                "INDEXED BY run_active_by_job"
            }
            Walk::Kind(_) if self.active == Some(false) => "INDEXED BY run_ended",
            Walk::Kind(_) => "INDEXED BY run_by_kind",
            Walk::Own(..) => "INDEXED BY run_by_creator",
            Walk::Job(_) | Walk::SharedJobs => "INDEXED BY run_by_job_creation",
        }
    }

    /// The first `limit` runs of a walk.
    fn walked(&self, columns: &str, walk: Walk, conditions: &Query, limit: usize) -> Query {
        let index = self.index(walk);
        let mut query = Query::of(&format!("SELECT {columns} FROM run {index} "));
        let text = |kind: RunKind| SqlValue::from(kind.as_str().to_owned());
        match walk {
            Walk::Kind(kind) => query.bind("WHERE run.kind = ?", [text(kind)]),
            Walk::Own(user, kind) => query.bind(
                "WHERE run.creator_id = ? AND run.kind = ?",
                [user.0.into(), text(kind)],
            ),
            Walk::OwnOfJob(user, job) => query.bind(
                "WHERE run.creator_id = ? AND run.job_id = ?",
                [user.0.into(), job.0.into()],
            ),
            Walk::Job(job) => query.bind("WHERE run.job_id = ?", [job.0.into()]),
            Walk::SharedJobs => query.push("WHERE run.job_id = shared.id"),
            Walk::SharedRuns(kind) => {
                query.bind("WHERE run.id IN shared AND run.kind = ?", [text(kind)]);
            }
        }
        query.add(conditions.clone());
        query.push(&format!(" {ORDER} LIMIT {limit}"));
        query
    }

    /// A query for the ids of the page.
    pub(super) fn ids(&self, before: Option<(Millis, RunId)>, seen: Seen) -> Query {
        const PLACE: &str = "run.created_at, run.id";
        let conditions = self.conditions(before);
        let needed = self.offset + self.limit;
        let mut query = Query::default();
        if let (Seen::OwnAndShared(_), Some((_, name))) = (seen, &self.visible_to) {
            query.bind(
                &format!("WITH shared AS MATERIALIZED ({SHARED}) "),
                [name.clone().into()],
            );
        }
        query.push("SELECT run.id FROM (SELECT 0 AS created_at, 0 AS id WHERE 0");
        for walk in self.walks(seen) {
            query.push(" UNION SELECT * FROM (");
            match walk {
                Walk::SharedJobs => {
                    let each = |limit| self.walked("run.id", walk, &conditions, limit);
                    query.push(&format!(
                        "SELECT {PLACE} FROM
                           (SELECT shared.id FROM shared JOIN run ON run.id = ("
                    ));
                    query.add(each(1));
                    query.push(&format!(
                        ") {ORDER} LIMIT {needed}) AS shared JOIN run ON run.id IN ("
                    ));
                    query.add(each(needed));
                    query.push(")");
                }
                _ => query.add(self.walked(PLACE, walk, &conditions, needed)),
            }
            query.push(")");
        }
        query.push(&format!(
            ") AS run {ORDER} LIMIT {} OFFSET {}",
            self.limit, self.offset
        ));
        query
    }
}
