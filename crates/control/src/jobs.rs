//! Job definitions.

mod check;
mod document;
mod git_source;
mod own;
mod spec;

use forebay_runtime::Clock;
use forebay_store::{Job, JobFilter, Store};
use forebay_types::{Error, JobId, ObjectKind, ObjectRef, PermissionLevel, Result};
use serde_json::{Map, Value};

pub use document::{FLAT_TASK_KEY, JobDocument, is_flat, to_flat};
pub use git_source::GitSourceSpec;
pub use own::{After, AfterJob, Brake, Debounce, Missed, OWN_FIELD, OnEvent, Own};
pub use spec::{
    ConditionTask, ForEachTask, LibrarySpec, NotebookTask, RunJobTask, ScriptTask, Spec, TaskSpec,
    WheelTask,
};

use crate::Ctx;
use crate::permissions::{Permissions, first_grants};

/// Job definitions of one workspace. A job belongs to its creator, who can share it.
#[derive(Debug, Clone)]
pub struct Jobs {
    store: Store,
    clock: Clock,
    permissions: Permissions,
}

impl Jobs {
    pub(crate) fn new(store: Store, clock: Clock, permissions: Permissions) -> Self {
        Self {
            store,
            clock,
            permissions,
        }
    }

    /// # Errors
    /// What is wrong with the settings, by field.
    pub async fn create(&self, ctx: &Ctx, mut settings: Map<String, Value>) -> Result<JobId> {
        let grants = first_grants(&self.store, ctx, &mut settings).await?;
        let document = JobDocument::parse(settings)?;
        let creator = ctx.creator();
        let name = document.name().to_owned();
        self.store
            .job_create(creator, name, document.settings, grants, self.clock.now())
            .await
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
        self.permitted(ctx, id, PermissionLevel::CanManage).await?;
        let document = JobDocument::parse(settings)?;
        let change = move |old: Map<String, Value>| {
            let name = document.name().to_owned();
            let mut new = document.settings;
            for field in ["run_as", OWN_FIELD] {
                if let (None, Some(kept)) = (new.get(field), old.get(field)) {
                    new.insert(field.to_owned(), kept.clone());
                }
            }
            Ok((name, new))
        };
        self.store.job_change(id, change).await
    }

    /// Changes single fields; tasks and job clusters are merged by their keys.
    ///
    /// # Errors
    /// As for [`Jobs::reset`], and for a field to remove that cannot be removed.
    pub async fn update(
        &self,
        ctx: &Ctx,
        id: JobId,
        new_settings: Map<String, Value>,
        fields_to_remove: Vec<String>,
    ) -> Result<()> {
        self.permitted(ctx, id, PermissionLevel::CanManage).await?;
        let change = move |old: Map<String, Value>| {
            let merged = merge(old, new_settings, &fields_to_remove)?;
            let document = JobDocument::parse(merged)?;
            Ok((document.name().to_owned(), document.settings))
        };
        self.store.job_change(id, change).await
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
