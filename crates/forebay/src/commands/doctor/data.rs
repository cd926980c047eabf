use std::path::{Path, PathBuf};

use forebay::data_in_use;
use forebay_cli::{Check, Checks};
use forebay_config::Config;
use forebay_store::{HistoryReport, history_check, integrity_problems};

const GIB: u64 = 1 << 30;
/// An environment takes about one GiB while it is built.
const DISK_LOW: u64 = 5 * GIB;
const DISK_OUT: u64 = GIB;

/// Looks at the data folder, the disk below it, the databases in it and the ports.
pub(super) fn check(config: &Config, checks: &mut Checks) {
    let there = config.data.is_dir();
    let in_use = there && data_in_use(&config.data);
    checks.0.push(folder(&config.data, there, in_use));
    checks.0.push(disk(&config.data));
    let databases = config.workspaces.iter().map(|workspace| {
        let path = config.data.join(&workspace.name).join("forebay.db");
        (workspace.name.as_str(), path)
    });
    let databases: Vec<_> = databases.filter(|(_, path)| path.is_file()).collect();
    if in_use {
        let found = "not looked at while the server has them open";
        checks.0.push(Check::ok("databases", found));
    } else {
        for (name, path) in &databases {
            checks.0.push(database(name, path));
        }
    }
    for (name, path) in &databases {
        checks.0.push(history(name, path));
    }
    checks.0.push(if in_use {
        Check::ok("ports", "not looked at while the server runs")
    } else {
        ports(config)
    });
}

fn folder(data: &Path, there: bool, in_use: bool) -> Check {
    let name = "data folder";
    let shown = data.display();
    if !there {
        return Check::ok(
            name,
            format!("{shown} is not there yet; `forebay up` creates it"),
        );
    }
    if in_use {
        return Check::ok(name, format!("{shown}, in use by a running server"));
    }
    match tempfile::Builder::new().prefix(".doctor").tempfile_in(data) {
        Ok(_) => Check::ok(name, format!("{shown}, not in use")),
        Err(error) => Check::fail(
            name,
            format!("{shown} cannot be written: {error}"),
            "give it to the user who runs the server, or choose another with --data",
        ),
    }
}

fn disk(data: &Path) -> Check {
    let name = "disk";
    let absolute = std::path::absolute(data).unwrap_or_else(|_| data.to_owned());
    let existing = absolute.ancestors().find(|path| path.is_dir());
    let existing = existing.map_or_else(|| PathBuf::from("/"), Path::to_owned);
    let free = match rustix::fs::statvfs(&existing) {
        Ok(stat) => stat.f_bavail.saturating_mul(stat.f_frsize),
        Err(error) => return Check::warn(name, format!("free space is not known: {error}"), ""),
    };
    let found = format!("{:.1} GiB free", free as f64 / GIB as f64);
    let advice = "free some space, or choose a data folder on another disk with --data";
    match free {
        ..DISK_OUT => Check::fail(name, found, advice),
        DISK_OUT..DISK_LOW => Check::warn(name, found, advice),
        _ => Check::ok(name, found),
    }
}

fn database(workspace: &str, path: &Path) -> Check {
    let name = "database";
    let advice = format!(
        "keep a copy of {}, then restore the workspace's folder from a backup",
        path.display()
    );
    match integrity_problems(path) {
        Ok(problems) if problems.is_empty() => Check::ok(name, format!("{workspace} is sound")),
        Ok(problems) => Check::fail(
            name,
            format!("{workspace}: {}", problems.join("; ")),
            advice,
        ),
        Err(error) => Check::fail(name, format!("{workspace}: {error:?}"), advice),
    }
}

/// Whether what clients see of each run is what happened to it.
fn history(workspace: &str, path: &Path) -> Check {
    let name = "history";
    let report = match history_check(path) {
        Ok(report) => report,
        Err(error) => {
            let found = format!("{workspace}: {error:?}");
            return Check::fail(name, found, "mend the database first");
        }
    };
    let HistoryReport {
        runs,
        events,
        old,
        differing,
        problems,
        ..
    } = report;
    if differing == 0 {
        let old = match old {
            0 => String::new(),
            old => format!(", {old} of them from before histories told everything"),
        };
        let found = format!("{workspace}: {runs} runs agree with their {events} events{old}");
        return Check::ok(name, found);
    }
    let more = match problems.len() {
        told if differing > told => format!("; and {} runs more", differing - told),
        _ => String::new(),
    };
    Check::fail(
        name,
        format!(
            "{workspace}: {differing} of {runs} runs differ from their history: {}{more}",
            problems.join("; ")
        ),
        format!(
            "nothing is changed by itself, since either side can be the wrong one: keep a copy of \
             {}, and restore a backup from before, or delete these runs",
            path.display()
        ),
    )
}

fn ports(config: &Config) -> Check {
    let name = "ports";
    let addresses = (0..config.workspaces.len()).map(|index| config.listener(index));
    let taken: Vec<_> = addresses
        .filter_map(|address| {
            let error = std::net::TcpListener::bind(address).err()?;
            Some(format!("{address} ({error})"))
        })
        .collect();
    if taken.is_empty() {
        let last = config
            .listener(config.workspaces.len().saturating_sub(1))
            .port();
        return Check::ok(name, format!("{} to {last} are free", config.port));
    }
    Check::fail(
        name,
        format!("cannot listen on {}", taken.join(", ")),
        "stop the program that uses it, or choose another first port with --port",
    )
}
