use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use forebay_cli::{Check, Checks};
use forebay_config::{Config, env_var, tool_environment};
use forebay_exec::{Executor, IsolationLevel};
use forebay_exec_local::{LocalConfig, LocalExecutor};
use tokio::process::Command;

/// Looks at the programs that are needed and at what the kernel offers.
pub(super) async fn check(config: &Config, checks: &mut Checks) {
    checks.0.push(git().await);
    let path = env_var("PATH").unwrap_or_default();
    let scratch = match tempfile::tempdir() {
        Ok(scratch) => scratch,
        Err(error) => {
            let found = format!("no temporary folder: {error}");
            let advice = "make the folder for temporary files writable";
            checks.0.push(Check::fail("temporary files", found, advice));
            return;
        }
    };
    let mut local = LocalConfig::new(scratch.path(), &path);
    local.python.clone_from(&config.python);
    local.uv.clone_from(&config.uv);
    local.tool_env = tool_environment();
    match LocalExecutor::open(local).await {
        Ok(executor) => {
            let runtimes = executor.runtimes().into_iter();
            let versions: BTreeSet<_> = runtimes.map(|runtime| runtime.python).collect();
            for version in versions {
                checks.0.push(python(config, &path, &version).await);
            }
            checks.0.push(uv(config, &path).await);
            isolation(config, &executor, checks);
        }
        Err(error) => checks.0.push(Check::fail(
            "executor",
            format!("cannot be opened: {error}"),
            "make the folder for temporary files writable",
        )),
    }
}

fn isolation(config: &Config, executor: &LocalExecutor, checks: &mut Checks) {
    let isolation = executor.isolation();
    let mut found = format!("{}, limits by {}", isolation.level, isolation.accounting);
    for reason in &isolation.reasons {
        found.push_str("; ");
        found.push_str(reason);
    }
    let name = "isolation";
    checks.0.push(if isolation.level == IsolationLevel::Namespaces {
        if isolation.reasons.is_empty() {
            Check::ok(name, found)
        } else {
            Check::warn(name, found, "runs work, without the wall or limit that is named")
        }
    } else if config.isolation == "none" {
        Check::warn(name, found, "runs can do what the server's user can; allowed by isolation = \"none\"")
    } else {
        let advice = "allow user namespaces on this machine, or set isolation = \"none\" if you trust every run";
        Check::fail(name, found, advice)
    });
}

async fn git() -> Check {
    let advice = "install Git (Debian: apt-get install git)";
    match version(Path::new("git"), "--version").await {
        Ok(text) => Check::ok("git", text.trim_start_matches("git version ").to_owned()),
        Err(error) => Check::fail("git", error, advice),
    }
}

async fn python(config: &Config, path: &str, wanted: &str) -> Check {
    let name = "python";
    let advice = format!(
        "install Python {wanted}, or name an interpreter with `python` in the configuration"
    );
    let program = format!("python{wanted}");
    let Some(found) = config.python.clone().or_else(|| search(path, &program)) else {
        return Check::fail(name, format!("{program} is not on the search path"), advice);
    };
    match version(&found, "--version").await {
        Ok(text) if text.starts_with(&format!("Python {wanted}.")) => Check::ok(
            name,
            format!(
                "{} at {}",
                text.trim_start_matches("Python "),
                found.display()
            ),
        ),
        Ok(text) => Check::fail(
            name,
            format!("{} is {text}, not {wanted}", found.display()),
            advice,
        ),
        Err(error) => Check::fail(name, error, advice),
    }
}

async fn uv(config: &Config, path: &str) -> Check {
    let name = "uv";
    let Some(found) = config.uv.clone().or_else(|| search(path, "uv")) else {
        let found = "not on the search path; the first run fetches it with pip";
        return Check::ok(name, found);
    };
    match version(&found, "--version").await {
        Ok(text) => Check::ok(name, text.trim_start_matches("uv ").to_owned()),
        Err(error) => Check::fail(
            name,
            error,
            "install uv, or correct `uv` in the configuration",
        ),
    }
}

fn search(path: &str, program: &str) -> Option<PathBuf> {
    std::env::split_paths(path)
        .map(|folder| folder.join(program))
        .find(|candidate| candidate.is_file())
}

/// The first line of what the program says about itself.
async fn version(program: &Path, flag: &str) -> Result<String, String> {
    let output = Command::new(program)
        .arg(flag)
        .stdin(std::process::Stdio::null())
        .output()
        .await
        .map_err(|e| format!("cannot start {}: {e}", program.display()))?;
    let text = String::from_utf8_lossy(&output.stdout);
    match text.lines().next() {
        Some(line) if output.status.success() => Ok(line.trim().to_owned()),
        _ => Err(format!(
            "{} {flag} failed ({})",
            program.display(),
            output.status
        )),
    }
}
