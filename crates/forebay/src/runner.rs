//! The runner's process and the server's way to it.

use std::ffi::OsString;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use anyhow::{Context, Result};
use forebay_cli::RunnerArgs;
use forebay_config::{Config, env_var, tool_environment};
use forebay_exec::IsolationLevel;
use forebay_exec_local::{LocalConfig, LocalExecutor};
use forebay_runner::{Home, Runner, RunnerSetup};
use forebay_runtime::{Clock, Tasks};

/// Where the runner of a data folder is found.
#[must_use]
pub fn runner_folder(data: &Path) -> PathBuf {
    data.join("runner")
}

/// Executes attempts until no server needs it.
///
/// # Errors
/// When the folder has another runner, or the executor cannot be prepared.
pub async fn serve_runner(
    args: &RunnerArgs,
    ready: impl FnOnce(),
    terminated: impl AsyncFnMut(),
) -> Result<()> {
    let home = Home::take(&runner_folder(&args.data)).context("cannot be the runner")?;
    let executor = Arc::new(local_executor(args).await?);
    let tasks = Tasks::default();
    let runner = Runner::new(executor, Clock::system(), tasks, build(), options(args));
    runner.serve(home, ready, terminated).await?;
    Ok(())
}

/// One executor for all workspaces; it keeps environments and never shares a process between them.
async fn local_executor(args: &RunnerArgs) -> Result<LocalExecutor> {
    let path = env_var("PATH").unwrap_or_default();
    let mut local = LocalConfig::new(args.data.join("exec"), path);
    local.environments.clone_from(&args.environments);
    local.uv.clone_from(&args.uv);
    local.python.clone_from(&args.python);
    local.tool_env = tool_environment();
    if args.isolation == "none" {
        local.isolation_min = IsolationLevel::None;
    }
    LocalExecutor::open(local)
        .await
        .context("cannot prepare the local executor")
}

/// How the server of `config` finds its runner and starts it. `program` is this program's file.
pub(crate) fn setup(config: &Config, data: &Path, program: &Path) -> RunnerSetup {
    let args = RunnerArgs {
        data: data.to_owned(),
        environments: config.environments.clone(),
        isolation: config.isolation.clone(),
        uv: config.uv.clone(),
        python: config.python.clone(),
    };
    RunnerSetup {
        folder: runner_folder(data),
        program: program.to_owned(),
        args: words(&args),
        build: build(),
        options: options(&args),
    }
}

fn words(args: &RunnerArgs) -> Vec<OsString> {
    let mut words: Vec<OsString> = vec!["runner".into(), "--data".into(), args.data.clone().into()];
    words.extend(["--isolation".into(), args.isolation.clone().into()]);
    let paths = [
        ("--environments", &args.environments),
        ("--uv", &args.uv),
        ("--python", &args.python),
    ];
    for (flag, path) in paths {
        if let Some(path) = path {
            words.extend([flag.into(), path.clone().into()]);
        }
    }
    words
}

/// What runs depend on, as text to compare and to show.
fn options(args: &RunnerArgs) -> String {
    let shown = |path: &Option<PathBuf>| {
        let path = path.as_ref();
        path.map_or_else(|| "-".to_owned(), |path| path.display().to_string())
    };
    format!(
        "isolation {}, environments {}, uv {}, python {}",
        args.isolation,
        shown(&args.environments),
        shown(&args.uv),
        shown(&args.python)
    )
}

/// Tells one build of this program from another of the same version.
fn build() -> String {
    let version = env!("CARGO_PKG_VERSION");
    match std::fs::metadata("/proc/self/exe") {
        Ok(file) => format!("{version} ({:x}-{:x})", file.size(), file.mtime()),
        Err(_) => version.to_owned(),
    }
}
