use std::io::Read;

use clap::{Args, Subcommand};
use forebay_client::Method;
use serde_json::{Value, json};

use crate::args::Connection;
use crate::failure::{Exit, Failure, Outcome};
use crate::output::time;

/// Subcommands of `forebay secrets`.
#[derive(Debug, Subcommand)]
pub enum SecretsCommand {
    /// List scopes, or the keys of one
    #[command(visible_alias = "ls")]
    List(ListArgs),
    /// Store a secret that is read from standard input; its scope is made if needed
    Put(PutArgs),
    /// Delete a secret
    Delete(KeyArgs),
}

/// Arguments of `forebay secrets list`.
#[derive(Debug, Args)]
pub struct ListArgs {
    /// Scope whose keys are listed
    scope: Option<String>,
    #[command(flatten)]
    connection: Connection,
}

/// Arguments of `forebay secrets put`.
#[derive(Debug, Args)]
pub struct PutArgs {
    #[command(flatten)]
    key: KeyArgs,
    /// Keep the line end with which the input ends
    #[arg(long)]
    exact: bool,
}

/// Arguments of the commands about one secret.
#[derive(Debug, Args)]
pub struct KeyArgs {
    scope: String,
    key: String,
    #[command(flatten)]
    connection: Connection,
}

pub(crate) async fn run(command: &SecretsCommand) -> Outcome {
    match command {
        SecretsCommand::List(args) => list(args).await?,
        SecretsCommand::Put(args) => put(args).await?,
        SecretsCommand::Delete(args) => delete(args).await?,
    }
    Ok(Exit::Ok)
}

async fn list(args: &ListArgs) -> Result<(), Failure> {
    let out = args.connection.out();
    let client = args.connection.client()?;
    let (mut answer, field) = match &args.scope {
        None => (
            client.read("/api/2.0/secrets/scopes/list", &[]).await?,
            "scopes",
        ),
        Some(scope) => {
            let query = [("scope", scope.as_str())];
            (
                client.read("/api/2.0/secrets/list", &query).await?,
                "secrets",
            )
        }
    };
    let found = match answer[field].take() {
        Value::Array(found) => found,
        _ => Vec::new(),
    };
    if out.is_json() {
        return out.json(&found);
    }
    if found.is_empty() {
        out.note(format_args!("No {field}"));
        return Ok(());
    }
    if args.scope.is_none() {
        for scope in &found {
            out.line(scope["name"].as_str().unwrap_or_default())?;
        }
        return Ok(());
    }
    let row = |secret: &Value| {
        let at = secret["last_updated_timestamp"].as_i64();
        let key = secret["key"].as_str().unwrap_or_default().to_owned();
        [key, time(at.unwrap_or_default())]
    };
    let rows: Vec<_> = found.iter().map(row).collect();
    out.table(["KEY", "CHANGED"], &rows)
}

async fn put(args: &PutArgs) -> Result<(), Failure> {
    let KeyArgs {
        scope,
        key,
        connection,
    } = &args.key;
    let mut value = String::new();
    let read = std::io::stdin().read_to_string(&mut value);
    read.map_err(|e| Failure::usage(format!("cannot read the secret from standard input: {e}")))?;
    if !args.exact && value.ends_with('\n') {
        value.pop();
    }
    let client = connection.client()?;
    let scopes = client.read("/api/2.0/secrets/scopes/list", &[]).await?;
    let scopes = scopes["scopes"].as_array().cloned().unwrap_or_default();
    let known = |known: &Value| known["name"].as_str().is_some_and(|name| name == scope);
    if !scopes.iter().any(known) {
        let body = json!({"scope": scope});
        let create = "/api/2.0/secrets/scopes/create";
        client.write(Method::POST, create, &body).await?;
    }
    let body = json!({"scope": scope, "key": key, "string_value": value});
    client
        .write(Method::POST, "/api/2.0/secrets/put", &body)
        .await?;
    let out = connection.out();
    out.note(format_args!("Secret {scope}/{key} is stored"));
    Ok(())
}

async fn delete(args: &KeyArgs) -> Result<(), Failure> {
    let body = json!({"scope": args.scope, "key": args.key});
    let client = args.connection.client()?;
    client
        .write(Method::POST, "/api/2.0/secrets/delete", &body)
        .await?;
    let out = args.connection.out();
    out.note(format_args!(
        "Secret {}/{} is deleted",
        args.scope, args.key
    ));
    Ok(())
}
