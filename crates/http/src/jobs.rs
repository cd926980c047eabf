use std::collections::BTreeMap;
use std::sync::Arc;

use axum::Json;
use axum::extract::State;
use forebay_control::jobs::{is_flat, run_as, to_flat};
use forebay_control::runs::RunNow;
use forebay_store::{Job, JobFilter};
use forebay_types::{Error, JobId};
use forebay_wire::Method::{Get, Post};
use forebay_wire::jobs as wire;
use serde_json::{Map, Value, json};

use crate::auth::Caller;
use crate::error::ApiResult;
use crate::extract::{ApiVersion, Fields, IdInPath, Params};
use crate::page;
use crate::routes::Routes;
use crate::server::App;

const ALL: &[&str] = &["2.0", "2.1", "2.2"];
const LIMIT_DEFAULT: usize = 20;
const LIMIT_MAX: usize = 100;

pub(crate) fn routes(routes: &mut Routes) {
    routes.on(Post, ALL, "/jobs/create", create);
    routes.on(Get, ALL, "/jobs/get", get);
    routes.on(Get, ALL, "/jobs/list", list);
    routes.on(Post, ALL, "/jobs/reset", reset);
    routes.on(Post, ALL, "/jobs/update", update);
    routes.on(Post, ALL, "/jobs/delete", delete);
    routes.on(Post, ALL, "/jobs/run-now", run_now);
    routes.on(Get, &[], "/api/forebay/v1/jobs/{job_id}/warnings", warnings);
}

/// What the code of a job asks of its Spark engine and does not get.
async fn warnings(
    State(app): State<Arc<App>>,
    Caller(ctx): Caller,
    IdInPath(id): IdInPath,
) -> ApiResult<Json<Value>> {
    let found = app.services.runs.job_warnings(&ctx, JobId(id)).await?;
    let shown = found.iter().map(|warning| {
        json!({
            "task_key": warning.task_key,
            "path": warning.path,
            "cell": warning.cell,
            "line": warning.line,
            "feature": warning.feature,
            "message": warning.message(),
        })
    });
    Ok(Json(json!({"warnings": shown.collect::<Vec<_>>()})))
}

async fn create(
    State(app): State<Arc<App>>,
    Caller(ctx): Caller,
    version: ApiVersion,
    Fields(mut settings): Fields,
) -> ApiResult<Json<Value>> {
    queue_default(version, &mut settings);
    let settings = small_enough(version, settings)?;
    let id = app.services.jobs.create(&ctx, settings).await?;
    Ok(Json(json!({"job_id": id})))
}

pub(crate) fn small_enough(
    version: ApiVersion,
    settings: Map<String, Value>,
) -> Result<Map<String, Value>, Error> {
    let settings = Value::Object(settings);
    page::refuse_large(version, settings.get("tasks"))?;
    match settings {
        Value::Object(settings) => Ok(settings),
        _ => Ok(Map::new()),
    }
}

/// Jobs made through API 2.2 wait for their turn; older clients expect extra runs to be skipped.
fn queue_default(version: ApiVersion, settings: &mut Map<String, Value>) {
    if version >= ApiVersion::V2_2 && !settings.contains_key("queue") {
        settings.insert("queue".to_owned(), json!({"enabled": true}));
    }
}

async fn get(
    State(app): State<Arc<App>>,
    Caller(ctx): Caller,
    version: ApiVersion,
    Params(request): Params<wire::GetJob>,
) -> ApiResult<Json<Value>> {
    let job = app.services.jobs.get(&ctx, JobId(request.job_id)).await?;
    let mut shown = job_json(job, version, true);
    page::refuse_large(version, shown.pointer("/settings/tasks"))?;
    if version >= ApiVersion::V2_2 {
        page::lists(&mut shown, "settings", request.page_token.as_deref())?;
    }
    Ok(Json(shown))
}

async fn list(
    State(app): State<Arc<App>>,
    Caller(ctx): Caller,
    version: ApiVersion,
    Params(request): Params<wire::ListJobs>,
) -> ApiResult<Json<Value>> {
    if version < ApiVersion::V2_1 {
        let filter = JobFilter {
            limit: 20_000,
            ..JobFilter::default()
        };
        let jobs = app.services.jobs.list(&ctx, filter).await?;
        let jobs: Vec<Value> = jobs
            .into_iter()
            .map(|job| job_json(job, version, true))
            .collect();
        return Ok(Json(json!({"jobs": jobs})));
    }
    let limit = page::limit(request.limit, LIMIT_DEFAULT, LIMIT_MAX)?;
    let filter = JobFilter {
        name: request.name,
        before: page::before(request.page_token.as_deref())?.map(JobId),
        offset: page::offset(request.offset)?,
        limit: limit + 1,
        visible_to: None,
    };
    let jobs = app.services.jobs.list(&ctx, filter).await?;
    let (jobs, next) = page::split(jobs, limit, |job| job.id.0);
    let jobs: Vec<Value> = jobs
        .into_iter()
        .map(|job| {
            let mut shown = job_json(job, version, request.expand_tasks);
            page::lists(&mut shown, "settings", None).map(|()| shown)
        })
        .collect::<Result<_, Error>>()?;
    let mut answer = json!({"jobs": jobs, "has_more": next.is_some()});
    page::put_token(&mut answer, next);
    Ok(Json(answer))
}

async fn reset(
    State(app): State<Arc<App>>,
    Caller(ctx): Caller,
    version: ApiVersion,
    Params(mut request): Params<wire::ResetJob>,
) -> ApiResult<Json<Value>> {
    queue_default(version, &mut request.new_settings);
    let new_settings = small_enough(version, request.new_settings)?;
    app.services
        .jobs
        .reset(&ctx, JobId(request.job_id), new_settings)
        .await?;
    Ok(Json(json!({})))
}

async fn update(
    State(app): State<Arc<App>>,
    Caller(ctx): Caller,
    version: ApiVersion,
    Params(request): Params<wire::UpdateJob>,
) -> ApiResult<Json<Value>> {
    let id = JobId(request.job_id);
    let new_settings = small_enough(version, request.new_settings)?;
    app.services
        .jobs
        .update(
            &ctx,
            id,
            new_settings,
            request.fields_to_remove,
            // Few tasks may be added to many.
            move |merged| page::refuse_large(version, merged.get("tasks")),
        )
        .await?;
    Ok(Json(json!({})))
}

async fn delete(
    State(app): State<Arc<App>>,
    Caller(ctx): Caller,
    Params(request): Params<wire::JobRef>,
) -> ApiResult<Json<Value>> {
    app.services
        .jobs
        .delete(&ctx, JobId(request.job_id))
        .await?;
    Ok(Json(json!({})))
}

/// Parameters for task types that do not run here; one that is given is refused, not dropped.
const OTHER_PARAMETERS: [&str; 5] = [
    "dbt_commands",
    "pipeline_params",
    "only",
    "performance_target",
    "duration_target",
];

async fn run_now(
    State(app): State<Arc<App>>,
    Caller(ctx): Caller,
    Params(request): Params<wire::RunNow>,
) -> ApiResult<Json<Value>> {
    refuse_other_parameters(&request.others, "run-now")?;
    let run = RunNow {
        job_parameters: request.job_parameters,
        notebook_params: map_or_pairs(request.notebook_params)?,
        python_params: request.python_params,
        python_named_params: request.python_named_params,
        jar_params: request.jar_params,
        spark_submit_params: request.spark_submit_params,
        sql_params: request.sql_params,
        only: request.only.unwrap_or_default(),
        idempotency_token: request.idempotency_token,
        queue: request.queue.map(|queue| queue.enabled),
    };
    let id = app
        .services
        .runs
        .run_now(&ctx, JobId(request.job_id), run)
        .await?;
    Ok(Json(json!({"run_id": id, "number_in_job": id})))
}

pub(crate) fn refuse_other_parameters(
    given: &BTreeMap<String, Value>,
    call: &str,
) -> Result<(), Error> {
    let named = |field: &&'static str| given.get(*field).is_some_and(|value| !value.is_null());
    match OTHER_PARAMETERS.into_iter().find(named) {
        Some(field) => Err(Error::not_implemented(format!("Field '{field}' of {call}"))),
        None => Ok(()),
    }
}

pub(crate) fn map_or_pairs(value: Option<Value>) -> Result<Map<String, Value>, Error> {
    match value {
        None | Some(Value::Null) => Ok(Map::new()),
        Some(Value::Object(map)) => Ok(map),
        Some(Value::Array(pairs)) => Ok(pairs
            .iter()
            .filter_map(|pair| {
                let key = pair.get("key")?.as_str()?.to_owned();
                Some((key, pair.get("value").cloned().unwrap_or(Value::Null)))
            })
            .collect()),
        Some(_) => Err(Error::invalid("Field 'notebook_params' must be an object.")),
    }
}

fn job_json(job: Job, version: ApiVersion, with_tasks: bool) -> Value {
    let flat = is_flat(&job.settings);
    let run_as = run_as(&job.settings)
        .unwrap_or(&job.creator_name)
        .to_owned();
    let mut settings = job.settings;
    let defaults = [
        ("name", json!("Untitled")),
        ("email_notifications", json!({})),
        ("timeout_seconds", json!(0)),
        ("max_concurrent_runs", json!(1)),
    ];
    for (field, value) in defaults {
        settings.entry(field).or_insert(value);
    }
    if flat && version < ApiVersion::V2_1 {
        settings = to_flat(settings);
    } else {
        settings.insert("format".to_owned(), json!("MULTI_TASK"));
        if !with_tasks {
            settings.shift_remove("tasks");
            settings.shift_remove("job_clusters");
        }
    }
    let watches_files = settings
        .get("trigger")
        .is_some_and(|trigger| trigger["file_arrival"].is_object());
    let mut shown = json!({
        "job_id": job.id,
        "creator_user_name": job.creator_name,
        "run_as_user_name": run_as,
        "created_time": job.created_at,
        "settings": settings,
    });
    if watches_files {
        // Folders are looked at again and again; nobody tells this server of new files.
        shown["trigger_state"] = json!({"file_arrival": {"using_file_events": false}});
    }
    shown
}
