//! The programs that environments are made with: a Python interpreter and `uv`.

use std::collections::{BTreeMap, BTreeSet};
use std::ffi::OsStr;
use std::io;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;

use serde::Deserialize;
use tokio::process::Command;

use crate::config::LocalConfig;

/// For one program: a whole environment over a slow connection takes less.
const TIME_MAX: Duration = Duration::from_secs(600);

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
    let home = config.shared().join("tools");
    let fetched = home.join("bin/uv");
    if fetched.exists() {
        return Ok(fetched);
    }
    if !config.uv_bootstrap {
        return Err("there is no uv on the search path, and fetching it is switched off".into());
    }
    let draft = config
        .shared()
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
    let kept = fetching.and_then(|_| {
        crate::driver::publish(&draft, &home).map_err(|error| format!("cannot keep uv: {error}"))
    });
    if kept.is_err() {
        // A later try must not find half of it.
        drop(std::fs::remove_dir_all(&draft));
    }
    kept.map(|()| fetched)
}

/// Runs it to its end and returns its standard output.
///
/// # Errors
/// The end of what it wrote to standard error, or that it took too long and was ended.
pub(crate) async fn run(command: &mut Command) -> Result<String, String> {
    run_within(TIME_MAX, command).await
}

async fn run_within(limit: Duration, command: &mut Command) -> Result<String, String> {
    command
        .env_remove("PYTHONDONTWRITEBYTECODE")
        .stdin(Stdio::null())
        .kill_on_drop(true);
    let finished = tokio::time::timeout(limit, command.output()).await;
    let program = Path::new(command.as_std().get_program()).display();
    let output = finished
        .map_err(|_| {
            format!(
                "{program} did not come to an end within {} seconds and was stopped; is the \
                 package index reachable?",
                limit.as_secs()
            )
        })?
        .map_err(|error: io::Error| format!("cannot start {program}: {error}"))?;
    if output.status.success() {
        return Ok(String::from_utf8_lossy(&output.stdout).into_owned());
    }
    Err(last_lines(&String::from_utf8_lossy(&output.stderr), 12))
}

/// What of the tools' variables programs may have: no credentials of package indexes. Those of a
/// proxy stay, because without them a program would have no network.
pub(crate) fn for_programs(
    tool_env: &BTreeMap<String, String>,
) -> impl Iterator<Item = (String, String)> {
    const SECRET: [&str; 5] = ["PASSWORD", "USERNAME", "TOKEN", "SECRET", "CREDENTIAL"];
    tool_env.iter().filter_map(|(name, value)| {
        let upper = name.to_uppercase();
        if upper.ends_with("_PROXY") {
            return Some((name.clone(), value.clone()));
        }
        let is_secret = SECRET.iter().any(|word| upper.contains(word));
        (!is_secret).then(|| (name.clone(), without_user_info(value)))
    })
}

/// Programs reach this machine and their own server, `api_url`, without the proxy: their token is no
/// business of it.
pub(crate) fn past_the_proxy(env: &mut BTreeMap<String, String>, api_url: Option<&str>) {
    if !env
        .keys()
        .any(|name| name.to_uppercase().ends_with("_PROXY"))
    {
        return;
    }
    let names = ["no_proxy", "NO_PROXY"];
    let given: Vec<&str> = names
        .iter()
        .filter_map(|name| env.get(*name))
        .map(String::as_str)
        .collect();
    let mut hosts: Vec<&str> = given
        .iter()
        .flat_map(|list| list.split(','))
        .map(str::trim)
        .collect();
    hosts.extend(["localhost", "127.0.0.1", "::1"]);
    hosts.extend(api_url.and_then(host_of));
    let mut seen = BTreeSet::new();
    hosts.retain(|host| !host.is_empty() && seen.insert(*host));
    let hosts = hosts.join(",");
    for name in names {
        env.insert(name.to_owned(), hosts.clone());
    }
}

/// The host of a URL, without its port and brackets.
fn host_of(url: &str) -> Option<&str> {
    let (_, rest) = url.split_once("://")?;
    let authority = rest.split(['/', '?', '#']).next()?;
    let host = authority.rsplit('@').next()?;
    match host.strip_prefix('[') {
        Some(v6) => v6.split(']').next(),
        None => host.split(':').next(),
    }
}

/// `https://user:password@host/` becomes `https://host/`, for each URL in a list.
fn without_user_info(value: &str) -> String {
    let mut parts = value.split("://");
    let mut clean = parts.next().unwrap_or_default().to_owned();
    for part in parts {
        let authority = part.find(|c: char| c == '/' || c.is_whitespace() || c == ',');
        let (authority, rest) = part.split_at(authority.unwrap_or(part.len()));
        let host = authority
            .rsplit_once('@')
            .map_or(authority, |(_, host)| host);
        clean = format!("{clean}://{host}{rest}");
    }
    clean
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

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_tool_that_hangs_is_stopped() {
        let mut command = Command::new("sleep");
        let limit = Duration::from_millis(10);
        let error = run_within(limit, command.arg("60")).await.unwrap_err();
        assert!(error.starts_with("sleep did not come to an end"), "{error}");
        let mut command = Command::new("echo");
        assert_eq!(run(command.arg("1")).await.unwrap(), "1\n");
    }

    #[test]
    fn programs_get_no_credentials_of_indexes() {
        let given = [
            ("UV_INDEX_URL", "https://bob:s3cret@host/simple"),
            ("UV_EXTRA_INDEX_URL", "a=https://t@one/x https://two:8080"),
            ("UV_INDEX_CORP_PASSWORD", "s3cret"),
            ("https_proxy", "http://bob:s3cret@proxy:1"),
            ("SSL_CERT_FILE", "/etc/ssl/a@b.pem"),
        ];
        let given = given.map(|(name, value)| (name.to_owned(), value.to_owned()));
        let left: BTreeMap<String, String> = for_programs(&given.into()).collect();
        assert_eq!(left["UV_INDEX_URL"], "https://host/simple");
        assert_eq!(
            left["UV_EXTRA_INDEX_URL"],
            "a=https://one/x https://two:8080"
        );
        assert_eq!(left["https_proxy"], "http://bob:s3cret@proxy:1");
        assert_eq!(left["SSL_CERT_FILE"], "/etc/ssl/a@b.pem");
        assert_eq!(left.len(), 4);
    }

    #[test]
    fn the_own_server_is_reached_without_the_proxy() {
        let past = |given: &[(&str, &str)], url| {
            let owned = given
                .iter()
                .map(|(k, v)| ((*k).to_owned(), (*v).to_owned()));
            let mut env: BTreeMap<String, String> = owned.collect();
            past_the_proxy(&mut env, url);
            env
        };
        assert!(past(&[("A", "1")], Some("http://forebay:7071")).len() == 1);
        let env = past(
            &[
                ("https_proxy", "http://p:1"),
                ("NO_PROXY", "corp, localhost"),
            ],
            Some("https://forebay.corp:7071/x"),
        );
        let hosts = "corp,localhost,127.0.0.1,::1,forebay.corp";
        assert_eq!([&env["no_proxy"], &env["NO_PROXY"]], [hosts, hosts]);
        let env = past(
            &[("all_proxy", "http://p:1")],
            Some("http://[fd00::1]:7071"),
        );
        assert_eq!(env["no_proxy"], "localhost,127.0.0.1,::1,fd00::1");
    }
}
