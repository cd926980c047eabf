use clap::{Args, Subcommand};
use forebay_client::{Client, Method, Repo, Revision};
use serde_json::json;

use crate::args::Connection;
use crate::failure::{Exit, Failure, Outcome};
use crate::output::Out;

/// Subcommands of `forebay repos`.
#[derive(Debug, Subcommand)]
pub enum ReposCommand {
    /// List the clones in the workspace
    #[command(visible_alias = "ls")]
    List(ListArgs),
    /// Clone a Git repository
    Create(CreateArgs),
    /// Fetch, and move to a branch, tag or commit; pulls the branch when none is named
    Update(UpdateArgs),
    /// Delete a clone with everything in it
    Delete(DeleteArgs),
}

/// Arguments of `forebay repos list`.
#[derive(Debug, Args)]
pub struct ListArgs {
    /// Only clones whose path begins so
    #[arg(default_value = "/")]
    prefix: String,
    #[command(flatten)]
    connection: Connection,
}

/// Arguments of `forebay repos create`.
#[derive(Debug, Args)]
pub struct CreateArgs {
    /// Address of the repository
    url: String,
    /// Where it goes [default: /Repos/<you>/<name of the repository>]
    #[arg(long, value_name = "PATH")]
    path: Option<String>,
    /// Whose credential is used, such as gitHub or gitLab [default: told by the address]
    #[arg(long, value_name = "NAME")]
    provider: Option<String>,
    #[command(flatten)]
    at: At,
    #[command(flatten)]
    connection: Connection,
}

/// Arguments of `forebay repos update`.
#[derive(Debug, Args)]
pub struct UpdateArgs {
    /// Workspace path of the clone
    path: String,
    #[command(flatten)]
    at: At,
    #[command(flatten)]
    connection: Connection,
}

/// Arguments of `forebay repos delete`.
#[derive(Debug, Args)]
pub struct DeleteArgs {
    /// Workspace path of the clone
    path: String,
    #[command(flatten)]
    connection: Connection,
}

/// What a clone is to stand at.
#[derive(Debug, Args)]
#[group(multiple = false)]
struct At {
    /// The newest commit of this branch
    #[arg(long, value_name = "NAME")]
    branch: Option<String>,
    /// This tag
    #[arg(long, value_name = "NAME")]
    tag: Option<String>,
    /// This commit, by at least seven digits of its id
    #[arg(long, value_name = "ID")]
    commit: Option<String>,
}

impl At {
    fn revision(&self) -> Option<Revision> {
        let branch = self.branch.clone().map(Revision::Branch);
        let tag = self.tag.clone().map(Revision::Tag);
        let commit = self.commit.clone().map(Revision::Commit);
        branch.or(tag).or(commit)
    }
}

pub(crate) async fn run(command: &ReposCommand) -> Outcome {
    match command {
        ReposCommand::List(args) => list(args).await?,
        ReposCommand::Create(args) => create(args).await?,
        ReposCommand::Update(args) => update(args).await?,
        ReposCommand::Delete(args) => delete(args).await?,
    }
    Ok(Exit::Ok)
}

async fn list(args: &ListArgs) -> Result<(), Failure> {
    let out = args.connection.out();
    let repos = args.connection.client()?.repo_list(&args.prefix).await?;
    if out.is_json() {
        return out.json(&repos);
    }
    if repos.is_empty() {
        out.note("No clones; `forebay repos create URL` makes one");
        return Ok(());
    }
    let rows: Vec<_> = repos.iter().map(row).collect();
    out.table(["PATH", "BRANCH", "COMMIT", "FROM"], &rows)
}

fn row(repo: &Repo) -> [String; 4] {
    let commit = &repo.head_commit_id;
    [
        repo.path.clone(),
        repo.branch.clone().unwrap_or_else(|| "-".to_owned()),
        commit.get(..10).unwrap_or(commit).to_owned(),
        repo.url.clone(),
    ]
}

async fn create(args: &CreateArgs) -> Result<(), Failure> {
    let client = args.connection.client()?;
    let mut body = json!({"url": args.url});
    let given = [("path", &args.path), ("provider", &args.provider)];
    for (field, value) in given {
        if let Some(value) = value {
            body[field] = json!(value);
        }
    }
    if let Some((parent, _)) = args.path.as_ref().and_then(|path| path.rsplit_once('/')) {
        let parent = json!({"path": if parent.is_empty() { "/" } else { parent }});
        let mkdirs = "/api/2.0/workspace/mkdirs";
        client.write(Method::POST, mkdirs, &parent).await?;
    }
    let made = client.write(Method::POST, "/api/2.0/repos", &body).await?;
    let id = made["id"].as_i64().unwrap_or_default();
    let repo = match args.at.revision() {
        Some(revision) => client.repo_update(id, &revision).await?,
        None => client.repo_get(id).await?,
    };
    tell(args.connection.out(), &repo)
}

async fn update(args: &UpdateArgs) -> Result<(), Failure> {
    let client = args.connection.client()?;
    let repo = find(&client, &args.path).await?;
    let pull = repo.branch.clone().map(Revision::Branch);
    let revision = args.at.revision().or(pull).ok_or_else(|| {
        Failure::usage(format!(
            "{} stands at no branch that could be pulled",
            repo.path
        ))
        .hint("name what it is to stand at with --branch, --tag or --commit")
    })?;
    let repo = client.repo_update(repo.id, &revision).await?;
    tell(args.connection.out(), &repo)
}

async fn delete(args: &DeleteArgs) -> Result<(), Failure> {
    let client = args.connection.client()?;
    let repo = find(&client, &args.path).await?;
    client.repo_delete(repo.id).await?;
    let out = args.connection.out();
    out.note(format_args!("{} is deleted", repo.path));
    Ok(())
}

async fn find(client: &Client, path: &str) -> Result<Repo, Failure> {
    let path = path.trim_end_matches('/');
    let path = path.strip_prefix("/Workspace").unwrap_or(path);
    client.repo_at(path).await?.ok_or_else(|| {
        Failure::new(Exit::Failed, format!("there is no clone at {path}"))
            .hint("`forebay repos list` shows all")
    })
}

fn tell(out: Out, repo: &Repo) -> Result<(), Failure> {
    if out.is_json() {
        return out.json(repo);
    }
    let [path, branch, commit, _] = row(repo);
    let at = if branch == "-" {
        String::new()
    } else {
        format!("{branch} at ")
    };
    out.line(format_args!("{path}  {at}{commit}"))
}
