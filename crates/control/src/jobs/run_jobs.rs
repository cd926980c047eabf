//! Jobs that run other jobs: a circle of them is refused when it would be saved.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;

use forebay_types::{Error, JobId, PermissionLevel, Result};
use tokio::sync::OwnedMutexGuard;

use super::Jobs;
use super::document::JobDocument;
use super::spec::{Spec, TaskSpec};
use crate::Ctx;

/// How many runs of other jobs may wait for each other, one below the other.
pub(crate) const RUN_JOB_DEPTH_MAX: usize = 3;

/// The jobs that a document's tasks run, with the task that does.
fn targets(spec: &Spec) -> impl Iterator<Item = (&TaskSpec, JobId)> {
    spec.tasks.iter().filter_map(|task| {
        let each = task.for_each_task.as_ref().map(|each| &*each.task);
        let inner = each.unwrap_or(task);
        let run_job = inner.run_job_task.as_ref()?;
        Some((task, JobId(run_job.job_id)))
    })
}

impl Jobs {
    /// `own` is the job that the document is of, when it exists already. What it gives is to be kept
    /// until the document is written.
    ///
    /// # Errors
    /// A job that is not there or that the caller may not run, by task; a circle, with its jobs.
    pub(crate) async fn check_run_jobs(
        &self,
        ctx: &Ctx,
        own: Option<JobId>,
        document: &JobDocument,
    ) -> Result<Option<OwnedMutexGuard<()>>> {
        if targets(&document.spec).next().is_none() {
            return Ok(None);
        }
        let alone = Arc::clone(&self.circles).lock_owned().await;
        let mut known = HashSet::new();
        let mut open = Vec::new();
        for (task, id) in targets(&document.spec) {
            if Some(id) != own && known.insert(id) {
                let job = self.permitted(ctx, id, PermissionLevel::CanManageRun).await;
                job.map_err(|e| {
                    let message = format!("Task '{}': run_job_task: {e}", task.task_key);
                    Error::new(e.code, message)
                })?;
            }
            open.push(vec![id]);
        }
        // From each job to those it runs, and again only when it is met at a greater depth.
        let mut deepest: HashMap<JobId, usize> = HashMap::new();
        while let Some(path) = open.pop() {
            let Some(&last) = path.last() else { continue };
            if deepest.get(&last).is_some_and(|depth| *depth >= path.len()) {
                continue;
            }
            deepest.insert(last, path.len());
            let shown = || {
                let ids = own.iter().chain(&path).map(ToString::to_string);
                ids.collect::<Vec<_>>().join(" -> ")
            };
            if Some(last) == own || path[..path.len() - 1].contains(&last) {
                return Err(Error::invalid(format!(
                    "run_job_task: the jobs run each other in a circle: {}.",
                    shown()
                )));
            }
            if path.len() > RUN_JOB_DEPTH_MAX {
                return Err(Error::invalid(format!(
                    "run_job_task: the jobs run each other more than {RUN_JOB_DEPTH_MAX} deep: {}.",
                    shown()
                )));
            }
            // One that was deleted since fails the run that meets it.
            let Ok(job) = self.store.job_get(last).await else {
                continue;
            };
            let Ok(document) = JobDocument::of_normal(job.settings) else {
                continue;
            };
            let next: HashSet<JobId> = targets(&document.spec).map(|(_, id)| id).collect();
            open.extend(next.into_iter().map(|id| {
                let mut longer = path.clone();
                longer.push(id);
                longer
            }));
        }
        Ok(Some(alone))
    }
}
