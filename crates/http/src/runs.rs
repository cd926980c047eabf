mod for_each;
mod repair;
mod repeat;
mod resolved;
mod view;

use std::sync::Arc;
use std::time::Duration;

use axum::Json;
use axum::extract::State;
use axum::http::header::CONTENT_TYPE;
use axum::response::{IntoResponse, Response};
use forebay_control::runs::Cursor;
use forebay_store::{RunCursor, RunFilter, RunKind};
use forebay_types::{Error, JobId, Millis, Result, RunId};
use forebay_wire::Method::{Get, Post};
use forebay_wire::runs as wire;
use serde_json::{Value, json};

use self::view::{output_json, run_json};
use crate::auth::Caller;
use crate::error::ApiResult;
use crate::extract::{ApiVersion, Fields, IdInPath, Params};
use crate::jobs::small_enough;
use crate::page;
use crate::queue::put_reason;
use crate::routes::Routes;
use crate::server::App;

const ALL: &[&str] = &["2.0", "2.1", "2.2"];
const LIMIT_DEFAULT: usize = 20;
const WAIT_MAX: Duration = Duration::from_secs(30);

pub(crate) fn routes(routes: &mut Routes) {
    routes.on(Post, ALL, "/jobs/runs/submit", submit);
    routes.on(Get, ALL, "/jobs/runs/get", get);
    routes.on(Get, ALL, "/jobs/runs/list", list);
    routes.on(Get, ALL, "/jobs/runs/get-output", get_output);
    routes.on(Get, ALL, "/jobs/runs/export", export);
    routes.on(Post, ALL, "/jobs/runs/cancel", cancel);
    routes.on(Post, ALL, "/jobs/runs/cancel-all", cancel_all);
    routes.on(Post, ALL, "/jobs/runs/delete", delete);
    routes.on(Post, ALL, "/jobs/runs/repair", repair::repair);
    routes.on(Get, &[], "/api/forebay/v1/runs/{run_id}", wait);
    routes.on(Get, &[], "/api/forebay/v1/runs/{run_id}/events", events);
    routes.on(Get, &[], "/api/forebay/v1/runs/{run_id}/notebook", notebook);
    routes.on(
        Get,
        &[],
        "/api/forebay/v1/runs/{run_id}/facts",
        repeat::facts,
    );
    routes.on(
        Post,
        &[],
        "/api/forebay/v1/runs/{run_id}/repeat",
        repeat::repeat,
    );
}

async fn submit(
    State(app): State<Arc<App>>,
    Caller(ctx): Caller,
    version: ApiVersion,
    Fields(settings): Fields,
) -> ApiResult<Json<Value>> {
    let settings = small_enough(version, settings)?;
    let id = app.services.runs.submit(&ctx, settings).await?;
    Ok(Json(json!({"run_id": id})))
}

async fn get(
    State(app): State<Arc<App>>,
    Caller(ctx): Caller,
    version: ApiVersion,
    Params(request): Params<wire::GetRun>,
) -> ApiResult<Json<Value>> {
    let found = app.services.runs.get(&ctx, RunId(request.run_id)).await?;
    let mut shown = run_json(&app, &found, version, true);
    page::refuse_large(version, shown.get("tasks"))?;
    if let Some(reason) = app.services.runs.why_waiting(&ctx, &found).await? {
        put_reason(&mut shown, &reason);
    }
    let token = request.page_token.as_deref();
    for_each::describe(&app, &found, &mut shown, token).await?;
    if request.include_resolved_values {
        resolved::describe(&app, &found, &mut shown).await?;
    }
    if request.include_history && found.task.is_none() {
        shown["repair_history"] = repair::history(&app, &found).await?;
    }
    if version >= ApiVersion::V2_2 && shown.get("iterations").is_none() {
        page::lists(&mut shown, "", request.page_token.as_deref())?;
    }
    Ok(Json(shown))
}

async fn list(
    State(app): State<Arc<App>>,
    Caller(ctx): Caller,
    version: ApiVersion,
    Params(request): Params<wire::ListRuns>,
) -> ApiResult<Json<Value>> {
    if request.active_only && request.completed_only {
        return Err(Error::invalid("active_only and completed_only exclude each other.").into());
    }
    let max = if version < ApiVersion::V2_1 {
        1000
    } else {
        100
    };
    let limit = page::limit(request.limit, LIMIT_DEFAULT, max)?;
    let active = if request.active_only {
        Some(true)
    } else {
        request.completed_only.then_some(false)
    };
    let filter = RunFilter {
        job_id: request.job_id.map(JobId),
        active,
        kind: request.run_type.as_deref().map(run_kind).transpose()?,
        started_from: request.start_time_from.map(Millis),
        started_to: request.start_time_to.map(Millis),
        before: page::before(request.page_token.as_deref())?,
        offset: page::offset(request.offset)?,
        limit: limit + 1,
        ..RunFilter::default()
    };
    let runs = app.services.runs.list(&ctx, filter).await?;
    let (runs, next) = page::split(runs, limit, |view| {
        RunCursor::new(view.run.id, view.run.created_at)
    });
    let tasks = version < ApiVersion::V2_1 || request.expand_tasks;
    let runs: Vec<Value> = runs
        .iter()
        .map(|run| {
            let mut shown = run_json(&app, run, version, tasks);
            page::lists(&mut shown, "", None).map(|()| shown)
        })
        .collect::<Result<_>>()?;
    let mut answer = json!({"runs": runs, "has_more": next.is_some()});
    page::put_token(&mut answer, next);
    Ok(Json(answer))
}

fn run_kind(text: &str) -> Result<RunKind> {
    let kinds = [RunKind::Job, RunKind::Submit, RunKind::Workflow];
    kinds
        .into_iter()
        .find(|kind| kind.as_str() == text)
        .ok_or_else(|| {
            Error::invalid(format!(
                "Field 'run_type' is '{text}'; one of JOB_RUN, SUBMIT_RUN, WORKFLOW_RUN."
            ))
        })
}

async fn get_output(
    State(app): State<Arc<App>>,
    Caller(ctx): Caller,
    version: ApiVersion,
    Params(request): Params<wire::RunRef>,
) -> ApiResult<Json<Value>> {
    let output = app
        .services
        .runs
        .output(&ctx, RunId(request.run_id))
        .await?;
    Ok(Json(output_json(&app, output, version)))
}

async fn export(
    State(app): State<Arc<App>>,
    Caller(ctx): Caller,
    Params(request): Params<wire::RunRef>,
) -> ApiResult<Json<Value>> {
    let (name, content) = app
        .services
        .runs
        .export_html(&ctx, RunId(request.run_id))
        .await?;
    Ok(Json(
        json!({"views": [{"name": name, "type": "NOTEBOOK", "content": content}]}),
    ))
}

async fn cancel(
    State(app): State<Arc<App>>,
    Caller(ctx): Caller,
    Params(request): Params<wire::RunRef>,
) -> ApiResult<Json<Value>> {
    app.services
        .runs
        .cancel(&ctx, RunId(request.run_id))
        .await?;
    Ok(Json(json!({})))
}

async fn cancel_all(
    State(app): State<Arc<App>>,
    Caller(ctx): Caller,
    Params(request): Params<wire::CancelAll>,
) -> ApiResult<Json<Value>> {
    if request.job_id.is_none() && !request.all_queued_runs {
        return Err(Error::invalid("Give 'job_id', or 'all_queued_runs' for all jobs.").into());
    }
    app.services
        .runs
        .cancel_all(&ctx, request.job_id.map(JobId), request.all_queued_runs)
        .await?;
    Ok(Json(json!({})))
}

async fn delete(
    State(app): State<Arc<App>>,
    Caller(ctx): Caller,
    Params(request): Params<wire::RunRef>,
) -> ApiResult<Json<Value>> {
    app.services
        .runs
        .delete(&ctx, RunId(request.run_id))
        .await?;
    Ok(Json(json!({})))
}

/// The run as `runs/get` shows it, with what only this server knows in `forebay`, once it has ended
/// or `wait_ms` have passed.
async fn wait(
    State(app): State<Arc<App>>,
    Caller(ctx): Caller,
    IdInPath(id): IdInPath,
    Params(request): Params<wire::Follow>,
) -> ApiResult<Json<Value>> {
    let wait = Duration::from_millis(request.wait_ms).min(WAIT_MAX);
    let found = app.services.runs.wait(&ctx, RunId(id), wait).await?;
    let (pinned, output_removed) = app.services.runs.kept(&found).await?;
    let mut shown = run_json(&app, &found, ApiVersion::V2_2, true);
    shown["forebay"] = json!({
        "pinned": pinned,
        "output_removed": output_removed,
        "usage": crate::cost::used_json(&found.used()),
    });
    if let Some(reason) = app.services.runs.why_waiting(&ctx, &found).await? {
        put_reason(&mut shown, &reason);
    }
    Ok(Json(shown))
}

/// Events of one attempt as JSON lines; `{"end":true}` follows the last one there will ever be, and
/// `{"next":...}` others when the caller follows by cursor.
async fn events(
    State(app): State<Arc<App>>,
    Caller(ctx): Caller,
    IdInPath(id): IdInPath,
    Params(request): Params<wire::Follow>,
) -> ApiResult<Response> {
    let wait = Duration::from_millis(request.wait_ms).min(WAIT_MAX);
    let from = match request.cursor.as_deref() {
        None => Cursor::after(request.from),
        Some("") => Cursor::default(),
        Some(text) => text.parse()?,
    };
    let runs = &app.services.runs;
    let page = runs.events(&ctx, RunId(id), from, wait).await?;
    let mut lines = String::new();
    for event in &page.events {
        let line =
            serde_json::to_string(event).map_err(|e| Error::internal("cannot show an event", e))?;
        lines.push_str(&line);
        lines.push('\n');
    }
    if page.end {
        lines.push_str("{\"end\":true}\n");
    } else if request.cursor.is_some() {
        lines.push_str(&format!("{{\"next\":\"{}\"}}\n", page.next));
    }
    Ok(([(CONTENT_TYPE, "application/x-ndjson")], lines).into_response())
}

async fn notebook(
    State(app): State<Arc<App>>,
    Caller(ctx): Caller,
    IdInPath(id): IdInPath,
) -> ApiResult<Response> {
    let document = app.services.runs.notebook(&ctx, RunId(id)).await?;
    Ok(([(CONTENT_TYPE, "application/x-ipynb+json")], document).into_response())
}
