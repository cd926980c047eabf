//! Doing a run again from exactly what it was made from.

use forebay_exec::Workload;
use forebay_store::{Attempt, NewRun, Run, RunKind};
use forebay_types::{Error, Result, RunId};
use serde_json::{Map, Value, json};

use super::inputs::{self, Inputs};
use super::source::Code;
use super::{Inner, RunView, Runs, TRIGGER_INFO};
use crate::Ctx;
use crate::jobs::{JobDocument, OWN_FIELD};
use crate::libraries::RunFile;

/// Tasks that start runs of their own, whose inputs are not theirs.
const STARTS_OTHERS: [&str; 2] = ["for_each_task", "run_job_task"];

impl Runs {
    /// Starts a run with the settings, parameters, commit and seeds of an ended one. Each of its tasks
    /// looks again before it starts whether everything is as it was.
    ///
    /// # Errors
    /// `INVALID_STATE` with everything that keeps it from being the same run.
    pub async fn repeat(&self, ctx: &Ctx, id: RunId) -> Result<RunId> {
        let view = self.get(ctx, id).await?;
        let run = &view.run;
        let mut reasons = refusals(&view);
        if reasons.is_empty() {
            let code = Code {
                workspace: self.0.workspace.clone(),
                ctx: ctx.clone(),
                checkout: None,
            };
            let mounts = self.0.mounts_for(ctx).await?;
            for attempt in view.newest() {
                if let Some(inputs) = inputs_of(attempt) {
                    reasons.extend(inputs.changed(&code, &mounts).await?);
                }
            }
        }
        if !reasons.is_empty() {
            return Err(Error::state(format!(
                "Run {} cannot be repeated: {}",
                run.id,
                reasons.join(" ")
            )));
        }
        let document = JobDocument::of_normal(pinned(run)?)?;
        let jobs = &self.0.jobs;
        jobs.check_ceiling(&document)?;
        let wanted = document.spec.run_as.as_ref();
        jobs.check_run_as(ctx, &document.settings, wanted, None)
            .await?;
        self.count_creation()?;
        let mut parameters = run.parameters.clone();
        parameters.shift_remove(TRIGGER_INFO);
        let new = NewRun {
            parameters,
            timeout_ms: run.timeout_ms,
            ..NewRun::new(
                RunKind::Submit,
                ctx.creator(),
                run.name.clone(),
                document.settings,
            )
        };
        self.create(new, document.plan).await
    }
}

impl Inner {
    /// The seed of an attempt that is about to start, and of a repeat also whether it would be the same.
    ///
    /// # Errors
    /// `INVALID_PARAMETER_VALUE` with what has changed.
    #[expect(
        clippy::too_many_arguments,
        reason = "each is a part of what an attempt is made from"
    )]
    pub(super) async fn inputs(
        &self,
        (run, attempt): (&Run, &Attempt),
        document: &JobDocument,
        code: &Code,
        compute: &crate::clusters::ResolvedCluster,
        workload: &Workload,
        libraries: Vec<RunFile>,
        snapshot: Option<&super::output::Snapshot>,
    ) -> Result<Inputs> {
        let own = &document.spec.own;
        let key = &attempt.task_key;
        let seed = own
            .seed
            .unwrap_or_else(|| inputs::seed_of(self.workspace_id, run, key));
        let mut now = Inputs::of(seed, code, compute, workload, libraries, snapshot).await?;
        let Some(first) = own.repeat else {
            return Ok(now);
        };
        let (_, attempts) = self.store.run_get(first).await?;
        let attempts = RunView::newest_of(&attempts);
        let before = attempts.into_iter().find(|one| one.task_key == *key);
        let before = before.and_then(|before| Some((inputs_of(before)?, before)));
        let (inputs, before) = before.ok_or_else(|| {
            Error::invalid(format!("Run {first} does not say what it was made from."))
        })?;
        let mut reasons = inputs.differences(&now);
        reasons.extend(inputs.changed(code, &workload.place.mounts).await?);
        let environment = before.facts.get("environment").and_then(Value::as_str);
        if reasons.is_empty()
            && let Some(environment) = environment.filter(|digest| !digest.is_empty())
        {
            let prepared = self.executor.prepare(&workload.place).await;
            if prepared.is_ok_and(|prepared| prepared.environment != environment) {
                reasons.push("The environment of the runtime is locked otherwise.".to_owned());
            }
        }
        if !reasons.is_empty() {
            let reasons = reasons.join(" ");
            return Err(Error::invalid(format!(
                "Run {first} cannot be repeated: {reasons}"
            )));
        }
        now.seed = inputs.seed;
        Ok(now)
    }
}

/// What an ended attempt was made from.
#[must_use]
pub fn inputs_of(attempt: &Attempt) -> Option<Inputs> {
    serde_json::from_value(attempt.facts.get("inputs")?.clone()).ok()
}

/// Why a run cannot be repeated, as far as its own rows tell.
#[must_use]
pub fn refusals(view: &RunView) -> Vec<String> {
    let run = &view.run;
    let what = match run.kind {
        RunKind::Job | RunKind::Submit => None,
        RunKind::Workflow => Some("it was started by a notebook; repeat the run above it."),
        RunKind::Iteration => Some("it is an iteration; repeat the run above it."),
        RunKind::Context => {
            Some("it is an execution context, which takes its cells from a client.")
        }
    };
    if let Some(what) = what {
        return vec![what.to_owned()];
    }
    if !run.phase.is_ended() {
        return vec!["it has not ended.".to_owned()];
    }
    let mut found = Vec::new();
    let from_git = run.settings.contains_key("git_source");
    if from_git && run.used_commit.is_none() {
        found.push("it never had its commit.".to_owned());
    }
    let mut known = false;
    for attempt in view.newest() {
        let key = &attempt.task_key;
        if let Some(kind) = STARTS_OTHERS
            .iter()
            .find(|kind| view.has_type(attempt, kind))
        {
            found.push(format!(
                "Task {key} is a {kind}, which starts runs of its own."
            ));
        }
        known |= inputs_of(attempt).is_some();
        if attempt.executed_at.is_some() && inputs_of(attempt).is_none() {
            found.push(format!("Task {key} does not say what it was made from."));
        }
    }
    if found.is_empty() && !known {
        found.push("nothing of it was executed.".to_owned());
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
