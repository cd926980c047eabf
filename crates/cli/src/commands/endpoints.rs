use clap::Args;
use forebay_wire::{Endpoint, Status, endpoints};
use serde::Serialize;

use crate::failure::Failure;
use crate::output::{Format, Out};

/// Arguments of `forebay endpoints`.
#[derive(Debug, Args)]
pub struct EndpointsArgs {
    /// Form of the answer
    #[arg(long, value_enum, value_name = "FORMAT", default_value = "text")]
    output: Format,
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

pub(crate) fn run(args: &EndpointsArgs) -> Result<(), Failure> {
    let out = Out::new(args.output);
    let rows = rows();
    if out.is_json() {
        return out.json_pretty(&rows);
    }
    let rows: Vec<_> = rows
        .into_iter()
        .map(|row| {
            let text = [row.status, row.method, &row.path, row.note];
            text.map(str::to_owned)
        })
        .collect();
    out.table(["STATUS", "METHOD", "PATH", "NOTE"], &rows)
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
