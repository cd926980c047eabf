//! Job definitions.

mod budget;
mod check;
mod document;
mod environments;
mod git_source;
mod own;
mod run_as;
mod run_jobs;
mod spec;
mod when;

use std::sync::Arc;

use forebay_engine::AttemptBudget;
use forebay_runtime::Clock;
use forebay_store::{Job, JobFilter, Store};
use forebay_types::{Error, JobId, ObjectKind, ObjectRef, PermissionLevel, Result};
use serde_json::{Map, Value};

pub use budget::Budget;
pub(crate) use budget::of_config;
pub(crate) use document::check_library;
pub use document::{FLAT_TASK_KEY, JobDocument, is_flat, to_flat};
pub use git_source::GitSourceSpec;
pub(crate) use own::check_topic;
pub use own::{
    After, AfterJob, Brake, Debounce, FileArrivalOwn, Missed, OWN_FIELD, OnEvent, Own, Retention,
};
pub use run_as::run_as;
pub use spec::{
    ConditionTask, ForEachTask, LibrarySpec, NotebookTask, RunJobTask, ScriptTask, Spec, TaskSpec,
    WheelTask,
};
use when::check_given;
pub use when::{
    ContinuousSpec, FileArrivalSpec, Pause, PeriodicSpec, ScheduleSpec, TaskRetryMode, TriggerSpec,
    Unit,
};
pub(crate) use when::{check_one_time, with_retries};

pub(crate) use run_jobs::RUN_JOB_DEPTH_MAX;

use crate::Ctx;
use crate::notifications::check_settings;
use crate::permissions::{Permissions, first_grants};
use crate::triggers::Watch;

/// Job definitions of one workspace. A job belongs to its creator, who can share it.
#[derive(Debug, Clone)]
pub struct Jobs {
    store: Store,
    clock: Clock,
    permissions: Permissions,
    watch: Watch,
    /// Whether there is a mail server for notifications.
    has_smtp: bool,
    /// What an attempt may use at most.
    ceiling: AttemptBudget,
    /// Held from the look for circles until the settings are written: two changes at once, each good
    /// alone, may close one.
    circles: Arc<tokio::sync::Mutex<()>>,
}

impl Jobs {
    pub(crate) fn new(store: Store, clock: Clock, permissions: Permissions, watch: Watch) -> Self {
        Self {
            store,
            clock,
            permissions,
            watch,
            has_smtp: false,
            ceiling: AttemptBudget::default(),
            circles: Arc::default(),
        }
    }

    pub(crate) fn with_smtp(mut self, has_smtp: bool) -> Self {
        self.has_smtp = has_smtp;
        self
    }

    pub(crate) fn with_ceiling(mut self, ceiling: AttemptBudget) -> Self {
        self.ceiling = ceiling;
        self
    }

    /// # Errors
    /// A limit of attempts that this workspace does not allow.
    pub(crate) fn check_ceiling(&self, document: &JobDocument) -> Result<()> {
        let budget = document.spec.own.budget.as_ref();
        budget.map_or(Ok(()), |budget| budget.check_ceiling(&self.ceiling))
    }

    /// # Errors
    /// Somebody to be told who cannot be told, or a health rule that cannot be kept.
    pub(crate) async fn check_alerts(&self, settings: &Map<String, Value>) -> Result<()> {
        check_settings(&self.store, self.has_smtp, settings).await
    }

    /// # Errors
    /// What is wrong with the settings, by field.
    pub async fn create(&self, ctx: &Ctx, mut settings: Map<String, Value>) -> Result<JobId> {
        let grants = first_grants(&self.store, ctx, &mut settings).await?;
        let document = JobDocument::parse(settings)?;
        check_given(&document.spec)?;
        self.check_ceiling(&document)?;
        self.check_alerts(&document.settings).await?;
        let now = self.clock.now();
        self.check_after(ctx, &document).await?;
        let _alone = self.check_run_jobs(ctx, None, &document).await?;
        let wanted = document.spec.run_as.as_ref();
        self.check_run_as(ctx, &document.settings, wanted, None)
            .await?;
        let triggers = self.watch.wanted(&document.spec, None, now).await?;
        let stored = document.into_stored(triggers);
        let created = self.store.job_create(ctx.creator(), stored, grants, now);
        let id = created.await?;
        self.watch.look();
        Ok(id)
    }

    /// The job after whose runs this one runs must be there for the caller.
    async fn check_after(&self, ctx: &Ctx, document: &JobDocument) -> Result<()> {
        let Some(after) = &document.spec.own.after_job else {
            return Ok(());
        };
        let seen = self
            .permitted(ctx, after.job_id, PermissionLevel::CanView)
            .await;
        let named = |e: Error| {
            Error::new(
                e.code,
                format!("Field 'forebay.after_job.job_id': {}", e.message),
            )
        };
        seen.map(drop).map_err(named)
    }

    /// # Errors
    /// `PERMISSION_DENIED` for those who may not see it, whether or not it exists;
    /// `Job N does not exist.`
    pub async fn get(&self, ctx: &Ctx, id: JobId) -> Result<Job> {
        self.permitted(ctx, id, PermissionLevel::CanView).await
    }

    /// The job, for a caller who has at least `wanted` on it.
    pub(crate) async fn permitted(
        &self,
        ctx: &Ctx,
        id: JobId,
        wanted: PermissionLevel,
    ) -> Result<Job> {
        let object = ObjectRef::new(ObjectKind::Job, id);
        self.permissions.require(ctx, &object, wanted).await?;
        self.store.job_get(id).await
    }

    pub(crate) async fn level_of(
        &self,
        ctx: &Ctx,
        object: &ObjectRef,
    ) -> Result<Option<PermissionLevel>> {
        self.permissions.level_of(ctx, object).await
    }

    /// The jobs the caller may see, newest first.
    ///
    /// # Errors
    /// When the database refuses.
    pub async fn list(&self, ctx: &Ctx, mut filter: JobFilter) -> Result<Vec<Job>> {
        filter.visible_to = (!ctx.is_admin()).then(|| ctx.user.name.clone());
        self.store.job_list(filter).await
    }

    /// Replaces the settings. An omitted `run_as` keeps the old value, as clients expect; so do
    /// our own settings, which typed clients cannot write.
    ///
    /// # Errors
    /// What is wrong with the settings; `PERMISSION_DENIED`; `Job N does not exist.`
    pub async fn reset(&self, ctx: &Ctx, id: JobId, settings: Map<String, Value>) -> Result<()> {
        let old = self.permitted(ctx, id, PermissionLevel::CanManage).await?;
        let document = JobDocument::parse(settings.clone())?;
        check_given(&document.spec)?;
        let _alone = self.check_run_jobs(ctx, Some(id), &document).await?;
        let wanted = document.spec.run_as.as_ref();
        self.check_run_as(ctx, &document.settings, wanted, run_as(&old.settings))
            .await?;
        let reset = move |old: Map<String, Value>| {
            let mut new = settings.clone();
            for field in ["run_as", OWN_FIELD] {
                if let (None, Some(kept)) = (new.get(field), old.get(field)) {
                    new.insert(field.to_owned(), kept.clone());
                }
            }
            JobDocument::parse(new)
        };
        self.change(ctx, id, reset).await
    }

    /// Changes the settings by what `change` makes of the old ones. It is asked twice: for what
    /// must be looked up before the change, and in the transaction that makes it.
    async fn change(
        &self,
        ctx: &Ctx,
        id: JobId,
        change: impl Fn(Map<String, Value>) -> Result<JobDocument> + Send + Sync + 'static,
    ) -> Result<()> {
        let old = self.store.job_get(id).await?;
        let before = JobDocument::of_normal(old.settings.clone()).ok();
        let document = change(old.settings)?;
        self.check_ceiling(&document)?;
        self.check_alerts(&document.settings).await?;
        let now = self.clock.now();
        self.check_after(ctx, &document).await?;
        let before = before.as_ref().map(|document| &document.spec);
        let triggers = self.watch.wanted(&document.spec, before, now).await?;
        let change = move |old: Map<String, Value>| {
            let document = change(old)?;
            let triggers = Watch::again(&document.spec, triggers, now)?;
            Ok(document.into_stored(triggers))
        };
        self.store.job_change(id, change, now).await?;
        self.watch.look();
        Ok(())
    }

    /// Changes single fields; tasks and job clusters are merged by their keys. `check` looks at
    /// what the settings come to.
    ///
    /// # Errors
    /// As for [`Jobs::reset`], and for a field to remove that cannot be removed; what `check` says.
    pub async fn update(
        &self,
        ctx: &Ctx,
        id: JobId,
        new_settings: Map<String, Value>,
        fields_to_remove: Vec<String>,
        check: impl Fn(&Map<String, Value>) -> Result<()> + Send + Sync + 'static,
    ) -> Result<()> {
        let job = self.permitted(ctx, id, PermissionLevel::CanManage).await?;
        // What the change comes to is checked before, since that takes other jobs to look at.
        let merged = merge(
            job.settings.clone(),
            new_settings.clone(),
            &fields_to_remove,
        )?;
        let document = JobDocument::parse(merged)?;
        if new_settings.contains_key(OWN_FIELD) {
            check_given(&document.spec)?;
        }
        let _alone = self.check_run_jobs(ctx, Some(id), &document).await?;
        let wanted = document.spec.run_as.as_ref();
        self.check_run_as(ctx, &document.settings, wanted, run_as(&job.settings))
            .await?;
        let change = move |old: Map<String, Value>| {
            let merged = merge(old, new_settings.clone(), &fields_to_remove)?;
            check(&merged)?;
            JobDocument::parse(merged)
        };
        self.change(ctx, id, change).await
    }

    /// # Errors
    /// `PERMISSION_DENIED`; `Job N does not exist.`
    pub async fn delete(&self, ctx: &Ctx, id: JobId) -> Result<()> {
        self.permitted(ctx, id, PermissionLevel::CanManage).await?;
        self.store.job_delete(id, self.clock.now()).await
    }
}

fn merge(
    old: Map<String, Value>,
    new: Map<String, Value>,
    remove: &[String],
) -> Result<Map<String, Value>> {
    // A change in the flat form to a flat job is made in the flat form; parsing brings it back.
    let flat = is_flat(&old) && !new.contains_key("tasks");
    let mut merged = if flat { to_flat(old) } else { old };
    for (key, value) in new {
        match key.as_str() {
            "tasks" => merge_by(&mut merged, "tasks", "task_key", value),
            "job_clusters" => merge_by(&mut merged, "job_clusters", "job_cluster_key", value),
            _ => {
                merged.insert(key, value);
            }
        }
    }
    for field in remove {
        remove_field(&mut merged, field)?;
    }
    Ok(merged)
}

fn merge_by(settings: &mut Map<String, Value>, list: &str, key: &str, new: Value) {
    let Value::Array(new) = new else {
        settings.insert(list.to_owned(), new);
        return;
    };
    let entry = settings
        .entry(list)
        .or_insert_with(|| Value::Array(Vec::new()));
    let Value::Array(entries) = entry else { return };
    for item in new {
        match entries.iter_mut().find(|old| old.get(key) == item.get(key)) {
            Some(old) => *old = item,
            None => entries.push(item),
        }
    }
}

fn remove_field(settings: &mut Map<String, Value>, field: &str) -> Result<()> {
    let Some((list, wanted)) = field.split_once('/') else {
        settings.shift_remove(field);
        return Ok(());
    };
    let key = match list {
        "tasks" => "task_key",
        "job_clusters" => "job_cluster_key",
        _ => {
            return Err(Error::invalid(format!(
                "fields_to_remove: '{field}' is neither a top-level field, tasks/KEY nor \
                 job_clusters/KEY."
            )));
        }
    };
    if let Some(Value::Array(entries)) = settings.get_mut(list) {
        entries.retain(|entry| entry.get(key).and_then(Value::as_str) != Some(wanted));
    }
    Ok(())
}
