use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};
use thiserror::Error;

use crate::env::env_var;

/// The whole configuration, after defaults, file, environment and flags.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Config {
    /// Where everything lives; one process at a time owns it.
    pub data: PathBuf,
    /// The address every workspace listens on.
    pub address: IpAddr,
    /// The first workspace's port; the next ones follow.
    pub port: u16,
    /// Also listen on port 80 of a loopback address of the workspace's own, for clients that drop
    /// the port of a host. `true` insists, `false` never; absent means where it is allowed.
    pub port_80: Option<bool>,
    /// Local Git addresses are allowed below these folders only.
    pub repo_roots: Vec<PathBuf>,
    pub limits: Limits,
    pub contexts: Contexts,
    /// The least isolation a run may have: `namespaces` (default) or `none`.
    pub isolation: String,
    /// Whether a stop of the server leaves running work to its runner, for the next start.
    pub keep_runs: bool,
    /// Where servers of this machine have their Python environments in common.
    pub environments: Option<PathBuf>,
    pub uv: Option<PathBuf>,
    pub python: Option<PathBuf>,
    /// Which versions of clusters run on which runtime; the first that matches decides.
    #[serde(rename = "runtime")]
    pub runtimes: Vec<RuntimeRule>,
    pub notifications: Notifications,
    pub smtp: Option<Smtp>,
    #[serde(rename = "workspace")]
    pub workspaces: Vec<WorkspaceConfig>,
}

/// Gives clusters of a `spark_version` a runtime of the server's.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RuntimeRule {
    /// A version such as `9.1.x-scala2.12`, in which `*` stands for anything.
    pub spark_version: String,
    /// Its name, such as `python-3.11-apache`.
    pub runtime: String,
}

/// One isolated world.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct WorkspaceConfig {
    pub name: String,
    /// The address clients should use in links; derived from the listener when absent.
    pub public_url: Option<String>,
    /// Attempts of this workspace that run at once; as many as the server's when absent.
    pub running_attempts_max: Option<usize>,
    /// Share of the server's slots in relation to the other workspaces' weights.
    pub weight: u32,
    #[serde(rename = "mount")]
    pub mounts: Vec<Mount>,
    pub retention: Retention,
    pub budget: Budget,
}

/// What a workspace may use; 0 is without limit.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Budget {
    pub cpu_seconds_per_day: u64,
    /// `queue` or `stop`.
    pub action: String,
    /// What one attempt may use when its job does not say.
    pub attempt: AttemptLimits,
    /// What it may use at most.
    pub attempt_max: AttemptLimits,
}

/// What one attempt of a task may use; 0 is without limit.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct AttemptLimits {
    pub cpu_seconds: u32,
    pub memory_mib: u32,
    pub wall_seconds: u32,
}

impl AttemptLimits {
    fn fields(&self) -> [(&'static str, u32); 3] {
        [
            ("cpu_seconds", self.cpu_seconds),
            ("memory_mib", self.memory_mib),
            ("wall_seconds", self.wall_seconds),
        ]
    }
}

impl Budget {
    /// A usual limit above the most that is allowed.
    fn contradictions(&self) -> impl Iterator<Item = String> {
        let both = self.attempt.fields().into_iter();
        let both = both.zip(self.attempt_max.fields());
        let over = both.filter(|((_, usual), (_, most))| *most > 0 && usual > most);
        over.map(|((name, usual), (_, most))| {
            format!("budget.attempt.{name}: {usual} is above budget.attempt_max.{name}, {most}")
        })
    }
}

impl Default for Budget {
    fn default() -> Self {
        Self {
            cpu_seconds_per_day: 0,
            action: "queue".to_owned(),
            attempt: AttemptLimits::default(),
            attempt_max: AttemptLimits::default(),
        }
    }
}

/// Where notifications may be posted to.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Notifications {
    /// Loopback and link-local addresses that may be reached all the same, such as `127.0.0.1`.
    pub allow_addresses: Vec<String>,
}

/// The mail server that sends notifications.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Smtp {
    pub host: String,
    #[serde(default = "smtp_port")]
    pub port: u16,
    /// The address that mails are from.
    pub from: String,
    /// `none`, `starttls` or `tls`.
    #[serde(default = "smtp_security")]
    pub security: String,
    #[serde(default)]
    pub username: Option<String>,
    #[serde(default)]
    pub password: Option<String>,
}

fn smtp_port() -> u16 {
    587
}

fn smtp_security() -> String {
    "starttls".to_owned()
}

impl std::fmt::Debug for Smtp {
    /// Leaves the password out.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Smtp").field("host", &self.host).finish()
    }
}

/// How long runs stay; 0 is for ever. A job may say otherwise for its own runs.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Retention {
    pub days: u32,
    pub runs_per_job: u32,
    pub output_days: u32,
    /// Of idempotency tokens, and of access tokens after they expired.
    pub token_days: u32,
}

impl Default for Retention {
    /// Days as Databricks keeps runs.
    fn default() -> Self {
        Self {
            days: 60,
            runs_per_job: 10_000,
            output_days: 0,
            token_days: 30,
        }
    }
}

/// A host folder that appears at `dbfs:/mnt/<name>` (or any absolute DBFS path given as `path`).
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Mount {
    /// Absolute DBFS path, such as `/mnt/data` or `/databricks-datasets`.
    pub path: String,
    pub folder: PathBuf,
    #[serde(default)]
    pub read_only: bool,
}

/// Bounds of one server. Every queue, body and child has one.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Limits {
    /// Attempts that run at once, over all workspaces.
    pub running_attempts_max: usize,
    /// Hours that a run may wait for its job or key to have room; 0 for any time.
    pub queue_hours_max: u32,
    /// Runs that may be created in one workspace in an hour; 0 for any number.
    pub runs_per_hour_max: u32,
    pub run_memory_bytes: u64,
    pub run_processes_max: u64,
    /// Output of one cell that is kept, in bytes; the rest is cut with a notice.
    pub cell_output_bytes_max: u64,
    pub run_output_bytes_max: u64,
    /// API calls that one token may make in the long run; 0 for as many as it likes.
    pub requests_per_second: u32,
    /// API calls that one token may make at once after a pause.
    pub requests_burst: u32,
    /// From one look of a file arrival trigger to the next.
    pub trigger_poll_seconds: u32,
    /// Files and directories that a file arrival trigger looks at.
    pub trigger_files_max: usize,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            running_attempts_max: 15,
            queue_hours_max: 48,
            runs_per_hour_max: 100_000,
            run_memory_bytes: 4 << 30,
            run_processes_max: 512,
            cell_output_bytes_max: 8 << 20,
            run_output_bytes_max: 64 << 20,
            requests_per_second: 1000,
            requests_burst: 2000,
            trigger_poll_seconds: 10,
            trigger_files_max: 10_000,
        }
    }
}

/// Execution contexts, which take no place among the runs: they have bounds of their own.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Contexts {
    /// Live contexts of one workspace.
    pub max: usize,
    /// Live contexts of one cluster.
    pub cluster_max: usize,
    /// Minutes without a command after which a context ends; 0 for never.
    pub idle_minutes: u32,
}

impl Default for Contexts {
    fn default() -> Self {
        Self {
            max: 20,
            cluster_max: 10,
            idle_minutes: 60,
        }
    }
}

impl Default for WorkspaceConfig {
    fn default() -> Self {
        Self {
            name: "dev".to_owned(),
            public_url: None,
            running_attempts_max: None,
            weight: 1,
            mounts: Vec::new(),
            retention: Retention::default(),
            budget: Budget::default(),
        }
    }
}

impl Default for Config {
    fn default() -> Self {
        let workspaces = ["dev", "staging", "prod"].map(|name| WorkspaceConfig {
            name: name.to_owned(),
            ..WorkspaceConfig::default()
        });
        Self {
            data: PathBuf::from(".forebay"),
            address: IpAddr::V4(Ipv4Addr::LOCALHOST),
            port: 7071,
            port_80: None,
            repo_roots: Vec::new(),
            limits: Limits::default(),
            contexts: Contexts::default(),
            isolation: "namespaces".to_owned(),
            keep_runs: false,
            environments: None,
            runtimes: Vec::new(),
            uv: None,
            python: None,
            notifications: Notifications::default(),
            smtp: None,
            workspaces: workspaces.to_vec(),
        }
    }
}

#[derive(Debug, Error)]
pub enum ConfigError {
    #[error("cannot read {path}")]
    Read {
        path: PathBuf,
        source: std::io::Error,
    },
    #[error("{path}: {reason}")]
    Parse { path: PathBuf, reason: String },
    #[error("configuration is not valid:\n  - {}", .0.join("\n  - "))]
    Invalid(Vec<String>),
}

impl Config {
    /// Defaults, then the file, then `FOREBAY_*` variables. Flags are applied by the caller, who
    /// then calls [`Config::validate`].
    ///
    /// # Errors
    /// When the file cannot be read or has an unknown or wrong field (with line and column).
    pub fn load(file: Option<&Path>) -> Result<Self, ConfigError> {
        let named = file
            .map(Path::to_owned)
            .or_else(|| env_var("FOREBAY_CONFIG").map(Into::into));
        let default = PathBuf::from("forebay.toml");
        let path = named.or_else(|| default.is_file().then_some(default));
        let mut config = match path {
            None => Self::default(),
            Some(path) => {
                let text = std::fs::read_to_string(&path).map_err(|source| ConfigError::Read {
                    path: path.clone(),
                    source,
                })?;
                toml::from_str(&text).map_err(|e| ConfigError::Parse {
                    path,
                    reason: e.to_string(),
                })?
            }
        };
        config.apply_env()?;
        Ok(config)
    }

    fn apply_env(&mut self) -> Result<(), ConfigError> {
        if let Some(data) = env_var("FOREBAY_DATA") {
            self.data = data.into();
        }
        if let Some(port) = env_var("FOREBAY_PORT") {
            self.port = port.parse().map_err(|_| {
                ConfigError::Invalid(vec![format!("FOREBAY_PORT is not a port: {port}")])
            })?;
        }
        if let Some(folder) = env_var("FOREBAY_ENVIRONMENTS") {
            self.environments = Some(folder.into());
        }
        if let Some(uv) = env_var("FOREBAY_UV") {
            self.uv = Some(uv.into());
        }
        if let Some(python) = env_var("FOREBAY_PYTHON") {
            self.python = Some(python.into());
        }
        Ok(())
    }

    /// Lists everything that is wrong at once.
    ///
    /// # Errors
    /// One entry per problem, naming the field.
    pub fn validate(&self) -> Result<(), ConfigError> {
        let mut problems = Vec::new();
        if self.workspaces.is_empty() {
            problems.push("workspace: at least one is needed".to_owned());
        }
        let last = usize::from(self.port) + self.workspaces.len();
        if self.port == 0 || last > usize::from(u16::MAX) {
            problems.push(format!(
                "port: {} leaves no room for the workspaces' ports",
                self.port
            ));
        }
        for (index, workspace) in self.workspaces.iter().enumerate() {
            let name = &workspace.name;
            let plain = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-';
            if name.is_empty() || name.len() > 32 || !name.chars().all(plain) {
                problems.push(format!("workspace.name: '{name}' (a-z, 0-9 and - only)"));
            }
            if self.workspaces[..index]
                .iter()
                .any(|other| other.name == *name)
            {
                problems.push(format!("workspace.name: '{name}' stands twice"));
            }
            let action = &workspace.budget.action;
            if !matches!(action.as_str(), "queue" | "stop") {
                problems.push(format!("budget.action: '{action}' (queue or stop)"));
            }
            problems.extend(workspace.budget.contradictions());
            if workspace.running_attempts_max == Some(0) {
                problems.push(format!(
                    "workspace.running_attempts_max of '{name}': must be at least 1"
                ));
            }
            if !(1..=1000).contains(&workspace.weight) {
                problems.push(format!(
                    "workspace.weight of '{name}': {} (1 to 1000)",
                    workspace.weight
                ));
            }
            for mount in &workspace.mounts {
                if !mount.path.starts_with('/') || mount.path.contains("..") {
                    problems.push(format!("mount.path: '{}' must be absolute", mount.path));
                }
                if !mount.folder.is_dir() {
                    problems.push(format!(
                        "mount.folder: {} is no folder",
                        mount.folder.display()
                    ));
                }
            }
        }
        if !matches!(self.isolation.as_str(), "namespaces" | "none") {
            problems.push(format!(
                "isolation: '{}' (namespaces or none)",
                self.isolation
            ));
        }
        if let Some(smtp) = &self.smtp
            && !matches!(smtp.security.as_str(), "none" | "starttls" | "tls")
        {
            let security = &smtp.security;
            problems.push(format!(
                "smtp.security: '{security}' (none, starttls or tls)"
            ));
        }
        if self.limits.running_attempts_max == 0 {
            problems.push("limits.running_attempts_max: must be at least 1".to_owned());
        }
        if problems.is_empty() {
            Ok(())
        } else {
            Err(ConfigError::Invalid(problems))
        }
    }

    /// The address of the `index`-th workspace.
    #[must_use]
    pub fn listener(&self, index: usize) -> SocketAddr {
        let offset = u16::try_from(index).unwrap_or(u16::MAX);
        SocketAddr::new(self.address, self.port.saturating_add(offset))
    }

    /// The loopback address whose port 80 belongs to the `index`-th workspace alone: derived from
    /// its port, so that two servers on one machine do not meet.
    #[must_use]
    pub fn loopback_80(&self, index: usize) -> SocketAddr {
        let [high, low] = self.listener(index).port().to_be_bytes();
        SocketAddr::new(IpAddr::V4(Ipv4Addr::new(127, high, low, 1)), 80)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn all_problems_are_listed_together() {
        let mut config = Config {
            port: 0,
            isolation: "maybe".to_owned(),
            ..Config::default()
        };
        config.workspaces[1].name = "dev".to_owned();
        let text = config.validate().unwrap_err().to_string();
        for part in ["port: 0", "'dev' stands twice", "isolation: 'maybe'"] {
            assert!(text.contains(part), "{part} in {text}");
        }
    }

    #[test]
    fn an_unknown_field_is_refused_with_its_line() {
        let error = toml::from_str::<Config>("port = 1\nprot = 2\n")
            .unwrap_err()
            .to_string();
        assert!(
            error.contains("line 2") && error.contains("prot"),
            "{error}"
        );
    }

    #[test]
    fn every_workspace_has_its_own_addresses() {
        let config = Config::default();
        assert_eq!(config.listener(2).to_string(), "127.0.0.1:7073");
        assert_eq!(config.loopback_80(0).to_string(), "127.27.159.1:80");
    }
}
