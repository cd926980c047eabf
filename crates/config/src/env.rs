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
        name: "FOREBAY_ENVIRONMENTS",
        about: "folder of Python environments that servers of this machine share",
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
    EnvVar {
        name: "SSH_AUTH_SOCK",
        about: "SSH agent, for Git over SSH",
    },
    EnvVar {
        name: "GIT_SSH_COMMAND",
        about: "the ssh program and its options, for Git over SSH",
    },
    EnvVar {
        name: "GIT_SSL_CAINFO",
        about: "certificates that Git trusts",
    },
    EnvVar {
        name: "SSL_CERT_FILE",
        about: "certificates that Git trusts",
    },
    EnvVar {
        name: "SSL_CERT_DIR",
        about: "folder of certificates that Git trusts",
    },
    EnvVar {
        name: "http_proxy",
        about: "proxy of Git over http and https",
    },
    EnvVar {
        name: "https_proxy",
        about: "proxy of Git over http and https",
    },
    EnvVar {
        name: "HTTPS_PROXY",
        about: "proxy of Git over http and https",
    },
    EnvVar {
        name: "all_proxy",
        about: "proxy of Git over http and https",
    },
    EnvVar {
        name: "ALL_PROXY",
        about: "proxy of Git over http and https",
    },
    EnvVar {
        name: "no_proxy",
        about: "hosts that Git reaches without its proxy",
    },
    EnvVar {
        name: "NO_PROXY",
        about: "hosts that Git reaches without its proxy",
    },
];

/// What `git` may need of the server's environment to reach its hosts.
const FOR_GIT: &[&str] = &[
    "PATH",
    "SSH_AUTH_SOCK",
    "GIT_SSH_COMMAND",
    "GIT_SSL_CAINFO",
    "SSL_CERT_FILE",
    "SSL_CERT_DIR",
    "http_proxy",
    "https_proxy",
    "HTTPS_PROXY",
    "all_proxy",
    "ALL_PROXY",
    "no_proxy",
    "NO_PROXY",
];

/// The part of the server's environment that `git` gets; nothing else of it is handed on.
#[must_use]
pub fn git_environment() -> Vec<(&'static str, String)> {
    let set = FOR_GIT.iter().map(|name| (*name, env_var(name)));
    set.filter_map(|(name, value)| Some((name, value?)))
        .collect()
}

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
