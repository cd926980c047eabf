use clap::Args;
use forebay_client::{CapUse, Queue};

use crate::args::Connection;
use crate::failure::{Exit, Failure, Outcome};
use crate::output::{Out, duration, time};

/// Arguments of `forebay queue`.
#[derive(Debug, Args)]
pub struct QueueArgs {
    /// How many at most of what runs, and of what waits
    #[arg(long, value_name = "N", default_value_t = 20,
          value_parser = clap::value_parser!(u32).range(1..=1000))]
    limit: u32,
    #[command(flatten)]
    connection: Connection,
}

pub(crate) async fn run(args: &QueueArgs) -> Outcome {
    let out = args.connection.out();
    let queue = args.connection.client()?.queue(args.limit).await?;
    if out.is_json() {
        out.json(&queue)?;
    } else {
        print(out, &queue)?;
    }
    Ok(Exit::Ok)
}

fn print(out: Out, queue: &Queue) -> Result<(), Failure> {
    caps(out, queue)?;
    if queue.running.is_empty() && queue.waiting.is_empty() && queue.later.is_empty() {
        out.note("Nothing runs and nothing waits");
        return Ok(());
    }
    let rows: Vec<[String; 6]> = (queue.running.iter())
        .map(|piece| {
            let (name, task) = (piece.run_name.clone(), piece.task_key.clone());
            let since = duration(piece.running_ms);
            [
                piece.run_id.to_string(),
                "running".to_owned(),
                since,
                name,
                task,
                String::new(),
            ]
        })
        .chain(queue.waiting.iter().map(|piece| {
            let (name, task) = (piece.run_name.clone(), piece.task_key.clone());
            let since = duration(piece.waiting_ms);
            let about = |held: &forebay_client::HeldBy| held.message.clone();
            let why = piece
                .held_by
                .as_ref()
                .map_or("about to start".to_owned(), about);
            [
                piece.run_id.to_string(),
                format!("waits, {}.", piece.place),
                since,
                name,
                task,
                why,
            ]
        }))
        .chain(queue.later.iter().map(|piece| {
            [
                piece.run_id.to_string(),
                "later".to_owned(),
                String::new(),
                piece.run_name.clone(),
                piece.task_key.clone(),
                format!("until {}: {}", time(piece.due_at), piece.message),
            ]
        }))
        .collect();
    out.table(["RUN", "STATE", "FOR", "NAME", "TASK", "WHY"], &rows)?;
    let shown = queue.running.len() + queue.waiting.len();
    let total = queue.running_total + queue.waiting_total;
    if total > shown {
        out.note(format_args!("{} more", total - shown));
    }
    Ok(())
}

fn caps(out: Out, queue: &Queue) -> Result<(), Failure> {
    let row = |whose: String, cap: &CapUse| {
        let queued = cap
            .queued
            .map_or_else(String::new, |queued| queued.to_string());
        [whose, format!("{} of {}", cap.live, cap.max), queued]
    };
    let mut rows = vec![
        row("server".to_owned(), &queue.caps.server),
        row("workspace".to_owned(), &queue.caps.workspace),
    ];
    for cap in &queue.caps.jobs {
        rows.push(row(format!("job {}", cap.job_id.unwrap_or_default()), cap));
    }
    for cap in &queue.caps.keys {
        rows.push(row(
            format!("key {}", cap.key.as_deref().unwrap_or_default()),
            cap,
        ));
    }
    out.table(["CAP", "IN USE", "QUEUED"], &rows)?;
    out.line("")
}
