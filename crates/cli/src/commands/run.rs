use std::collections::BTreeMap;
use std::path::Path;
use std::time::{Duration, SystemTime};

use clap::Args;
use forebay_client::{Client, ObjectType, Submit, Work};
use serde_json::json;

use crate::args::Connection;
use crate::failure::{Exit, Failure, Outcome};
use crate::live::Live;
use crate::local::LocalFile;
use crate::output::{DIM, Out};

/// Between two looks at a watched file.
const LOOK: Duration = Duration::from_millis(200);

/// Arguments of `forebay run`.
#[derive(Debug, Args)]
pub struct RunArgs {
    /// Local notebook or Python file, or the path of one in the workspace
    #[arg(value_name = "NOTEBOOK|FILE")]
    what: String,
    /// Value of a notebook's widget (repeatable)
    #[arg(short, long = "param", value_name = "NAME=VALUE", value_parser = parameter)]
    parameters: Vec<(String, String)>,
    /// Cluster to run on [default: the server's own]
    #[arg(long, value_name = "ID")]
    cluster: Option<String>,
    /// Only start it; print its number
    #[arg(long)]
    no_wait: bool,
    /// Run again whenever the local file changes, until Ctrl-C
    #[arg(long, conflicts_with = "no_wait")]
    watch: bool,
    /// Arguments of a script
    #[arg(last = true, value_name = "ARGS")]
    arguments: Vec<String>,
    #[command(flatten)]
    connection: Connection,
}

pub(super) fn parameter(text: &str) -> Result<(String, String), String> {
    match text.split_once('=') {
        Some((name, value)) if !name.is_empty() => Ok((name.to_owned(), value.to_owned())),
        _ => Err("a parameter is NAME=VALUE".to_owned()),
    }
}

pub(crate) async fn run(args: &RunArgs) -> Outcome {
    let out = args.connection.out();
    let client = args.connection.client()?;
    if !args.watch {
        return once(args, &client, out).await;
    }
    let file = Path::new(&args.what);
    if !file.is_file() {
        return Err(Failure::usage("only a local file can be watched"));
    }
    loop {
        let before = changed(file);
        let exit = match once(args, &client, out).await {
            // A file that is half written, or not there for a moment, is no reason to end.
            Err(failure) if failure.exit == Exit::Usage => {
                out.failure(&failure);
                failure.exit
            }
            outcome => outcome?,
        };
        if exit == Exit::Interrupted {
            return Ok(exit);
        }
        out.note(format_args!(
            "{DIM}Waiting for {} to change{DIM:#}",
            args.what
        ));
        while changed(file) == before {
            tokio::select! {
                () = tokio::time::sleep(LOOK) => {}
                Ok(()) = tokio::signal::ctrl_c() => return Ok(exit),
            }
        }
    }
}

fn changed(file: &Path) -> Option<SystemTime> {
    file.metadata().and_then(|about| about.modified()).ok()
}

async fn once(args: &RunArgs, client: &Client, out: Out) -> Outcome {
    let work = args.work(client).await?;
    let submit = Submit {
        name: args.what.rsplit('/').next().unwrap_or_default().to_owned(),
        work,
        cluster_id: args.cluster.clone(),
    };
    let run_id = client.run_submit(&submit).await?;
    if args.no_wait {
        if out.is_json() {
            out.json(&json!({ "run_id": run_id }))?;
        } else {
            out.line(run_id)?;
        }
        return Ok(Exit::Ok);
    }
    let live = Live::new(client, out);
    tokio::select! {
        followed = live.follow(run_id) => live.verdict(&followed?).await,
        // Without a handler for the signal, Ctrl-C ends this command and the run goes on.
        Ok(()) = tokio::signal::ctrl_c() => interrupted(client, out, run_id).await,
    }
}

/// The person at the terminal wants the work to stop, not only its display.
async fn interrupted(client: &Client, out: Out, run_id: i64) -> Outcome {
    client.run_cancel(run_id).await?;
    out.note(format_args!("Run {run_id} is asked to stop"));
    Ok(Exit::Interrupted)
}

impl RunArgs {
    async fn work(&self, client: &Client) -> Result<Work, Failure> {
        let local = Path::new(&self.what);
        if local.is_file() {
            let file = LocalFile::read(local)?;
            let notebook = file.notebook.is_some();
            if !notebook && !file.is_python() {
                return Err(Failure::usage(format!(
                    "{} is neither a notebook nor a Python file",
                    self.what
                )));
            }
            return self.work_at(upload(client, &file).await?, notebook);
        }
        if !self.what.starts_with('/') {
            return Err(Failure::usage(format!("there is no file {}", self.what))
                .hint("a path in the workspace begins with a slash, such as /Users/me/notebook"));
        }
        let object = client.workspace_status(&self.what).await?;
        match object.object_type {
            ObjectType::Notebook => self.work_at(object.path, true),
            ObjectType::File => self.work_at(object.path, false),
            _ => Err(Failure::usage(format!("{} is a folder", self.what))
                .hint("`forebay workspace list` shows what is in it")),
        }
    }

    fn work_at(&self, path: String, notebook: bool) -> Result<Work, Failure> {
        if notebook {
            if !self.arguments.is_empty() {
                return Err(Failure::usage("a notebook takes no arguments")
                    .hint("give it parameters with --param NAME=VALUE"));
            }
            let parameters: BTreeMap<_, _> = self.parameters.iter().cloned().collect();
            return Ok(Work::Notebook { path, parameters });
        }
        if !self.parameters.is_empty() {
            return Err(
                Failure::usage("a script takes no parameters").hint("give it arguments after `--`")
            );
        }
        Ok(Work::Script {
            path: format!("/Workspace{path}"),
            arguments: self.arguments.clone(),
        })
    }
}

/// Puts a local file where only its owner looks, and gives its workspace path.
async fn upload(client: &Client, file: &LocalFile) -> Result<String, Failure> {
    let me = client.me().await?;
    let folder = format!("/Users/{}/.forebay/run", me.user_name);
    client.workspace_mkdirs(&folder).await?;
    let path = format!("{folder}/{}", file.name);
    file.import(client, &path, true).await?;
    Ok(path)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_parameter_keeps_what_follows_its_first_equals_sign() {
        let expected = ("a".to_owned(), "b=c".to_owned());
        assert_eq!(parameter("a=b=c"), Ok(expected));
        assert_eq!(parameter("a="), Ok(("a".to_owned(), String::new())));
        assert!(parameter("=x").is_err() && parameter("x").is_err());
    }
}
