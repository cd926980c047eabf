use std::collections::BTreeMap;

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
        about: "proxy of Git, of the tools that install packages, and of programs",
    },
    EnvVar {
        name: "HTTP_PROXY",
        about: "proxy of the tools that install packages, and of programs",
    },
    EnvVar {
        name: "https_proxy",
        about: "proxy of Git, of the tools that install packages, and of programs",
    },
    EnvVar {
        name: "HTTPS_PROXY",
        about: "proxy of Git, of the tools that install packages, and of programs",
    },
    EnvVar {
        name: "all_proxy",
        about: "proxy of Git, of the tools that install packages, and of programs",
    },
    EnvVar {
        name: "ALL_PROXY",
        about: "proxy of Git, of the tools that install packages, and of programs",
    },
    EnvVar {
        name: "no_proxy",
        about: "hosts that are reached without the proxy",
    },
    EnvVar {
        name: "NO_PROXY",
        about: "hosts that are reached without the proxy",
    },
    EnvVar {
        name: "UV_DEFAULT_INDEX",
        about: "index that packages are installed from",
    },
    EnvVar {
        name: "UV_INDEX_URL",
        about: "older name of UV_DEFAULT_INDEX",
    },
    EnvVar {
        name: "PIP_INDEX_URL",
        about: "index of packages where no variable of uv names one",
    },
    EnvVar {
        name: "UV_INDEX",
        about: "further indexes of packages, asked first",
    },
    EnvVar {
        name: "UV_EXTRA_INDEX_URL",
        about: "older name of UV_INDEX",
    },
    EnvVar {
        name: "UV_INSECURE_HOST",
        about: "hosts of indexes whose certificates are not looked at",
    },
];

/// How hosts are reached at all. `git` has them too; it does not look at `HTTP_PROXY`.
const PROXIES: &[&str] = &[
    "http_proxy",
    "HTTP_PROXY",
    "https_proxy",
    "HTTPS_PROXY",
    "all_proxy",
    "ALL_PROXY",
    "no_proxy",
    "NO_PROXY",
];

/// What `git` may need of the server's environment to reach its hosts, beside proxies.
const FOR_GIT: &[&str] = &[
    "PATH",
    "SSH_AUTH_SOCK",
    "GIT_SSH_COMMAND",
    "GIT_SSL_CAINFO",
    "SSL_CERT_FILE",
    "SSL_CERT_DIR",
];

/// The part of the server's environment that `git` gets; nothing else of it is handed on.
#[must_use]
pub fn git_environment() -> Vec<(&'static str, String)> {
    let names = FOR_GIT.iter().chain(PROXIES);
    let set = names.map(|name| (*name, env_var(name)));
    set.filter_map(|(name, value)| Some((name, value?)))
        .collect()
}

/// What the tools that install packages may need to reach an index, in a run too.
const FOR_TOOLS: &[&str] = &[
    "UV_DEFAULT_INDEX",
    "UV_INDEX_URL",
    "UV_INDEX",
    "UV_EXTRA_INDEX_URL",
    "UV_INSECURE_HOST",
];

/// The part of the server's environment that tools get beside their own settings.
#[must_use]
pub fn tool_environment() -> BTreeMap<String, String> {
    tools_of(env_var)
}

/// `uv` does not read what is meant for `pip`; who names an index for `pip` alone means both.
fn tools_of(read: impl Fn(&str) -> Option<String>) -> BTreeMap<String, String> {
    let names = FOR_TOOLS.iter().chain(PROXIES);
    let set = names.map(|name| ((*name).to_owned(), read(name)));
    let mut set: BTreeMap<String, String> = set
        .filter_map(|(name, value)| Some((name, value?)))
        .collect();
    if !set.contains_key("UV_DEFAULT_INDEX")
        && !set.contains_key("UV_INDEX_URL")
        && let Some(index) = read("PIP_INDEX_URL")
    {
        set.insert("UV_DEFAULT_INDEX".to_owned(), index);
    }
    set
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

#[cfg(test)]
mod tests {
    use super::*;

    fn tools(given: &[(&str, &str)]) -> Vec<(String, String)> {
        let given: BTreeMap<&str, &str> = given.iter().copied().collect();
        let read = |name: &str| given.get(name).map(|value| (*value).to_owned());
        tools_of(read).into_iter().collect()
    }

    #[test]
    fn an_index_for_pip_is_meant_for_uv_unless_uv_has_its_own() {
        let index = ("PIP_INDEX_URL", "https://pip/simple");
        let default = ("UV_DEFAULT_INDEX", "https://uv/simple");
        let older = ("UV_INDEX_URL", "https://older/simple");
        let owned = |(name, value): (&str, &str)| (name.to_owned(), value.to_owned());
        assert_eq!(tools(&[index, default]), [owned(default)]);
        assert_eq!(tools(&[index, older]), [owned(older)]);
        assert_eq!(
            tools(&[index, ("HOME", "/root")]),
            [owned(("UV_DEFAULT_INDEX", "https://pip/simple"))]
        );
    }

    #[test]
    fn every_variable_of_tools_is_registered() {
        for name in [FOR_GIT, FOR_TOOLS, PROXIES].concat() {
            assert!(ENV_VARS.iter().any(|var| var.name == name), "{name}");
        }
    }
}
