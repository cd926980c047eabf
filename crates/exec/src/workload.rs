//! What an executor is given: everything it needs to run one attempt, and nothing it must look up.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::time::Duration;

use forebay_notebook::{ExecCell, Language};
use forebay_types::{AttemptNumber, RunId};
use serde::{Deserialize, Serialize};

/// One attempt of one task.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Workload {
    pub run_id: RunId,
    pub attempt: AttemptNumber,
    pub place: Place,
    /// The name of this run's folder in the private mounts of `place`; without one they are empty.
    #[serde(default)]
    pub private: Option<String>,
    pub program: Program,
    pub libraries: Vec<Library>,
    /// Added to the process environment; it wins over the executor's own variables.
    pub env: BTreeMap<String, String>,
    /// Absolute path as the program sees it, such as `/Workspace/Users/a@b.c/project`.
    pub working_dir: String,
    /// Put first on `sys.path`, in this order: notebook folder and repository root.
    pub python_path: Vec<String>,
    /// What `dbutils.notebook.getContext()` shows; see [`Context`].
    pub context: Context,
    pub limits: Limits,
    /// Settings of Spark (`spark.*`) for the run's session.
    #[serde(default)]
    pub spark_conf: BTreeMap<String, String>,
    /// Values among `env` and `spark_conf` that are secrets: redacted from all output.
    #[serde(default)]
    pub secrets: Vec<String>,
    /// Shell scripts that come before the program, by their paths inside the sandbox. One that fails
    /// is the failure of the run.
    #[serde(default)]
    pub init_scripts: Vec<String>,
    /// Whether the run may be forked from a warm parent. Ignored (as `false`) when a library is
    /// among what the parent has already imported.
    pub preload: bool,
    /// A host folder of this attempt alone, where its output may be, too. The executor may leave files
    /// for diagnosis in it, and never removes it. Without walls it has the program's home folder in it,
    /// and is made for that if it is missing.
    pub spool_dir: PathBuf,
}

/// The run's own folder on the host's disk, as the program sees it; gone when the run has ended.
pub const LOCAL_DIR: &str = "/local_disk0";

/// Where a run lives. Runs of one place may share warm processes, so a place must never span two
/// tenants.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Place {
    pub workspace: String,
    /// A name from [`crate::Executor::runtimes`].
    pub runtime: String,
    pub mounts: Mounts,
}

/// Host folders and the absolute paths at which the program sees them, in order: a later mount
/// may lie below an earlier one (`/dbfs`, then `/dbfs/mnt/raw`).
#[derive(Debug, Clone, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Mounts(pub Vec<Mount>);

#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Mount {
    /// A folder of the operator's, reached through links if need be.
    pub host: PathBuf,
    /// The folder below `host` that is meant, such as `Users/a@b.c`; empty for `host` itself.
    /// Programs may have written there, so a link on this part of the way is an error.
    #[serde(default)]
    pub inner: String,
    /// `/dbfs`, `/dbfs/mnt/NAME`, `/Workspace` or `/Volumes`, or a folder below one of them. What
    /// of the way there is in no earlier mount is empty and read-only.
    pub at: String,
    pub writable: bool,
    /// Holds one folder for each of some runs. A run sees at `at` what is in its own, see
    /// [`Workload::private`], and never the others; so runs with a folder of their own can still
    /// share a place.
    #[serde(default)]
    pub private: bool,
}

impl Mount {
    pub fn writable(host: impl Into<PathBuf>, at: impl Into<String>) -> Self {
        Self {
            host: host.into(),
            at: at.into(),
            writable: true,
            inner: String::new(),
            private: false,
        }
    }

    pub fn read_only(host: impl Into<PathBuf>, at: impl Into<String>) -> Self {
        Self {
            writable: false,
            ..Self::writable(host, at)
        }
    }

    /// Read-only folders of single runs.
    pub fn private(host: impl Into<PathBuf>, at: impl Into<String>) -> Self {
        Self {
            private: true,
            ..Self::read_only(host, at)
        }
    }

    /// Of `host` only the folder `inner`.
    #[must_use]
    pub fn only(mut self, inner: impl Into<String>) -> Self {
        self.inner = inner.into();
        self
    }
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "type", rename_all = "snake_case")]
pub enum Program {
    Notebook {
        /// Workspace path without extension; shown in tracebacks and in the context.
        path: String,
        cells: Vec<ExecCell>,
        /// Widget values by name; they beat the defaults that the notebook declares.
        parameters: BTreeMap<String, String>,
        /// Tables are put out as [`crate::TABLE`], too: what they hold is asked for later.
        #[serde(default)]
        wants_data: bool,
    },
    /// A Python file, run as `__main__`, or an R script.
    Script {
        file: String,
        args: Vec<String>,
        /// What is executed, in base64, whatever lies at `file` by then; `None` for what lies there.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        source: Option<String>,
    },
    /// An entry point of an installed package; `named` become `--key=value` after `args`.
    Wheel {
        package: String,
        entry_point: String,
        args: Vec<String>,
        named: BTreeMap<String, String>,
    },
    /// The `main` of a class in one of the JARs among the libraries, in Apache Spark's launcher.
    Jar {
        main_class: String,
        args: Vec<String>,
    },
    /// What follows `spark-submit` on a command line. Files may be given as `dbfs:/...`.
    Submit { args: Vec<String> },
    /// Asks its host for cells, one by one, until there are no more: see
    /// [`crate::method::CONTEXT_NEXT`]. A cell that fails does not end it.
    Session {
        /// Of a cell that does not say its own.
        language: Language,
        /// Stands for the path of a notebook: `%run ./x` is found beside it.
        path: String,
    },
}

/// What is installed before the first cell, into a layer of this run alone.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "type", rename_all = "snake_case")]
pub enum Library {
    /// A requirement such as `simplejson==3.19.2`, and the index to take it from.
    Pypi {
        package: String,
        repo: Option<String>,
    },
    /// A wheel, by its path inside the sandbox (`/dbfs/...`, `/Workspace/...`, `/Volumes/...`).
    Whl { path: String },
    /// A requirements file, by its path inside the sandbox.
    Requirements { path: String },
    /// An R package by name, and the repository to take it from.
    Cran {
        package: String,
        repo: Option<String>,
    },
    /// A JAR for the Spark engine, by its path inside the sandbox.
    Jar { path: String },
    /// An egg, which is a zip archive, by its path inside the sandbox.
    Egg { path: String },
    /// JARs by `group:artifact:version`, with what they need but `exclusions`, and the repository
    /// to take them from.
    Maven {
        coordinates: String,
        repo: Option<String>,
        exclusions: Vec<String>,
    },
}

impl Library {
    /// Whether it is for a Spark engine that runs Java.
    #[must_use]
    pub fn is_java(&self) -> bool {
        matches!(self, Self::Jar { .. } | Self::Maven { .. })
    }
}

/// The facts about the run that programs ask for.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Context {
    pub api_url: Option<String>,
    /// A token of the run's identity. It is redacted from all output.
    pub api_token: Option<String>,
    pub workspace_id: Option<String>,
    pub user: Option<String>,
    pub job_id: Option<String>,
    pub cluster_id: Option<String>,
    /// Further tags, added to those made of the fields above.
    pub tags: BTreeMap<String, String>,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Limits {
    /// Memory of all the run's processes together.
    pub memory_bytes: Option<u64>,
    /// CPU time of all the run's processes together.
    #[serde(default)]
    pub cpu_ms: Option<u64>,
    /// Processes and threads of the run together.
    pub pids_max: Option<u32>,
    /// Output kept per cell; what goes beyond is dropped and a notice says so.
    pub output_cell_bytes: u64,
    /// Output of the whole run; beyond it the run ends with [`crate::Outcome::OutputLimit`].
    pub output_run_bytes: u64,
    /// Between the interrupt and the kill.
    pub grace: Duration,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            memory_bytes: Some(4 << 30),
            cpu_ms: None,
            pids_max: Some(1024),
            output_cell_bytes: 20 << 20,
            output_run_bytes: 200 << 20,
            grace: Duration::from_secs(5),
        }
    }
}
