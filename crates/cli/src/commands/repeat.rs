use std::collections::BTreeSet;

use clap::Args;
use forebay_client::{Client, Error, Method, Run};
use serde_json::{Value, json};

use crate::args::Connection;
use crate::compare::{Difference, TaskResult, differences};
use crate::failure::{Exit, Failure, Outcome};
use crate::output::Out;

/// Arguments of `forebay repeat`.
#[derive(Debug, Args)]
pub struct RepeatArgs {
    /// Number of a run that has ended
    #[arg(value_name = "RUN")]
    run_id: i64,
    #[command(flatten)]
    connection: Connection,
}

pub(crate) async fn run(args: &RepeatArgs) -> Outcome {
    let out = args.connection.out();
    let client = args.connection.client()?;
    let first = args.run_id;
    let before = client.run_get(first).await?;
    let path = format!("/api/forebay/v1/runs/{first}/repeat");
    let started = client.write(Method::POST, &path, &json!({})).await?;
    let second = started["run_id"].as_i64().unwrap_or_default();
    out.note(format_args!("Run {second} repeats run {first}"));
    let after = tokio::select! {
        after = ended(&client, second) => after?,
        Ok(()) = tokio::signal::ctrl_c() => {
            client.run_cancel(second).await?;
            out.note(format_args!("Run {second} is asked to stop"));
            return Ok(Exit::Interrupted);
        }
    };
    let word = after.state.result_state.as_deref();
    if !after.state.succeeded() && after.state.state_message.contains("cannot be repeated") {
        return Err(Failure::new(
            Exit::Failed,
            after.state.state_message.trim_end_matches('.').to_owned(),
        ));
    }
    if matches!(word, Some("CANCELED" | "TIMEDOUT")) || after.state.life_cycle_state == "SKIPPED" {
        return Err(Failure::new(
            Exit::Failed,
            format!(
                "run {second} was not done to its end: {}",
                after.state.word()
            ),
        ));
    }
    let (before, after) = (
        outcome(&client, before.run_id).await?,
        outcome(&client, after.run_id).await?,
    );
    let found = differences(&before.tasks, &after.tasks);
    let notes = Notes {
        unpinned: before.unpinned.into_iter().collect(),
        kept: after.kept.into_iter().collect(),
    };
    report(out, (first, second), &notes, &found)?;
    Ok(match found.is_empty() {
        true => Exit::Ok,
        false => Exit::Different,
    })
}

async fn ended(client: &Client, run: i64) -> Result<Run, Failure> {
    loop {
        let seen = client.run_wait(run).await?;
        if seen.state.has_ended() {
            return Ok(client.run_get(run).await?);
        }
    }
}

/// All that came out of a run, of the runs that its for-each and run-job tasks started too.
#[derive(Default)]
struct Whole {
    tasks: Vec<TaskResult>,
    unpinned: BTreeSet<String>,
    kept: BTreeSet<String>,
}

/// A run that is to be looked at: its number, where it is, and its element.
struct Visit {
    run: i64,
    place: String,
    element: Option<String>,
}

async fn outcome(client: &Client, run: i64) -> Result<Whole, Failure> {
    let mut whole = Whole::default();
    let mut visits = vec![Visit {
        run,
        place: String::new(),
        element: None,
    }];
    while let Some(visit) = visits.pop() {
        let facts = facts_of(client, visit.run).await?;
        for task in facts["tasks"].as_array().into_iter().flatten() {
            whole.unpinned.extend(names(task, "unpinned"));
            whole.kept.extend(names(task, "kept"));
            let result = result(client, &visit, task).await?;
            // The last is looked at first.
            visits.extend(started(task, &result.task_key).into_iter().rev());
            whole.tasks.push(result);
        }
    }
    Ok(whole)
}

fn started(task: &Value, key: &str) -> Vec<Visit> {
    let started = task["started"].as_array().into_iter().flatten();
    let visits = started.filter_map(|one| {
        let number = one["number"].as_u64();
        Some(Visit {
            run: one["run_id"].as_i64()?,
            place: match number {
                Some(number) => format!("{key}[{number}]/"),
                None => format!("{key}/"),
            },
            element: number.map(|_| one["input"].to_string()),
        })
    });
    visits.collect()
}

/// The newest attempt of a task.
async fn result(client: &Client, visit: &Visit, task: &Value) -> Result<TaskResult, Failure> {
    let id = task["run_id"].as_i64().unwrap_or_default();
    let output = client.run_output(id).await?;
    let state = client.run_get(id).await?.state;
    let path = format!("/api/forebay/v1/runs/{id}/notebook");
    let cells = match client.read(&path, &[]).await {
        Ok(document) => cells(&document),
        // It was no notebook.
        Err(Error::Api { status: 404, .. }) => Vec::new(),
        Err(error) => return Err(error.into()),
    };
    // It may name a run that it started, whose tasks say the same.
    let error = output.error.filter(|_| started(task, "").is_empty());
    Ok(TaskResult {
        task_key: format!(
            "{}{}",
            visit.place,
            task["task_key"].as_str().unwrap_or_default()
        ),
        element: visit.element.clone(),
        result_state: state.result_state,
        exit_value: output.notebook_output.and_then(|output| output.result),
        error,
        engine: task["engine"].as_str().map(str::to_owned),
        cells,
        logs: output.logs,
    })
}

fn cells(document: &Value) -> Vec<Vec<Value>> {
    let cells = document["cells"].as_array().into_iter().flatten();
    let outputs = cells.map(|cell| cell["outputs"].as_array().cloned().unwrap_or_default());
    outputs.collect()
}

async fn facts_of(client: &Client, run: i64) -> Result<Value, Failure> {
    let path = format!("/api/forebay/v1/runs/{run}/facts");
    Ok(client.read(&path, &[]).await?)
}

/// What is worth knowing of a repeat beside what came out.
struct Notes {
    /// What the run found for itself, and may find otherwise.
    unpinned: Vec<String>,
    /// Files that were not taken as they are now.
    kept: Vec<String>,
}

fn names(task: &Value, field: &str) -> Vec<String> {
    let names = task["inputs"][field].as_array().into_iter().flatten();
    names
        .filter_map(|name| name.as_str().map(str::to_owned))
        .collect()
}

fn report(
    out: Out,
    (first, second): (i64, i64),
    notes: &Notes,
    found: &[Difference],
) -> Result<(), Failure> {
    if out.is_json() {
        return out.json(&json!({
            "run_id": first,
            "repeat_run_id": second,
            "equal": found.is_empty(),
            "differences": found,
            "unpinned": notes.unpinned,
            "kept": notes.kept,
        }));
    }
    for name in &notes.unpinned {
        out.note(format_args!("Not pinned: {name}"));
    }
    for path in &notes.kept {
        out.note(format_args!("As it was, not as it is now: {path}"));
    }
    if found.is_empty() {
        return out.line(format_args!("Run {second} is equal to run {first}"));
    }
    for one in found {
        let cell = one
            .cell
            .map_or(String::new(), |cell| format!(", cell {cell}"));
        let line = one
            .line
            .map_or(String::new(), |line| format!(", line {line}"));
        out.line(format_args!(
            "Task {}{cell}, {}{line}:",
            one.task_key, one.what
        ))?;
        out.line(format_args!("- {}", one.was))?;
        out.line(format_args!("+ {}", one.is))?;
    }
    Ok(())
}
