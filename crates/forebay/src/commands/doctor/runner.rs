use std::path::Path;

use forebay::runner_folder;
use forebay_cli::Check;
use forebay_runner::{Welcome, inspect};

/// Looks at the process that executes the runs of a data folder.
pub(super) async fn check(data: &Path) -> Check {
    let name = "runner";
    let folder = runner_folder(data);
    if !folder.is_dir() {
        return Check::ok(name, "none yet; `forebay up` starts one");
    }
    match inspect(&folder).await {
        Ok(None) => Check::ok(name, "none; `forebay up` starts one"),
        Ok(Some(found)) if found.owned || found.attempts.is_empty() => {
            Check::ok(name, described(&found))
        }
        Ok(Some(found)) => Check::warn(
            name,
            described(&found),
            "start the server again: `forebay up` takes these runs up and records how they end",
        ),
        Err(error) => Check::fail(
            name,
            format!("there is one that cannot be used: {error}"),
            format!(
                "look at {}; the next `forebay up` ends it, and its runs with it",
                folder.join("log").display()
            ),
        ),
    }
}

fn described(found: &Welcome) -> String {
    let attempts = match found.attempts.len() {
        1 => "1 attempt".to_owned(),
        count => format!("{count} attempts"),
    };
    let server = if found.owned { "a server" } else { "no server" };
    format!(
        "process {}, version {}, {attempts}, {server}",
        found.pid, found.build
    )
}
