//! Conditions, references, for-eaches, runs of other jobs and repairs, on an executor that does what
//! its cells say.

use forebay_testkit::TestServer;
use serde_json::{Value, json};

use crate::runs::{ended, notebook, start, state, states, submit, task};

fn condition(key: &str, op: &str, left: &str, right: &str, after: &[&str]) -> Value {
    let after: Vec<Value> = after.iter().map(|key| json!({"task_key": key})).collect();
    json!({
        "task_key": key,
        "depends_on": after,
        "condition_task": {"op": op, "left": left, "right": right},
    })
}

/// A notebook task behind one outcome of a condition.
fn branch(key: &str, of: &str, outcome: &str) -> Value {
    let mut branch = task(key, "/Shared/ok", &[]);
    branch["depends_on"] = json!([{"task_key": of, "outcome": outcome}]);
    branch
}

fn results(run: &Value) -> Vec<(&str, &str)> {
    let tasks = run["tasks"].as_array().unwrap().iter();
    tasks
        .map(|task| {
            let key = task["task_key"].as_str().unwrap();
            (key, task["state"]["result_state"].as_str().unwrap_or(""))
        })
        .collect()
}

/// The parameters of the notebook runs that were started, in order.
fn parameters(server: &TestServer) -> Vec<Value> {
    let started = server.executor.started().into_iter();
    started
        .map(|workload| match workload.program {
            forebay_exec::Program::Notebook { parameters, .. } => json!(parameters),
            other => panic!("{other:?}"),
        })
        .collect()
}

#[tokio::test]
async fn a_condition_needs_no_slot_and_leaves_the_other_branch_out() {
    let server = start(1).await;
    notebook(&server, "/Shared/ok", &["print x"]).await;
    let set = r#"call jobs.taskValues.set {"key":"rows","value":12}"#;
    notebook(&server, "/Shared/load", &[set]).await;
    let tasks = [
        task("load", "/Shared/load", &[]),
        condition(
            "enough",
            "GREATER_THAN",
            "{{tasks.load.values.rows}}",
            "9",
            &["load"],
        ),
        branch("yes", "enough", "true"),
        branch("no", "enough", "false"),
        task("after_no", "/Shared/ok", &["no"]),
        task("join", "/Shared/ok", &["yes", "no"]),
    ];
    let run = submit(&server, json!({"tasks": tasks})).await;
    let run = ended(&server, run).await;
    assert_eq!(state(&run), states("TERMINATED", "SUCCESS"));
    let expected = [
        ("load", "SUCCESS"),
        ("enough", "SUCCESS"),
        ("yes", "SUCCESS"),
        ("no", "EXCLUDED"),
        ("after_no", "EXCLUDED"),
        ("join", "SUCCESS"),
    ];
    assert_eq!(results(&run), expected);
    assert_eq!(run["tasks"][1]["condition_task"]["outcome"], "true");
    assert_eq!(server.executor.started().len(), 3);
}

#[tokio::test]
async fn a_condition_starts_whatever_the_cap() {
    let server = start(1).await;
    notebook(&server, "/Shared/wait", &["wait"]).await;
    submit(&server, json!({"tasks": [task("a", "/Shared/wait", &[])]})).await;
    let tasks = [condition("c", "EQUAL_TO", "a", "a", &[])];
    let run = submit(&server, json!({"tasks": tasks})).await;
    assert_eq!(
        state(&ended(&server, run).await),
        states("TERMINATED", "SUCCESS")
    );
    server.executor.release();
}

#[tokio::test]
async fn a_condition_that_cannot_be_decided_fails_with_its_reason() {
    let server = start(1).await;
    for (left, reason) in [
        (
            "many",
            "condition_task.left is 'many', which is not a number",
        ),
        ("{{tasks.x.values.n}}", "no task 'x' comes before this one"),
        ("{{job.colour}}", "'job' has no such name"),
    ] {
        let tasks = [condition("c", "LESS_THAN", left, "9", &[])];
        let run = submit(&server, json!({"tasks": tasks})).await;
        let run = ended(&server, run).await;
        assert_eq!(state(&run).1, "FAILED", "{run}");
        let message = run["tasks"][0]["state"]["state_message"].as_str().unwrap();
        assert!(message.contains(reason), "{message}");
    }
}

#[tokio::test]
async fn bad_control_flow_is_refused_with_the_task_named() {
    let server = start(1).await;
    for (tasks, reason) in [
        (
            json!([condition("c", "SAME", "1", "1", &[])]),
            "condition_task.op 'SAME'",
        ),
        (
            json!([task("a", "/x", &[]), branch("b", "a", "true")]),
            "task 'a', which is no condition_task",
        ),
        (
            json!([
                condition("c", "EQUAL_TO", "1", "1", &[]),
                branch("b", "c", "maybe")
            ]),
            "depends_on.outcome 'maybe'",
        ),
        (
            json!([{"task_key": "c", "condition_task": {"op": "EQUAL_TO"}}]),
            "left",
        ),
    ] {
        let answer = server
            .post("/api/2.2/jobs/create", json!({"tasks": tasks}))
            .await;
        let message = answer.refused(400, "INVALID_PARAMETER_VALUE");
        assert!(message.contains(reason), "{message}");
    }
}

#[tokio::test]
async fn references_reach_every_text_of_a_task() {
    let server = start(15).await;
    notebook(&server, "/Shared/ok", &["print x"]).await;
    let mut one = task("first", "/Shared/ok", &[]);
    one["notebook_task"]["base_parameters"] = json!({
        "job": "{{job.run_id}}/{{task.name}}/{{ task.execution_count }}",
        "at": "{{job.start_time.iso_date}}",
        "trigger": "{{job.trigger.type}}",
        "path": "{{task.notebook_path}}",
        "left": "{{ not.ours }} {{job.run_id",
    });
    let mut two = task("second", "/Shared/{{tasks.first.result_state}}", &["first"]);
    two["notebook_task"]["base_parameters"] =
        json!({"before": "{{tasks.first.run_id}} {{tasks.first.notebook_path}}"});
    notebook(&server, "/Shared/success", &["print x"]).await;
    let run = submit(&server, json!({"tasks": [one, two]})).await;
    let run = ended(&server, run).await;
    assert_eq!(state(&run).1, "SUCCESS", "{run}");
    let (id, first) = (&run["run_id"], &run["tasks"][0]["run_id"]);
    let expected = [
        json!({
            "job": format!("{id}/first/1"),
            "at": "2023-11-14",
            "trigger": "one_time",
            "path": "/Shared/ok",
            "left": "{{ not.ours }} {{job.run_id",
        }),
        json!({"before": format!("{first} /Shared/ok")}),
    ];
    assert_eq!(parameters(&server), expected);
}

fn for_each(key: &str, inputs: &str, concurrency: usize, inner: Value) -> Value {
    json!({
        "task_key": key,
        "for_each_task": {"inputs": inputs, "concurrency": concurrency, "task": inner},
    })
}

fn run_job(key: &str, job: i64, parameters: Value) -> Value {
    json!({"task_key": key, "run_job_task": {"job_id": job, "job_parameters": parameters}})
}

async fn task_run(server: &TestServer, run: &Value, token: &str) -> Value {
    let path = format!("/api/2.2/jobs/runs/get?run_id={}{token}", run["run_id"]);
    server.get(&path).await.ok()
}

#[tokio::test]
async fn a_for_each_runs_its_task_once_for_each_element() {
    let server = start(15).await;
    notebook(&server, "/Shared/ok", &["print x"]).await;
    let set =
        r#"call jobs.taskValues.set {"key":"countries","value":[{"code":"nl"},{"code":"be"}]}"#;
    notebook(&server, "/Shared/load", &[set]).await;
    let mut inner = task("one", "/Shared/ok", &[]);
    inner["notebook_task"]["base_parameters"] = json!({"code": "{{input.code}}", "all": "{{input}}", "job": "{{job.run_id}}", "me": "{{task.name}}"});
    let mut each = for_each("each", "{{tasks.load.values.countries}}", 2, inner);
    each["depends_on"] = json!([{"task_key": "load"}]);
    let settings = json!({"tasks": [task("load", "/Shared/load", &[]), each]});
    let run = submit(&server, settings).await;
    let run = ended(&server, run).await;
    assert_eq!(state(&run), states("TERMINATED", "SUCCESS"), "{run}");
    let run = task_run(&server, &run, "").await;
    let stats = &run["tasks"][1]["for_each_task"]["stats"]["task_run_stats"];
    assert_eq!(
        (&stats["total_iterations"], &stats["succeeded_iterations"]),
        (&json!(2), &json!(2))
    );
    let mut got = parameters(&server)[1..].to_vec();
    got.sort_by_key(|one| one["code"].to_string());
    let expected = |code: &str| {
        let all = json!({"code": code}).to_string();
        json!({"code": code, "all": all, "job": run["run_id"].to_string(), "me": "one"})
    };
    assert_eq!(got, [expected("be"), expected("nl")]);
    let each = task_run(&server, &run["tasks"][1], "").await;
    let iterations = each["iterations"].as_array().unwrap();
    assert_eq!(iterations.len(), 2);
    assert_eq!(
        iterations[0]["forebay"]["iteration"]["input"],
        json!({"code": "nl"})
    );
    assert_eq!(iterations[0]["state"]["result_state"], "SUCCESS");
    let list = server.get("/api/2.1/jobs/runs/list").await.ok();
    assert_eq!(
        list["runs"].as_array().unwrap().len(),
        1,
        "iterations are not listed"
    );
}

#[tokio::test]
async fn a_for_each_keeps_to_its_concurrency_and_fails_with_any_iteration() {
    let server = start(15).await;
    notebook(&server, "/Shared/wait", &["wait"]).await;
    let inner = task("one", "/Shared/{{input}}", &[]);
    let inputs = r#"["wait","wait","missing","wait"]"#;
    let run = submit(
        &server,
        json!({"tasks": [for_each("each", inputs, 2, inner)]}),
    )
    .await;
    forebay_testkit::wait_until(
        "two are started",
        || async { server.executor.started().len() },
        |count| *count == 2,
    )
    .await;
    server.executor.release();
    let run = ended(&server, run).await;
    assert_eq!(state(&run), states("INTERNAL_ERROR", "FAILED"));
    let message = run["tasks"][0]["state"]["state_message"].as_str().unwrap();
    assert!(
        message.starts_with("1 of 4 iterations failed: "),
        "{message}"
    );
    assert!(message.contains("/Shared/missing"), "{message}");
    assert_eq!(server.executor.started().len(), 3);
}

#[tokio::test]
async fn a_for_each_says_what_its_programs_said() {
    let server = start(15).await;
    notebook(&server, "/Shared/bad", &["fail ValueError too few rows"]).await;
    notebook(&server, "/Shared/ok", &["print x"]).await;
    let inner = task("one", "/Shared/{{input}}", &[]);
    let run = json!({"tasks": [for_each("each", r#"["bad","ok","bad"]"#, 3, inner)]});
    let run = ended(&server, submit(&server, run).await).await;
    let message = &run["tasks"][0]["state"]["state_message"];
    assert_eq!(
        message,
        "2 of 3 iterations failed: ValueError: too few rows."
    );
}

#[tokio::test]
async fn inputs_that_are_no_array_are_refused_with_the_reason() {
    let server = start(15).await;
    for (inputs, reason) in [("{}", "it is an object"), ("[1", "not a JSON array")] {
        let each = for_each("each", inputs, 1, task("one", "/Shared/ok", &[]));
        let answer = server
            .post("/api/2.1/jobs/create", json!({"tasks": [each]}))
            .await;
        assert_eq!(answer.status, 400);
        let text = answer.text();
        assert!(
            text.contains("Task 'each': for_each_task.inputs") && text.contains(reason),
            "{text}"
        );
        // What a reference stands for is known only when the task's turn comes.
        let all = "{{job.parameters.all}}";
        let each = for_each("each", all, 1, task("one", "/Shared/ok", &[]));
        let parameter = json!({"name": "all", "default": inputs});
        let settings = json!({"tasks": [each], "parameters": [parameter]});
        let job = server.post("/api/2.1/jobs/create", settings).await.ok();
        let run = json!({"job_id": job["job_id"]});
        let run = server.post("/api/2.1/jobs/run-now", run).await.ok();
        let run = ended(&server, run["run_id"].as_i64().unwrap()).await;
        let message = run["tasks"][0]["state"]["state_message"].as_str().unwrap();
        assert!(message.contains(reason), "{message}");
    }
    let each = for_each("each", "[]", 1, task("one", "/Shared/ok", &[]));
    let run = submit(&server, json!({"tasks": [each]})).await;
    assert_eq!(state(&ended(&server, run).await).1, "SUCCESS");
}

#[tokio::test]
async fn iterations_come_in_pages_of_a_hundred() {
    let server = start(15).await;
    let inner = condition("c", "EQUAL_TO", "{{input}}", "7", &[]);
    let inputs = json!((0..150).collect::<Vec<_>>()).to_string();
    let run = submit(
        &server,
        json!({"tasks": [for_each("each", &inputs, 100, inner)]}),
    )
    .await;
    let run = ended(&server, run).await;
    assert_eq!(state(&run).1, "SUCCESS", "{run}");
    let first = task_run(&server, &run["tasks"][0], "").await;
    assert_eq!(first["iterations"].as_array().unwrap().len(), 100);
    assert_eq!(first["iterations"][7]["condition_task"]["outcome"], "true");
    let token = first["next_page_token"].as_str().unwrap();
    let second = task_run(&server, &run["tasks"][0], &format!("&page_token={token}")).await;
    assert_eq!(second["iterations"].as_array().unwrap().len(), 50);
    assert!(second.get("next_page_token").is_none());
}

#[tokio::test]
async fn a_run_job_starts_the_other_job_with_parameters_and_ends_as_it_does() {
    let server = start(1).await;
    notebook(&server, "/Shared/ok", &["print x"]).await;
    notebook(&server, "/Shared/bad", &["fail E m"]).await;
    let child = json!({
        "name": "child",
        "parameters": [{"name": "day", "default": "none"}, {"name": "who", "default": "me"}],
        "tasks": [task("a", "/Shared/ok", &[])],
    });
    let child = crate::runs::job(&server, child).await;
    let parent = json!({
        "name": "parent",
        "parameters": [{"name": "day", "default": "mon"}, {"name": "else", "default": "x"}],
        "tasks": [run_job("call", child, json!({"who": "{{job.name}}"}))],
    });
    let parent = crate::runs::job(&server, parent).await;
    let run = crate::runs::run_now(&server, json!({"job_id": parent})).await;
    let run = ended(&server, run).await;
    assert_eq!(state(&run), states("TERMINATED", "SUCCESS"), "{run}");
    assert_eq!(
        parameters(&server),
        [json!({"day": "mon", "who": "parent"})]
    );
    let task_id = run["tasks"][0]["run_id"].as_i64().unwrap();
    let output = server
        .get(&format!("/api/2.2/jobs/runs/get-output?run_id={task_id}"))
        .await
        .ok();
    let child_run = output["run_job_output"]["run_id"].as_i64().unwrap();
    let child_run = ended(&server, child_run).await;
    assert_eq!(child_run["trigger"], "RUN_JOB_TASK");
    assert_eq!(child_run["trigger_info"]["run_id"], task_id);
    assert_eq!(child_run["job_id"], child);

    let bad = json!({"name": "bad", "tasks": [task("a", "/Shared/bad", &[])]});
    let bad = crate::runs::job(&server, bad).await;
    let run = submit(&server, json!({"tasks": [run_job("call", bad, json!({}))]})).await;
    let run = ended(&server, run).await;
    assert_eq!(state(&run), states("INTERNAL_ERROR", "FAILED"));
    let message = run["tasks"][0]["state"]["state_message"].as_str().unwrap();
    assert!(
        message.contains(&format!("of job {bad} failed: ")),
        "{message}"
    );
}

/// What a reference brings in is not looked at again, also where it was brought in by the caller.
#[tokio::test]
async fn a_run_job_gives_texts_as_they_came_to_it() {
    let server = start(1).await;
    let set =
        r#"call jobs.taskValues.set {"key":"odd","value":"{{tasks.none.values.x}} {{job.id}}"}"#;
    notebook(&server, "/Shared/load", &[set]).await;
    notebook(&server, "/Shared/ok", &["print x"]).await;
    let child = json!({
        "name": "child",
        "parameters": [{"name": "odd", "default": ""}, {"name": "own", "default": "{{job.name}}"}],
        "tasks": [task("a", "/Shared/ok", &[])],
    });
    let child = crate::runs::job(&server, child).await;
    let mut call = run_job("call", child, json!({"odd": "{{tasks.load.values.odd}}"}));
    call["depends_on"] = json!([{"task_key": "load"}]);
    let mut older = run_job("older", child, json!({}));
    older["depends_on"] = json!([{"task_key": "call"}, {"task_key": "load"}]);
    older["run_job_task"]["notebook_params"] = json!({"word": "{{tasks.load.values.odd}}"});
    let tasks = json!([task("load", "/Shared/load", &[]), call, older]);
    let run = submit(&server, json!({"tasks": tasks})).await;
    let run = ended(&server, run).await;
    assert_eq!(state(&run), states("TERMINATED", "SUCCESS"), "{run}");
    let given = parameters(&server);
    let as_it_came = "{{tasks.none.values.x}} {{job.id}}";
    assert_eq!(given[1], json!({"odd": as_it_came, "own": "child"}));
    assert_eq!(given[2]["word"], as_it_came);
    assert_eq!(given[2]["own"], "child");
}

#[tokio::test]
async fn a_run_job_passes_parameters_of_the_older_kind_to_tasks_of_their_type() {
    let server = start(1).await;
    notebook(&server, "/Shared/ok", &["print x"]).await;
    let sql = json!({"path": "/Shared/q.sql", "format": "AUTO", "content": "c2VsZWN0IDE="});
    server.post("/api/2.0/workspace/import", sql).await.ok();
    let mut query = json!({"task_key": "q", "sql_task": {"file": {"path": "/Shared/q.sql"}}});
    query["sql_task"]["parameters"] = json!({"word": "own", "other": "kept"});
    let child = json!({"name": "child", "tasks": [query, task("n", "/Shared/ok", &["q"])]});
    let child = crate::runs::job(&server, child).await;
    let mut call = run_job("call", child, json!({}));
    call["run_job_task"]["sql_params"] = json!({"word": "{{task.name}}"});
    let run = submit(&server, json!({"tasks": [call]})).await;
    let run = ended(&server, run).await;
    assert_eq!(state(&run), states("TERMINATED", "SUCCESS"), "{run}");
    let expected = [json!({"word": "call", "other": "kept"}), json!({})];
    assert_eq!(parameters(&server), expected);
}

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
    let job = crate::runs::job(&server, json!({"name": "j", "tasks": tasks})).await;
    let request = json!({"job_id": job, "only": ["b+"]});
    let run = crate::runs::run_now(&server, request).await;
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

#[tokio::test]
async fn what_is_too_large_is_refused_with_the_field_named() {
    let server = start(1).await;
    let tasks = |numbers: std::ops::Range<usize>| {
        let tasks = numbers.map(|n| task(&format!("t{n}"), "/Shared/ok", &[]));
        json!(tasks.collect::<Vec<_>>())
    };
    let full = json!({"name": "full", "tasks": tasks(0..100)});
    let full = crate::runs::job(&server, full).await;
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

/// Each of two changes is good alone; together they would close a circle.
#[tokio::test]
async fn changes_at_once_close_no_circle_of_jobs() {
    let server = start(1).await;
    let plain = || json!({"name": "plain", "tasks": [task("t", "/Shared/ok", &[])]});
    for _ in 0..20 {
        let one = crate::runs::job(&server, plain()).await;
        let two = crate::runs::job(&server, plain()).await;
        let update = |job: i64, runs: i64| {
            let new_settings = json!({"tasks": [run_job("t", runs, json!({}))]});
            let body = json!({"job_id": job, "new_settings": new_settings});
            server.post("/api/2.2/jobs/update", body)
        };
        let (first, second) = tokio::join!(update(one, two), update(two, one));
        let mut statuses = [first.status.as_u16(), second.status.as_u16()];
        statuses.sort_unstable();
        assert_eq!(statuses, [200, 400]);
    }
}

#[tokio::test]
async fn jobs_that_run_each_other_in_a_circle_are_refused() {
    let server = start(1).await;
    let first = json!({"name": "a", "tasks": [task("t", "/Shared/ok", &[])]});
    let first = crate::runs::job(&server, first).await;
    let second = json!({"name": "b", "tasks": [run_job("t", first, json!({}))]});
    let second = crate::runs::job(&server, second).await;
    let new_settings = json!({"name": "a", "tasks": [run_job("t", second, json!({}))]});
    let body = json!({"job_id": first, "new_settings": new_settings});
    for path in ["/api/2.1/jobs/reset", "/api/2.1/jobs/update"] {
        let message = server
            .post(path, body.clone())
            .await
            .refused(400, "INVALID_PARAMETER_VALUE");
        let circle = format!("in a circle: {first} -> {second} -> {first}");
        assert!(message.contains(&circle), "{message}");
    }
    let itself =
        json!({"job_id": first, "new_settings": {"tasks": [run_job("t", first, json!({}))]}});
    let message = server
        .post("/api/2.1/jobs/update", itself)
        .await
        .refused(400, "INVALID_PARAMETER_VALUE");
    assert!(
        message.contains(&format!("{first} -> {first}")),
        "{message}"
    );
    let mut last = second;
    for _ in 0..2 {
        let next = json!({"name": "n", "tasks": [run_job("t", last, json!({}))]});
        last = crate::runs::job(&server, next).await;
    }
    let deep = json!({"name": "n", "tasks": [run_job("t", last, json!({}))]});
    let message = server
        .post("/api/2.1/jobs/create", deep)
        .await
        .refused(400, "INVALID_PARAMETER_VALUE");
    assert!(message.contains("more than 3 deep"), "{message}");
    let missing = json!({"name": "n", "tasks": [run_job("t", 4242, json!({}))]});
    let message = server
        .post("/api/2.1/jobs/create", missing)
        .await
        .refused(400, "INVALID_PARAMETER_VALUE");
    assert!(
        message.contains("Task 't'") && message.contains("Job 4242 does not exist"),
        "{message}"
    );
}

#[tokio::test]
async fn a_cancel_and_a_time_out_reach_the_children() {
    let server = start(15).await;
    notebook(&server, "/Shared/silent", &["silence"]).await;
    let inner = || task("one", "/Shared/silent", &[]);
    let run = submit(
        &server,
        json!({"tasks": [for_each("each", "[1,2,3]", 2, inner())]}),
    )
    .await;
    let two = |expected: usize| {
        let server = &server;
        forebay_testkit::wait_until(
            "the iterations are started",
            move || async move { server.executor.started().len() },
            move |count| *count == expected,
        )
    };
    two(2).await;
    server
        .post("/api/2.1/jobs/runs/cancel", json!({"run_id": run}))
        .await
        .ok();
    let run = ended(&server, run).await;
    assert_eq!(state(&run), states("TERMINATED", "CANCELED"));
    assert_eq!(server.executor.started().len(), 2);
    let each = task_run(&server, &run["tasks"][0], "").await;
    assert_eq!(each["iterations"][0]["state"]["result_state"], "CANCELED");

    let mut each = for_each("each", "[1,2,3]", 2, inner());
    each["timeout_seconds"] = json!(60);
    let run = submit(&server, json!({"tasks": [each]})).await;
    two(4).await;
    forebay_testkit::wait_until(
        "the clock passes the limit",
        || async {
            server.clock.advance(std::time::Duration::from_secs(61));
            state(&crate::runs::get(&server, run).await).1
        },
        |result| result == "FAILED",
    )
    .await;
    let run = ended(&server, run).await;
    assert_eq!(run["tasks"][0]["state"]["result_state"], "TIMEDOUT");
}

/// The rows say what is left to do: a server that starts anew goes on where the last one stopped.
#[tokio::test]
async fn a_for_each_goes_on_after_a_restart() {
    let server = start(1).await;
    notebook(&server, "/Shared/silent", &["silence"]).await;
    notebook(&server, "/Shared/ok", &["print x"]).await;
    let mut inner = task("one", "/Shared/{{input}}", &[]);
    inner["max_retries"] = json!(0);
    let inputs = r#"["silent","ok","ok"]"#;
    let run = submit(
        &server,
        json!({"tasks": [for_each("each", inputs, 1, inner)]}),
    )
    .await;
    forebay_testkit::wait_until(
        "the first is started",
        || async { server.executor.started().len() },
        |count| *count == 1,
    )
    .await;
    let server = server.restart(|setup| setup.runtimes = None).await;
    let run = ended(&server, run).await;
    assert_eq!(state(&run).1, "FAILED");
    let each = task_run(&server, &run["tasks"][0], "").await;
    let results: Vec<&str> = each["iterations"]
        .as_array()
        .unwrap()
        .iter()
        .map(|one| one["state"]["result_state"].as_str().unwrap())
        .collect();
    assert_eq!(results, ["FAILED", "SUCCESS", "SUCCESS"]);
}

async fn repair(server: &TestServer, body: Value) -> i64 {
    let answer = server.post("/api/2.2/jobs/runs/repair", body).await;
    answer.ok()["repair_id"].as_i64().unwrap()
}

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
    let job = crate::runs::job(&server, settings).await;
    let run = crate::runs::run_now(
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
    forebay_testkit::wait_until(
        "both are started",
        || async { server.executor.started().len() },
        |count| *count == 2,
    )
    .await;
    let body = json!({"run_id": run, "rerun_tasks": ["a"]});
    let active = server.post("/api/2.2/jobs/runs/repair", body).await;
    active.refused(409, "RESOURCE_CONFLICT");
    let running = crate::runs::get(&server, run).await;
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
    let shown = task_run(&server, &each(&second), "").await;
    let iterations = shown["iterations"].as_array().unwrap();
    let before = task_run(&server, &each(&first), "").await;
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
