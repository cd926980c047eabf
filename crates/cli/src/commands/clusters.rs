use clap::{Args, Subcommand};
use forebay_client::Method;
use serde_json::{Value, json};

use crate::args::Connection;
use crate::failure::{Exit, Failure, Outcome};

/// Subcommands of `forebay clusters`.
#[derive(Debug, Subcommand)]
pub enum ClustersCommand {
    /// List clusters and how they stand
    #[command(visible_alias = "ls")]
    List(ListArgs),
    /// Start a cluster: make its environment ready
    Start(OneArgs),
    /// Terminate a cluster; its definition stays
    Terminate(OneArgs),
}

/// Arguments of `forebay clusters list`.
#[derive(Debug, Args)]
pub struct ListArgs {
    #[command(flatten)]
    connection: Connection,
}

/// Arguments of the commands about one cluster.
#[derive(Debug, Args)]
pub struct OneArgs {
    /// The cluster's id, as `clusters list` shows it
    #[arg(value_name = "CLUSTER")]
    id: String,
    #[command(flatten)]
    connection: Connection,
}

pub(crate) async fn run(command: &ClustersCommand) -> Outcome {
    match command {
        ClustersCommand::List(args) => list(args).await?,
        ClustersCommand::Start(args) => ask(args, "start", "is starting").await?,
        ClustersCommand::Terminate(args) => ask(args, "delete", "is asked to terminate").await?,
    }
    Ok(Exit::Ok)
}

async fn list(args: &ListArgs) -> Result<(), Failure> {
    let out = args.connection.out();
    let client = args.connection.client()?;
    let mut answer = client.read("/api/2.0/clusters/list", &[]).await?;
    let clusters = match answer["clusters"].take() {
        Value::Array(clusters) => clusters,
        _ => Vec::new(),
    };
    if out.is_json() {
        return out.json(&clusters);
    }
    if clusters.is_empty() {
        out.note("No clusters; runs that name none use the server's own environment");
        return Ok(());
    }
    let row = |cluster: &Value| {
        ["cluster_id", "state", "spark_version", "cluster_name"]
            .map(|field| cluster[field].as_str().unwrap_or("-").to_owned())
    };
    let rows: Vec<_> = clusters.iter().map(row).collect();
    out.table(["CLUSTER", "STATE", "VERSION", "NAME"], &rows)
}

async fn ask(args: &OneArgs, call: &str, what: &str) -> Result<(), Failure> {
    let body = json!({"cluster_id": args.id});
    let path = format!("/api/2.0/clusters/{call}");
    let client = args.connection.client()?;
    client.write(Method::POST, &path, &body).await?;
    let out = args.connection.out();
    out.note(format_args!("Cluster {} {what}", args.id));
    Ok(())
}
