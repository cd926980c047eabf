//! What a person at a terminal sees: whole runs with exit code, standard output and standard error.

use serde_json::Value;

use crate::program::{Program, free_ports, served};

#[tokio::test]
async fn without_a_server_the_hint_says_how_to_get_one() {
    let program = Program::new();
    program.run(&["runs", "list"]).await.is(
        2,
        "",
        "error: there is no server's profile file at .forebay/databrickscfg\n\
         hint: start a server with `forebay up`, or name its data folder with --data\n",
    );
}

#[tokio::test]
async fn nobody_at_the_address_is_exit_code_3() {
    let host = format!("http://127.0.0.1:{}", free_ports(1));
    let program = Program::new()
        .env("DATABRICKS_HOST", &host)
        .env("DATABRICKS_TOKEN", "none");
    let expected = format!(
        "error: cannot reach {host}\nhint: is the server running? `forebay up` starts one\n"
    );
    program.run(&["token", "list"]).await.is(3, "", &expected);
}

#[tokio::test]
async fn a_wrong_command_line_is_exit_code_2_and_says_what_is_known() {
    let program = Program::new();
    let ran = program.run(&["run"]).await;
    assert_eq!((ran.code, ran.stdout.as_str()), (2, ""));
    assert!(ran.stderr.contains("<NOTEBOOK|FILE>"), "{}", ran.stderr);
    let ran = program.run(&["token", "lst"]).await;
    assert_eq!(ran.code, 2);
    assert!(ran.stderr.contains("'list'"), "{}", ran.stderr);
}

#[tokio::test]
async fn a_token_is_made_listed_used_and_deleted() {
    let (program, server) = served().await;
    let made = program
        .run(&[
            "token",
            "create",
            "--comment",
            "for a script",
            "--days",
            "7",
        ])
        .await;
    let token = made.ok().trim().to_owned();
    assert!(token.starts_with("dapi"), "{made:?}");
    assert!(made.stderr.contains("it is shown this once"), "{made:?}");

    let listed = program.run(&["token", "list", "--output", "json"]).await;
    let listed: Vec<Value> = serde_json::from_str(listed.ok()).unwrap();
    let ours = listed
        .iter()
        .find(|entry| entry["comment"] == "for a script")
        .unwrap();
    let id = ours["token_id"].as_str().unwrap();
    let table = program.run(&["token", "list"]).await;
    assert!(table.ok().starts_with("ID"), "{table:?}");
    assert!(table.stdout.contains("for a script") && !table.stdout.contains(&token));

    let user = Program::new()
        .env("DATABRICKS_HOST", &server.addresses[0].url)
        .env("DATABRICKS_TOKEN", &token);
    user.run(&["token", "list"]).await.ok();
    let gone = program.run(&["token", "delete", id]).await;
    gone.is(0, "", &format!("Token {id} is deleted\n"));
    let refused = user.run(&["token", "list"]).await;
    assert_eq!((refused.code, refused.stdout.as_str()), (1, ""));
    assert!(
        refused
            .stderr
            .contains("hint: is the token of the profile still valid?")
    );
}

#[tokio::test]
async fn profiles_choose_the_workspace() {
    let (program, _server) = served().await;
    let create = [
        "token",
        "create",
        "--profile",
        "prod",
        "--comment",
        "only in prod",
    ];
    program.run(&create).await.ok();
    let prod = program.run(&["token", "list", "--profile", "prod"]).await;
    let dev = program.run(&["token", "list"]).await;
    assert!(prod.ok().contains("only in prod"));
    assert!(!dev.ok().contains("only in prod"));
    let ran = program.run(&["token", "list", "--profile", "qa"]).await;
    let expected = "error: .forebay/databrickscfg has no profile 'qa'; it has: dev, staging, prod\n\
                    hint: choose one with --profile\n";
    ran.is(2, "", expected);
}

#[tokio::test]
async fn a_second_server_on_the_same_folder_or_port_is_refused_with_words() {
    let (program, server) = served().await;
    let port = server.addresses[0].listener.port().to_string();
    let ran = program.run(&["up", "--port", "1"]).await;
    assert_eq!(ran.code, 1);
    assert!(
        ran.stderr.contains("is in use by another Forebay process"),
        "{}",
        ran.stderr
    );
    let ran = program
        .run(&["up", "--data", "other", "--port", &port])
        .await;
    assert_eq!(ran.code, 1);
    let words = format!("port {port} is taken by another program");
    assert!(ran.stderr.contains(&words), "{}", ran.stderr);
}

#[tokio::test]
async fn a_wrong_configuration_is_exit_code_2_and_names_the_line() {
    let program = Program::new();
    program.write("forebay.toml", "port = 7071\nprot = 7072\n");
    let ran = program.run(&["up"]).await;
    assert_eq!(ran.code, 2);
    assert!(
        ran.stderr.contains("line 2") && ran.stderr.contains("prot"),
        "{}",
        ran.stderr
    );
}

#[tokio::test]
async fn completions_know_every_command() {
    for shell in ["bash", "zsh", "fish"] {
        let ran = Program::new().run(&["completions", shell]).await;
        for command in ["up", "demo", "run", "logs", "doctor"] {
            assert!(ran.ok().contains(command), "{shell}: {command}");
        }
    }
}
