use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::sync::Arc;

use forebay_git::{Credential, Git, GitError, GitSetup, Revision};

use crate::world::{World, branch, open, run, tag};

#[tokio::test]
async fn many_clones_at_once_all_arrive_and_share_a_mirror() {
    let world = Arc::new(World::new());
    let head = world.commit("main", &[("a.txt", "1")]);
    let mut clones = tokio::task::JoinSet::new();
    for number in 0..50 {
        let world = Arc::clone(&world);
        clones.spawn(async move { world.cloned(&format!("c{number}")).await.1 });
    }
    while let Some(clone) = clones.join_next().await {
        assert_eq!(clone.unwrap().commit.as_deref(), Some(head.as_str()));
    }
    let mirrors = fs::read_dir(world.dir.path().join("home/mirrors")).unwrap();
    assert_eq!(mirrors.count(), 1);
}

#[tokio::test]
async fn clones_live_without_their_mirror_and_a_broken_one_is_made_anew() {
    let world = World::new();
    world.commit("main", &[("a.txt", "1")]);
    let (at, _) = world.cloned("x").await;
    let mirror = fs::read_dir(world.dir.path().join("home/mirrors"))
        .unwrap()
        .next();
    let mirror = mirror.unwrap().unwrap().path();
    // As a fetch that was killed leaves it.
    fs::write(mirror.join("packed-refs.lock"), "").unwrap();
    fs::write(mirror.join("refs/heads/main.lock"), "").unwrap();
    let second = world.commit("main", &[("a.txt", "2")]);
    let head = world.update(&at, branch("main")).await.unwrap();
    assert_eq!(head.commit.as_deref(), Some(second.as_str()));
    open(world.dir.path()).mirrors_trim(0).unwrap();
    assert!(!mirror.exists());
    run(&at.git_dir, &["fsck", "--full"]);
}

#[tokio::test]
async fn exports_are_plain_files_of_a_branch_tag_or_commit() {
    let world = World::new();
    let first = world.commit("main", &[("a.txt", "1"), ("d/b.txt", "b")]);
    world.tag(&["v1"]);
    let second = world.commit("main", &[("a.txt", "2")]);
    run(&world.work(), &["checkout", "-q", "--detach"]);
    run(
        &world.work(),
        &["commit", "-q", "--allow-empty", "-m", "of no branch"],
    );
    run(
        &world.work(),
        &["push", "-q", "origin", "HEAD:refs/pull/1/head"],
    );
    let pull = run(&world.work(), &["rev-parse", "HEAD"]);
    let commit = |id: &str| Revision::Commit(id.to_owned());
    let cases = [
        (branch("main"), &second, "2"),
        (tag("v1"), &first, "1"),
        (commit(&first), &first, "1"),
        (commit(&first[..8]), &first, "1"),
        (commit(&pull), &pull, "2"),
    ];
    for (number, (revision, used, content)) in cases.into_iter().enumerate() {
        let to = world.dir.path().join(format!("export{number}"));
        let found = world.git.export(&world.remote, None, &revision, &to).await;
        assert_eq!(found.unwrap(), *used, "{revision:?}");
        assert_eq!(fs::read_to_string(to.join("a.txt")).unwrap(), content);
        assert_eq!(fs::read_to_string(to.join("d/b.txt")).unwrap(), "b");
        assert_eq!(fs::read_dir(&to).unwrap().count(), 2);
    }
    for missing in [
        commit(&"0".repeat(40)),
        commit("v1"),
        commit("--all"),
        tag("v2"),
    ] {
        let to = world.dir.path().join("none");
        let refused = world.git.export(&world.remote, None, &missing, &to).await;
        assert!(
            matches!(refused, Err(GitError::MissingRevision { .. })),
            "{missing:?}"
        );
        assert!(!to.exists());
    }
}

#[tokio::test]
async fn a_host_that_does_not_answer_is_named() {
    let world = World::new();
    let remote = world
        .git
        .remote("http://127.0.0.1:9/nobody/listens.git")
        .unwrap();
    let to = world.checkout("x");
    let refused = world
        .git
        .clone_to(&remote, None, None, &to)
        .await
        .unwrap_err();
    assert!(matches!(refused, GitError::Unreachable { .. }), "{refused}");
    assert!(!to.git_dir.exists());
}

#[tokio::test]
async fn a_folder_that_is_no_repository_is_named() {
    let world = World::new();
    let fake = world.dir.path().join("root/fake");
    fs::create_dir(&fake).unwrap();
    fs::write(fake.join("HEAD"), "no").unwrap();
    let remote = world.git.remote(fake.to_str().unwrap()).unwrap();
    let to = world.checkout("x");
    let refused = world
        .git
        .clone_to(&remote, None, None, &to)
        .await
        .unwrap_err();
    assert!(
        matches!(refused, GitError::NoRepository { .. }),
        "{refused}"
    );
}

/// Stands in for `git` to see what reaches it.
#[tokio::test]
async fn a_password_stands_neither_in_arguments_nor_in_errors() {
    let world = World::new();
    let bin = world.dir.path().join("bin");
    fs::create_dir(&bin).unwrap();
    let seen = world.dir.path().join("seen");
    let script = format!(
        "#!/bin/sh\necho \"$@\" >> {0}\n\
         \"$GIT_ASKPASS\" \"Username for 'http://127.0.0.1:$PORT': \" >> {0}.user\n\
         \"$GIT_ASKPASS\" \"Password for 'http://ada@127.0.0.1:$PORT': \" >> {0}.password\n\
         \"$GIT_ASKPASS\" \"Password for 'http://ada@elsewhere': \" >> {0}.password\n\
         echo \"fatal: Authentication failed\" >&2\nexit 128\n",
        seen.display()
    );
    fs::write(bin.join("git"), script).unwrap();
    fs::set_permissions(bin.join("git"), fs::Permissions::from_mode(0o755)).unwrap();
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port().to_string();
    let path = format!("{}:/usr/bin:/bin", bin.display());
    let git = Git::open(GitSetup {
        home: world.dir.path().join("other"),
        roots: Vec::new(),
        environment: vec![("PATH", path), ("PORT", port.clone())],
    })
    .unwrap();
    let remote = git.remote(&format!("http://127.0.0.1:{port}/x")).unwrap();
    let credential = Credential {
        username: "ada".to_owned(),
        password: "hunter2".to_owned(),
        owner: 1,
    };
    let to = world.checkout("x");
    let refused = git
        .clone_to(&remote, Some(&credential), None, &to)
        .await
        .unwrap_err();
    assert!(
        matches!(refused, GitError::WrongCredential { .. }),
        "{refused}"
    );
    let read = |ending: &str| fs::read_to_string(seen.with_extension(ending)).unwrap();
    assert_eq!(read("user"), "ada\n");
    assert_eq!(read("password"), "hunter2\n");
    assert!(!fs::read_to_string(&seen).unwrap().contains("hunter2"));
    assert!(!format!("{credential:?} {refused:?}").contains("hunter2"));
}
