//! A run with the runs that its for-each and run-job tasks started: all that a repeat does again.

use std::collections::{HashMap, HashSet};
use std::ops::Range;

use forebay_store::{Attempt, ChildPlace, Run};
use forebay_types::{Error, PermissionLevel, Result, RunId};

use super::container::Container;
use super::{Inner, RunView, Runs};
use crate::Ctx;

/// More than a for-each has.
const ALL: usize = 1_000_000;

pub(super) struct Part {
    /// Such as `Task each, iteration 2: `; empty of the run itself.
    pub(super) place: String,
    pub(super) view: RunView,
}

impl Runs {
    /// The run itself first, then what is below it, and in words what is missing there.
    pub(super) async fn parts(
        &self,
        ctx: &Ctx,
        whole: &RunView,
    ) -> Result<(Vec<Part>, Vec<String>)> {
        let mut parts = vec![Part {
            place: String::new(),
            view: whole.clone(),
        }];
        let mut missing = Vec::new();
        let mut next = 0;
        while let Some(part) = parts.get(next) {
            let mut below = Vec::new();
            for attempt in part.view.newest() {
                if !is_container(&part.view, attempt) {
                    continue;
                }
                for child in self.0.store.container_page(attempt.id, 0, ALL).await? {
                    let place = place_of(part, attempt, child.number);
                    let Some((run, attempts)) = child.run else {
                        missing.push(format!("{place}it never had a run, or that was deleted."));
                        continue;
                    };
                    let view = RunView {
                        run,
                        attempts,
                        task: None,
                        using: HashMap::new(),
                        unrecorded: HashSet::new(),
                    };
                    match self.may_see(ctx, &view.run).await {
                        Ok(()) => below.push(Part { place, view }),
                        Err(denied) => missing.push(format!("{place}{}", denied.message)),
                    }
                }
            }
            parts.extend(below);
            next += 1;
        }
        Ok((parts, missing))
    }

    /// The runs that an attempt of a for-each or run-job task waits for; none of another task. For a
    /// caller who was permitted to see the attempt.
    ///
    /// # Errors
    /// When the database refuses.
    pub async fn started(&self, view: &RunView, attempt: &Attempt) -> Result<Vec<ChildPlace>> {
        match is_container(view, attempt) {
            true => self.0.store.container_places(attempt.id).await,
            false => Ok(Vec::new()),
        }
    }

    /// Iterations are seen with the run above them.
    async fn may_see(&self, ctx: &Ctx, run: &Run) -> Result<()> {
        match run.kind.is_part() {
            true => Ok(()),
            false => self.require(ctx, run, PermissionLevel::CanView).await,
        }
    }
}

fn is_container(view: &RunView, attempt: &Attempt) -> bool {
    let fields = ["for_each_task", "run_job_task"];
    fields.iter().any(|field| view.has_type(attempt, field))
}

fn place_of(part: &Part, attempt: &Attempt, number: usize) -> String {
    let (above, key) = (&part.place, &attempt.task_key);
    match part.view.has_type(attempt, "for_each_task") {
        true => format!("{above}Task {key}, iteration {number}: "),
        false => format!("{above}Task {key}: "),
    }
}

impl Inner {
    /// Of a container that repeats another one, the runs that were the same children of that, in order;
    /// `None` of one that repeats nothing.
    ///
    /// # Errors
    /// When one of them is missing.
    pub(super) async fn first_children(
        &self,
        container: &Container<'_>,
        numbers: Range<usize>,
    ) -> Result<Option<Vec<Run>>> {
        let Some(first) = container.document.spec.own.repeat else {
            return Ok(None);
        };
        let key = &container.attempt.task_key;
        let children = match self.first_container(first, key).await? {
            Some(attempt) => {
                let page = self
                    .store
                    .container_page(attempt, numbers.start, numbers.len());
                page.await?
            }
            None => Vec::new(),
        };
        let mut children = children.into_iter();
        let runs = numbers.map(|number| {
            let child = children.next().filter(|child| child.number == number);
            let run = child.and_then(|child| child.run).map(|(run, _)| run);
            run.ok_or_else(|| {
                Error::invalid(format!(
                    "Run {first} cannot be repeated: task {key} has no run {number} in it."
                ))
            })
        });
        runs.collect::<Result<_>>().map(Some)
    }

    /// A repeat may have other elements than the first run, when a task before it found others, but
    /// not more of them: nothing says what the others would be made from.
    ///
    /// # Errors
    /// `INVALID_PARAMETER_VALUE` with both numbers.
    pub(super) async fn check_planned(&self, container: &Container<'_>, now: usize) -> Result<()> {
        let Some(first) = container.document.spec.own.repeat else {
            return Ok(());
        };
        let key = &container.attempt.task_key;
        let children = match self.first_container(first, key).await? {
            Some(attempt) => self.store.container_children(attempt).await?,
            None => None,
        };
        let was = children.unwrap_or_default().planned;
        if now <= was {
            return Ok(());
        }
        Err(Error::invalid(format!(
            "Task {key} had {was} elements in run {first} and has {now} now."
        )))
    }

    async fn first_container(&self, run: RunId, task_key: &str) -> Result<Option<RunId>> {
        let (_, attempts) = self.store.run_get(run).await?;
        let mut newest = RunView::newest_of(&attempts);
        let found = newest.find(|one| one.task_key == task_key);
        Ok(found.map(|attempt| attempt.id))
    }
}
