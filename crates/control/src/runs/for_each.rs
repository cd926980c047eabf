//! For-each tasks: one run for each element, of the inner task.

use std::collections::HashMap;

use forebay_engine::{Children, Plan, Verdict, elements};
use forebay_store::{AttemptEnd, ChildRun, NewRun, Run, RunKind};
use forebay_types::{Error, Result, RunId};
use serde_json::{Map, Value, json};

use super::Runs;
use super::container::{Container, end};
use crate::Ctx;
use crate::jobs::{ForEachTask, JobDocument, OWN_FIELD};

/// What an iteration takes over from the settings of its run.
const SHARED: [&str; 3] = ["job_clusters", "environments", "git_source"];

/// # Errors
/// When the text, its references resolved, is no JSON array of acceptable length.
pub(crate) fn inputs(each: &ForEachTask) -> Result<Vec<Option<Value>>> {
    let elements = elements(&each.inputs).map_err(|e| Error::invalid(e.to_string()))?;
    Ok(elements.into_iter().map(Some).collect())
}

/// The run of one iteration. It belongs to no job: it is a part of the run that has the for-each,
/// and acts for the same user. `first` is the iteration that it repeats, and has the task that this one
/// was: a repair may have changed that of the others.
///
/// # Errors
/// When the stored definition is not one of ours.
pub(crate) fn child(
    container: &Container<'_>,
    ctx: &Ctx,
    (number, input): (usize, Option<Value>),
    first: Option<Run>,
) -> Result<(NewRun, Plan)> {
    let run = &container.run;
    let (settings, place) = match &first {
        Some(first) => (&first.settings, "/0".to_owned()),
        None => {
            let place = format!("/{}/for_each_task/task", container.attempt.task);
            (&run.settings, place)
        }
    };
    let tasks = settings.get("tasks");
    let inner = tasks.and_then(|tasks| tasks.pointer(&place)).cloned();
    let inner = inner.ok_or_else(|| Error::invalid("The run has no such for-each any more."))?;
    let name = format!("{} {number}", container.attempt.task_key);
    let mut settings = Map::new();
    settings.insert("run_name".to_owned(), json!(name));
    settings.insert("format".to_owned(), json!("MULTI_TASK"));
    settings.insert("tasks".to_owned(), json!([inner]));
    for field in SHARED {
        if let Some(value) = run.settings.get(field) {
            settings.insert(field.to_owned(), value.clone());
        }
    }
    // The inner task has a key of its own.
    if let Some(budget) = &container.document.spec.own.budget {
        let each = budget.of_task(&container.attempt.task_key);
        let own = json!({"budget": {"attempt": each}});
        settings.insert(OWN_FIELD.to_owned(), own);
    }
    if let Some(first) = first {
        let own = settings.entry(OWN_FIELD).or_insert_with(|| json!({}));
        own["repeat"] = json!(first.id);
    }
    let document = JobDocument::of_normal(settings)?;
    let mut parameters = Map::new();
    parameters.insert("input".to_owned(), input.unwrap_or_default());
    let new = NewRun {
        parameters,
        ..NewRun::new(RunKind::Iteration, ctx.creator(), name, document.settings)
    };
    Ok((new, document.plan))
}

/// # Errors
/// When the database refuses.
pub(crate) async fn ended_badly(
    container: &Container<'_>,
    children: Children,
    verdict: Verdict,
) -> Result<AttemptEnd> {
    let Children {
        planned,
        failed,
        canceled,
        ..
    } = children;
    if verdict == Verdict::Canceled {
        let message = format!("{canceled} of {planned} iterations were cancelled.");
        return Ok(end(verdict, "USER_CANCELED", message));
    }
    let store = &container.inner.store;
    let reasons = store.container_failures(container.attempt.id).await?;
    let mut message = format!("{failed} of {planned} iterations failed");
    if let Some((reason, _)) = reasons.first() {
        message = format!("{message}: {}", reason.trim_end_matches('.'));
    }
    Ok(end(verdict, "RUN_EXECUTION_ERROR", message + "."))
}

impl Runs {
    /// The iterations of a for-each's attempt with numbers from `start` on, at most `limit`. For a
    /// caller who was permitted to see the attempt.
    ///
    /// # Errors
    /// When the database refuses.
    pub async fn iterations(
        &self,
        each: RunId,
        start: usize,
        limit: usize,
    ) -> Result<Vec<ChildRun>> {
        self.0.store.container_page(each, start, limit).await
    }

    /// How the iterations of a for-each's attempt stand, and what those that failed said, with how
    /// many said so. For a caller who was permitted to see the attempt.
    ///
    /// # Errors
    /// When the database refuses.
    pub async fn iteration_stats(&self, each: RunId) -> Result<(Children, Vec<(String, u32)>)> {
        let children = self.0.store.container_counts(each).await?;
        let failures = self.0.store.container_failures(each).await?;
        Ok((children.unwrap_or_default(), failures))
    }

    /// How the iterations of some attempts stand; nothing of those that are no for-each. For a caller
    /// who was permitted to see them.
    ///
    /// # Errors
    /// When the database refuses.
    pub async fn iteration_counts(&self, each: Vec<RunId>) -> Result<HashMap<RunId, Children>> {
        self.0.store.container_list_counts(each).await
    }
}
