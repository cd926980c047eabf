use clap::{Args, Subcommand};
use forebay_client::{Library, LibraryMoved};
use serde_json::json;

use crate::args::Connection;
use crate::failure::{Exit, Failure, Outcome};
use crate::output::{bytes, time};

/// Subcommands of `forebay libraries`.
#[derive(Debug, Subcommand)]
pub enum LibrariesCommand {
    /// List the libraries of the workspace with their newest versions
    #[command(visible_alias = "ls")]
    List(ListArgs),
    /// Show the versions of a library, oldest first, and who uses which
    Show(ShowArgs),
    /// Move every job and cluster on older versions to another one, all of them or none
    Move(MoveArgs),
}

/// Arguments of `forebay libraries list`.
#[derive(Debug, Args)]
pub struct ListArgs {
    #[command(flatten)]
    connection: Connection,
}

/// Arguments of `forebay libraries show`.
#[derive(Debug, Args)]
pub struct ShowArgs {
    /// The library's name without its version, such as `recommender`
    name: String,
    #[command(flatten)]
    connection: Connection,
}

/// Arguments of `forebay libraries move`.
#[derive(Debug, Args)]
#[command(group(clap::ArgGroup::new("versions").required(true).multiple(true).args(["from", "to"])))]
pub struct MoveArgs {
    /// The library's name without its version, such as `recommender`
    name: String,
    /// Only users of this version [default: of all older ones of the same major]
    #[arg(long, value_name = "VERSION")]
    from: Option<String>,
    /// The version to move to [default: the newest of the same major]
    #[arg(long, value_name = "VERSION")]
    to: Option<String>,
    /// What the clusters of the moved tasks, and moved clusters, run on from now on
    #[arg(long, value_name = "VERSION")]
    spark_version: Option<String>,
    /// Folder of the new version, when it is in several
    #[arg(long, value_name = "PATH")]
    folder: Option<String>,
    /// Also to another major
    #[arg(long)]
    major: bool,
    /// Only say what would move
    #[arg(long)]
    dry_run: bool,
    #[command(flatten)]
    connection: Connection,
}

pub(crate) async fn run(command: &LibrariesCommand) -> Outcome {
    match command {
        LibrariesCommand::List(args) => list(args).await?,
        LibrariesCommand::Show(args) => show(args).await?,
        LibrariesCommand::Move(args) => move_all(args).await?,
    }
    Ok(Exit::Ok)
}

async fn list(args: &ListArgs) -> Result<(), Failure> {
    let out = args.connection.out();
    let libraries = args.connection.client()?.libraries(None).await?;
    if out.is_json() {
        return out.json(&libraries);
    }
    if libraries.is_empty() {
        out.note("No libraries; upload one with POST /api/1.2/libraries/upload");
        return Ok(());
    }
    let row = |library: &Library| {
        let newest = library.versions.last();
        let users = library.versions.iter();
        let users: usize = users
            .map(|one| one.jobs.len() + one.clusters.len() + one.others)
            .sum();
        [
            library.name.clone(),
            library.kind.clone(),
            newest.map_or_else(String::new, |one| or_dash(&one.version)),
            library.versions.len().to_string(),
            users.to_string(),
        ]
    };
    let rows: Vec<_> = libraries.iter().map(row).collect();
    out.table(["LIBRARY", "KIND", "NEWEST", "VERSIONS", "USERS"], &rows)
}

async fn show(args: &ShowArgs) -> Result<(), Failure> {
    let out = args.connection.out();
    let client = args.connection.client()?;
    let libraries = client.libraries(Some(&args.name)).await?;
    if libraries.is_empty() {
        let message = format!("There is no library '{}'", args.name);
        return Err(Failure::new(Exit::Failed, message)
            .hint("`forebay libraries list` shows those there are"));
    }
    if out.is_json() {
        return out.json(&libraries);
    }
    let mut rows = Vec::new();
    for one in libraries.iter().flat_map(|library| &library.versions) {
        let jobs = one
            .jobs
            .iter()
            .map(|job| format!("job {} {}", job.job_id, job.name));
        let clusters = one.clusters.iter();
        let clusters = clusters.map(|on| format!("cluster {} {}", on.cluster_id, on.status));
        let others = (one.others > 0).then(|| format!("{} of others", one.others));
        let mut users: Vec<_> = jobs.chain(clusters).chain(others).collect();
        if users.is_empty() {
            users.push("-".to_owned());
        }
        for (at, user) in users.into_iter().enumerate() {
            rows.push(match at {
                0 => [
                    or_dash(&one.version),
                    time(one.created_at),
                    bytes(one.size_bytes),
                    one.sha256.chars().take(12).collect(),
                    user,
                    one.path.clone(),
                ],
                _ => {
                    let mut row: [String; 6] = Default::default();
                    row[4] = user;
                    row
                }
            });
        }
    }
    out.table(
        ["VERSION", "SINCE", "SIZE", "SHA-256", "USED BY", "PATH"],
        &rows,
    )
}

fn or_dash(text: &str) -> String {
    if text.is_empty() { "-" } else { text }.to_owned()
}

async fn move_all(args: &MoveArgs) -> Result<(), Failure> {
    let request = json!({
        "name": args.name, "from": args.from, "to": args.to, "folder": args.folder,
        "spark_version": args.spark_version, "major": args.major, "dry_run": args.dry_run,
    });
    let out = args.connection.out();
    let moved = args.connection.client()?.library_move(&request).await?;
    if out.is_json() {
        return out.json(&moved);
    }
    let rows = rows(&moved, args.spark_version.as_deref());
    if rows.is_empty() {
        out.note(format_args!(
            "Nothing uses an older version of {}",
            moved.name
        ));
        return Ok(());
    }
    out.table(["MOVES", "NAME", "FROM", "TO", "SPARK"], &rows)?;
    let verb = if moved.dry_run { "would move" } else { "moved" };
    out.note(format_args!(
        "{} jobs and {} clusters {verb} to {} {}",
        moved.jobs.len(),
        moved.clusters.len(),
        moved.name,
        moved.to
    ));
    Ok(())
}

fn rows(moved: &LibraryMoved, spark: Option<&str>) -> Vec<[String; 5]> {
    let spark = |was: &[String]| match (spark, was) {
        (Some(now), [_, ..]) => format!("{} to {now}", was.join(", ")),
        _ => "stays".to_owned(),
    };
    let jobs = moved.jobs.iter().map(|job| {
        [
            format!("job {}", job.job_id),
            job.name.clone(),
            job.from.join(", "),
            moved.to.clone(),
            spark(&job.spark_version_was),
        ]
    });
    let clusters = moved.clusters.iter().map(|cluster| {
        let was: Vec<_> = cluster.spark_version_was.clone().into_iter().collect();
        [
            "cluster".to_owned(),
            cluster.cluster_id.clone(),
            cluster.from.join(", "),
            moved.to.clone(),
            spark(&was),
        ]
    });
    jobs.chain(clusters).collect()
}
