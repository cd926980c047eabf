use std::sync::Arc;

use axum::Json;
use axum::extract::State;
use forebay_store::{Cost, CostBy, Used};
use forebay_types::{Error, Result};
use forebay_wire::Method::Get;
use forebay_wire::cost::{COST, LIVE, ListCost};
use jiff::civil::Date;
use serde_json::{Value, json};

use crate::auth::Caller;
use crate::error::ApiResult;
use crate::extract::Params;
use crate::routes::Routes;
use crate::server::App;

const EPOCH: Date = jiff::civil::date(1970, 1, 1);

pub(crate) fn routes(routes: &mut Routes) {
    routes.on(Get, &[], COST, list);
    routes.on(Get, &[], LIVE, live);
}

async fn list(
    State(app): State<Arc<App>>,
    Caller(ctx): Caller,
    Params(request): Params<ListCost>,
) -> ApiResult<Json<Value>> {
    let name = request.by.as_deref().unwrap_or("day");
    let by = match name {
        "day" => CostBy::Day,
        "job" => CostBy::Job,
        "user" => CostBy::User,
        other => {
            let message = format!("Field 'by' is '{other}'; one of day, job, user.");
            return Err(Error::invalid(message).into());
        }
    };
    let from = request.from.map(|text| day("from", &text)).transpose()?;
    let to = request.to.map(|text| day("to", &text)).transpose()?;
    let ((from, to), costs) = app.services.costs.list(&ctx, by, from, to).await?;
    let mut total = Used::default();
    for cost in &costs {
        total.add(&cost.used);
    }
    Ok(Json(json!({
        "by": name,
        "from": date(from),
        "to": date(to),
        "rows": costs.iter().map(row).collect::<Vec<_>>(),
        "total": used_json(&total),
    })))
}

/// What the attempts under way have used up to now, as told a few seconds ago.
async fn live(State(app): State<Arc<App>>, Caller(ctx): Caller) -> ApiResult<Json<Value>> {
    let using = app.services.runs.using(&ctx);
    let rows = using.iter().map(|one| {
        let usage = &one.usage;
        json!({
            "run_id": one.run,
            "attempt_id": one.attempt,
            "job_id": one.job_id,
            "task_key": one.task_key,
            "user_name": one.user_name,
            "wall_seconds": usage.wall_ms as f64 / 1000.0,
            "cpu_seconds": usage.cpu_ms.map(|ms| ms as f64 / 1000.0),
            "memory_bytes": usage.memory_bytes,
            "memory_peak_bytes": usage.memory_peak_bytes,
            "read_bytes": usage.read_bytes,
            "write_bytes": usage.write_bytes,
        })
    });
    Ok(Json(json!({"rows": rows.collect::<Vec<_>>()})))
}

fn row(cost: &Cost) -> Value {
    let mut shown = used_json(&cost.used);
    if let Some(day) = cost.day {
        shown["day"] = json!(date(day));
    }
    if let Some(user) = &cost.user_name {
        shown["user_name"] = json!(user);
    }
    if let Some(job) = cost.job_id {
        // Runs without a job are summed up as one.
        shown["job_id"] = if job == 0 { Value::Null } else { json!(job) };
    }
    if let Some(name) = &cost.job_name {
        shown["job_name"] = json!(name);
    }
    shown
}

/// Sums in the units of the API. A number of `…_unknown` says for how many attempts the host did
/// not tell.
pub(crate) fn used_json(used: &Used) -> Value {
    json!({
        "attempts": used.attempts,
        "wall_seconds": seconds(used.wall_ms),
        "cpu_seconds": seconds(used.cpu_ms),
        "memory_peak_bytes": used.memory_peak_bytes,
        "read_bytes": used.read_bytes,
        "write_bytes": used.write_bytes,
        "cpu_unknown": used.cpu_unknown,
        "bytes_unknown": used.bytes_unknown,
    })
}

fn seconds(ms: i64) -> f64 {
    ms as f64 / 1000.0
}

fn day(field: &str, text: &str) -> Result<i64> {
    let date: Date = text.parse().map_err(|e| {
        Error::invalid(format!("Field '{field}' is '{text}'; such as 2026-11-21.")).because(e)
    })?;
    Ok((date - EPOCH).get_days().into())
}

fn date(day: i64) -> String {
    let date = jiff::Span::new().try_days(day);
    let date = date.and_then(|days| EPOCH.checked_add(days));
    date.map_or_else(|_| day.to_string(), |date| date.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn days_are_dates_in_both_directions() {
        for text in ["1970-01-01", "2024-02-29", "2026-11-21"] {
            assert_eq!(date(day("from", text).unwrap()), text);
        }
        assert_eq!(day("from", "1970-01-02").unwrap(), 1);
        assert!(day("to", "yesterday").unwrap_err().message.contains("'to'"));
    }
}
