use std::sync::Arc;

use async_trait::async_trait;
use forebay_config::RuntimeRule;
use forebay_exec::{Executor, Mounts, Place};
use forebay_types::{Error, Result};

/// One runtime: a Python with its packages, chosen by a cluster's `spark_version`.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct RuntimeInfo {
    pub name: String,
    /// Such as `3.11`.
    pub python: String,
    /// One line for a person.
    pub description: String,
    /// The Spark engine of its runs.
    pub engine: String,
    /// Patterns of `spark_version` that the configuration gives to it; `*` stands for anything.
    pub versions: Vec<String>,
}

/// What clusters need of the executor.
#[async_trait]
pub trait Runtimes: std::fmt::Debug + Send + Sync {
    /// Makes the runtime's environment ready, which may take minutes; cheap when it is.
    async fn prepare(&self, runtime: &str) -> Result<()>;

    fn list(&self) -> Vec<RuntimeInfo>;
}

/// The runtimes of an executor, prepared for the runs of one workspace.
pub struct ExecutorRuntimes {
    executor: Arc<dyn Executor>,
    workspace: String,
    /// As the workspace's runs have them, so that the warm parent is theirs.
    mounts: Mounts,
    rules: Vec<RuntimeRule>,
}

impl ExecutorRuntimes {
    pub fn new(
        executor: Arc<dyn Executor>,
        workspace: impl Into<String>,
        mounts: Mounts,
        rules: Vec<RuntimeRule>,
    ) -> Self {
        Self {
            executor,
            workspace: workspace.into(),
            mounts,
            rules,
        }
    }
}

impl std::fmt::Debug for ExecutorRuntimes {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("ExecutorRuntimes")
            .field("workspace", &self.workspace)
            .finish_non_exhaustive()
    }
}

impl ExecutorRuntimes {
    fn versions_of(&self, runtime: &str) -> Vec<String> {
        let rules = self.rules.iter().filter(|rule| rule.runtime == runtime);
        rules.map(|rule| rule.spark_version.clone()).collect()
    }
}

#[async_trait]
impl Runtimes for ExecutorRuntimes {
    async fn prepare(&self, runtime: &str) -> Result<()> {
        let place = Place {
            workspace: self.workspace.clone(),
            runtime: runtime.to_owned(),
            mounts: self.mounts.clone(),
        };
        let prepared = self.executor.prepare(&place).await;
        // The words of the error are for whoever made the cluster: it names the runtime.
        prepared
            .map(drop)
            .map_err(|error| Error::state(error.to_string()).because(error))
    }

    fn list(&self) -> Vec<RuntimeInfo> {
        let runtimes = self.executor.runtimes().into_iter();
        runtimes
            .map(|info| RuntimeInfo {
                versions: self.versions_of(&info.name),
                name: info.name,
                python: info.python,
                description: info.description,
                engine: info.engine,
            })
            .collect()
    }
}
