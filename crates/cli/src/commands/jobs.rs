use std::io::Read;
use std::path::PathBuf;

use clap::{Args, Subcommand};
use forebay_client::{Client, Method};
use serde_json::{Value, json};

use super::run::parameter;
use crate::args::Connection;
use crate::failure::{Exit, Failure, Outcome};
use crate::live::Live;
use crate::output::{Out, time};

/// Subcommands of `forebay jobs`.
#[derive(Debug, Subcommand)]
pub enum JobsCommand {
    /// List jobs, the newest first
    #[command(visible_alias = "ls")]
    List(ListArgs),
    /// Print a job's definition as JSON
    Get(GetArgs),
    /// Run a job and follow it; exits with the run's verdict
    Run(RunJobArgs),
    /// Create a job from its definition and print its number
    Create(CreateArgs),
}

/// Arguments of `forebay jobs list`.
#[derive(Debug, Args)]
pub struct ListArgs {
    /// Only jobs of exactly this name
    #[arg(long)]
    name: Option<String>,
    #[command(flatten)]
    connection: Connection,
}

/// Arguments of `forebay jobs get`.
#[derive(Debug, Args)]
pub struct GetArgs {
    /// Number of the job
    #[arg(value_name = "JOB")]
    job_id: i64,
    #[command(flatten)]
    connection: Connection,
}

/// Arguments of `forebay jobs run`.
#[derive(Debug, Args)]
pub struct RunJobArgs {
    /// Number of the job
    #[arg(value_name = "JOB")]
    job_id: i64,
    /// Value of a parameter of the job (repeatable)
    #[arg(short, long = "param", value_name = "NAME=VALUE", value_parser = parameter)]
    parameters: Vec<(String, String)>,
    /// Only start it; print the run's number
    #[arg(long)]
    no_wait: bool,
    #[command(flatten)]
    connection: Connection,
}

/// Arguments of `forebay jobs create`.
#[derive(Debug, Args)]
pub struct CreateArgs {
    /// JSON file with the job's settings, as the API takes them; - for standard input
    #[arg(short, long, value_name = "FILE")]
    file: PathBuf,
    #[command(flatten)]
    connection: Connection,
}

pub(crate) async fn run(command: &JobsCommand) -> Outcome {
    match command {
        JobsCommand::List(args) => list(args).await?,
        JobsCommand::Get(args) => get(args).await?,
        JobsCommand::Run(args) => return run_now(args).await,
        JobsCommand::Create(args) => create(args).await?,
    }
    Ok(Exit::Ok)
}

async fn list(args: &ListArgs) -> Result<(), Failure> {
    let out = args.connection.out();
    let client = args.connection.client()?;
    let (mut jobs, mut token) = (Vec::new(), String::new());
    loop {
        let mut query = vec![("limit", "100"), ("page_token", &*token)];
        if let Some(name) = &args.name {
            query.push(("name", name));
        }
        let mut page = client.read("/api/2.2/jobs/list", &query).await?;
        if let Value::Array(found) = page["jobs"].take() {
            jobs.extend(found);
        }
        match page["next_page_token"].as_str() {
            Some(next) if !next.is_empty() => token = next.to_owned(),
            _ => break,
        }
    }
    if out.is_json() {
        return out.json(&jobs);
    }
    if jobs.is_empty() {
        out.note("No jobs; `forebay jobs create --file JOB.json` makes one");
        return Ok(());
    }
    let row = |job: &Value| {
        [
            job["job_id"].to_string(),
            time(job["created_time"].as_i64().unwrap_or_default()),
            text(&job["creator_user_name"]),
            text(&job["settings"]["name"]),
        ]
    };
    let rows: Vec<_> = jobs.iter().map(row).collect();
    out.table(["JOB", "CREATED", "BY", "NAME"], &rows)
}

fn text(value: &Value) -> String {
    value.as_str().unwrap_or_default().to_owned()
}

async fn get(args: &GetArgs) -> Result<(), Failure> {
    let id = args.job_id.to_string();
    let client = args.connection.client()?;
    let job = client.read("/api/2.2/jobs/get", &[("job_id", &id)]).await?;
    let out = args.connection.out();
    if out.is_json() {
        return out.json(&job);
    }
    warn(out, &warnings(&client, &job["job_id"]).await);
    out.json_pretty(&job)
}

async fn run_now(args: &RunJobArgs) -> Outcome {
    let out = args.connection.out();
    let client = args.connection.client()?;
    let mut body = json!({"job_id": args.job_id});
    if !args.parameters.is_empty() {
        let parameters = args.parameters.iter().cloned();
        let parameters = parameters.map(|(name, value)| (name, Value::from(value)));
        body["job_parameters"] = Value::Object(parameters.collect());
    }
    let path = "/api/2.2/jobs/run-now";
    let started = client.write(Method::POST, path, &body).await?;
    let run = started["run_id"].as_i64().unwrap_or_default();
    if args.no_wait {
        match out.is_json() {
            true => out.json(&started)?,
            false => out.line(run)?,
        }
        return Ok(Exit::Ok);
    }
    let live = Live::new(&client, out);
    let followed = live.follow(run).await?;
    live.verdict(&followed).await
}

async fn create(args: &CreateArgs) -> Result<(), Failure> {
    let out = args.connection.out();
    let shown = args.file.display();
    let read = || -> std::io::Result<String> {
        if args.file.as_os_str() == "-" {
            let mut text = String::new();
            std::io::stdin().read_to_string(&mut text)?;
            return Ok(text);
        }
        std::fs::read_to_string(&args.file)
    };
    let text = read().map_err(|e| Failure::usage(format!("cannot read {shown}: {e}")))?;
    let settings: Value = serde_json::from_str(&text)
        .map_err(|e| Failure::usage(format!("{shown} is not valid JSON: {e}")))?;
    let client = args.connection.client()?;
    let path = "/api/2.2/jobs/create";
    let made = client.write(Method::POST, path, &settings).await?;
    let warnings = warnings(&client, &made["job_id"]).await;
    if out.is_json() {
        let mut made = made;
        if !warnings.is_empty() {
            made["warnings"] = warnings.into();
        }
        return out.json(&made);
    }
    warn(out, &warnings);
    out.line(&made["job_id"])
}

/// What the job's code asks of its Spark engine and does not get. The job is there all the same, also
/// when a server of another version does not know this call.
async fn warnings(client: &Client, job: &Value) -> Vec<Value> {
    let path = format!("/api/forebay/v1/jobs/{job}/warnings");
    let found = client.read(&path, &[]).await.unwrap_or_default();
    found["warnings"].as_array().cloned().unwrap_or_default()
}

fn warn(out: Out, warnings: &[Value]) {
    for warning in warnings {
        out.note(format_args!("warning: {}", text(&warning["message"])));
    }
}
