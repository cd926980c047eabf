use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;

use forebay_store::NewRepo;
use forebay_testkit::{PLAIN_USER, TestServer, wait_until};
use forebay_types::{Millis, UserId, WorkspacePath};
use serde_json::{Value, json};
use tempfile::TempDir;

/// A local repository with one commit, and a server that may read it.
pub(crate) struct World {
    pub(crate) server: TestServer,
    pub(crate) roots: TempDir,
}

impl World {
    pub(crate) async fn start() -> Self {
        let roots = tempfile::tempdir().unwrap();
        let origin = roots.path().join("origin");
        fs::create_dir(&origin).unwrap();
        git(&origin, &["init", "-q", "-b", "main"]);
        fs::write(origin.join("n.py"), "# Databricks notebook source\n1\n").unwrap();
        git(&origin, &["add", "."]);
        git(&origin, &["commit", "-q", "-m", "first"]);
        let root = roots.path().to_owned();
        let server = TestServer::start_with(|setup| {
            setup.server.repo_roots = vec![root];
            setup.runtimes = None;
        })
        .await;
        server
            .post("/api/2.0/workspace/mkdirs", json!({"path": "/Repos/team"}))
            .await
            .ok();
        Self { server, roots }
    }

    pub(crate) async fn restart(self) -> Self {
        let root = self.roots.path().to_owned();
        let change = |setup: &mut forebay_control::WorkspaceSetup| {
            setup.server.repo_roots = vec![root];
            setup.runtimes = None;
        };
        Self {
            server: self.server.restart(change).await,
            roots: self.roots,
        }
    }

    fn clone_of(&self, name: &str, path: &str) -> Value {
        let url = self.roots.path().join(name);
        json!({"url": url, "provider": "GITHUB", "path": path})
    }

    async fn create(&self, path: &str) -> Value {
        let body = self.clone_of("origin", path);
        self.server.post("/api/2.0/repos", body).await.ok()
    }

    fn root(&self) -> PathBuf {
        self.server.data().join("dev")
    }

    /// The names in a folder of the workspace's own.
    pub(crate) fn names(&self, folder: &str) -> Vec<String> {
        let entries = fs::read_dir(self.root().join(folder)).unwrap();
        let mut names: Vec<_> = entries
            .map(|entry| entry.unwrap().file_name().into_string().unwrap())
            .collect();
        names.sort();
        names
    }

    async fn paths(&self) -> Vec<String> {
        let list = self.server.get("/api/2.0/repos").await.ok();
        let repos = list["repos"].as_array().unwrap().clone();
        let path = |repo: &Value| repo["path"].as_str().unwrap().to_owned();
        repos.iter().map(path).collect()
    }

    async fn plain(&self, method: &str, path: &str, body: Value) -> forebay_testkit::Answer {
        self.server
            .call(&self.server.plain, method, path, body)
            .await
    }
}

pub(crate) fn git(folder: &Path, args: &[&str]) {
    let done = Command::new("git")
        .args(args)
        .current_dir(folder)
        .envs([("GIT_AUTHOR_NAME", "Ada"), ("GIT_AUTHOR_EMAIL", "a@x.org")])
        .envs([
            ("GIT_COMMITTER_NAME", "Ada"),
            ("GIT_COMMITTER_EMAIL", "a@x.org"),
        ])
        .envs([
            ("GIT_CONFIG_GLOBAL", "/dev/null"),
            ("GIT_CONFIG_SYSTEM", "/dev/null"),
        ])
        .output()
        .unwrap();
    assert!(
        done.status.success(),
        "{}",
        String::from_utf8_lossy(&done.stderr)
    );
}

fn at(repo: &Value) -> String {
    format!("/api/2.0/repos/{}", repo["id"])
}

#[tokio::test]
async fn a_user_reaches_only_what_the_path_allows() {
    let world = World::start().await;
    let theirs = world.create("/Repos/team/x").await;
    let own = format!("/Repos/{PLAIN_USER}/x");
    let denied = "PERMISSION_DENIED";
    let body = world.clone_of("origin", "/Repos/team/y");
    world
        .plain("POST", "/api/2.0/repos", body)
        .await
        .refused(403, denied);
    world
        .plain("GET", &at(&theirs), Value::Null)
        .await
        .refused(403, denied);
    let main = json!({"branch": "main"});
    world
        .plain("PATCH", &at(&theirs), main)
        .await
        .refused(403, denied);
    world
        .plain("DELETE", &at(&theirs), Value::Null)
        .await
        .refused(403, denied);

    // Without a path it goes to the caller's own folder, which is made.
    let mut body = world.clone_of("origin", "");
    let made = world
        .plain("POST", "/api/2.0/repos", body.clone())
        .await
        .ok();
    assert_eq!(made["path"], format!("/Repos/{PLAIN_USER}/origin"));
    assert_eq!(made["provider"], "gitHub");
    body["path"] = json!(format!("/Workspace{own}"));
    let made = world.plain("POST", "/api/2.0/repos", body).await.ok();
    assert_eq!(made["path"], own);
    let list = world.plain("GET", "/api/2.0/repos", Value::Null).await.ok();
    assert_eq!(list["repos"].as_array().unwrap().len(), 2);
    world.plain("DELETE", &at(&made), Value::Null).await.ok();
    world
        .plain("GET", &at(&made), Value::Null)
        .await
        .refused(404, "RESOURCE_DOES_NOT_EXIST");
}

#[tokio::test]
async fn a_clone_that_fails_leaves_nothing() {
    let world = World::start().await;
    fs::create_dir(world.roots.path().join("empty.git")).unwrap();
    fs::write(
        world.roots.path().join("empty.git/HEAD"),
        "ref: refs/heads/main\n",
    )
    .unwrap();
    let post = async |body| world.server.post("/api/2.0/repos", body).await;
    let body = world.clone_of("empty.git", "/Repos/team/x");
    let message = post(body).await.refused(400, "BAD_REQUEST");
    assert!(message.contains("not a Git repository"), "{message}");
    let body = world.clone_of("origin", "/Repos/nobody/x");
    post(body).await.refused(404, "RESOURCE_DOES_NOT_EXIST");
    for path in ["/Repos/x", "/Repos", "/"] {
        let answer = post(world.clone_of("origin", path)).await;
        assert_eq!(answer.status, 400, "{path}: {}", answer.text());
    }
    assert_eq!(world.paths().await, [""; 0]);
    for folder in ["git/repos", "staging", "workspace/Repos/team"] {
        assert_eq!(world.names(folder), [""; 0], "{folder}");
    }
    world.create("/Repos/team/x").await;
    let again = world.clone_of("origin", "/Repos/team/x");
    post(again).await.refused(400, "RESOURCE_ALREADY_EXISTS");
    let inside = world.clone_of("origin", "/Repos/team/x/y");
    let message = post(inside).await.refused(400, "INVALID_PARAMETER_VALUE");
    assert!(message.contains("nested"), "{message}");
}

#[tokio::test]
async fn fifty_at_once_all_arrive_and_one_path_has_one_winner() {
    let world = Arc::new(World::start().await);
    let mut calls = tokio::task::JoinSet::new();
    for number in 0..60 {
        let world = Arc::clone(&world);
        calls.spawn(async move {
            let name = if number < 50 { number } else { 99 };
            let body = world.clone_of("origin", &format!("/Repos/team/r{name}"));
            (number, world.server.post("/api/2.0/repos", body).await)
        });
    }
    let mut winners = 0;
    while let Some(call) = calls.join_next().await {
        let (number, answer) = call.unwrap();
        if number < 50 || answer.status == 200 {
            let path = answer.ok()["path"].as_str().unwrap().to_owned();
            assert!(world.root().join(format!("workspace{path}/n.py")).is_file());
            winners += usize::from(number >= 50);
        } else {
            answer.refused(400, "RESOURCE_ALREADY_EXISTS");
        }
    }
    assert_eq!(winners, 1);
    assert_eq!(world.names("workspace/Repos/team").len(), 51);

    let first = world.server.get("/api/2.0/repos").await.ok();
    assert_eq!(first["repos"].as_array().unwrap().len(), 20);
    let (mut seen, mut next) = (20, first["next_page_token"].clone());
    while let Some(token) = next.as_str() {
        let path = format!("/api/2.0/repos?next_page_token={token}");
        let page = world.server.get(&path).await.ok();
        seen += page["repos"].as_array().unwrap().len();
        next = page["next_page_token"].clone();
    }
    assert_eq!(seen, 51);
}

#[tokio::test]
async fn a_client_that_hangs_up_leaves_no_half_clone() {
    let world = World::start().await;
    // A host that takes connections and says nothing.
    let host = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}/x", host.local_addr().unwrap());
    let body = json!({"url": url, "provider": "gitHub", "path": "/Repos/team/x"});
    let begun = async {
        let probe = host.accept().await.unwrap();
        (probe, host.accept().await.unwrap())
    };
    let held = tokio::select! {
        answer = world.server.post("/api/2.0/repos", body) => panic!("{}", answer.text()),
        held = begun => held,
    };
    let again = || {
        world
            .server
            .post("/api/2.0/repos", world.clone_of("origin", "/Repos/team/x"))
    };
    again().await.refused(400, "RESOURCE_ALREADY_EXISTS");
    drop((held, host));
    wait_until("the place to be free", again, |answer| answer.status == 200).await;
    assert_eq!(world.names("git/repos").len(), 1);
    assert_eq!(world.names("staging"), [""; 0]);
}

#[tokio::test]
async fn deleting_a_folder_above_deletes_the_git_folder() {
    let world = World::start().await;
    let repo = world.create("/Repos/team/x").await;
    let delete = json!({"path": "/Repos/team", "recursive": true});
    world
        .server
        .post("/api/2.0/workspace/delete", delete)
        .await
        .ok();
    world
        .server
        .get(&at(&repo))
        .await
        .refused(404, "RESOURCE_DOES_NOT_EXIST");
    assert_eq!(world.names("git/repos"), [""; 0]);
}

#[tokio::test]
async fn what_a_run_deleted_can_be_cloned_again() {
    let world = World::start().await;
    let old = world.create("/Repos/team/x").await;
    fs::remove_dir_all(world.root().join("workspace/Repos/team/x")).unwrap();
    world
        .server
        .call(
            &world.server.admin,
            "PATCH",
            &at(&old),
            json!({"branch": "main"}),
        )
        .await
        .refused(404, "RESOURCE_DOES_NOT_EXIST");
    let new = world.create("/Repos/team/x").await;
    assert_ne!(old["id"], new["id"]);
    assert_eq!(world.names("git/repos"), [format!("{}.git", new["id"])]);
}

#[tokio::test]
async fn a_start_mends_what_a_crash_left() {
    let world = World::start().await;
    let whole = world.create("/Repos/team/whole").await;
    let gone = world.create("/Repos/team/gone").await;
    let landed = world.create("/Repos/team/landed").await;
    let tree = world.root().join("workspace/Repos/team");
    let git_dir = |id: &Value| world.root().join(format!("git/repos/{id}.git"));
    let store = &world.server.app.services.store;
    let begin = async |path: &Path, name: &str| {
        let new = NewRepo {
            path: WorkspacePath::parse(&format!("/Repos/team/{name}")).unwrap(),
            url: "https://host/x".to_owned(),
            provider: "gitHub".to_owned(),
            sparse: None,
            creator: UserId(1),
            inode: fs::metadata(path).unwrap().ino(),
        };
        json!(store.repo_begin(new, Millis(0)).await.unwrap().0)
    };
    // Died while deleting: the tree is gone, the rest is not.
    fs::remove_dir_all(tree.join("gone")).unwrap();
    // Died after the clone had reached its place, before this was recorded.
    let id = landed["id"].as_i64().unwrap();
    store
        .repo_forget(vec![forebay_types::RepoId(id)])
        .await
        .unwrap();
    let landed_id = begin(&tree.join("landed"), "landed").await;
    fs::rename(git_dir(&landed["id"]), git_dir(&landed_id)).unwrap();
    // Died during the clone, and somebody else made a folder at the path.
    fs::create_dir(tree.join("other")).unwrap();
    fs::write(tree.join("other/theirs"), "").unwrap();
    let halfway = begin(&world.root().join("staging"), "other").await;
    fs::create_dir(git_dir(&halfway)).unwrap();
    // A Git folder that no row knows.
    fs::create_dir(git_dir(&json!(7))).unwrap();

    let world = world.restart().await;
    assert_eq!(
        world.paths().await,
        ["/Repos/team/whole", "/Repos/team/landed"]
    );
    let mut kept = [&whole["id"], &landed_id].map(|id| format!("{id}.git"));
    kept.sort();
    assert_eq!(world.names("git/repos"), kept);
    assert!(tree.join("other/theirs").is_file());
    world
        .server
        .get(&at(&gone))
        .await
        .refused(404, "RESOURCE_DOES_NOT_EXIST");
    let status = "/api/2.0/workspace/get-status?path=/Repos/team/landed";
    let status = world.server.get(status).await.ok();
    assert_eq!(
        (&status["object_type"], &status["object_id"]),
        (&json!("REPO"), &landed_id)
    );
}

#[tokio::test]
async fn credentials_are_the_callers_own_and_never_shown() {
    let world = World::start().await;
    let post = async |body| world.server.post("/api/2.0/git-credentials", body).await;
    let credential = json!({"git_provider": "github", "git_username": "ada",
                            "personal_access_token": "hunter2"});
    let made = post(credential.clone()).await;
    assert!(!made.text().contains("hunter2"));
    let made = made.ok();
    assert_eq!(
        (&made["git_provider"], &made["git_username"]),
        (&json!("gitHub"), &json!("ada"))
    );
    post(credential)
        .await
        .refused(400, "RESOURCE_ALREADY_EXISTS");
    for bad in [
        json!({"git_provider": "gitHub"}),
        json!({"git_provider": "sourceSafe", "personal_access_token": "x"}),
        json!({"git_provider": "gitLab", "personal_access_token": "x\ny"}),
    ] {
        post(bad).await.refused(400, "INVALID_PARAMETER_VALUE");
    }
    let other = json!({"git_provider": "gitLab", "personal_access_token": "x", "principal_id": 5});
    post(other).await.refused(501, "NOT_IMPLEMENTED");

    let one = format!("/api/2.0/git-credentials/{}", made["credential_id"]);
    let missing = "RESOURCE_DOES_NOT_EXIST";
    world
        .plain("GET", &one, Value::Null)
        .await
        .refused(404, missing);
    world
        .plain("DELETE", &one, Value::Null)
        .await
        .refused(404, missing);
    let list = world
        .plain("GET", "/api/2.0/git-credentials", Value::Null)
        .await
        .ok();
    assert_eq!(list["credentials"], json!([]));
    let change = json!({"git_provider": "gitLab", "git_username": "bob"});
    let changed = world
        .server
        .call(&world.server.admin, "PATCH", &one, change)
        .await
        .ok();
    assert_eq!(
        (&changed["git_provider"], &changed["git_username"]),
        (&json!("gitLab"), &json!("bob"))
    );
    world
        .server
        .call(&world.server.admin, "DELETE", &one, Value::Null)
        .await
        .ok();
    world.server.get(&one).await.refused(404, missing);
}
