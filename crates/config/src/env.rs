/// A variable that Forebay reads, for the reference page and `--help`.
#[derive(Debug, Clone, Copy)]
pub struct EnvVar {
    pub name: &'static str,
    pub about: &'static str,
}

/// Every environment variable of Forebay.
pub const ENV_VARS: &[EnvVar] = &[
    EnvVar {
        name: "FOREBAY_DATA",
        about: "data folder (flag --data, default .forebay)",
    },
    EnvVar {
        name: "FOREBAY_PORT",
        about: "first port (flag --port, default 7071)",
    },
    EnvVar {
        name: "FOREBAY_CONFIG",
        about: "configuration file (flag --config, default forebay.toml if it exists)",
    },
    EnvVar {
        name: "FOREBAY_LOG",
        about: "log filter, such as info or forebay_store=debug",
    },
    EnvVar {
        name: "FOREBAY_UV",
        about: "the uv program that builds environments",
    },
    EnvVar {
        name: "FOREBAY_PYTHON",
        about: "the Python interpreter of the runtimes",
    },
    EnvVar {
        name: "DATABRICKS_HOST",
        about: "workspace to talk to (client commands)",
    },
    EnvVar {
        name: "DATABRICKS_TOKEN",
        about: "access token (client commands)",
    },
    EnvVar {
        name: "DATABRICKS_CONFIG_FILE",
        about: "profile file (client commands, default databrickscfg in the data folder)",
    },
    EnvVar {
        name: "DATABRICKS_CONFIG_PROFILE",
        about: "profile in that file (flag --profile, default dev)",
    },
    EnvVar {
        name: "PATH",
        about: "where python3, git and uv are looked for",
    },
    EnvVar {
        name: "HOME",
        about: "home folder, for paths that start with ~",
    },
];

/// Reads a registered variable; an empty value counts as absent.
#[must_use]
#[expect(
    clippy::disallowed_methods,
    reason = "this is the registry that the rule points to"
)]
pub fn env_var(name: &str) -> Option<String> {
    debug_assert!(
        ENV_VARS.iter().any(|var| var.name == name),
        "{name} is not in ENV_VARS"
    );
    std::env::var(name).ok().filter(|value| !value.is_empty())
}
