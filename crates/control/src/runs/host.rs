//! What a running program may ask of the server, in the name of the run's user.

use std::collections::HashSet;
use std::sync::{Arc, Mutex, PoisonError};

use async_trait::async_trait;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use forebay_engine::{AttemptBudget, StopReason, Verdict};
use forebay_exec::{CallId, CancelReason, Canceler, Host, HostError, method};
use forebay_runtime::TaskKind;
use forebay_store::{Attempt, NewRun, RunKind};
use forebay_types::{Error, RunId, WorkspacePath};
use serde::Deserialize;
use serde_json::{Map, Value, json};
use tokio::sync::oneshot;

use super::Inner;
use super::definition::Definition;
use super::dispatch;
use super::inputs::{self, InputFile, InputKind};
use super::output::Snapshot;
use super::scope;
use super::source::{self, Code};
use crate::Ctx;
use crate::clusters::ResolvedCluster;
use crate::jobs::{JobDocument, OWN_FIELD};

/// How deep notebooks may run notebooks.
const DEPTH_MAX: usize = 10;
const TASK_VALUE_BYTES_MAX: usize = 48 << 10;

#[derive(Clone)]
pub(crate) struct AttemptHost {
    pub(super) inner: Arc<Inner>,
    ctx: Ctx,
    code: Code,
    pub(super) definition: Arc<Definition>,
    pub(super) attempt: RunId,
    task_key: String,
    pub(super) cluster_id: Option<String>,
    canceler: Canceler,
    /// What this attempt may use.
    budget: AttemptBudget,
    seed: u32,
    /// The attempt at the top of the notebooks that run this one.
    top: Option<RunId>,
    noted: Arc<Mutex<HashSet<InputFile>>>,
}

/// What became of a notebook that another one waited for, after its name.
fn ended_how(verdict: Option<Verdict>) -> &'static str {
    match verdict {
        Some(Verdict::Failed) => "failed",
        Some(Verdict::TimedOut) => "timed out",
        Some(Verdict::Canceled) => "was cancelled",
        _ => "was interrupted",
    }
}

impl AttemptHost {
    pub(crate) fn new(
        inner: &Arc<Inner>,
        code: Code,
        definition: &Arc<Definition>,
        attempt: &Attempt,
        compute: &ResolvedCluster,
        canceler: Canceler,
        seed: u32,
    ) -> Self {
        Self {
            inner: Arc::clone(inner),
            ctx: code.ctx.clone(),
            code,
            definition: Arc::clone(definition),
            attempt: attempt.id,
            task_key: attempt.task_key.clone(),
            cluster_id: compute.cluster_id.as_ref().map(ToString::to_string),
            canceler,
            budget: AttemptBudget::default(),
            seed,
            top: None,
            noted: Arc::default(),
        }
    }

    pub(crate) fn below(mut self, top: Option<RunId>) -> Self {
        self.top = top;
        self
    }

    pub(crate) fn with_budget(mut self, budget: AttemptBudget) -> Self {
        self.budget = budget;
        self
    }
}

#[async_trait]
impl Host for AttemptHost {
    async fn call(&self, call: CallId, name: &str, args: Value) -> Result<Value, HostError> {
        match name {
            method::SECRETS_GET => self.secret(parse(args)?).await,
            method::SECRETS_LIST => self.secret_keys(parse(args)?).await,
            method::SECRETS_LIST_SCOPES => self.secret_scopes().await,
            method::NOTEBOOK_RUN => self.notebook_run(call, parse(args)?).await,
            method::NOTEBOOK_SOURCE => self.notebook_source(parse(args)?).await,
            method::TASK_VALUES_SET => self.task_value_set(parse(args)?).await,
            method::TASK_VALUES_GET => self.task_value_get(parse(args)?).await,
            method::CONTEXT_NEXT => self.context_next(args).await,
            method::CONTEXT_INTERRUPT => self.context_interrupt(args).await,
            method::FS_MOUNTS => Ok(self.mounts()),
            other => Err(HostError::unknown_method(other)),
        }
    }
}

#[derive(Deserialize)]
struct SecretKey {
    scope: String,
    #[serde(default)]
    key: String,
}

#[derive(Deserialize)]
struct NotebookTarget {
    from: String,
    path: String,
    #[serde(default)]
    timeout_seconds: f64,
    #[serde(default)]
    arguments: Map<String, Value>,
}

#[derive(Deserialize)]
struct TaskValue {
    #[serde(default)]
    task_key: String,
    key: String,
    #[serde(default)]
    value: Value,
    #[serde(default)]
    has_default: bool,
    #[serde(default)]
    default: Value,
    #[serde(default)]
    debug_value: Value,
}

pub(super) fn parse<T: serde::de::DeserializeOwned>(args: Value) -> Result<T, HostError> {
    serde_json::from_value(args).map_err(|e| HostError::new("ValueError", e.to_string()))
}

/// The domain's error as the exception a Python program would expect.
pub(super) fn raise(error: Error) -> HostError {
    use forebay_types::ErrorCode as C;
    let kind = match error.code {
        C::PermissionDenied => "PermissionError",
        C::ResourceDoesNotExist => "FileNotFoundError",
        C::InvalidParameterValue => "ValueError",
        C::NotImplemented => "NotImplementedError",
        _ => "RuntimeError",
    };
    HostError::new(kind, error.to_string())
}

impl AttemptHost {
    async fn secret(&self, wanted: SecretKey) -> Result<Value, HostError> {
        let got = self
            .inner
            .secrets
            .get(&self.ctx, &wanted.scope, &wanted.key)
            .await;
        let (_, value) = got.map_err(raise)?;
        Ok(json!({"value": STANDARD.encode(value)}))
    }

    async fn secret_keys(&self, wanted: SecretKey) -> Result<Value, HostError> {
        let entries = self
            .inner
            .secrets
            .list(&self.ctx, &wanted.scope)
            .await
            .map_err(raise)?;
        let keys: Vec<String> = entries.into_iter().map(|entry| entry.key).collect();
        Ok(json!({"keys": keys}))
    }

    async fn secret_scopes(&self) -> Result<Value, HostError> {
        let scopes = self
            .inner
            .secrets
            .scope_list(&self.ctx)
            .await
            .map_err(raise)?;
        let names: Vec<String> = scopes.into_iter().map(|scope| scope.name).collect();
        Ok(json!({"scopes": names}))
    }

    /// Of a notebook that another one runs, the first above them is made from it too.
    fn note_included(&self, snapshot: &Snapshot) {
        let Some(file) = InputFile::of_notebook(InputKind::Included, snapshot) else {
            return;
        };
        let noted = self.noted.lock();
        let mut noted = noted.unwrap_or_else(PoisonError::into_inner);
        if noted.insert(file.clone()) {
            let attempts = self.top.into_iter().chain([self.attempt]);
            inputs::note_included(&self.inner.dirs, attempts, (file, snapshot));
        }
    }

    fn resolve(&self, target: &NotebookTarget) -> Result<WorkspacePath, HostError> {
        let from = WorkspacePath::parse(&target.from).map_err(|e| raise(e.into()))?;
        from.resolve_sibling(&target.path)
            .map_err(|e| raise(e.into()))
    }

    async fn notebook_source(&self, target: NotebookTarget) -> Result<Value, HostError> {
        let path = self.resolve(&target)?;
        let loaded = source::load(&self.code, &path).await;
        let (snapshot, notebook) = loaded.map_err(raise)?;
        self.note_included(&snapshot);
        let cells = notebook.exec_cells().map_err(|e| raise(e.into()))?;
        Ok(json!({"path": path.as_str(), "cells": cells}))
    }

    /// Runs a notebook as a run of its own, in the slot of this one. Asked again for the same call,
    /// it waits for the run that is there.
    async fn notebook_run(&self, call: CallId, target: NotebookTarget) -> Result<Value, HostError> {
        let path = self.resolve(&target)?;
        let shown = path.to_string();
        let failed = |message: String| HostError::new("WorkflowException", message);
        let mut child = self
            .child(call, path, target)
            .await
            .map_err(|e| failed(e.to_string()))?;
        self.until_ended(&child).await.map_err(raise)?;
        child.waiting = false;
        let found = self.inner.store.run_get(child.run).await;
        let (_, attempts) = found.map_err(|_| failed("the run was deleted".to_owned()))?;
        let ended = attempts.into_iter().next_back();
        let ended = ended.ok_or_else(|| failed("the run has no task".to_owned()))?;
        match ended.phase.verdict() {
            Some(Verdict::Succeeded) => Ok(json!({"exit_value": ended.exit_value})),
            verdict => Err(failed(format!(
                "Notebook {shown} {}: {}. Its run is {}.",
                ended_how(verdict),
                ended.error.unwrap_or(ended.message).trim_end_matches('.'),
                ended.id,
            ))),
        }
    }

    /// The run of a call, started when there is none yet. In a task of its own, because this call
    /// may be dropped between the claim and the start.
    async fn child(
        &self,
        call: CallId,
        path: WorkspacePath,
        target: NotebookTarget,
    ) -> Result<Child, Error> {
        let (done, started) = oneshot::channel();
        let host = self.clone();
        let name = format!("notebook run of {}", self.attempt);
        self.inner.tasks.spawn(TaskKind::Chore, name, async move {
            let claiming = host.inner.claiming.read().await;
            let child = host.start_child(call, &path, &target).await;
            let child = child.map(|(run, claimed)| {
                dispatch::begin(&host.inner, claimed);
                Child {
                    inner: Arc::clone(&host.inner),
                    run,
                    waiting: true,
                }
            });
            drop(claiming);
            // When nobody waits any more, dropping the child stops it.
            drop(done.send(child));
            Ok::<(), Error>(())
        });
        started
            .await
            .map_err(|e| Error::internal("the server is stopping", e))?
    }

    async fn until_ended(&self, child: &Child) -> Result<(), Error> {
        let mut stopping = false;
        loop {
            let mut moved = self.inner.live.watch_run(child.run);
            // Asked after subscribing, so that an end in between is not missed.
            let (run, _) = self.inner.store.run_get(child.run).await?;
            if run.phase.is_ended() {
                return Ok(());
            }
            tokio::select! {
                _ = moved.changed() => {}
                reason = self.canceler.canceled(), if !stopping => {
                    stopping = true;
                    self.inner.stop(&run, stop_reason(reason)).await?;
                }
            }
        }
    }

    async fn start_child(
        &self,
        call: CallId,
        path: &WorkspacePath,
        target: &NotebookTarget,
    ) -> Result<(RunId, Vec<Attempt>), Error> {
        // What is not there is for the run to miss.
        if let Ok((snapshot, _)) = source::load(&self.code, path).await {
            self.note_included(&snapshot);
        }
        if self.depth().await? >= DEPTH_MAX {
            return Err(Error::invalid(format!(
                "notebooks run each other more than {DEPTH_MAX} deep, which looks like a circle"
            )));
        }
        #[expect(
            clippy::cast_possible_truncation,
            reason = "`as` saturates, which is what is wanted"
        )]
        let timeout_seconds = target.timeout_seconds.max(0.0).ceil() as i64;
        let mut task = json!({
            "task_key": "main",
            "timeout_seconds": timeout_seconds,
            "notebook_task": {"notebook_path": path.as_str(), "base_parameters": target.arguments},
        });
        if let (Some(cluster), Some(task)) = (&self.cluster_id, task.as_object_mut()) {
            task.insert("existing_cluster_id".to_owned(), json!(cluster));
        }
        let mut settings = json!({"run_name": format!("notebook {path}"), "tasks": [task]});
        settings[OWN_FIELD] = json!({});
        if self.budget != AttemptBudget::default() {
            // It may use no more than its caller.
            settings[OWN_FIELD]["budget"] = json!({"attempt": self.budget});
        }
        // So a repeat of the run above gives its child the same seed.
        settings[OWN_FIELD]["seed"] = json!(inputs::seed_below(self.seed, call.0));
        let Value::Object(settings) = settings else {
            return Err(Error::invalid("settings"));
        };
        let document = JobDocument::parse(settings)?;
        let name = document.name().to_owned();
        let creator = self.ctx.creator();
        let new = NewRun {
            parent_attempt: Some(self.attempt),
            idempotency_token: Some(format!("call:{}:{}", self.attempt, call.0)),
            ..NewRun::new(RunKind::Workflow, creator, name, document.settings)
        };
        let now = self.inner.clock.now();
        let store = &self.inner.store;
        let created = store.run_create(new, document.plan, None, now).await?;
        Ok((created.id, created.claimed))
    }

    /// How many notebooks above this one wait for it.
    async fn depth(&self) -> Result<usize, Error> {
        let mut depth = 0;
        let mut parent = self.definition.run.parent_attempt;
        while let Some(id) = parent {
            depth += 1;
            parent = self
                .inner
                .store
                .attempt_get(id)
                .await?
                .and_then(|(run, _)| run.parent_attempt);
        }
        Ok(depth)
    }

    async fn task_value_set(&self, set: TaskValue) -> Result<Value, HostError> {
        let bytes = set.value.to_string().len();
        if bytes > TASK_VALUE_BYTES_MAX {
            return Err(HostError::new(
                "ValueError",
                format!(
                    "the value of '{}' has {bytes} bytes as JSON, at most {TASK_VALUE_BYTES_MAX}",
                    set.key
                ),
            ));
        }
        let store = &self.inner.store;
        store
            .task_value_set(
                self.definition.run.id,
                self.task_key.clone(),
                set.key,
                set.value,
            )
            .await
            .map_err(raise)?;
        Ok(Value::Null)
    }

    async fn task_value_get(&self, get: TaskValue) -> Result<Value, HostError> {
        let home = scope::home_of(&self.inner, &self.definition.run)
            .await
            .map_err(raise)?;
        let values = self
            .inner
            .store
            .task_values(home.run)
            .await
            .map_err(raise)?;
        let found = values
            .into_iter()
            .find(|(task, key, _)| *task == get.task_key && *key == get.key);
        if let Some((_, _, value)) = found {
            return Ok(json!({"value": value}));
        }
        if get.has_default {
            return Ok(json!({"value": get.default}));
        }
        // Outside a job there are no other tasks, and the value for debugging stands in.
        if home.job_id.is_none() && !get.debug_value.is_null() {
            return Ok(json!({"value": get.debug_value}));
        }
        Err(HostError::new(
            "ValueError",
            format!(
                "task '{}' has set no value '{}', and no default was given",
                get.task_key, get.key
            ),
        ))
    }

    fn mounts(&self) -> Value {
        let mounts: Vec<Value> = self
            .inner
            .setup
            .config
            .mounts
            .iter()
            .map(|mount| json!({"mount_point": mount.path, "source": format!("file:{}", mount.path)}))
            .collect();
        json!({"mounts": mounts})
    }
}

/// A nested run that somebody waits for. Without the one who waits it is stopped, unless that is
/// because the server goes.
struct Child {
    inner: Arc<Inner>,
    run: RunId,
    waiting: bool,
}

impl Drop for Child {
    fn drop(&mut self) {
        if !self.waiting || self.inner.tasks.stopping().is_cancelled() {
            return;
        }
        let (inner, run) = (Arc::clone(&self.inner), self.run);
        let name = format!("stop the nested run {run}");
        self.inner.tasks.spawn(TaskKind::Chore, name, async move {
            let (run, _) = inner.store.run_get(run).await?;
            inner.stop(&run, StopReason::Canceled).await
        });
    }
}

fn stop_reason(reason: CancelReason) -> StopReason {
    match reason {
        CancelReason::Requested => StopReason::Canceled,
        CancelReason::TimedOut => StopReason::TimedOut,
    }
}
