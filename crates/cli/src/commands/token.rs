use clap::{Args, Subcommand};

use crate::args::Connection;
use crate::failure::{Exit, Failure, Outcome};
use crate::output::time;

const DAY_SECONDS: u32 = 24 * 60 * 60;

/// Subcommands of `forebay token`.
#[derive(Debug, Subcommand)]
pub enum TokenCommand {
    /// Create a token and print it; it is shown this once
    Create(CreateArgs),
    /// List your tokens, without their values
    List(ListArgs),
    /// Delete a token; whoever uses it is refused from then on
    Delete(DeleteArgs),
}

/// Arguments of `forebay token create`.
#[derive(Debug, Args)]
pub struct CreateArgs {
    /// What the token is for
    #[arg(long, default_value = "forebay token create")]
    comment: String,
    /// Days until it expires [default: never]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=36_500))]
    days: Option<u32>,
    /// Whose token it is; a user of this name is created if needed (administrators only) [default: yours]
    #[arg(long, value_name = "NAME")]
    user: Option<String>,
    #[command(flatten)]
    connection: Connection,
}

/// Arguments of `forebay token list`.
#[derive(Debug, Args)]
pub struct ListArgs {
    #[command(flatten)]
    connection: Connection,
}

/// Arguments of `forebay token delete`.
#[derive(Debug, Args)]
pub struct DeleteArgs {
    /// The token's id, as `token list` shows it
    id: String,
    #[command(flatten)]
    connection: Connection,
}

pub(crate) async fn run(command: &TokenCommand) -> Outcome {
    match command {
        TokenCommand::Create(args) => create(args).await?,
        TokenCommand::List(args) => list(args).await?,
        TokenCommand::Delete(args) => delete(args).await?,
    }
    Ok(Exit::Ok)
}

async fn create(args: &CreateArgs) -> Result<(), Failure> {
    let out = args.connection.out();
    let client = args.connection.client()?;
    let lifetime = args.days.map(|days| days.saturating_mul(DAY_SECONDS));
    let token = match &args.user {
        None => client.token_create(&args.comment, lifetime).await?,
        Some(user) => {
            let create = client.token_create_for(user, &args.comment, lifetime);
            create.await?
        }
    };
    if out.is_json() {
        return out.json(&token);
    }
    let until = match token.token_info.expiry_time {
        ..0 => "never expires".to_owned(),
        at => format!("expires {}", time(at)),
    };
    out.note(format_args!(
        "Token {} {until}; it is shown this once",
        token.token_info.token_id
    ));
    out.line(token.token_value)
}

async fn list(args: &ListArgs) -> Result<(), Failure> {
    let out = args.connection.out();
    let tokens = args.connection.client()?.token_list().await?;
    if out.is_json() {
        return out.json(&tokens);
    }
    let rows: Vec<_> = tokens
        .into_iter()
        .map(|token| {
            let expires = match token.expiry_time {
                ..0 => "never".to_owned(),
                at => time(at),
            };
            [
                token.token_id,
                time(token.creation_time),
                expires,
                token.comment,
            ]
        })
        .collect();
    out.table(["ID", "CREATED", "EXPIRES", "COMMENT"], &rows)
}

async fn delete(args: &DeleteArgs) -> Result<(), Failure> {
    args.connection.client()?.token_delete(&args.id).await?;
    let out = args.connection.out();
    out.note(format_args!("Token {} is deleted", args.id));
    Ok(())
}
