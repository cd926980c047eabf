//! Contexts as runs: how they begin and end, and how their programs come to their cells.

use std::sync::Arc;
use std::time::Duration;

use forebay_engine::{Gate, StopReason};
use forebay_exec::{ExecCell, HostError, Language};
use forebay_notebook::outputs::Output;
use forebay_notebook::{Cell, Notebook};
use forebay_runtime::{TaskKind, blocking};
use forebay_store::{Attempt, CommandRow, NewContext, NewRun, Run, RunKind};
use forebay_types::{ClusterId, Error, ErrorCode, Result, RunId};
use serde::Deserialize;
use serde_json::{Value, json};
use tokio::sync::{oneshot, watch};

use super::host::{AttemptHost, parse, raise};
use super::output::{self, CellState, Ran};
use super::{Inner, Runs, dispatch};
use crate::Ctx;
use crate::jobs::JobDocument;

/// What a command put out so far.
pub(crate) struct CommandOutput {
    pub(crate) state: CellState,
    pub(crate) outputs: Vec<Output>,
}

/// The definition of a context's run; clients cannot write one of this kind.
fn definition(cluster: &ClusterId, language: Language) -> Result<JobDocument> {
    let settings = json!({
        "format": "SINGLE_TASK",
        "tasks": [{
            "task_key": "context",
            "existing_cluster_id": cluster.0,
            "context_task": {"language": language.api_name()},
        }],
    });
    let Value::Object(settings) = settings else {
        return Err(Error::invalid("settings"));
    };
    JobDocument::of_normal(settings)
}

impl Runs {
    /// Starts the run of a new context, for a caller who may use the cluster.
    ///
    /// # Errors
    /// `RESOURCE_LIMIT_EXCEEDED` when there are as many as may be, or the day's budget is used up.
    pub(crate) async fn context_start(
        &self,
        ctx: &Ctx,
        cluster: ClusterId,
        language: Language,
    ) -> Result<RunId> {
        self.count_creation()?;
        let JobDocument { settings, plan, .. } = definition(&cluster, language)?;
        let name = format!("context in {} on {cluster}", language.name());
        let new = NewRun::new(RunKind::Context, ctx.creator(), name, settings);
        if let Gate::Wait { message, .. } | Gate::Closed { message } = self.0.gate(&new).await? {
            return Err(Error::new(ErrorCode::ResourceLimitExceeded, message));
        }
        let bounds = &self.0.setup.server.contexts;
        let context = NewContext {
            cluster_id: cluster,
            language: language.api_name().to_owned(),
            cluster_max: bounds.cluster_max,
            max: bounds.max,
        };
        let inner = Arc::clone(&self.0);
        let (done, created) = oneshot::channel();
        // A client that hangs up must not come between the claim and the start.
        let work = async move {
            let claiming = inner.claiming.read().await;
            let now = inner.clock.now();
            let store = &inner.store;
            let result = store.context_create(new, plan, context, now).await;
            let answer = result.map(|created| {
                dispatch::begin(&inner, created.claimed);
                created.id
            });
            drop(claiming);
            drop(done.send(answer));
            Ok::<(), Error>(())
        };
        self.0
            .tasks
            .spawn(TaskKind::Chore, "create a context", work);
        let gone = |e| Error::internal("the server is stopping", e);
        created.await.map_err(gone)?
    }

    /// Ends a context for a reason, which its status tells from now on.
    pub(crate) async fn context_end(&self, run: &Run, reason: String) -> Result<()> {
        self.0.context_end(run, reason).await
    }

    /// Tells of new and canceled commands, and of contexts that are ready or end.
    pub(crate) fn context_watch(&self) -> watch::Receiver<u64> {
        self.0.commands.subscribe()
    }

    pub(crate) fn context_moved(&self) {
        self.0.context_moved();
    }

    /// Follows what a context puts out.
    pub(crate) fn context_follow(&self, attempt: RunId) -> Option<watch::Receiver<u64>> {
        self.0.live.follow(attempt)
    }

    /// # Errors
    /// When the output cannot be read.
    pub(crate) async fn command_output(
        &self,
        attempt: &Attempt,
        command: &CommandRow,
    ) -> Result<CommandOutput> {
        let path = output::file(&self.0.dirs, attempt.id);
        let (cell, from) = (index(command), command.output_from);
        blocking(move || {
            let (state, outputs) = output::of_cell(&path, from, cell)?;
            Ok(CommandOutput { state, outputs })
        })
        .await
    }

    /// A context's commands and what they put out, as a notebook.
    pub(super) async fn transcript(&self, run: &Run, attempt: &Attempt) -> Result<Ran> {
        let context = self.0.store.context_get(run.id).await?;
        let language = context.and_then(|context| context.language.parse().ok());
        let commands = self.0.store.command_list(run.id).await?;
        let cells: Vec<Cell> = commands
            .into_iter()
            .map(|command| Cell::new(command.source))
            .collect();
        let path = output::file(&self.0.dirs, attempt.id);
        let (count, name) = (cells.len(), run.name.clone());
        blocking(move || {
            let (states, outputs) = output::of_cells(&path, count)?;
            Ok(Ran {
                path: name,
                notebook: Notebook::new(language.unwrap_or(Language::Python), cells),
                states,
                outputs,
            })
        })
        .await
    }
}

impl Inner {
    fn context_moved(&self) {
        self.commands.send_modify(|count| *count += 1);
    }

    async fn context_end(&self, run: &Run, reason: String) -> Result<()> {
        self.store.context_end(run.id, reason).await?;
        self.stop(run, StopReason::Canceled).await?;
        self.context_moved();
        Ok(())
    }
}

fn index(command: &CommandRow) -> usize {
    (command.number as usize).saturating_sub(1)
}

#[derive(Deserialize)]
struct After {
    after: u32,
}

impl AttemptHost {
    /// The next command of a context, when there is one. The same question has the same answer.
    pub(super) async fn context_next(&self, args: Value) -> std::result::Result<Value, HostError> {
        let After { after } = parse(args)?;
        let inner = &self.inner;
        let run = self.definition.run.id;
        let idle = inner.setup.server.contexts.idle_minutes;
        let asleep = async {
            match idle {
                0 => std::future::pending().await,
                minutes => {
                    let seconds = u64::from(minutes) * 60;
                    inner.clock.sleep(Duration::from_secs(seconds)).await;
                }
            }
        };
        tokio::pin!(asleep);
        // Its first question says so.
        let mut just_ready = after == 0;
        loop {
            let mut moved = inner.commands.subscribe();
            let written = output::written(&inner.dirs, self.attempt);
            let now = inner.clock.now();
            let next = inner.store.command_next(run, after, written, now);
            if let Some(command) = next.await.map_err(raise)? {
                inner.context_moved();
                return Ok(json!({"cell": self.command_cell(&command)?}));
            }
            if std::mem::take(&mut just_ready) {
                inner.context_moved();
            }
            tokio::select! {
                _ = moved.changed() => {}
                () = &mut asleep => {
                    let reason = format!("The context ended after {idle} minutes without a command.");
                    inner.store.context_end(run, reason).await.map_err(raise)?;
                    inner.context_moved();
                    return Ok(json!({"cell": null}));
                }
            }
        }
    }

    fn command_cell(&self, command: &CommandRow) -> std::result::Result<ExecCell, HostError> {
        let unreadable = |message: String| HostError::new("RuntimeError", message);
        let task = self.definition.document.spec.tasks.first();
        let task = task.and_then(|task| task.context_task.as_ref());
        let task = task.ok_or_else(|| unreadable("this run is no context".to_owned()))?;
        let cell = Cell::new(command.source.as_str());
        let cells = Notebook::new(task.language, vec![cell]).exec_cells();
        let mut cells = cells.map_err(|e| unreadable(e.to_string()))?;
        let mut cell = cells
            .pop()
            .ok_or_else(|| unreadable("the command has no cell".to_owned()))?;
        cell.index = index(command);
        Ok(cell)
    }

    /// A command that is to be interrupted, when there is one. As long as the program asks this, its
    /// cluster is watched: when that ends, so does the context.
    pub(super) async fn context_interrupt(
        &self,
        args: Value,
    ) -> std::result::Result<Value, HostError> {
        let After { after } = parse(args)?;
        let inner = &self.inner;
        let run = &self.definition.run;
        let mut clusters = inner.clusters.watch();
        let mut ending = false;
        loop {
            let mut moved = inner.commands.subscribe();
            clusters.mark_unchanged();
            let canceled = inner.store.command_to_interrupt(run.id, after).await;
            if let Some(number) = canceled.map_err(raise)? {
                return Ok(json!({"command": number}));
            }
            if let Some(cluster) = self.cluster_id.clone().filter(|_| !ending) {
                let cluster = ClusterId(cluster);
                let is_up = inner.clusters.is_up_since(&cluster, run.created_at).await;
                if !is_up.map_err(raise)? {
                    ending = true;
                    let reason = format!("The context ended with its cluster {cluster}.");
                    inner.context_end(run, reason).await.map_err(raise)?;
                }
            }
            tokio::select! {
                _ = moved.changed() => {}
                _ = clusters.changed() => {}
            }
        }
    }
}

/// Why a context was ended, for its run to say.
pub(super) async fn end_reason(inner: &Inner, run: &Run) -> Option<String> {
    if run.kind != RunKind::Context {
        return None;
    }
    let context = inner.store.context_get(run.id).await.ok().flatten();
    context?.reason
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_server_makes_the_task_of_a_context() {
        let document = definition(&ClusterId("c".to_owned()), Language::R).unwrap();
        let task = document.spec.tasks[0].context_task.clone().unwrap();
        assert_eq!(task.language, Language::R);
        assert!(document.plan.tasks[0].takes_slot);
        let refused = JobDocument::parse(document.settings).unwrap_err();
        assert!(refused.message.contains("context_task"), "{refused}");
    }
}
