//! Execution contexts: sessions on a cluster that execute commands of a client, one after the other.
//!
//! A context is a run like any other, with a sandbox, limits, cost, output and a page. Only where its
//! cells come from differs: its program asks for them (`runs/context.rs`).

mod results;

use std::str::FromStr;
use std::time::Duration;

use forebay_exec::{CellStatus, Language};
use forebay_notebook::{Cell, Notebook};
use forebay_runtime::Clock;
use forebay_store::{Attempt, CommandRow, ContextRow, Run, Store};
use forebay_types::{ClusterId, ClusterState, Error, Result, RunId};
use forebay_wire::contexts::{CommandStatus, ContextStatus, Results};

use crate::Ctx;
use crate::clusters::Clusters;
use crate::runs::{CommandOutput, Runs};

/// Clients that poll by the second get what takes less than this at their first look.
const LOOK: Duration = Duration::from_millis(400);
const COMMAND_BYTES_MAX: usize = 4 << 20;

/// The contexts of one workspace. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Contexts {
    pub(crate) store: Store,
    pub(crate) clock: Clock,
    pub(crate) clusters: Clusters,
    pub(crate) runs: Runs,
}

/// A context as clients name it.
#[derive(Debug, Clone)]
pub struct ContextRef {
    pub cluster: ClusterId,
    pub id: String,
}

#[derive(Debug, Clone)]
pub struct CommandRef {
    pub context: ContextRef,
    pub id: String,
}

/// A context that the caller may use.
struct Found {
    context: ContextRow,
    run: Run,
    attempt: Attempt,
}

impl Contexts {
    /// Starts a context.
    ///
    /// # Errors
    /// `INVALID_STATE` unless the cluster runs; `PERMISSION_DENIED` without `CAN_ATTACH_TO`;
    /// `RESOURCE_LIMIT_EXCEEDED` when there are as many contexts as may be; `NOT_IMPLEMENTED` for Scala.
    pub async fn create(&self, ctx: &Ctx, id: ClusterId, language: &str) -> Result<RunId> {
        let language = known_language(language)?;
        let cluster = self.clusters.get(ctx, &id).await?;
        if cluster.state != ClusterState::Running {
            return Err(Error::state(format!(
                "ClusterNotReady: cluster {id} is {}; contexts need a running cluster.",
                cluster.state.as_str()
            )));
        }
        self.runs.context_start(ctx, id, language).await
    }

    /// # Errors
    /// `RESOURCE_DOES_NOT_EXIST` when there is no such context of the caller's on the cluster.
    pub async fn status(&self, ctx: &Ctx, wanted: &ContextRef) -> Result<ContextStatus> {
        let look = self.clock.sleep(LOOK);
        tokio::pin!(look);
        loop {
            let mut moved = self.runs.context_watch();
            let found = self.find(ctx, wanted).await?;
            let message = found.end();
            let status = match (&message, found.context.ready_at) {
                (Some(_), _) => "Error",
                (None, Some(_)) => "Running",
                (None, None) => "Pending",
            };
            let shown = ContextStatus {
                id: wanted.id.clone(),
                status,
                message,
            };
            if status != "Pending" {
                return Ok(shown);
            }
            tokio::select! {
                _ = moved.changed() => {}
                () = &mut look => return Ok(shown),
            }
        }
    }

    /// Ends a context with all that it executes. One that has ended stays as it is.
    ///
    /// # Errors
    /// As [`Contexts::status`].
    pub async fn destroy(&self, ctx: &Ctx, wanted: &ContextRef) -> Result<()> {
        let found = self.find(ctx, wanted).await?;
        let reason = format!("The context was destroyed by {}.", ctx.user.name);
        self.runs.context_end(&found.run, reason).await
    }

    /// Hands a command to a context, which executes it after those that came before; gives its id.
    ///
    /// # Errors
    /// `INVALID_STATE` when the context has ended; `INVALID_PARAMETER_VALUE` for another language or
    /// a command that cannot be read.
    pub async fn execute(
        &self,
        ctx: &Ctx,
        wanted: &ContextRef,
        language: Option<&str>,
        source: String,
    ) -> Result<String> {
        let found = self.find(ctx, wanted).await?;
        let own = context_language(&found.context)?;
        if let Some(language) = language
            && known_language(language)? != own
        {
            return Err(Error::invalid(format!(
                "Field 'language' is '{language}', and context {} executes {}.",
                wanted.id,
                own.name()
            )));
        }
        if source.len() > COMMAND_BYTES_MAX {
            return Err(Error::invalid(format!(
                "Field 'command' has {} bytes, at most {COMMAND_BYTES_MAX}.",
                source.len()
            )));
        }
        // What cannot be read is refused here, where somebody is told.
        Notebook::new(own, vec![Cell::new(source.as_str())]).exec_cells()?;
        if let Some(end) = found.end() {
            return Err(Error::state(format!(
                "Context {} has ended: {end}",
                wanted.id
            )));
        }
        let now = self.clock.now();
        let number = self.store.command_add(found.run.id, source, now).await?;
        self.runs.context_moved();
        Ok(format!("{}-{number}", wanted.id))
    }

    /// # Errors
    /// As [`Contexts::status`], and when there is no such command.
    pub async fn command_status(&self, ctx: &Ctx, wanted: &CommandRef) -> Result<CommandStatus> {
        let look = self.clock.sleep(LOOK);
        tokio::pin!(look);
        loop {
            let mut moved = self.runs.context_watch();
            let found = self.find(ctx, &wanted.context).await?;
            let mut written = self.runs.context_follow(found.attempt.id);
            let (status, results) = self.look(&found, wanted).await?;
            let shown = CommandStatus {
                id: wanted.id.clone(),
                status,
                results,
            };
            if !matches!(status, "Queued" | "Running" | "Cancelling") {
                return Ok(shown);
            }
            tokio::select! {
                _ = moved.changed() => {}
                () = changed(&mut written) => {}
                () = &mut look => return Ok(shown),
            }
        }
    }

    /// Takes a command back, or interrupts it; its context lives on.
    ///
    /// # Errors
    /// `INVALID_STATE` when it has ended; as [`Contexts::command_status`].
    pub async fn cancel(&self, ctx: &Ctx, wanted: &CommandRef) -> Result<()> {
        let found = self.find(ctx, &wanted.context).await?;
        let (status, _) = self.look(&found, wanted).await?;
        if matches!(status, "Finished" | "Error") {
            let message = format!("Command {} has ended already.", wanted.id);
            return Err(Error::state(message));
        }
        let number = self.command(&found, wanted).await?.number;
        let now = self.clock.now();
        self.store.command_cancel(found.run.id, number, now).await?;
        self.runs.context_moved();
        Ok(())
    }

    async fn find(&self, ctx: &Ctx, wanted: &ContextRef) -> Result<Found> {
        // As anybody who lost the right to attach loses the context.
        self.clusters.get(ctx, &wanted.cluster).await?;
        let missing = || {
            Error::missing(format!(
                "ContextNotFound: context {} does not exist on cluster {}.",
                wanted.id, wanted.cluster
            ))
        };
        let id = wanted.id.parse().map(RunId).map_err(|_| missing())?;
        let context = self.store.context_get(id).await?;
        let context = context.filter(|context| context.cluster_id == wanted.cluster);
        let context = context.ok_or_else(missing)?;
        let (run, attempts) = self.store.run_get(id).await?;
        // What it executes has the rights of who made it, so nobody else may tell it to.
        if run.creator_id != ctx.user.id {
            return Err(Error::denied(format!(
                "Context {id} belongs to {}.",
                run.creator_name
            )));
        }
        let attempt = attempts.into_iter().next_back().ok_or_else(missing)?;
        Ok(Found {
            context,
            run,
            attempt,
        })
    }

    async fn command(&self, found: &Found, wanted: &CommandRef) -> Result<CommandRow> {
        let missing = || {
            Error::missing(format!(
                "CommandNotFound: command {} does not exist in context {}.",
                wanted.id, wanted.context.id
            ))
        };
        let number = wanted.id.strip_prefix(&wanted.context.id);
        let number = number.and_then(|rest| rest.strip_prefix('-')?.parse().ok());
        let number = number.ok_or_else(missing)?;
        let row = self.store.command_get(found.run.id, number).await?;
        row.ok_or_else(missing)
    }

    async fn look(
        &self,
        found: &Found,
        wanted: &CommandRef,
    ) -> Result<(&'static str, Option<Results>)> {
        let command = self.command(found, wanted).await?;
        let canceled = command.canceled_at.is_some();
        if command.taken_at.is_none() {
            return Ok(match (canceled, found.end()) {
                (true, _) => ("Cancelled", Some(results::canceled())),
                (false, Some(end)) => ("Error", Some(results::ended(&end))),
                (false, None) => ("Queued", None),
            });
        }
        let output = self.runs.command_output(&found.attempt, &command).await?;
        let CommandOutput { state, outputs } = output;
        Ok(match (state.finished, canceled, found.end()) {
            (Some(_), true, _) => ("Cancelled", Some(results::canceled_with(&outputs))),
            (Some((CellStatus::Failed, _)), false, Some(end))
                if results::was_interrupted(&outputs) =>
            {
                ("Error", Some(results::ended(&end)))
            }
            (Some(_), false, _) => ("Finished", Some(results::of(&outputs))),
            (None, true, Some(_)) => ("Cancelled", Some(results::canceled_with(&outputs))),
            (None, false, Some(end)) => ("Error", Some(results::ended(&end))),
            (None, true, None) => ("Cancelling", None),
            (None, false, None) => ("Running", None),
        })
    }
}

impl Found {
    /// Why it executes nothing any more.
    fn end(&self) -> Option<String> {
        let ended = self.run.phase.is_ended();
        match &self.context.reason {
            Some(reason) => Some(reason.clone()),
            None if !ended && self.run.stopping.is_none() => None,
            None => {
                let said = [&self.attempt.error, &Some(self.attempt.message.clone())];
                let mut said = said.into_iter().flatten().filter(|text| !text.is_empty());
                let said = said.next().cloned();
                Some(said.unwrap_or_else(|| "The context has ended.".to_owned()))
            }
        }
    }
}

/// More was written; never, when nobody writes.
async fn changed(written: &mut Option<tokio::sync::watch::Receiver<u64>>) {
    if let Some(written) = written
        && written.changed().await.is_ok()
    {
        return;
    }
    std::future::pending().await
}

fn known_language(name: &str) -> Result<Language> {
    let language = Language::from_str(&name.to_uppercase())
        .map_err(|_| Error::invalid(format!("Field 'language' is '{name}'; python, r or sql.")))?;
    match language {
        Language::Scala => Err(Error::not_implemented("Language scala of contexts")),
        known => Ok(known),
    }
}

fn context_language(context: &ContextRow) -> Result<Language> {
    known_language(&context.language)
}
