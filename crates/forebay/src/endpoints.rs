//! `forebay endpoints`: the endpoint ledger as JSON or as a table, for the compatibility page and its checks.

use anyhow::Result;
use clap::{Args, ValueEnum};
use forebay_wire::{Endpoint, Status, endpoints};
use serde::Serialize;

#[derive(Debug, Args)]
pub(crate) struct EndpointsArgs {
    /// How to print
    #[arg(long, value_enum, default_value_t = Output::Text)]
    output: Output,
}

#[derive(Debug, Clone, Copy, ValueEnum)]
enum Output {
    Text,
    Json,
}

/// One method and concrete path; a row of the ledger gives one for each API version.
#[derive(Debug, Serialize)]
struct Row {
    resource: &'static str,
    method: &'static str,
    path: String,
    /// `works`, `partial` or `refused`.
    status: &'static str,
    /// What is missing, or what to use instead.
    note: &'static str,
    /// The test that drove it.
    test: &'static str,
}

fn rows() -> Vec<Row> {
    endpoints::all()
        .flat_map(|(resource, endpoint)| expand(resource, endpoint))
        .collect()
}

fn expand(resource: &'static str, endpoint: &'static Endpoint) -> impl Iterator<Item = Row> {
    let (status, note) = match endpoint.status {
        Status::Works => ("works", ""),
        Status::Partial(note) => ("partial", note),
        Status::Refused(note) => ("refused", note),
    };
    endpoint.paths().into_iter().map(move |path| Row {
        resource,
        method: endpoint.method.as_str(),
        path,
        status,
        note,
        test: endpoint.test,
    })
}

#[expect(clippy::print_stdout, reason = "the command's answer")]
pub(crate) fn endpoints(args: &EndpointsArgs) -> Result<()> {
    let rows = rows();
    match args.output {
        Output::Json => println!("{}", serde_json::to_string_pretty(&rows)?),
        Output::Text => {
            for row in rows {
                println!(
                    "{:8} {:6} {} {}",
                    row.status, row.method, row.path, row.note
                );
            }
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::rows;

    #[test]
    fn each_row_has_a_whole_path_and_names_its_test_or_its_reason() {
        let rows = rows();
        assert!(!rows.is_empty());
        for row in rows {
            assert!(row.path.starts_with('/'), "{row:?}");
            assert!(row.status == "refused" || !row.test.is_empty(), "{row:?}");
            assert!(row.status != "partial" || !row.note.is_empty(), "{row:?}");
        }
    }
}
