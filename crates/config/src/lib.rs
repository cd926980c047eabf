//! Configuration: one struct with defaults, a TOML file, `FOREBAY_*` variables and flags over it,
//! parsed and validated once at start and passed down as values. Layer 1; the only reader of
//! environment variables.

mod config;
mod env;
mod options;

pub use config::{
    AttemptLimits, Budget, Config, ConfigError, Contexts, Limits, Mount, Notifications, Retention,
    RuntimeRule, Smtp, WorkspaceConfig,
};
pub use env::{ENV_VARS, EnvVar, env_var, git_environment, tool_environment};
pub use options::{ConfigOption, OPTIONS};
