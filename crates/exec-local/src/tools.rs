//! The programs that environments are made with: a Python interpreter and `uv`.

use std::ffi::OsStr;
use std::io;
use std::path::{Path, PathBuf};
use std::process::Stdio;

use serde::Deserialize;
use tokio::process::Command;

use crate::config::LocalConfig;

/// An interpreter, as it describes itself.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
pub(crate) struct Python {
    pub(crate) executable: PathBuf,
    /// Everything the interpreter needs is here or in system folders.
    pub(crate) base_prefix: PathBuf,
    /// Such as `3.11.7`.
    pub(crate) version: String,
}

const DESCRIBE: &str = "import json, sys; print(json.dumps({\
    'executable': getattr(sys, '_base_executable', None) or sys.executable, \
    'base_prefix': sys.base_prefix, 'version': '%d.%d.%d' % sys.version_info[:3]}))";

/// The interpreter of `version` (such as `3.11`).
///
/// # Errors
/// A sentence for the operator.
pub(crate) async fn find_python(config: &LocalConfig, version: &str) -> Result<Python, String> {
    let candidates = match &config.python {
        Some(path) => vec![path.clone()],
        None => search(&config.search_path, &format!("python{version}")),
    };
    for candidate in &candidates {
        let mut command = Command::new(candidate);
        command.args(["-c", DESCRIBE]);
        let Ok(text) = run(&mut command).await else {
            continue;
        };
        match serde_json::from_str::<Python>(&text) {
            Ok(python) if python.version.starts_with(&format!("{version}.")) => return Ok(python),
            _ => {}
        }
    }
    Err(match &config.python {
        Some(path) => format!("{} is not a working Python {version}", path.display()),
        None => format!("no working python{version} on the search path; install Python {version}"),
    })
}

/// `uv`: configured, on the search path, fetched before, or fetched now.
///
/// # Errors
/// A sentence for the operator.
pub(crate) async fn find_uv(config: &LocalConfig, python: &Python) -> Result<PathBuf, String> {
    if let Some(path) = &config.uv {
        return Ok(path.clone());
    }
    if let Some(found) = search(&config.search_path, "uv").into_iter().next() {
        return Ok(found);
    }
    let home = config.data_dir.join("tools");
    let fetched = home.join("bin/uv");
    if fetched.exists() {
        return Ok(fetched);
    }
    if !config.uv_bootstrap {
        return Err("there is no uv on the search path, and fetching it is switched off".into());
    }
    let draft = config
        .data_dir
        .join(format!(".tools.{}", std::process::id()));
    let mut command = Command::new(&python.executable);
    command.args([
        "-m",
        "pip",
        "install",
        "--quiet",
        "--disable-pip-version-check",
        "--target",
    ]);
    command.arg(&draft).arg("uv").envs(&config.tool_env);
    let fetching = run(&mut command).await.map_err(|error| {
        format!("uv is neither on the search path nor could pip fetch it: {error}")
    });
    fetching?;
    crate::driver::publish(&draft, &home).map_err(|error| format!("cannot keep uv: {error}"))?;
    Ok(fetched)
}

/// Runs it to its end and returns its standard output.
///
/// # Errors
/// The end of what it wrote to standard error.
pub(crate) async fn run(command: &mut Command) -> Result<String, String> {
    command
        .env_remove("PYTHONDONTWRITEBYTECODE")
        .stdin(Stdio::null())
        .kill_on_drop(true);
    let output = command.output().await.map_err(|error: io::Error| {
        let program = Path::new(command.as_std().get_program())
            .display()
            .to_string();
        format!("cannot start {program}: {error}")
    })?;
    if output.status.success() {
        return Ok(String::from_utf8_lossy(&output.stdout).into_owned());
    }
    Err(last_lines(&String::from_utf8_lossy(&output.stderr), 12))
}

pub(crate) fn last_lines(text: &str, count: usize) -> String {
    let lines: Vec<&str> = text.trim_end().lines().collect();
    lines[lines.len().saturating_sub(count)..].join("\n")
}

fn search(path: &OsStr, program: &str) -> Vec<PathBuf> {
    std::env::split_paths(path)
        .map(|folder| folder.join(program))
        .filter(|candidate| candidate.is_file())
        .collect()
}
