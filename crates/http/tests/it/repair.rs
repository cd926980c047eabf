//! Repairs of runs and of their parts.

use forebay_testkit::wait_until;
use serde_json::{Value, json};

use crate::work::{
    ended, for_each, get, iterations_of, job, notebook, parameters, repair, results, run_now,
    start, state, states, submit, task,
};

#[tokio::test]
async fn a_repair_does_what_failed_again_with_the_job_of_now() {
    let server = start(15).await;
    notebook(&server, "/Shared/ok", &["print x"]).await;
    notebook(&server, "/Shared/bad", &["fail E m"]).await;
    let tasks = |path: &str| {
        let mut second = task("b", path, &["a"]);
        second["max_retries"] = json!(1);
        second["notebook_task"]["base_parameters"] = json!({"n": "{{job.repair_count}}"});
        json!([
            task("a", "/Shared/ok", &[]),
            second,
            task("c", "/Shared/ok", &["b"])
        ])
    };
    let settings = json!({
        "name": "j",
        "parameters": [{"name": "day", "default": "mon"}],
        "tasks": tasks("/Shared/bad"),
    });
    let job = job(&server, settings).await;
    let run = run_now(
        &server,
        json!({"job_id": job, "job_parameters": {"x": "1"}}),
    )
    .await;
    let first = ended(&server, run).await;
    assert_eq!(
        results(&first),
        [("a", "SUCCESS"), ("b", "FAILED"), ("c", "UPSTREAM_FAILED")]
    );

    let nothing = server
        .post("/api/2.2/jobs/runs/repair", json!({"run_id": run}))
        .await;
    let message = nothing.refused(400, "INVALID_PARAMETER_VALUE");
    assert!(message.contains("rerun_all_failed_tasks"), "{message}");
    let unknown = json!({"run_id": run, "rerun_tasks": ["z"]});
    let unknown = server.post("/api/2.2/jobs/runs/repair", unknown).await;
    let message = unknown.refused(400, "INVALID_PARAMETER_VALUE");
    assert!(message.contains("'z'"), "{message}");

    // Still bad: the retry budget is a new one.
    let body = json!({"run_id": run, "rerun_all_failed_tasks": true});
    let once = repair(&server, body.clone()).await;
    let second = ended(&server, run).await;
    assert_eq!(second["tasks"][1]["attempt_number"], 3);
    let again = server.post("/api/2.2/jobs/runs/repair", body).await;
    again.refused(409, "RESOURCE_CONFLICT");

    let new_settings = json!({"tasks": tasks("/Shared/ok")});
    let update = json!({"job_id": job, "new_settings": new_settings});
    server.post("/api/2.1/jobs/update", update).await.ok();
    let body = json!({
        "run_id": run,
        "rerun_all_failed_tasks": true,
        "latest_repair_id": once,
        "job_parameters": {"day": "tue"},
    });
    let twice = repair(&server, body).await;
    let third = ended(&server, run).await;
    assert_eq!(state(&third), states("TERMINATED", "SUCCESS"), "{third}");
    assert_eq!(
        results(&third),
        [("a", "SUCCESS"), ("b", "SUCCESS"), ("c", "SUCCESS")]
    );
    let all = parameters(&server);
    assert_eq!(all.len(), 1 + 2 + 2 + 2, "what succeeded did not run again");
    assert_eq!(all[5], json!({"n": "2", "day": "tue", "x": "1"}));
    let path = format!("/api/2.2/jobs/runs/get?run_id={run}&include_history=true");
    let shown = server.get(&path).await.ok();
    let history = shown["repair_history"].as_array().unwrap();
    let summary: Vec<(&Value, &Value, usize)> = history
        .iter()
        .map(|item| {
            let tasks = item["task_run_ids"].as_array().unwrap();
            (&item["type"], &item["state"]["result_state"], tasks.len())
        })
        .collect();
    let (original, repair) = (json!("ORIGINAL"), json!("REPAIR"));
    let (failed, success) = (json!("FAILED"), json!("SUCCESS"));
    let expected = [
        (&original, &failed, 3),
        (&repair, &failed, 2),
        (&repair, &success, 2),
    ];
    assert_eq!(summary, expected);
    assert_eq!(
        (&history[1]["id"], &history[2]["id"]),
        (&json!(once), &json!(twice))
    );
    assert_eq!(history[2]["task_run_ids"][0], third["tasks"][1]["run_id"]);
    let history = forebay_store::history_check(&server.data().join("dev/forebay.db"));
    assert_eq!(history.unwrap().problems, Vec::<String>::new());
}

#[tokio::test]
async fn an_active_run_cannot_be_repaired_and_one_task_can_be_canceled_alone() {
    let server = start(15).await;
    notebook(&server, "/Shared/silent", &["silence"]).await;
    notebook(&server, "/Shared/ok", &["print x"]).await;
    let mut after = task("c", "/Shared/ok", &["a", "b"]);
    after["run_if"] = json!("ALL_DONE");
    let tasks = [
        task("a", "/Shared/silent", &[]),
        task("b", "/Shared/ok", &[]),
        after,
    ];
    let run = submit(&server, json!({"tasks": tasks})).await;
    wait_until(
        "both are started",
        || async { server.executor.started().len() },
        |count| *count == 2,
    )
    .await;
    let body = json!({"run_id": run, "rerun_tasks": ["a"]});
    let active = server.post("/api/2.2/jobs/runs/repair", body).await;
    active.refused(409, "RESOURCE_CONFLICT");
    let running = get(&server, run).await;
    let cancel = json!({"run_id": running["tasks"][0]["run_id"]});
    server.post("/api/2.1/jobs/runs/cancel", cancel).await.ok();
    let run = ended(&server, run).await;
    assert_eq!(
        results(&run),
        [("a", "CANCELED"), ("b", "SUCCESS"), ("c", "SUCCESS")]
    );
    assert_eq!(state(&run), states("TERMINATED", "SUCCESS_WITH_FAILURES"));
}

#[tokio::test]
async fn a_repaired_for_each_runs_only_the_iterations_that_failed() {
    let server = start(15).await;
    notebook(&server, "/Shared/ok", &["print x"]).await;
    let inner = task("one", "/Shared/{{input}}", &[]);
    let inputs = r#"["ok","late","ok","late","ok"]"#;
    let each = for_each("each", inputs, 2, inner);
    let run = submit(&server, json!({"tasks": [each]})).await;
    let first = ended(&server, run).await;
    assert_eq!(results(&first), [("each", "FAILED")]);
    assert_eq!(server.executor.started().len(), 3);
    notebook(&server, "/Shared/late", &["print x"]).await;
    let body = json!({"run_id": run, "rerun_all_failed_tasks": true});
    let once = repair(&server, body).await;
    let second = ended(&server, run).await;
    assert_eq!(results(&second), [("each", "SUCCESS")]);
    assert_eq!(server.executor.started().len(), 5);
    let each = |of: &Value| json!({"run_id": of["tasks"][0]["run_id"]});
    let shown = iterations_of(&server, &each(&second), "").await;
    let iterations = shown["iterations"].as_array().unwrap();
    let before = iterations_of(&server, &each(&first), "").await;
    for (number, iteration) in iterations.iter().enumerate() {
        assert_eq!(iteration["state"]["result_state"], "SUCCESS");
        let same = iteration["run_id"] == before["iterations"][number]["run_id"];
        assert_eq!(same, number % 2 == 0, "iteration {number}");
    }

    // What went well is asked for by name, and runs as a whole.
    let body = json!({"run_id": run, "rerun_tasks": ["each"], "latest_repair_id": once});
    repair(&server, body).await;
    ended(&server, run).await;
    assert_eq!(server.executor.started().len(), 10);
}

#[tokio::test]
async fn a_part_of_a_run_is_repaired_with_the_run() {
    let server = start(15).await;
    notebook(&server, "/Shared/child", &["fail E m"]).await;
    let call = r#"call notebook.run {"from":"/Shared/n","path":"/Shared/child","timeout_seconds":0,"arguments":{}}"#;
    notebook(&server, "/Shared/n", &[call]).await;
    let each = for_each("each", "[1]", 1, task("one", "/Shared/n", &[]));
    let run = submit(&server, json!({"tasks": [each]})).await;
    ended(&server, run).await;
    let store = &server.app.services.store;
    let below = async |run: i64| {
        let children = store.run_list_children(forebay_types::RunId(run)).await;
        children.unwrap()[0].id.0
    };
    let iteration = below(run).await;
    let nested = below(iteration).await;
    for (part, words, above) in [
        (iteration, "is an iteration of a task of", run),
        (nested, "was started by a notebook of", iteration),
    ] {
        let body = json!({"run_id": part, "rerun_all_failed_tasks": true});
        let refused = server.post("/api/2.2/jobs/runs/repair", body).await;
        let message = refused.refused(400, "INVALID_PARAMETER_VALUE");
        assert!(
            message.contains(&format!("{words} run {above} ")),
            "{message}"
        );
    }
}
