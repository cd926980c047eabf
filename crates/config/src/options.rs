/// An option of the configuration file, for the reference page.
#[derive(Debug, Clone, Copy)]
pub struct ConfigOption {
    /// As a dotted path; `[]` marks an array of tables.
    pub name: &'static str,
    /// As it would stand in the file; empty when there is none.
    pub default: &'static str,
    pub about: &'static str,
}

const fn option(name: &'static str, default: &'static str, about: &'static str) -> ConfigOption {
    ConfigOption {
        name,
        default,
        about,
    }
}

/// Every option of `forebay.toml`. A test compares this list with [`crate::Config`].
pub const OPTIONS: &[ConfigOption] = &[
    option(
        "data",
        "\".forebay\"",
        "where everything lives; one process at a time owns it",
    ),
    option(
        "address",
        "\"127.0.0.1\"",
        "the address every workspace listens on",
    ),
    option(
        "port",
        "7071",
        "the first workspace's port; the next ones follow",
    ),
    option(
        "port_80",
        "",
        "also listen on port 80 of a loopback address of each workspace's own, for clients that drop the port of a \
         host; `true` insists, `false` never does, absent means where it is allowed",
    ),
    option(
        "repo_roots",
        "[]",
        "local Git addresses are allowed below these folders only",
    ),
    option(
        "isolation",
        "\"namespaces\"",
        "the least isolation a run may have: `namespaces` or `none`",
    ),
    option(
        "keep_runs",
        "false",
        "whether runs go on when the server is stopped, for the next start to take up (flag --keep-runs)",
    ),
    option(
        "environments",
        "",
        "a folder of Python environments that servers of this machine share, so that each is built once; it belongs to \
         the user who runs them. Absent, each data folder has its own",
    ),
    option(
        "uv",
        "",
        "the uv program that builds environments; looked for on `PATH` when absent",
    ),
    option(
        "python",
        "",
        "the Python interpreter of the runtimes; looked for on `PATH` when absent",
    ),
    option(
        "runtime[].spark_version",
        "",
        "clusters of this version (`*` stands for anything) run on the runtime that is named beside it",
    ),
    option(
        "runtime[].runtime",
        "",
        "name of a runtime, such as `python-3.11-apache`",
    ),
    option(
        "notifications.allow_addresses",
        "[]",
        "loopback and link-local addresses, or ranges such as 127.0.0.0/8, that notifications may be posted to; others \
         of these are refused",
    ),
    option(
        "smtp.host",
        "",
        "mail server that sends notifications; without `[smtp]` e-mail notifications are refused",
    ),
    option("smtp.port", "587", "its port"),
    option("smtp.from", "", "the address that mails are from"),
    option(
        "smtp.security",
        "\"starttls\"",
        "`none`, `starttls` or `tls` from the first byte",
    ),
    option("smtp.username", "", "name to sign in with, if it wants one"),
    option("smtp.password", "", "password of that name"),
    option(
        "limits.running_attempts_max",
        "15",
        "attempts that run at once, over all workspaces",
    ),
    option(
        "limits.queue_hours_max",
        "48",
        "hours that a run may wait for its job or its key to have room; then it is skipped; 0 means any time",
    ),
    option(
        "limits.runs_per_hour_max",
        "100000",
        "runs that may be created in one workspace in an hour; more answer 429; 0 means any number",
    ),
    option(
        "limits.run_memory_bytes",
        "4294967296",
        "memory of one run with all its processes",
    ),
    option(
        "limits.run_processes_max",
        "512",
        "processes and threads of one run",
    ),
    option(
        "limits.cell_output_bytes_max",
        "8388608",
        "output of one cell that is kept; the rest is cut with a notice",
    ),
    option(
        "limits.run_output_bytes_max",
        "67108864",
        "output of one run; more ends it",
    ),
    option(
        "limits.requests_per_second",
        "1000",
        "API calls that one token may make in the long run; more answer 429; 0 means no limit",
    ),
    option(
        "limits.requests_burst",
        "2000",
        "API calls that one token may make at once after a pause",
    ),
    option(
        "limits.trigger_poll_seconds",
        "10",
        "seconds from one look of a file arrival trigger to the next",
    ),
    option(
        "limits.trigger_files_max",
        "10000",
        "files and directories below the folder of a file arrival trigger; with more it does not fire",
    ),
    option(
        "contexts.max",
        "20",
        "execution contexts of one workspace that live at once; they take no place of `limits.running_attempts_max`",
    ),
    option("contexts.cluster_max", "10", "the same of one cluster"),
    option(
        "contexts.idle_minutes",
        "60",
        "minutes without a command after which a context ends; 0 means never",
    ),
    option(
        "workspace[].name",
        "\"dev\"",
        "name of a workspace, of a-z, 0-9 and -; without any `[[workspace]]` there are dev, staging and prod",
    ),
    option(
        "workspace[].public_url",
        "",
        "the address clients should use in links; made from the listener when absent",
    ),
    option(
        "workspace[].running_attempts_max",
        "",
        "attempts of the workspace that run at once; `limits.running_attempts_max` holds all the same",
    ),
    option(
        "workspace[].weight",
        "1",
        "the workspace's share of the server's slots, in relation to the other workspaces' weights; 1 to 1000",
    ),
    option(
        "workspace[].mount[].path",
        "",
        "absolute DBFS path at which a folder of the host appears, such as `/mnt/data`",
    ),
    option("workspace[].mount[].folder", "", "that folder of the host"),
    option(
        "workspace[].mount[].read_only",
        "false",
        "runs and clients may not write to it",
    ),
    option(
        "workspace[].retention.days",
        "60",
        "days that a run stays after its end; 0 is for ever, here and in the next three",
    ),
    option(
        "workspace[].retention.runs_per_job",
        "10000",
        "ended runs of a job that stay, the newest ones",
    ),
    option(
        "workspace[].retention.output_days",
        "0",
        "days that the output of a run stays, if it is to go before the run",
    ),
    option(
        "workspace[].retention.token_days",
        "30",
        "days that an idempotency token is known, and that an expired access token is listed",
    ),
    option(
        "workspace[].budget.cpu_seconds_per_day",
        "0",
        "CPU-seconds that the runs of a day (UTC) may use before new ones wait; 0 is without limit",
    ),
    option(
        "workspace[].budget.action",
        "\"queue\"",
        "what becomes of a run after that: `queue` lets it wait for the next day, `stop` skips it",
    ),
    option(
        "workspace[].budget.attempt.cpu_seconds",
        "0",
        "CPU-seconds of one attempt of a task whose job does not say; 0 is without limit, here and in the next five",
    ),
    option(
        "workspace[].budget.attempt.memory_mib",
        "0",
        "memory of such an attempt; `limits.run_memory_bytes` and the cluster's own hold as well",
    ),
    option(
        "workspace[].budget.attempt.wall_seconds",
        "0",
        "seconds that such an attempt may take",
    ),
    option(
        "workspace[].budget.attempt_max.cpu_seconds",
        "0",
        "the most that a job may ask for; without a word of the job and above, this holds",
    ),
    option(
        "workspace[].budget.attempt_max.memory_mib",
        "0",
        "the same for memory",
    ),
    option(
        "workspace[].budget.attempt_max.wall_seconds",
        "0",
        "the same for seconds",
    ),
];

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;
    use crate::{Config, Mount, RuntimeRule, Smtp, WorkspaceConfig};

    /// Every field with a value, so that none is left out when it is written.
    fn full() -> Config {
        let mount = Mount {
            path: "/mnt/x".to_owned(),
            folder: "/".into(),
            read_only: false,
        };
        Config {
            port_80: Some(true),
            environments: Some("e".into()),
            runtimes: vec![RuntimeRule {
                spark_version: "9.*".to_owned(),
                runtime: "python-3.11-apache".to_owned(),
            }],
            uv: Some("uv".into()),
            python: Some("python3".into()),
            smtp: Some(Smtp {
                host: "mail".to_owned(),
                port: 25,
                from: "a@b.c".to_owned(),
                security: "none".to_owned(),
                username: Some("u".to_owned()),
                password: Some("p".to_owned()),
            }),
            workspaces: vec![WorkspaceConfig {
                public_url: Some("http://h".to_owned()),
                running_attempts_max: Some(1),
                mounts: vec![mount],
                ..WorkspaceConfig::default()
            }],
            ..Config::default()
        }
    }

    fn names(value: &toml::Value, at: &str, found: &mut BTreeSet<String>) {
        match value {
            toml::Value::Table(table) => {
                for (name, value) in table {
                    let dot = if at.is_empty() { "" } else { "." };
                    names(value, &format!("{at}{dot}{name}"), found);
                }
            }
            toml::Value::Array(items) if items.first().is_some_and(toml::Value::is_table) => {
                names(&items[0], &format!("{at}[]"), found);
            }
            _ => {
                found.insert(at.to_owned());
            }
        }
    }

    #[test]
    fn every_field_is_listed_and_every_line_is_a_field() {
        let mut fields = BTreeSet::new();
        names(&toml::Value::try_from(full()).unwrap(), "", &mut fields);
        let listed: BTreeSet<_> = OPTIONS.iter().map(|o| o.name.to_owned()).collect();
        assert_eq!(fields, listed);
    }

    #[test]
    fn the_listed_defaults_are_the_defaults() {
        let defaults = toml::Value::try_from(Config::default()).unwrap();
        // What is there only when its table is has defaults of its own.
        let always = |name: &str| !name.contains("[]") && !name.starts_with("smtp.");
        for option in OPTIONS.iter().filter(|o| always(o.name)) {
            let mut value = Some(&defaults);
            for part in option.name.split('.') {
                value = value.and_then(|value| value.get(part));
            }
            let shown = value.map(ToString::to_string).unwrap_or_default();
            assert_eq!(shown, option.default, "{}", option.name);
        }
    }
}
