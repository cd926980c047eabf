//! Doing a run again from exactly what it was made from.

use std::collections::HashSet;
use std::sync::Arc;

use forebay_exec::Place;
use forebay_store::{Attempt, NewRun, Run, RunKind};
use forebay_types::{Error, Result, RunId};
use serde_json::{Map, Value, json};

use super::inputs::{self, INPUTS, InputFile, Inputs};
use super::origin::Origin;
use super::parts::Part;
use super::source::{Code, Past};
use super::{Inner, RunView, Runs, TRIGGER_INFO, run_job};
use crate::Ctx;
use crate::jobs::{JobDocument, OWN_FIELD};

/// Reasons that are told; the others are counted.
const REASONS_MAX: usize = 20;

impl Runs {
    /// Starts a run with the settings, parameters, commit and seeds of an ended one. Each of its tasks
    /// looks again before it starts whether everything is as it was. What for-each and run-job tasks
    /// started is done again in the same way.
    ///
    /// # Errors
    /// `INVALID_STATE` with everything that keeps it from being the same run.
    pub async fn repeat(&self, ctx: &Ctx, id: RunId) -> Result<RunId> {
        let view = self.get(ctx, id).await?;
        let run = &view.run;
        let (parts, mut reasons) = self.examined(ctx, &view).await?;
        if reasons.is_empty() {
            let mounts = self.0.mounts_for(ctx).await?;
            // Iterations are made from the same files, which need no second look.
            let mut looked_at = HashSet::new();
            for attempt in parts.iter().flat_map(|part| part.view.newest()) {
                let Some(inputs) = inputs_of(attempt) else {
                    continue;
                };
                let (past, mut inputs) = inputs::past(&self.0.dirs, attempt.id, inputs).await?;
                let is_new = |file: &InputFile| looked_at.insert((past.has(file), file.clone()));
                inputs.files.retain(is_new);
                let code = Code {
                    workspace: self.0.workspace.clone(),
                    ctx: ctx.clone(),
                    checkout: None,
                    past: Some(Arc::new(past)),
                };
                let kept = |digest: &str| self.0.libraries.has(digest);
                for reason in inputs.changed(&code, &mounts, kept).await? {
                    if !reasons.contains(&reason) {
                        reasons.push(reason);
                    }
                }
            }
        }
        if !reasons.is_empty() {
            return Err(Error::state(format!(
                "Run {} cannot be repeated: {}",
                run.id,
                told(reasons)
            )));
        }
        let document = self.0.again(ctx, run).await?;
        let below = parts.iter().skip(1).map(|part| &part.view.run);
        for called in below.filter(|run| !run.kind.is_part()) {
            self.0.again(ctx, called).await?;
        }
        self.count_creation()?;
        let mut parameters = run.parameters.clone();
        parameters.shift_remove(TRIGGER_INFO);
        // The parameters of a run that a task called are not looked at again here either.
        let was_called = run.trigger == run_job::TRIGGER;
        let new = NewRun {
            parameters,
            timeout_ms: run.timeout_ms,
            trigger: if was_called {
                run_job::TRIGGER
            } else {
                "ONE_TIME"
            },
            ..NewRun::new(
                RunKind::Submit,
                ctx.creator(),
                run.name.clone(),
                document.settings,
            )
        };
        self.create(new, document.plan).await
    }

    /// Why a run cannot be repeated, as far as its own rows tell, and those of what it started.
    ///
    /// # Errors
    /// When the database refuses.
    pub async fn refusals(&self, ctx: &Ctx, view: &RunView) -> Result<Vec<String>> {
        Ok(self.examined(ctx, view).await?.1)
    }

    async fn examined(&self, ctx: &Ctx, view: &RunView) -> Result<(Vec<Part>, Vec<String>)> {
        if let Some(what) = refused_as_whole(&view.run) {
            return Ok((Vec::new(), vec![what.to_owned()]));
        }
        let (parts, mut found) = self.parts(ctx, view).await?;
        for Part { place, view } in &parts {
            let own = refusals(view).into_iter();
            found.extend(own.map(|reason| format!("{place}{reason}")));
        }
        let is_known = |part: &Part| part.view.newest().any(|one| inputs_of(one).is_some());
        if found.is_empty() && !parts.iter().any(is_known) {
            found.push("nothing of it was executed.".to_owned());
        }
        Ok((parts, found))
    }
}

fn told(mut reasons: Vec<String>) -> String {
    let more = reasons.len().saturating_sub(REASONS_MAX);
    if more > 0 {
        reasons.truncate(REASONS_MAX);
        reasons.push(format!("There are {more} more reasons."));
    }
    reasons.join(" ")
}

/// What a repeat is to be like: a task of the first run.
pub(crate) struct First {
    run: RunId,
    inputs: Inputs,
    environment: Option<String>,
    /// What of it is kept.
    pub(super) past: Arc<Past>,
}

impl Inner {
    /// The definition of a run that does this one again for `ctx`.
    ///
    /// # Errors
    /// When `ctx` may not have such a run.
    pub(super) async fn again(&self, ctx: &Ctx, run: &Run) -> Result<JobDocument> {
        let document = JobDocument::of_normal(pinned(run)?)?;
        self.jobs.check_ceiling(&document)?;
        let wanted = document.spec.run_as.as_ref();
        let checked = self
            .jobs
            .check_run_as(ctx, &document.settings, wanted, None);
        checked.await?;
        Ok(document)
    }

    /// Of an attempt that repeats another one, that one.
    ///
    /// # Errors
    /// When it is gone, or does not say what it was made from.
    pub(super) async fn first(
        &self,
        document: &JobDocument,
        task_key: &str,
    ) -> Result<Option<First>> {
        let Some(run) = document.spec.own.repeat else {
            return Ok(None);
        };
        let (_, attempts) = self.store.run_get(run).await?;
        let mut newest = RunView::newest_of(&attempts);
        let first = newest.find(|one| one.task_key == task_key);
        let first = first.and_then(|first| Some((first, inputs_of(first)?)));
        let unknown = || Error::invalid(format!("Run {run} does not say what it was made from."));
        let (first, inputs) = first.ok_or_else(unknown)?;
        let (past, inputs) = inputs::past(&self.dirs, first.id, inputs).await?;
        let environment = first.facts.get("environment").and_then(Value::as_str);
        Ok(Some(First {
            run,
            environment: environment.map(str::to_owned),
            past: Arc::new(past),
            inputs,
        }))
    }

    /// What an attempt begins its random numbers with: what is said first of itself, of the one that
    /// it repeats, and of its job.
    pub(super) fn seed(
        &self,
        (run, attempt): (&Run, &Attempt),
        document: &JobDocument,
        first: Option<&First>,
    ) -> u32 {
        let noted = inputs_of(attempt).map(|inputs| inputs.seed);
        noted
            .or_else(|| first.map(|first| first.inputs.seed))
            .or(document.spec.own.seed)
            .unwrap_or_else(|| inputs::seed_of(self.workspace_id, run, &attempt.task_key))
    }
}

impl First {
    /// Makes sure that a run from `now` would be the same.
    ///
    /// # Errors
    /// `INVALID_PARAMETER_VALUE` with what has changed.
    pub(super) async fn check(
        &self,
        now: &Inputs,
        origin: &Origin<'_>,
        place: &Place,
    ) -> Result<()> {
        // Of libraries, the differences tell already.
        let mut reasons = self.inputs.differences(now);
        let changed = self.inputs.changed(origin.code, &place.mounts, |_| true);
        reasons.extend(changed.await?);
        if reasons.is_empty()
            && let Some(environment) = self.environment.as_ref().filter(|text| !text.is_empty())
        {
            let prepared = origin.inner.executor.prepare(place).await;
            if prepared.is_ok_and(|prepared| prepared.environment != *environment) {
                reasons.push("The environment of the runtime is locked otherwise.".to_owned());
            }
        }
        if reasons.is_empty() {
            return Ok(());
        }
        let (run, reasons) = (self.run, reasons.join(" "));
        Err(Error::invalid(format!(
            "Run {run} cannot be repeated: {reasons}"
        )))
    }
}

/// What an ended attempt was made from.
#[must_use]
pub fn inputs_of(attempt: &Attempt) -> Option<Inputs> {
    serde_json::from_value(attempt.facts.get(INPUTS)?.clone()).ok()
}

/// Why a run is nothing to repeat by itself.
fn refused_as_whole(run: &Run) -> Option<&'static str> {
    match run.kind {
        RunKind::Workflow => Some("it was started by a notebook; repeat the run above it."),
        RunKind::Iteration => Some("it is an iteration; repeat the run above it."),
        RunKind::Context => {
            Some("it is an execution context, which takes its cells from a client.")
        }
        RunKind::Job | RunKind::Submit if !run.phase.is_ended() => Some("it has not ended."),
        RunKind::Job | RunKind::Submit => None,
    }
}

/// Why a run cannot be repeated, as far as its own rows tell.
fn refusals(view: &RunView) -> Vec<String> {
    let run = &view.run;
    if !run.phase.is_ended() {
        return vec!["it has not ended.".to_owned()];
    }
    let mut found = Vec::new();
    // An iteration has the commit of the run above it.
    let from_git = run.settings.contains_key("git_source") && !run.kind.is_part();
    if from_git && run.used_commit.is_none() {
        found.push("it never had its commit.".to_owned());
    }
    for attempt in view.newest() {
        let key = &attempt.task_key;
        if attempt.executed_at.is_some() && inputs_of(attempt).is_none() {
            found.push(format!("Task {key} does not say what it was made from."));
        }
    }
    found
}

/// The settings of a run with its commit instead of a branch or tag.
fn pinned(run: &Run) -> Result<Map<String, Value>> {
    let mut settings = run.settings.clone();
    let unreadable = || Error::state(format!("Run {} has no settings.", run.id));
    if let Some(commit) = &run.used_commit {
        let source = settings
            .get_mut("git_source")
            .and_then(Value::as_object_mut);
        let source = source.ok_or_else(unreadable)?;
        source.shift_remove("git_branch");
        source.shift_remove("git_tag");
        source.insert("git_commit".to_owned(), json!(commit));
    }
    let own = settings.entry(OWN_FIELD).or_insert_with(|| json!({}));
    // Of a run that repeats, the first one says from what.
    own["repeat"] = json!(run.id);
    Ok(settings)
}
