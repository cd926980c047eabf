//! Runs as clients of each API version expect to see them.

use forebay_control::jobs::is_flat;
use forebay_control::runs::{RunOutput, RunView, TRIGGER_INFO};
use forebay_engine::{Phase, Verdict};
use forebay_store::{Attempt, Run, RunKind};
use forebay_types::{Millis, RunId};
use serde_json::{Map, Value, json};

use crate::extract::ApiVersion;
use crate::server::App;

/// The two state objects of a run or task.
///
/// A many-task run whose task failed is an `INTERNAL_ERROR` for clients, with the result `FAILED`;
/// a flat run and a task are `TERMINATED`.
pub(super) fn states(
    phase: Phase,
    parent_of_many: bool,
    code: Option<&str>,
    message: &str,
) -> (Value, Value) {
    let (life_cycle, status) = match phase {
        Phase::Queued => ("QUEUED", "QUEUED"),
        Phase::Blocked => ("BLOCKED", "BLOCKED"),
        Phase::Pending => ("PENDING", "PENDING"),
        Phase::Running => ("RUNNING", "RUNNING"),
        Phase::Terminating => ("TERMINATING", "TERMINATING"),
        Phase::WaitingForRetry => ("WAITING_FOR_RETRY", "WAITING"),
        Phase::Ended(Verdict::InternalError) => ("INTERNAL_ERROR", "TERMINATED"),
        Phase::Ended(Verdict::Failed) if parent_of_many => ("INTERNAL_ERROR", "TERMINATED"),
        Phase::Ended(Verdict::Skipped) => ("SKIPPED", "TERMINATED"),
        Phase::Ended(_) => ("TERMINATED", "TERMINATED"),
    };
    let mut state = json!({
        "life_cycle_state": life_cycle,
        "state_message": message,
        "user_cancelled_or_timedout":
            matches!(phase, Phase::Ended(Verdict::Canceled | Verdict::TimedOut)),
    });
    let mut shown = json!({"state": status});
    if let Phase::Ended(verdict) = phase {
        let (result, default_code, kind) = result(verdict);
        state["result_state"] = json!(result);
        shown["termination_details"] = json!({
            "code": code.unwrap_or(default_code),
            "type": kind,
            "message": message,
        });
    }
    if phase == Phase::Queued {
        state["queue_reason"] = json!("Queued due to reaching maximum concurrent runs of the job.");
        shown["queue_details"] = json!({
            "code": "MAX_CONCURRENT_RUNS_REACHED",
            "message": "Queued due to reaching maximum concurrent runs of the job.",
        });
    }
    (state, shown)
}

/// Whether clients expect the states of a parent of many tasks from a run.
pub(super) fn whole_states(run: &Run) -> bool {
    !is_flat(&run.settings)
}

/// Result state, termination code and termination type of a verdict.
fn result(verdict: Verdict) -> (&'static str, &'static str, &'static str) {
    match verdict {
        Verdict::Succeeded => ("SUCCESS", "SUCCESS", "SUCCESS"),
        Verdict::SucceededWithFailures => {
            ("SUCCESS_WITH_FAILURES", "SUCCESS_WITH_FAILURES", "SUCCESS")
        }
        Verdict::Failed => ("FAILED", "RUN_EXECUTION_ERROR", "CLIENT_ERROR"),
        Verdict::TimedOut => ("TIMEDOUT", "CANCELED", "CLIENT_ERROR"),
        Verdict::Canceled => ("CANCELED", "USER_CANCELED", "SUCCESS"),
        Verdict::UpstreamFailed => ("UPSTREAM_FAILED", "SKIPPED", "CLIENT_ERROR"),
        Verdict::UpstreamCanceled => ("UPSTREAM_CANCELED", "SKIPPED", "CLIENT_ERROR"),
        Verdict::Excluded => ("EXCLUDED", "SKIPPED", "SUCCESS"),
        Verdict::Disabled => ("DISABLED", "DISABLED", "SUCCESS"),
        Verdict::Skipped => (
            "MAXIMUM_CONCURRENT_RUNS_REACHED",
            "MAX_CONCURRENT_RUNS_EXCEEDED",
            "CLIENT_ERROR",
        ),
        Verdict::InternalError => ("FAILED", "INTERNAL_ERROR", "INTERNAL_ERROR"),
    }
}

fn ms(at: Option<Millis>) -> i64 {
    at.map_or(0, |at| at.0)
}

fn between(from: Option<Millis>, to: Option<Millis>) -> i64 {
    match (from, to) {
        (Some(from), Some(to)) => to.since(from),
        _ => 0,
    }
}

/// Setup, execution and clean-up of an attempt, in milliseconds.
fn durations(attempt: &Attempt) -> [(&'static str, Value); 3] {
    let began = attempt.executed_at.or(attempt.started_at);
    [
        (
            "setup_duration",
            json!(between(attempt.started_at, attempt.executed_at)),
        ),
        (
            "execution_duration",
            json!(between(began, attempt.ended_at)),
        ),
        ("cleanup_duration", json!(0)),
    ]
}

/// The id that stands for a one-time run's job: clients want a number there.
fn job_id(run: &Run) -> i64 {
    run.job_id.map_or(run.id.0, |id| id.0)
}

fn page_url(app: &App, run: &Run) -> String {
    let base = &app.services.setup.public_url;
    format!("{base}/jobs/{}/runs/{}", job_id(run), run.id)
}

/// A whole run, or the one task that was asked for as a run of its own.
pub(crate) fn run_json(app: &App, view: &RunView, version: ApiVersion, with_tasks: bool) -> Value {
    let run = &view.run;
    let flat = is_flat(&run.settings);
    let task = view.task.and(view.only_attempt());
    let phase = task.map_or_else(|| run_phase(view), |attempt| attempt.phase);
    let message = match task {
        Some(attempt) => message(view, attempt),
        None => run_message(view, flat),
    };
    let only = view.only_attempt();
    let code = only.and_then(|attempt| attempt.code.as_deref());
    let parent_of_many = task.is_none() && whole_states(run);
    let (state, status) = states(phase, parent_of_many, code, &message);
    let ended_at = task.map_or(run.ended_at, |attempt| attempt.ended_at);
    let id = task.map_or(run.id, |attempt| attempt.id);
    let mut shown = json!({
        "job_id": job_id(run),
        "run_id": id,
        "job_run_id": run.id,
        "number_in_job": id,
        "original_attempt_run_id": task.map_or(id, |attempt| original(&view.attempts, attempt)),
        "attempt_number": only.map_or(0, |attempt| attempt.attempt),
        "creator_user_name": run.creator_name,
        "run_name": run.name,
        "run_page_url": page_url(app, run),
        "run_type": run_type(run.kind),
        "trigger": trigger(run, only.filter(|_| flat)),
        "format": if flat { "SINGLE_TASK" } else { "MULTI_TASK" },
        "start_time": run.created_at,
        "setup_duration": 0,
        "execution_duration": 0,
        "cleanup_duration": 0,
        "run_duration": between(Some(run.created_at), run.ended_at),
        "queue_duration": between(Some(run.created_at), run.started_at),
        "end_time": ms(ended_at),
        "state": state,
        "status": status,
        "overriding_parameters": overriding(run),
    });
    let Some(fields) = shown.as_object_mut() else {
        return shown;
    };
    if let Some(only) = only.filter(|_| flat || task.is_some()) {
        fields.extend(durations(only).map(|(name, value)| (name.to_owned(), value)));
        describe_only_task(fields, run, only);
    }
    if let Some(info) = run.parameters.get(TRIGGER_INFO) {
        fields.insert(TRIGGER_INFO.to_owned(), info.clone());
    }
    let parameters = job_parameters(run);
    if !parameters.is_empty() {
        fields.insert("job_parameters".to_owned(), Value::Array(parameters));
    }
    if let Some(clusters) = run.settings.get("job_clusters") {
        fields.insert("job_clusters".to_owned(), clusters.clone());
    }
    if let Some(source) = git_source(run) {
        fields.insert("git_source".to_owned(), source);
    }
    if let Some(parent) = run.parent_attempt.filter(|_| !run.kind.is_part()) {
        fields.insert("trigger_info".to_owned(), json!({"run_id": parent}));
    }
    let each = task.filter(|attempt| view.has_type(attempt, "for_each_task"));
    if let Some(each) = each.filter(|_| with_tasks) {
        let shown = task_json(app, view, each);
        fields.insert("tasks".to_owned(), json!([shown]));
    }
    if with_tasks && task.is_none() && !(flat && version < ApiVersion::V2_1) {
        let tasks: Vec<Value> = view
            .newest()
            .map(|attempt| task_json(app, view, attempt))
            .collect();
        fields.insert("tasks".to_owned(), Value::Array(tasks));
    }
    shown
}

/// Where the code comes from, with the commit once it is known.
fn git_source(run: &Run) -> Option<Value> {
    let mut source = run.settings.get("git_source")?.as_object()?.clone();
    if let Some(commit) = &run.used_commit {
        source.insert("git_snapshot".to_owned(), json!({"used_commit": commit}));
    }
    Some(Value::Object(source))
}

/// A run of one task that waits for its slot is not running yet; one of many tasks is at once.
fn run_phase(view: &RunView) -> Phase {
    match (view.run.phase, view.only_attempt()) {
        (Phase::Running, Some(attempt)) if attempt.phase == Phase::Pending => Phase::Pending,
        (phase, _) => phase,
    }
}

/// What clients of the many-task form read about a run of one task names the task.
fn run_message(view: &RunView, flat: bool) -> String {
    let run = &view.run;
    let failed = matches!(
        run.phase,
        Phase::Ended(Verdict::Failed | Verdict::InternalError)
    );
    match view.only_attempt() {
        Some(attempt) if failed && !flat => format!(
            "Task {} failed with message: {}.",
            attempt.task_key,
            run.message.trim_end_matches('.')
        ),
        Some(attempt) if run.message.is_empty() => message(view, attempt),
        _ => run.message.clone(),
    }
}

/// What an attempt says, or what it does or waits for before its program can say anything.
fn message(view: &RunView, attempt: &Attempt) -> String {
    if !attempt.message.is_empty() {
        return attempt.message.clone();
    }
    view.doing(attempt).unwrap_or_default()
}

/// `task`, `cluster_spec` and `cluster_instance` of a run that is one task.
fn describe_only_task(fields: &mut Map<String, Value>, run: &Run, attempt: &Attempt) {
    let definition = definition(run, attempt.task);
    let (mut task, mut cluster) = (Map::new(), Map::new());
    for (name, value) in definition {
        match name.as_str() {
            "existing_cluster_id" | "new_cluster" | "libraries" => {
                drop(cluster.insert(name, value))
            }
            _ if name.ends_with("_task") => drop(task.insert(name, value)),
            _ => {}
        }
    }
    fields.insert("task".to_owned(), Value::Object(task));
    fields.insert("cluster_spec".to_owned(), Value::Object(cluster));
    if let Some(cluster) = &attempt.cluster_id {
        fields.insert(
            "cluster_instance".to_owned(),
            cluster_instance(cluster, attempt),
        );
    }
}

fn cluster_instance(cluster: &str, attempt: &Attempt) -> Value {
    json!({"cluster_id": cluster, "spark_context_id": attempt.id.to_string()})
}

fn definition(run: &Run, task: usize) -> Map<String, Value> {
    let tasks = run.settings.get("tasks").and_then(Value::as_array);
    tasks
        .and_then(|tasks| tasks.get(task)?.as_object().cloned())
        .unwrap_or_default()
}

/// What clients know as types; an iteration is a part of a run to them.
fn run_type(kind: RunKind) -> &'static str {
    match kind {
        RunKind::Iteration => RunKind::Job.as_str(),
        other => other.as_str(),
    }
}

/// In the flat form a retry is a run that was triggered as one.
fn trigger<'a>(run: &'a Run, flat: Option<&Attempt>) -> &'a str {
    if flat.is_some_and(|attempt| attempt.attempt > 0) {
        "RETRY"
    } else {
        &run.trigger
    }
}

/// The first attempt of the same task.
fn original(attempts: &[Attempt], attempt: &Attempt) -> RunId {
    let mut same = attempts.iter().filter(|other| other.task == attempt.task);
    same.next().map_or(attempt.id, |first| first.id)
}

pub(super) fn task_json(app: &App, view: &RunView, attempt: &Attempt) -> Value {
    let (run, attempts) = (&view.run, &view.attempts);
    let (state, status) = states(
        attempt.phase,
        false,
        attempt.code.as_deref(),
        &message(view, attempt),
    );
    let mut task = definition(run, attempt.task);
    let own = json!({
        "run_id": attempt.id,
        "attempt_number": attempt.attempt,
        "original_attempt_run_id": original(attempts, attempt),
        "run_page_url": page_url(app, run),
        "start_time": ms(attempt.started_at.or(Some(attempt.created_at))),
        "end_time": ms(attempt.ended_at),
        "state": state,
        "status": status,
    });
    if let Some(source) = git_source(run) {
        task.insert("git_source".to_owned(), source);
    }
    task.entry("run_if").or_insert(json!("ALL_SUCCESS"));
    if let (Some(condition), Some(outcome)) = (task.get_mut("condition_task"), &attempt.exit_value)
    {
        condition["outcome"] = json!(outcome);
    }
    if let Value::Object(own) = own {
        task.extend(own);
    }
    task.extend(durations(attempt).map(|(name, value)| (name.to_owned(), value)));
    if let Some(cluster) = &attempt.cluster_id {
        task.insert(
            "cluster_instance".to_owned(),
            cluster_instance(cluster, attempt),
        );
    }
    let mut facts = attempt.facts.clone();
    if let Some(usage) = view.using.get(&attempt.id)
        && facts["usage"].is_null()
    {
        facts["usage"] = json!(usage);
    }
    if facts.is_object() {
        task.insert("forebay".to_owned(), facts);
    }
    Value::Object(task)
}

/// What the caller of run-now gave over the definition, apart from job parameters.
fn overriding(run: &Run) -> Value {
    let legacy = run
        .parameters
        .iter()
        .filter(|(name, _)| !["job_parameters", "input", TRIGGER_INFO].contains(&name.as_str()));
    Value::Object(
        legacy
            .map(|(name, value)| (name.clone(), value.clone()))
            .collect(),
    )
}

fn job_parameters(run: &Run) -> Vec<Value> {
    let declared = run.settings.get("parameters").and_then(Value::as_array);
    let given = run
        .parameters
        .get("job_parameters")
        .and_then(Value::as_object);
    let mut shown: Vec<Value> = Vec::new();
    for parameter in declared.into_iter().flatten() {
        let name = parameter.get("name").cloned().unwrap_or_default();
        let default = parameter.get("default").cloned().unwrap_or_default();
        let over = name.as_str().and_then(|name| given?.get(name)).cloned();
        let value = over.unwrap_or_else(|| default.clone());
        shown.push(json!({"name": name, "default": default, "value": value}));
    }
    let known = |name: &str| shown.iter().any(|parameter| parameter["name"] == name);
    let extra: Vec<Value> = given
        .into_iter()
        .flatten()
        .filter(|(name, _)| !known(name))
        .map(|(name, value)| json!({"name": name, "value": value}))
        .collect();
    shown.extend(extra);
    shown
}

/// The answer of get-output.
pub(crate) fn output_json(app: &App, output: RunOutput, version: ApiVersion) -> Value {
    let RunOutput {
        mut view,
        attempt,
        result,
        logs,
        is_gone,
        run_job,
    } = output;
    let flat = is_flat(&view.run.settings);
    if !flat {
        view.task = Some(attempt.id);
    }
    let mut shown = json!({"metadata": run_json(app, &view, version, false)});
    let Some(fields) = shown.as_object_mut() else {
        return shown;
    };
    if let Some(id) = run_job {
        fields.insert("run_job_output".to_owned(), json!({"run_id": id}));
    }
    let is_sql = view.has_type(&attempt, "sql_task");
    if is_sql {
        let page = fields["metadata"]["run_page_url"].clone();
        let output = json!({"query_output": {"output_link": page}});
        fields.insert("sql_output".to_owned(), output);
    } else if logs.is_none() && attempt.takes_slot {
        let (text, truncated) = result.unwrap_or_default();
        let mut notebook = json!({"truncated": truncated});
        if attempt.exit_value.is_some() {
            notebook["result"] = json!(text);
        }
        fields.insert("notebook_output".to_owned(), notebook);
    }
    if let Some((text, truncated)) = logs {
        fields.insert("logs".to_owned(), json!(text));
        fields.insert("logs_truncated".to_owned(), json!(truncated));
    }
    if is_gone {
        let info = "What this run put out was removed by retention.";
        fields.insert("info".to_owned(), json!(info));
    }
    if let Some(error) = attempt.error {
        fields.insert("error".to_owned(), json!(error));
    }
    if let Some(trace) = attempt.trace {
        fields.insert("error_trace".to_owned(), json!(trace));
    }
    shown
}
