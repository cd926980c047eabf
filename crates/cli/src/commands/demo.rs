//! `forebay demo`: what a team does all day, on a small project, with nothing simulated.

mod example;
mod git;

use std::path::{Path, PathBuf};
use std::time::Duration;

use clap::Args;
use forebay_client::{Client, Profile, Repo, Run, Submit, Work};
use serde_json::Value;

use crate::failure::{Exit, Failure, Outcome};
use crate::live::{Followed, Live};
use crate::output::{BOLD, DIM, Format, GOOD, Out, duration};

/// Arguments of `forebay demo`.
#[derive(Debug, Args)]
pub struct DemoArgs {
    /// Data folder; kept, so that the next demo finds its environment ready
    #[arg(long, value_name = "DIR", default_value = ".forebay-demo")]
    pub data: PathBuf,
    /// First of three ports [default: 7071, or the next that is free]
    #[arg(long, value_name = "N")]
    pub port: Option<u16>,
    /// Leave the server running until Ctrl-C [default on a terminal]
    #[arg(long, overrides_with = "no_keep")]
    keep: bool,
    /// End when the demo ends [default in a pipe]
    #[arg(long, overrides_with = "keep")]
    no_keep: bool,
}

impl DemoArgs {
    /// Where the developer's repository lies; local clones are allowed below it.
    #[must_use]
    pub fn source(&self) -> PathBuf {
        self.data.join("source")
    }

    #[must_use]
    pub fn keeps(&self) -> bool {
        self.keep || (!self.no_keep && std::io::IsTerminal::is_terminal(&std::io::stdout()))
    }
}

/// The server that the demo talks to.
#[derive(Debug)]
pub struct DemoServer {
    /// Names and addresses of the workspaces.
    pub workspaces: Vec<(String, String)>,
    /// From the start of the process to the first answer.
    pub ready_ms: i64,
    pub data: PathBuf,
}

const PROJECT: &str = "demand";
const REPO_PATH: &str = "/Repos/demo/demand";
const NOTEBOOK: &str = "tests/integration_test";

/// Plays the demo against a running server.
///
/// # Errors
/// When a step cannot be done; a notebook that fails is an outcome, not an error.
pub async fn play(args: &DemoArgs, server: &DemoServer) -> Outcome {
    let out = Out::new(Format::Text);
    step(
        out,
        "Server",
        &format!("ready in {}", duration(server.ready_ms)),
    );
    for (name, url) in &server.workspaces {
        detail(out, &format!("{name:<8} {url}"));
    }
    let profile = Profile::read(&server.data.join("databrickscfg"), "dev")?;
    let client = Client::new(&profile)?;
    let repo = repository(out, args, &client).await?;
    let notebook = format!("{}/{NOTEBOOK}", repo.path);

    step(out, "First run", &notebook);
    let first = execute(out, &client, &notebook).await?;
    if first.exit != Exit::Ok {
        return Ok(first.exit);
    }
    let again = "the same notebook again, now that everything is warm";
    step(out, "Second run", again);
    let second = execute(out, &client, &notebook).await?;
    if second.exit != Exit::Ok {
        return Ok(second.exit);
    }
    closing(out, server, &client, [&first, &second]).await?;
    Ok(Exit::Ok)
}

/// A run, and how long it took from the call to the verdict as its caller saw it.
struct Timed {
    run: Run,
    exit: Exit,
    took: Duration,
}

async fn execute(out: Out, client: &Client, notebook: &str) -> Result<Timed, Failure> {
    let submit = Submit {
        name: "integration test".to_owned(),
        work: Work::Notebook {
            path: notebook.to_owned(),
            parameters: std::collections::BTreeMap::new(),
        },
        cluster_id: None,
    };
    let start = tokio::time::Instant::now();
    let run_id = client.run_submit(&submit).await?;
    let live = Live::new(client, out);
    let followed = live.follow(run_id).await?;
    let took = start.elapsed();
    let exit = live.verdict(&followed).await?;
    let Followed { run, .. } = followed;
    Ok(Timed { run, exit, took })
}

async fn repository(out: Out, args: &DemoArgs, client: &Client) -> Result<Repo, Failure> {
    let source = args.source().join(PROJECT);
    let files = example::write(&source)?;
    let commit = git::commit_all(&source).await?;
    let short = &commit[..commit.len().min(8)];
    step(
        out,
        "Repository",
        &format!("{files} files committed to {} as {short}", source.display()),
    );
    let url = format!("file://{}", absolute(&source)?.display());
    let repo = match client.repo_at(REPO_PATH).await? {
        None => {
            client.workspace_mkdirs("/Repos/demo").await?;
            client.repo_create(&url, "gitHub", REPO_PATH).await?
        }
        Some(repo) => {
            client.repo_to_branch(repo.id, "main").await?;
            client.repo_get(repo.id).await?
        }
    };
    if repo.head_commit_id != commit {
        let message = format!(
            "{} is at {} after the clone, not at {commit}",
            repo.path, repo.head_commit_id
        );
        return Err(Failure::new(Exit::Failed, message));
    }
    let branch = repo.branch.as_deref().unwrap_or("no branch");
    step(out, "Clone", &format!("{} at {branch}, {short}", repo.path));
    Ok(repo)
}

fn absolute(path: &Path) -> Result<PathBuf, Failure> {
    path.canonicalize()
        .map_err(|e| Failure::usage(format!("cannot resolve {}: {e}", path.display())))
}

async fn closing(
    out: Out,
    server: &DemoServer,
    client: &Client,
    [first, second]: [&Timed; 2],
) -> Result<(), Failure> {
    let data = absolute(&server.data)?;
    let data = data.display();
    out.note("");
    out.line(format_args!("{GOOD}The notebook passed, twice{GOOD:#}"))?;
    row(out, "first run", &millis(first.took))?;
    row(out, "second run", &millis(second.took))?;
    for id in second.run.output_ids() {
        let output = client.run_output(id).await?.notebook_output;
        if let Some(text) = output.and_then(|output| output.result) {
            result(out, &text)?;
        }
    }
    row(out, "page", &second.run.run_page_url)?;
    out.line("")?;
    out.line("The Python SDK and the legacy CLI reach the workspace with")?;
    out.line(format_args!(
        "  export DATABRICKS_CONFIG_FILE={data}/databrickscfg"
    ))?;
    out.line("  export DATABRICKS_CONFIG_PROFILE=dev")
}

/// What the notebook handed to its caller; the fields of an object one by one.
fn result(out: Out, text: &str) -> Result<(), Failure> {
    let Ok(Value::Object(fields)) = serde_json::from_str(text) else {
        return row(out, "result", text);
    };
    let mut name = "result";
    for (field, value) in &fields {
        let shown = value
            .as_str()
            .map_or_else(|| value.to_string(), str::to_owned);
        row(out, name, &format!("{} {shown}", field.replace('_', " ")))?;
        name = "";
    }
    Ok(())
}

fn millis(took: Duration) -> String {
    duration(i64::try_from(took.as_millis()).unwrap_or(i64::MAX))
}

fn row(out: Out, name: &str, text: &str) -> Result<(), Failure> {
    out.line(format_args!("  {DIM}{name:<12}{DIM:#} {text}"))
}

fn step(out: Out, name: &str, text: &str) {
    out.note(format_args!("{BOLD}{name:<11}{BOLD:#} {text}"));
}

fn detail(out: Out, text: &str) {
    out.note(format_args!("{:<11} {text}", ""));
}
