//! Looks at the code of a job, as far as it can be read now, for what its Spark engine does not have.

use forebay_engine::{Lack, lacks_of_python, lacks_of_sql};
use forebay_exec::{CellKind, Mounts};
use forebay_runtime::blocking;
use forebay_types::{ClusterId, JobId, Result, WorkspacePath};

use super::Runs;
use super::inputs::host_file;
use super::source::{self, Code};
use super::workload::in_sandbox;
use crate::Ctx;
use crate::clusters::ClusterChoice;
use crate::jobs::{JobDocument, Spec, TaskSpec};

/// Files of one job that are looked at, and how much of each script.
const FILES_MAX: usize = 50;
const SCRIPT_BYTES_MAX: u64 = 1 << 20;
/// Warnings of one job; more say nothing new.
const WARNINGS_MAX: usize = 100;
/// The engine that lacks something, and the setting that gives a cluster the other one.
const ENGINE: &str = "sail";
pub const ENGINE_SETTING: &str = r#"{"spark_conf": {"forebay.engine": "apache"}}"#;

/// A place where the code of a task asks for what its engine does not have.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct JobWarning {
    pub task_key: String,
    /// As the task names it.
    pub path: String,
    /// Of a notebook, from 1.
    pub cell: Option<usize>,
    /// Of the cell or file, from 1.
    pub line: usize,
    /// Such as `.rdd`.
    pub feature: &'static str,
}

impl JobWarning {
    #[must_use]
    pub fn message(&self) -> String {
        let cell = self
            .cell
            .map_or(String::new(), |cell| format!(", cell {cell}"));
        format!(
            "{}{cell}, line {}: the engine {ENGINE} does not have {}, or only in part; a cluster with \
             {ENGINE_SETTING} runs it on Apache Spark.",
            self.path, self.line, self.feature
        )
    }
}

impl Runs {
    /// What of a job's code its engine does not have. Code that cannot be read now, such as that of a
    /// Git source, is left out.
    ///
    /// # Errors
    /// `Job N does not exist.`; `PERMISSION_DENIED`.
    pub async fn job_warnings(&self, ctx: &Ctx, id: JobId) -> Result<Vec<JobWarning>> {
        let job = self.0.jobs.get(ctx, id).await?;
        let Ok(document) = JobDocument::of_normal(job.settings) else {
            return Ok(Vec::new());
        };
        let code = Code {
            workspace: self.0.workspace.clone(),
            ctx: ctx.clone(),
            checkout: None,
            past: None,
        };
        let mounts = self.0.mounts_for(ctx).await?;
        let spec = &document.spec;
        let mut found = Vec::new();
        for task in spec.tasks.iter().take(FILES_MAX) {
            let each = task.for_each_task.as_ref().map(|each| &*each.task);
            let inner = each.unwrap_or(task);
            if inner.path_in_git(spec).is_some()
                || self.engine_of(spec, inner).await?.as_deref() != Some(ENGINE)
            {
                continue;
            }
            let of_task = warnings_of(&code, &mounts, inner).await;
            found.extend(of_task.into_iter().map(|warning| JobWarning {
                task_key: task.task_key.clone(),
                ..warning
            }));
        }
        found.truncate(WARNINGS_MAX);
        Ok(found)
    }

    async fn engine_of(&self, spec: &Spec, task: &TaskSpec) -> Result<Option<String>> {
        let shared = spec
            .job_clusters
            .iter()
            .find(|cluster| task.job_cluster_key.as_ref() == Some(&cluster.job_cluster_key));
        let choice = match (&task.existing_cluster_id, &task.new_cluster, shared) {
            (Some(id), ..) => ClusterChoice::Existing(ClusterId(id.clone())),
            (_, Some(settings), _) => ClusterChoice::New(settings.clone()),
            (.., Some(shared)) => ClusterChoice::New(shared.new_cluster.clone()),
            _ => ClusterChoice::Unnamed,
        };
        self.0.clusters.engine_for(&choice).await
    }
}

async fn warnings_of(code: &Code, mounts: &Mounts, task: &TaskSpec) -> Vec<JobWarning> {
    let warning = |path: &str, cell: Option<usize>, before: usize, lack: Lack| JobWarning {
        task_key: String::new(),
        path: path.to_owned(),
        cell,
        line: before + lack.line,
        feature: lack.feature,
    };
    let notebook = task.notebook_task.as_ref();
    let notebook = notebook.map(|task| task.notebook_path.as_str());
    let statements = task.sql_task.as_ref().and_then(|sql| sql.file.as_ref());
    let statements = statements.map(|file| file.path.as_str());
    if let Some(path) = notebook.or(statements) {
        let Ok(parsed) = WorkspacePath::parse(path) else {
            return Vec::new();
        };
        let loaded = match notebook {
            Some(_) => source::load(code, &parsed).await,
            None => source::load_sql(code, &parsed).await,
        };
        let cells = loaded.and_then(|(_, document)| Ok(document.exec_cells()?));
        let mut found = Vec::new();
        for cell in cells.unwrap_or_default() {
            let lacks = match cell.kind {
                CellKind::Python => lacks_of_python(&cell.source),
                CellKind::Sql => lacks_of_sql(&cell.source),
                _ => continue,
            };
            // A file of statements is one cell, which nobody sees as such.
            let number = notebook.map(|_| cell.index + 1);
            let lacks = lacks.into_iter();
            found.extend(lacks.map(|lack| warning(path, number, cell.lines_before, lack)));
        }
        return found;
    }
    let Some(script) = &task.spark_python_task else {
        return Vec::new();
    };
    let path = script.python_file.as_str();
    let Ok(seen) = in_sandbox(path) else {
        return Vec::new();
    };
    let mounts = mounts.clone();
    let text = blocking(move || {
        let file = host_file(&mounts, &seen);
        let file = file.filter(|file| {
            let about = file.metadata();
            about.is_ok_and(|about| about.len() <= SCRIPT_BYTES_MAX)
        });
        Ok(file.and_then(|file| std::fs::read_to_string(file).ok()))
    });
    let text = text.await.ok().flatten().unwrap_or_default();
    let lacks = lacks_of_python(&text).into_iter();
    lacks.map(|lack| warning(path, None, 0, lack)).collect()
}
