//! Settings of triggers: what is taken, what is refused and how.

use forebay_testkit::TestServer;
use serde_json::{Value, json};

use super::{create, daily, settings, start};

async fn refused(server: &TestServer, more: Value) -> String {
    let answer = server
        .post("/api/2.1/jobs/create", settings("/Shared/ok", more))
        .await;
    answer.refused(400, "INVALID_PARAMETER_VALUE")
}

#[tokio::test]
async fn bad_triggers_are_refused_by_field() {
    let server = start().await;
    let schedule = |expression: &str, zone: &str| json!({"schedule": {"quartz_cron_expression": expression, "timezone_id": zone}});
    let check = async |more: Value, expected: &str| {
        let message = refused(&server, more).await;
        assert!(message.contains(expected), "{expected} in {message}");
    };
    check(
        schedule("0 0 24 * * ?", "UTC"),
        "'schedule.quartz_cron_expression': hours, position 5",
    )
    .await;
    check(
        schedule("0 0 6 * * ?", "Mars/Base"),
        "'schedule.timezone_id': 'Mars/Base'",
    )
    .await;
    check(schedule("0/5 * * * * ?", "UTC"), "fires after 5 s").await;
    check(schedule("0 0 0 30 2 ?", "UTC"), "fires never again").await;
    check(
        json!({"schedule": {"timezone_id": "UTC"}}),
        "quartz_cron_expression",
    )
    .await;
    let mut both = daily();
    both["continuous"] = json!({});
    check(both, "'schedule' and 'continuous' exclude each other").await;
    check(json!({"trigger": {}}), "exactly one of periodic").await;
    let interval = |interval: i64, unit: &str| json!({"trigger": {"periodic": {"interval": interval, "unit": unit}}});
    check(interval(0, "DAYS"), "'trigger.periodic.interval' is 0").await;
    check(interval(1, "YEARS"), "'trigger.periodic.unit'").await;
    let arrival = |url: &str, wait: i64| json!({"trigger": {"file_arrival": {"url": url, "wait_after_last_change_seconds": wait}}});
    check(arrival("dbfs:/not/there", 0), "'trigger.file_arrival.url'").await;
    check(
        arrival("s3://bucket/x", 0),
        "'trigger.file_arrival.url': 's3://bucket/x'",
    )
    .await;
    check(
        arrival("dbfs:/tmp", 59),
        "wait_after_last_change_seconds' is 59; 60 to",
    )
    .await;
    check(
        json!({"continuous": {"pause_status": "MAYBE"}}),
        "'continuous.pause_status'",
    )
    .await;
    check(
        json!({"forebay": {"after_job": {"job_id": 999}}}),
        "'forebay.after_job.job_id'",
    )
    .await;
    check(
        json!({"forebay": {"on_event": {"topic": "a b"}}}),
        "'forebay.on_event.topic'",
    )
    .await;
    let table = json!({"trigger": {"table_update": {"table_names": ["a.b.c"]}}});
    let answer = server
        .post("/api/2.1/jobs/create", settings("/Shared/ok", table))
        .await;
    let message = answer.refused(501, "NOT_IMPLEMENTED");
    assert!(message.contains("'trigger.table_update'"), "{message}");
    let mut submit = settings("/Shared/ok", daily());
    submit.as_object_mut().unwrap().remove("name");
    let answer = server.post("/api/2.1/jobs/runs/submit", submit).await;
    let message = answer.refused(400, "INVALID_PARAMETER_VALUE");
    assert!(message.contains("'schedule'"), "{message}");
}

#[tokio::test]
async fn a_schedule_can_be_looked_at_before_it_is_used() {
    let server = start().await;
    let preview = "/api/forebay/v1/schedule/preview";
    let query = "expression=0%200%206%20%3F%20*%20MON-FRI&timezone=Europe/Berlin";
    let shown = server.get(&format!("{preview}?{query}")).await.ok();
    assert_eq!(shown["firings"].as_array().unwrap().len(), 10);
    assert_eq!(shown["firings"][0]["local"], "2023-11-15T06:00:00+01:00");
    let wrong = server
        .get(&format!("{preview}?expression=0%200%2025%20*%20*%20%3F"))
        .await;
    let message = wrong.refused(400, "INVALID_PARAMETER_VALUE");
    assert!(
        message.contains("'expression': hours, position 5"),
        "{message}"
    );
}

#[tokio::test]
async fn settings_of_triggers_need_their_trigger() {
    let server = start().await;
    let brake = json!({"forebay": {"brake": {"runs": 1, "minutes": 1}}});
    let message = refused(&server, brake).await;
    assert!(
        message.contains("'forebay.brake' needs a trigger"),
        "{message}"
    );
    for own in [json!({"parameter": "files"}), json!({"short_waits": true})] {
        let own = json!({"forebay": {"file_arrival": own}});
        let message = refused(&server, own).await;
        assert!(
            message.contains("needs 'trigger.file_arrival'"),
            "{message}"
        );
    }
    // Who takes the trigger away without a word of its settings need not know them.
    let mut both = daily();
    both["forebay"] = json!({"brake": {"runs": 1, "minutes": 1}});
    let job = create(&server, both).await;
    let without = json!({"job_id": job, "fields_to_remove": ["schedule"]});
    server.post("/api/2.1/jobs/update", without).await.ok();
    let new_settings = settings("/Shared/ok", json!({}));
    let reset = json!({"job_id": job, "new_settings": new_settings});
    server.post("/api/2.1/jobs/reset", reset).await.ok();
    let body = json!({"job_id": job, "duration_target": "FAST"});
    let refused = server.post("/api/2.1/jobs/run-now", body).await;
    let message = refused.refused(501, "NOT_IMPLEMENTED");
    assert!(message.contains("'duration_target'"), "{message}");
}
