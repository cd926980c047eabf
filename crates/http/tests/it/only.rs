//! Runs of some of a job's tasks.

use serde_json::json;

use crate::work::{ended, job, notebook, repair, results, run_now, start, task};

#[tokio::test]
async fn a_run_of_some_tasks_waits_for_no_other() {
    let server = start(15).await;
    notebook(&server, "/Shared/ok", &["print x"]).await;
    notebook(&server, "/Shared/bad", &["fail E m"]).await;
    let tasks = [
        task("a", "/Shared/bad", &[]),
        task("b", "/Shared/ok", &["a"]),
        task("c", "/Shared/bad", &["b"]),
    ];
    let job = job(&server, json!({"name": "j", "tasks": tasks})).await;
    let request = json!({"job_id": job, "only": ["b+"]});
    let run = run_now(&server, request).await;
    let shown = ended(&server, run).await;
    assert_eq!(results(&shown), [("b", "SUCCESS"), ("c", "FAILED")]);
    // A repair is one of this run, not of the job.
    notebook(&server, "/Shared/bad", &["print x"]).await;
    repair(
        &server,
        json!({"run_id": run, "rerun_all_failed_tasks": true}),
    )
    .await;
    let shown = ended(&server, run).await;
    assert_eq!(results(&shown), [("b", "SUCCESS"), ("c", "SUCCESS")]);
    let request = json!({"job_id": job, "only": ["d"]});
    let answer = server.post("/api/2.1/jobs/run-now", request).await;
    let message = answer.refused(400, "INVALID_PARAMETER_VALUE");
    assert!(
        message.contains("'only'") && message.contains("'d'"),
        "{message}"
    );
}
