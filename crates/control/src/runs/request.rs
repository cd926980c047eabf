//! Asking for runs: a one-time run of its own settings, a run of a job by a caller or by a trigger.

use std::sync::Arc;

use forebay_engine::{Plan, StopReason};
use forebay_runtime::TaskKind;
use forebay_store::{Job, NewRun, RunKind, Standing};
use forebay_types::{
    Error, ErrorCode, Grant, JobId, ObjectKind, ObjectRef, PermissionLevel, Result, RunId,
};
use serde_json::{Map, Value, json};
use tokio::sync::oneshot;

use super::only::only;
use super::standing::standing;
use super::{Runs, TRIGGER_INFO, dispatch};
use crate::Ctx;
use crate::jobs::{JobDocument, check_one_time, with_retries};
use crate::permissions::first_grants;
use crate::triggers::Fired;

/// The largest parameters of one run, as JSON.
const PARAMETERS_BYTES_MAX: usize = 10_000;
const TOKEN_CHARS_MAX: usize = 64;
/// The trigger of a run that takes the place of a continuous job's last one.
const RESTART: &str = "CONTINUOUS_RESTART";

/// What a caller of run-now may override.
#[derive(Debug, Clone, Default)]
pub struct RunNow {
    pub job_parameters: Map<String, Value>,
    pub notebook_params: Map<String, Value>,
    pub python_params: Option<Vec<Value>>,
    pub python_named_params: Map<String, Value>,
    pub jar_params: Option<Vec<Value>>,
    pub spark_submit_params: Option<Vec<Value>>,
    pub sql_params: Map<String, Value>,
    /// Not all tasks of the job, but these; see [`only`].
    pub only: Vec<String>,
    pub idempotency_token: Option<String>,
    pub queue: Option<bool>,
}

impl Runs {
    /// Starts a one-time run of the tasks in `settings`.
    ///
    /// # Errors
    /// What is wrong with the settings, by field.
    pub async fn submit(&self, ctx: &Ctx, mut settings: Map<String, Value>) -> Result<RunId> {
        let token = take_text(&mut settings, "idempotency_token");
        let is_shared = settings.get("access_control_list").is_some();
        let grants = first_grants(&self.0.store, ctx, &mut settings).await?;
        let document = JobDocument::parse(settings)?;
        check_one_time(&document.spec)?;
        let jobs = &self.0.jobs;
        jobs.check_ceiling(&document)?;
        jobs.check_alerts(&document.settings).await?;
        jobs.check_run_jobs(ctx, None, &document).await?;
        let wanted = document.spec.run_as.as_ref();
        jobs.check_run_as(ctx, &document.settings, wanted, None)
            .await?;
        self.count_creation()?;
        let name = document.name().to_owned();
        let new = NewRun {
            standing: standing(&document, None, &Map::new(), "ONE_TIME")?,
            idempotency_token: scoped_token(ctx, "submit", token)?,
            timeout_ms: document.spec.timeout_seconds.saturating_mul(1000),
            ..NewRun::new(RunKind::Submit, ctx.creator(), name, document.settings)
        };
        let id = self.create(new, document.plan).await?;
        if is_shared {
            let object = ObjectRef::new(ObjectKind::Job, id);
            // A repeated call of the same token finds them; they may have been changed since.
            let first = |current: Vec<Grant>| match current.is_empty() {
                true => Ok(grants),
                false => Ok(current),
            };
            self.0.store.permission_update(&object, first).await?;
        }
        Ok(id)
    }

    /// Starts a run of a job with its settings of this moment.
    ///
    /// # Errors
    /// `Job N does not exist.`; parameters that are too large or exclude each other.
    pub async fn run_now(&self, ctx: &Ctx, id: JobId, request: RunNow) -> Result<RunId> {
        let job = self
            .0
            .jobs
            .permitted(ctx, id, PermissionLevel::CanManageRun)
            .await?;
        self.count_creation()?;
        let (new, plan) = run_of(ctx, job, request)?;
        let restarts = new.trigger == RESTART;
        let created = self.create(new, plan).await?;
        if restarts {
            // One that was refused takes the place of none, and one that a budget holds waits for
            // the end of the last like for its time; only those have a message now.
            let run = self.0.store.run_look(created).await?;
            if run.message.is_empty() {
                self.stop_others(id, created).await?;
            }
        }
        Ok(created)
    }

    /// Cancels the active runs of a job but one.
    async fn stop_others(&self, job: JobId, but: RunId) -> Result<()> {
        let active = self
            .0
            .store
            .run_list_stoppable(Some(job), None, false)
            .await?;
        for run in active.iter().filter(|run| run.id < but) {
            self.0.stop(run, StopReason::Canceled).await?;
        }
        Ok(())
    }

    /// Starts a run of a job for one of its triggers; it belongs to the job's owner.
    ///
    /// # Errors
    /// `INVALID_STATE` when the trigger has moved meanwhile.
    pub(crate) async fn fire(
        &self,
        job: &Job,
        document: &JobDocument,
        fired: Fired,
    ) -> Result<RunId> {
        let spec = &document.spec;
        let mut parameters = Map::new();
        if !fired.job_parameters.is_empty() {
            let given = Value::Object(fired.job_parameters);
            parameters.insert("job_parameters".to_owned(), given);
        }
        parameters.insert(TRIGGER_INFO.to_owned(), fired.info);
        let creator = (job.creator_id, job.creator_name.clone());
        let name = document.name().to_owned();
        let new = NewRun {
            standing: standing(document, Some(job.id), &parameters, fired.trigger)?,
            job_id: Some(job.id),
            parameters,
            trigger: fired.trigger,
            firing: Some(fired.firing),
            concurrency_max: spec.max_concurrent_runs.unwrap_or(1),
            queue: spec.queue.as_ref().is_some_and(|queue| queue.enabled),
            timeout_ms: spec.timeout_seconds.saturating_mul(1000),
            ..NewRun::new(RunKind::Job, creator, name, document.settings.clone())
        };
        self.create(new, document.plan.clone()).await
    }

    /// # Errors
    /// `REQUEST_LIMIT_EXCEEDED` when the workspace created as many runs as it may in an hour.
    pub(super) fn count_creation(&self) -> Result<()> {
        let rate = &self.0.creations;
        if rate.take([0; 32], self.0.clock.now()) {
            return Ok(());
        }
        let max = self.0.setup.server.limits.runs_per_hour_max;
        let message = format!("The workspace created {max} runs in an hour, as many as it may.");
        Err(Error::new(ErrorCode::RequestLimitExceeded, message).retry_after_s(rate.wait_s()))
    }

    /// In a task of its own: a client that hangs up must not come between a claim and its start.
    pub(super) async fn create(&self, mut new: NewRun, plan: Plan) -> Result<RunId> {
        // A run that is under way goes on over its budget, and all that runs below it.
        if new.parent_attempt.is_none() {
            new.gate = self.0.gate(&new).await?;
        }
        let inner = Arc::clone(&self.0);
        let (done, created) = oneshot::channel();
        self.0
            .tasks
            .spawn(TaskKind::Chore, "create a run", async move {
                let claiming = inner.claiming.read().await;
                let now = inner.clock.now();
                let result = inner
                    .store
                    .run_create(new, plan, Some(inner.slots.clone()), now)
                    .await;
                let answer = result.map(|created| {
                    dispatch::begin(&inner, created.claimed);
                    if created.queued {
                        inner.wake.notify_one();
                    }
                    created.id
                });
                drop(claiming);
                // The client may be gone; the run is there all the same.
                drop(done.send(answer));
                Ok::<(), Error>(())
            });
        let gone = |e| Error::internal("the server is stopping", e);
        created.await.map_err(gone)?
    }
}

/// A run of a job with its settings of this moment.
pub(super) fn run_of(ctx: &Ctx, job: Job, request: RunNow) -> Result<(NewRun, Plan)> {
    let id = job.id;
    let document = with_retries(JobDocument::of_normal(job.settings)?)?;
    let document = only(document, &request.only)?;
    let parameters = parameters(&request)?;
    let spec = &document.spec;
    let queue = request
        .queue
        .or_else(|| spec.queue.as_ref().map(|queue| queue.enabled));
    // Asked to run, a continuous job begins anew: the next run waits for the end of the last.
    let restarts = spec.continuous.is_some();
    let name = document.name().to_owned();
    let standing = Standing {
        whole: request.only.is_empty(),
        ..standing(&document, Some(id), &parameters, "ONE_TIME")?
    };
    let new = NewRun {
        standing,
        job_id: Some(id),
        parameters,
        idempotency_token: scoped_token(ctx, &id.to_string(), request.idempotency_token)?,
        concurrency_max: spec.max_concurrent_runs.unwrap_or(1),
        queue: queue.unwrap_or(false) || restarts,
        trigger: if restarts { RESTART } else { "ONE_TIME" },
        timeout_ms: spec.timeout_seconds.saturating_mul(1000),
        ..NewRun::new(RunKind::Job, ctx.creator(), name, document.settings)
    };
    Ok((new, document.plan))
}

fn take_text(settings: &mut Map<String, Value>, field: &str) -> Option<String> {
    match settings.shift_remove(field)? {
        Value::String(text) => Some(text),
        Value::Null => None,
        other => Some(other.to_string()),
    }
}

/// Tokens of different users and of different jobs never meet.
fn scoped_token(ctx: &Ctx, scope: &str, token: Option<String>) -> Result<Option<String>> {
    let Some(token) = token.filter(|token| !token.is_empty()) else {
        return Ok(None);
    };
    if token.chars().count() > TOKEN_CHARS_MAX {
        return Err(Error::invalid(format!(
            "Field 'idempotency_token' has more than {TOKEN_CHARS_MAX} characters."
        )));
    }
    Ok(Some(format!("{}:{scope}:{token}", ctx.user.id)))
}

pub(super) fn parameters(request: &RunNow) -> Result<Map<String, Value>> {
    let legacy = !request.notebook_params.is_empty()
        || request.python_params.is_some()
        || !request.python_named_params.is_empty()
        || request.jar_params.is_some()
        || request.spark_submit_params.is_some()
        || !request.sql_params.is_empty();
    if legacy && !request.job_parameters.is_empty() {
        return Err(Error::invalid(
            "Field 'job_parameters' cannot be combined with notebook_params, python_params, \
             python_named_params, jar_params, spark_submit_params or sql_params.",
        ));
    }
    let all = [
        ("job_parameters", json!(request.job_parameters)),
        ("notebook_params", json!(request.notebook_params)),
        ("python_params", json!(request.python_params)),
        ("python_named_params", json!(request.python_named_params)),
        ("jar_params", json!(request.jar_params)),
        ("spark_submit_params", json!(request.spark_submit_params)),
        ("sql_params", json!(request.sql_params)),
    ];
    let mut parameters = Map::new();
    for (name, value) in all {
        let empty = value.is_null() || value.as_object().is_some_and(Map::is_empty);
        if empty {
            continue;
        }
        let bytes = value.to_string().len();
        if bytes > PARAMETERS_BYTES_MAX {
            return Err(Error::invalid(format!(
                "Field '{name}' has {bytes} bytes as JSON, at most {PARAMETERS_BYTES_MAX}."
            )));
        }
        parameters.insert(name.to_owned(), value);
    }
    Ok(parameters)
}
