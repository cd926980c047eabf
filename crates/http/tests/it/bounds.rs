//! How large the definition of a job may be.

use serde_json::{Value, json};

use crate::work::{job, start, task};

#[tokio::test]
async fn what_is_too_large_is_refused_with_the_field_named() {
    let server = start(1).await;
    let tasks = |numbers: std::ops::Range<usize>| {
        let tasks = numbers.map(|n| task(&format!("t{n}"), "/Shared/ok", &[]));
        json!(tasks.collect::<Vec<_>>())
    };
    let full = json!({"name": "full", "tasks": tasks(0..100)});
    let full = job(&server, full).await;
    let more = json!({"job_id": full, "new_settings": {"tasks": tasks(100..101)}});
    let message = server.post("/api/2.1/jobs/update", more.clone()).await;
    let message = message.refused(400, "INVALID_PARAMETER_VALUE");
    assert!(message.contains("more than 100 tasks"), "{message}");
    server.post("/api/2.2/jobs/update", more).await.ok();
    // From here on it is too large for the older one, whatever is changed.
    let renamed = json!({"job_id": full, "new_settings": {"name": "fuller"}});
    let message = server.post("/api/2.1/jobs/update", renamed).await;
    message.refused(400, "INVALID_PARAMETER_VALUE");

    let mut huge = task("t", "/Shared/ok", &[]);
    huge["notebook_task"]["base_parameters"] = json!({"p": "x".repeat(1 << 20)});
    let tags: Value = (0..26).map(|n| (format!("k{n}"), json!("v"))).collect();
    let one = tasks(0..1);
    for (settings, told) in [
        (
            json!({"tasks": [huge]}),
            "'base_parameters' of task 't' has 1048584 bytes",
        ),
        (
            json!({"tasks": one, "tags": tags}),
            "'tags' has 26 tags, at most 25",
        ),
        (
            json!({"tasks": one, "description": "x".repeat(27_701)}),
            "'description' has more",
        ),
        (
            json!({"tasks": one, "name": "x".repeat(4097)}),
            "'name' has more",
        ),
    ] {
        let answer = server.post("/api/2.2/jobs/create", settings).await;
        let message = answer.refused(400, "INVALID_PARAMETER_VALUE");
        assert!(message.contains(told), "{message}");
    }
}
