//! Run-job tasks: a run of another job, which passes through that job's own admission.

use forebay_engine::{Plan, Verdict};
use forebay_store::{AttemptEnd, NewRun, Run, RunKind};
use forebay_types::{Error, JobId, PermissionLevel, Result, UserId};
use serde_json::{Map, Value};

use super::container::{Container, end};
use super::request::{parameters, run_of};
use super::scope::Scoped;
use super::{Inner, RunNow};
use crate::Ctx;
use crate::jobs::{JobDocument, RUN_JOB_DEPTH_MAX, RunJobTask};

/// Of its runs, whose parameters have no references any more.
pub(super) const TRIGGER: &str = "RUN_JOB_TASK";

/// # Errors
/// `Job N does not exist.`; `PERMISSION_DENIED`; jobs that run each other in a circle or too deep.
pub(crate) async fn child(container: &Container<'_>) -> Result<(NewRun, Plan)> {
    let Container { inner, run, .. } = container;
    let scoped = container.scoped().await?;
    let task = scoped.task.run_job_task.as_ref();
    let task = task.ok_or_else(|| Error::invalid("The run has no such run-job any more."))?;
    let first = inner.first_children(container, 0..1).await?;
    if let Some(first) = first.into_iter().flatten().next() {
        return repeated(container, &scoped, task, first).await;
    }
    let id = JobId(task.job_id);
    refuse_circles(inner, run, id).await?;
    let ctx = inner.ctx_of(run).await?;
    let wanted = PermissionLevel::CanManageRun;
    let job = inner.jobs.permitted(&ctx, id, wanted).await?;
    let request = request(&scoped, task, &job.settings)?;
    let (new, plan) = run_of(&ctx, job, request)?;
    let new = NewRun {
        trigger: TRIGGER,
        ..new
    };
    Ok((new, plan))
}

/// The run that was called by the task that this one repeats, again: with its settings of then, whatever
/// became of its job, for whoever asked for the repeat. It belongs to no job.
async fn repeated(
    container: &Container<'_>,
    scoped: &Scoped,
    task: &RunJobTask,
    first: Run,
) -> Result<(NewRun, Plan)> {
    let Container { inner, run, .. } = container;
    let asker = inner.store.user_get(asked_by(inner, run).await?).await?;
    let asker = asker.filter(|user| user.active).map(Ctx::new);
    let asker = asker.ok_or_else(|| {
        Error::denied("The user who asked for this repeat is not active any more.".to_owned())
    })?;
    let document = inner.again(&asker, &first).await?;
    let request = request(scoped, task, &first.settings)?;
    let new = NewRun {
        parameters: parameters(&request)?,
        timeout_ms: first.timeout_ms,
        trigger: TRIGGER,
        ..NewRun::new(
            RunKind::Submit,
            asker.creator(),
            first.name,
            document.settings,
        )
    };
    Ok((new, document.plan))
}

/// Who asked for a run. One that is a part of another acts for whom that acts for, and was asked for with
/// it.
async fn asked_by(inner: &Inner, run: &Run) -> Result<UserId> {
    let mut asked = run.clone();
    while let Some(parent) = asked.parent_attempt.filter(|_| asked.kind.is_part()) {
        let gone = || Error::internal("the run above an iteration is gone", parent.to_string());
        let above = inner.store.attempt_get(parent).await?;
        asked = above.ok_or_else(gone)?.0;
    }
    Ok(asked.creator_id)
}

/// What the task gives a run of a job with these settings.
fn request(scoped: &Scoped, task: &RunJobTask, settings: &Map<String, Value>) -> Result<RunNow> {
    let legacy = !task.notebook_params.is_empty()
        || task.python_params.is_some()
        || !task.python_named_params.is_empty()
        || task.jar_params.is_some()
        || task.spark_submit_params.is_some()
        || !task.sql_params.is_empty();
    let mut job_parameters = task.job_parameters.clone();
    if !legacy {
        let declared = JobDocument::of_normal(settings.clone())?.spec.parameters;
        let pushed: Map<String, Value> = scoped
            .job_parameters
            .iter()
            .filter(|(name, _)| declared.iter().any(|known| known.name == **name))
            .map(|(name, value)| (name.clone(), Value::String(value.clone())))
            .collect();
        job_parameters.extend(pushed);
    }
    Ok(RunNow {
        job_parameters,
        notebook_params: task.notebook_params.clone(),
        python_params: task.python_params.clone(),
        python_named_params: task.python_named_params.clone(),
        jar_params: task.jar_params.clone(),
        spark_submit_params: task.spark_submit_params.clone(),
        sql_params: task.sql_params.clone(),
        ..RunNow::default()
    })
}

/// What jobs look like when they are saved says nothing of those that were changed since.
async fn refuse_circles(inner: &Inner, run: &Run, next: JobId) -> Result<()> {
    let mut chain = vec![next];
    let mut above = Some(run.clone());
    while let Some(run) = above {
        chain.extend(run.job_id);
        above = match run.parent_attempt {
            Some(parent) => inner.store.attempt_get(parent).await?.map(|(run, _)| run),
            None => None,
        };
    }
    let depth = chain.len() - 1;
    let shown: Vec<String> = chain.iter().rev().map(ToString::to_string).collect();
    let shown = shown.join(" -> ");
    if chain[1..].contains(&next) {
        return Err(Error::invalid(format!(
            "run_job_task: the jobs run each other in a circle: {shown}."
        )));
    }
    if depth > RUN_JOB_DEPTH_MAX {
        return Err(Error::invalid(format!(
            "run_job_task: the jobs run each other more than {RUN_JOB_DEPTH_MAX} deep: {shown}."
        )));
    }
    Ok(())
}

/// # Errors
/// When the database refuses.
pub(crate) async fn ended_badly(container: &Container<'_>, verdict: Verdict) -> Result<AttemptEnd> {
    let store = &container.inner.store;
    let children = store.container_page(container.attempt.id, 0, 1).await?;
    let child = children.into_iter().next().and_then(|child| child.run);
    let Some((run, _)) = child else {
        return Ok(end(
            verdict,
            "RUN_EXECUTION_ERROR",
            "The run that was waited for was deleted.",
        ));
    };
    let job = run
        .job_id
        .map(|id| format!(" of job {id}"))
        .unwrap_or_default();
    if verdict == Verdict::Canceled {
        let message = format!("Run {}{job} was cancelled.", run.id);
        return Ok(end(verdict, "USER_CANCELED", message));
    }
    let message = format!("Run {}{job} failed: {}", run.id, run.message);
    Ok(end(verdict, "RUN_EXECUTION_ERROR", message))
}
