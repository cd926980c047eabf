//! Repairs as clients ask for them: an ended run does some of its tasks again, with the settings
//! that its job has by now.

use std::sync::Arc;

use forebay_engine::{RepairRequest, Run as RunState, Task};
use forebay_runtime::TaskKind;
use forebay_store::{NewRepair, Repair, Run, RunKind};
use forebay_types::{Error, ErrorCode, Result, RunId};
use serde_json::{Map, Value};
use tokio::sync::oneshot;

use super::request::parameters;
use super::{RunNow, RunView, Runs, dispatch};
use crate::Ctx;
use crate::jobs::JobDocument;

/// What a caller of repair wants.
#[derive(Debug, Clone, Default)]
pub struct RepairRun {
    /// By key.
    pub rerun_tasks: Vec<String>,
    pub rerun_all_failed_tasks: bool,
    pub rerun_dependent_tasks: bool,
    pub latest_repair_id: Option<RunId>,
    /// Over those of the run; what is not given stays.
    pub parameters: RunNow,
}

impl Runs {
    /// Returns the id of the repair.
    ///
    /// # Errors
    /// `Run N does not exist.`; `PERMISSION_DENIED`; `RESOURCE_CONFLICT` for an active run, for a
    /// `latest_repair_id` that is not the latest, and while job or key have no room; a part of
    /// another run; an unknown task; nothing to run again.
    pub async fn repair(&self, ctx: &Ctx, id: RunId, request: RepairRun) -> Result<RunId> {
        let view = self.managed(ctx, id).await?;
        if view.task.is_some() && view.run.id != id {
            return Err(Error::invalid(format!(
                "Run {id} is a task of run {}; give the run's own id.",
                view.run.id
            )));
        }
        self.refuse_parts(&view.run).await?;
        let new = self.plan_repair(ctx, &view, request).await?;
        let inner = Arc::clone(&self.0);
        let (done, repaired) = oneshot::channel();
        // In a task of its own, as for a new run: a client that hangs up must not come between a
        // claim and its start.
        self.0
            .tasks
            .spawn(TaskKind::Chore, "repair a run", async move {
                let claiming = inner.claiming.read().await;
                let now = inner.clock.now();
                let result = inner.store.run_repair(new, inner.slots.clone(), now).await;
                let answer = result.map(|(id, claimed)| {
                    dispatch::begin(&inner, claimed);
                    id
                });
                drop(claiming);
                inner.wake.notify_one();
                drop(done.send(answer));
                Ok::<(), Error>(())
            });
        let gone = |e| Error::internal("the server is stopping", e);
        repaired.await.map_err(gone)?
    }

    /// The repairs of a run that the caller was permitted to see, oldest first.
    ///
    /// # Errors
    /// When the database refuses.
    pub async fn repairs(&self, run: RunId) -> Result<Vec<Repair>> {
        self.0.store.run_repairs(run).await
    }

    /// What somebody waited for, and waits no more, is repaired with the run that did.
    async fn refuse_parts(&self, run: &Run) -> Result<()> {
        let what = match run.kind {
            RunKind::Workflow => "was started by a notebook of",
            RunKind::Iteration => "is an iteration of a task of",
            RunKind::Context => {
                return Err(Error::invalid(format!(
                    "Run {} is an execution context and cannot be repaired; create another one.",
                    run.id
                )));
            }
            RunKind::Job | RunKind::Submit => return Ok(()),
        };
        let above = self.parent(run).await?;
        let above = above.map_or_else(|| "another run".to_owned(), |id| format!("run {id}"));
        Err(Error::invalid(format!(
            "Run {} {what} {above} and cannot be repaired by itself; repair that run.",
            run.id
        )))
    }

    async fn plan_repair(
        &self,
        ctx: &Ctx,
        view: &RunView,
        request: RepairRun,
    ) -> Result<NewRepair> {
        let run = &view.run;
        let document = JobDocument::of_normal(run.settings.clone())?;
        let Some(verdict) = run.phase.verdict() else {
            return Err(Error::new(
                ErrorCode::ResourceConflict,
                format!(
                    "Run {} is active; a run can be repaired once it has ended.",
                    run.id
                ),
            ));
        };
        if verdict == forebay_engine::Verdict::Skipped {
            return Err(Error::invalid(format!(
                "Run {} was skipped, so there is nothing to repair; run the job again.",
                run.id
            )));
        }
        let tasks = document.plan.tasks.iter();
        let keys: Vec<&str> = tasks.map(|task| task.key.as_str()).collect();
        let index = |key: &String| {
            let found = keys.iter().position(|known| known == key);
            found.ok_or_else(|| {
                Error::invalid(format!(
                    "Field 'rerun_tasks' names '{key}', which is no task of run {}.",
                    run.id
                ))
            })
        };
        let wanted = RepairRequest {
            tasks: request
                .rerun_tasks
                .iter()
                .map(index)
                .collect::<Result<_>>()?,
            all_failed: request.rerun_all_failed_tasks,
            dependents: request.rerun_dependent_tasks,
        };
        let mut state = RunState::new(&document.plan);
        for (task, attempt) in state.tasks.iter_mut().zip(view.newest()) {
            *task = Task {
                phase: attempt.phase,
                ..*task
            };
        }
        let tasks = wanted.tasks(&document.plan, &state).map_err(|e| {
            Error::invalid(format!(
                "Give 'rerun_tasks' or 'rerun_all_failed_tasks': {e}."
            ))
        })?;
        let settings = self.current_settings(run, &tasks).await?;
        let document = JobDocument::of_normal(settings).map_err(|e| {
            Error::state(format!(
                "Run {} cannot be repaired with the settings that its job has now: {e}",
                run.id
            ))
        })?;
        Ok(NewRepair {
            run: run.id,
            creator_name: ctx.user.name.clone(),
            latest: request.latest_repair_id,
            tasks,
            settings: document.settings,
            parameters: over(&run.parameters, &request.parameters)?,
            plan: document.plan,
        })
    }

    /// The run's settings with the tasks that run again as the job has them now. Their place in the
    /// run stays: what they depend on ran, or did not, as it was then.
    async fn current_settings(&self, run: &Run, tasks: &[usize]) -> Result<Map<String, Value>> {
        let mut settings = run.settings.clone();
        let Some(job) = run.job_id else {
            return Ok(settings);
        };
        let Ok(job) = self.0.store.job_get(job).await else {
            return Ok(settings);
        };
        let current = job.settings.get("tasks").and_then(Value::as_array);
        if let Some(Value::Array(old)) = settings.get_mut("tasks") {
            for index in tasks {
                let Some(old) = old.get_mut(*index) else {
                    continue;
                };
                let same = |new: &&Value| new.get("task_key") == old.get("task_key");
                if let Some(new) = current.into_iter().flatten().find(same) {
                    let depends_on = old.get("depends_on").cloned();
                    *old = new.clone();
                    if let Value::Object(task) = old {
                        task.shift_remove("depends_on");
                        task.extend(depends_on.map(|edges| ("depends_on".to_owned(), edges)));
                    }
                }
            }
        }
        for (list, key) in [
            ("job_clusters", "job_cluster_key"),
            ("environments", "environment_key"),
        ] {
            merge(&mut settings, &job.settings, list, key);
        }
        Ok(settings)
    }
}

/// Entries of the job come over those of the run with the same key; others stay.
fn merge(run: &mut Map<String, Value>, job: &Map<String, Value>, list: &str, key: &str) {
    let Some(Value::Array(new)) = job.get(list) else {
        return;
    };
    let mut merged = new.clone();
    if let Some(Value::Array(old)) = run.get(list) {
        let kept = old.iter().filter(|entry| {
            let mut known = new.iter();
            !known.any(|other| other.get(key) == entry.get(key))
        });
        merged.extend(kept.cloned());
    }
    run.insert(list.to_owned(), Value::Array(merged));
}

/// The run's parameters with what the caller gave over them.
fn over(old: &Map<String, Value>, request: &RunNow) -> Result<Map<String, Value>> {
    let mut merged = old.clone();
    for (field, given) in parameters(request)? {
        match (merged.get_mut(&field), given) {
            (Some(Value::Object(old)), Value::Object(given)) => old.extend(given),
            (_, given) => drop(merged.insert(field, given)),
        }
    }
    Ok(merged)
}
