use std::sync::Arc;

use axum::Json;
use axum::extract::State;
use forebay_control::runs::{Reason, Waiting};
use forebay_engine::admission::{Cap, Held, Use};
use forebay_store::{DueEntry, QueueEntry, RoomUse};
use forebay_types::Millis;
use forebay_wire::Method::Get;
use forebay_wire::queue as wire;
use serde_json::{Map, Value, json};

use crate::auth::Caller;
use crate::error::ApiResult;
use crate::extract::Params;
use crate::page;
use crate::routes::Routes;
use crate::server::App;

const LIMIT_DEFAULT: usize = 100;
const LIMIT_MAX: usize = 1000;

pub(crate) fn routes(routes: &mut Routes) {
    routes.on(Get, &[], "/api/forebay/v1/queue", show);
}

async fn show(
    State(app): State<Arc<App>>,
    Caller(ctx): Caller,
    Params(request): Params<wire::ShowQueue>,
) -> ApiResult<Json<Value>> {
    let take = page::limit(request.limit, LIMIT_DEFAULT, LIMIT_MAX)?;
    let skip = page::start(request.page_token.as_deref())?;
    let queue = app.services.runs.queue(&ctx, skip, take).await?;
    let running: Vec<Value> = (queue.running.iter())
        .map(|entry| running_json(entry, queue.now))
        .collect();
    let waiting: Vec<Value> = (queue.waiting.iter())
        .map(|waiting| waiting_json(waiting, queue.now))
        .collect();
    let (jobs, keys): (Vec<&RoomUse>, Vec<&RoomUse>) =
        queue.rooms.iter().partition(|room| room.job_id.is_some());
    let rooms = |rooms: Vec<&RoomUse>| rooms.into_iter().map(room_json).collect::<Vec<Value>>();
    // Few as a rule, and in no line: they are on the first page.
    let later = match skip {
        0 => app.services.runs.due(&ctx, take).await?,
        _ => Vec::new(),
    };
    let later: Vec<Value> = later.iter().map(later_json).collect();
    let mut answer = json!({
        "caps": {
            "server": use_json(queue.server),
            "workspace": use_json(queue.workspace),
            "jobs": rooms(jobs),
            "keys": rooms(keys),
        },
        "running": running,
        "running_total": queue.running_total,
        "waiting": waiting,
        "waiting_total": queue.waiting_total,
        "later": later,
        "hidden": queue.hidden,
    });
    let next = queue
        .more
        .then(|| i64::try_from(skip + take).unwrap_or(i64::MAX));
    page::put_token(&mut answer, next);
    Ok(Json(answer))
}

fn use_json(fill: Use) -> Value {
    json!({"live": fill.live, "max": fill.max})
}

fn room_json(room: &RoomUse) -> Value {
    let mut shown = use_json(room.fill);
    shown["queued"] = json!(room.queued);
    match (&room.job_id, &room.key) {
        (Some(job), _) => shown["job_id"] = json!(job),
        (_, Some(key)) => shown["key"] = json!(key),
        _ => {}
    }
    shown
}

fn entry_json(entry: &QueueEntry) -> Map<String, Value> {
    let mut shown = Map::new();
    shown.insert("run_id".to_owned(), json!(entry.run_id));
    if let Some(job) = entry.job_id {
        shown.insert("job_id".to_owned(), json!(job));
    }
    if let Some(attempt) = entry.attempt_id {
        shown.insert("task_run_id".to_owned(), json!(attempt));
        shown.insert("task_key".to_owned(), json!(entry.task_key));
    }
    shown.insert("run_name".to_owned(), json!(entry.name));
    shown.insert("creator_user_name".to_owned(), json!(entry.creator_name));
    if !entry.key.is_empty() {
        shown.insert("key".to_owned(), json!(entry.key));
    }
    shown
}

fn running_json(entry: &QueueEntry, now: Millis) -> Value {
    let mut shown = entry_json(entry);
    shown.insert("running_since".to_owned(), json!(entry.since));
    shown.insert(
        "running_ms".to_owned(),
        json!(now.since(entry.since).max(0)),
    );
    Value::Object(shown)
}

fn waiting_json(waiting: &Waiting, now: Millis) -> Value {
    let entry = &waiting.entry;
    let mut shown = entry_json(entry);
    shown.insert("waiting_since".to_owned(), json!(entry.since));
    shown.insert(
        "waiting_ms".to_owned(),
        json!(now.since(entry.since).max(0)),
    );
    shown.insert("place".to_owned(), json!(waiting.place));
    if let Some(held) = waiting.held {
        shown.insert("held_by".to_owned(), held_json(held));
    }
    Value::Object(shown)
}

fn later_json(due: &DueEntry) -> Value {
    let mut shown = entry_json(&due.entry);
    shown.insert("due_at".to_owned(), json!(due.due_at));
    let why = match due.is_retry {
        true => "its next try",
        false => due.message.as_str(),
    };
    shown.insert("message".to_owned(), json!(why));
    Value::Object(shown)
}

fn held_json(held: Held) -> Value {
    let mut shown = use_json(held.fill);
    shown["cap"] = json!(held.cap.as_str());
    shown["message"] = json!(held.message());
    shown
}

/// The code that Databricks clients know for what holds up a run.
fn code(cap: Cap) -> &'static str {
    match cap {
        Cap::Server | Cap::Workspace => "ACTIVE_RUNS_LIMIT_REACHED",
        Cap::Job | Cap::Key => "MAX_CONCURRENT_RUNS_REACHED",
    }
}

/// Puts the reason why a run waits into its two states, and the whole of it into a field of ours.
pub(crate) fn put_reason(shown: &mut Value, reason: &Reason) {
    if let Some(held) = reason.held {
        let message = reason.message();
        shown["status"]["queue_details"] = json!({"code": code(held.cap), "message": message});
        shown["state"]["queue_reason"] = json!(message);
    }
    let mut own = json!({"place": reason.before + 1, "before": reason.before});
    if let Some(held) = reason.held {
        own["held_by"] = held_json(held);
        own["held_by"]["run_ids"] = json!(reason.holders);
    }
    shown["forebay"]["queue"] = own;
}
