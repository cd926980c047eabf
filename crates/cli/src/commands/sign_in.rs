use clap::Args;
use forebay_client::Method;
use serde_json::json;

use crate::args::Connection;
use crate::failure::{Exit, Outcome};

/// Arguments of `forebay sign-in`.
#[derive(Debug, Args)]
pub struct SignInArgs {
    #[command(flatten)]
    connection: Connection,
}

pub(crate) async fn run(args: &SignInArgs) -> Outcome {
    let out = args.connection.out();
    let client = args.connection.client()?;
    let path = "/api/forebay/v1/sign-in-links";
    let link = client.write(Method::POST, path, &json!({})).await?;
    if out.is_json() {
        out.json(&link)?;
        return Ok(Exit::Ok);
    }
    out.note("Open this in a browser; it works once, for 15 minutes");
    out.line(link["url"].as_str().unwrap_or_default())?;
    Ok(Exit::Ok)
}
