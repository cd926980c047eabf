use std::collections::BTreeMap;
use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::time::Duration;

use forebay_exec::IsolationLevel;

/// Where the executor keeps its things and what it may use.
#[derive(Debug, Clone)]
pub struct LocalConfig {
    /// The executor's own folder: environments, caches, the driver. Never visible to programs,
    /// except read-only for what they need of it.
    pub data_dir: PathBuf,
    /// Where environments are, and what they are made with, when other servers of this machine use
    /// them as well. Everything in it has a digest for its name and is put there whole.
    pub environments: Option<PathBuf>,
    /// Where to look for `python3.11` and `uv`: the value of `PATH`.
    pub search_path: OsString,
    /// The interpreter, when it is not to be looked for.
    pub python: Option<PathBuf>,
    /// The `uv` program, when it is not to be looked for.
    pub uv: Option<PathBuf>,
    /// Whether `uv` may be fetched with `pip` when there is none.
    pub uv_bootstrap: bool,
    /// Variables for `uv`, here and in programs: proxies, indexes (`UV_INDEX_URL`), certificates.
    /// Programs get them without the credentials of indexes.
    pub tool_env: BTreeMap<String, String>,
    /// Below this level nothing is run.
    pub isolation_min: IsolationLevel,
    /// Warm parents kept at most; the one unused for longest goes first.
    pub warm_max: usize,
    /// A warm parent without runs ends after so long.
    pub warm_idle: Duration,
    /// A warm parent that takes longer for a child hangs, and gets no more runs.
    pub fork_max: Duration,
}

impl LocalConfig {
    /// The defaults: everything found through `search_path`, and no run without a sandbox.
    pub fn new(data_dir: impl Into<PathBuf>, search_path: impl Into<OsString>) -> Self {
        Self {
            data_dir: data_dir.into(),
            environments: None,
            search_path: search_path.into(),
            python: None,
            uv: None,
            uv_bootstrap: true,
            tool_env: BTreeMap::new(),
            isolation_min: IsolationLevel::Namespaces,
            warm_max: 8,
            warm_idle: Duration::from_secs(30 * 60),
            fork_max: Duration::from_secs(20),
        }
    }

    /// The folder of environments, their caches and their tools.
    pub(crate) fn shared(&self) -> &Path {
        self.environments.as_deref().unwrap_or(&self.data_dir)
    }
}
