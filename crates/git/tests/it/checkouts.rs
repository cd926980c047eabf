use std::fs;
use std::os::unix::fs::{PermissionsExt, symlink};

use forebay_git::{GitError, Head, Revision};

use crate::world::{World, branch, run, tag, text};

fn at_branch(name: &str, commit: &str) -> Head {
    Head {
        branch: Some(name.to_owned()),
        commit: Some(commit.to_owned()),
    }
}

#[tokio::test]
async fn a_commit_is_checked_out_by_its_id_and_the_history_says_what_it_did() {
    let world = World::new();
    let first = world.commit("main", &[("a.txt", "1"), ("b.txt", "1")]);
    world.tag(&["v1"]);
    let second = world.commit("main", &[("a.txt", "2"), ("new.txt", "n")]);
    let (at, _) = world.cloned("x").await;
    let history = async || world.git.history(&at.git_dir, 10).await.unwrap();
    let now = history().await;
    let ids: Vec<_> = now
        .commits
        .iter()
        .map(|commit| commit.id.as_str())
        .collect();
    assert_eq!(ids, [second.as_str(), first.as_str()]);
    let changed: Vec<_> = now
        .changes
        .iter()
        .map(|one| (one.kind, one.path.as_str()))
        .collect();
    assert_eq!(changed, [('M', "a.txt"), ('A', "new.txt")]);
    assert!(now.tags.is_empty());

    let commit = Revision::Commit(first[..8].to_owned());
    let head = world.update(&at, commit).await.unwrap();
    assert_eq!((head.branch, head.commit), (None, Some(first)));
    let now = history().await;
    assert_eq!((now.commits.len(), now.changes.len()), (1, 2));
    assert_eq!(now.tags, ["v1"]);
    let nowhere = Revision::Commit("0".repeat(40));
    assert!(matches!(
        world.update(&at, nowhere).await,
        Err(GitError::MissingRevision { kind: "Commit", .. })
    ));
}

#[tokio::test]
async fn clone_and_update_follow_branches_and_tags() {
    let world = World::new();
    let first = world.commit("main", &[("a.txt", "1"), ("d/b.txt", "b")]);
    world.tag(&["-a", "v1", "-m", "annotated"]);
    let (at, head) = world.cloned("x").await;
    assert_eq!(head, at_branch("main", &first));
    assert!(!at.work_tree.join(".git").exists());
    assert_eq!(text(&at, "d/b.txt").unwrap(), "b");

    let second = world.commit("main", &[("a.txt", "2")]);
    let head = world.update(&at, branch("main")).await.unwrap();
    assert_eq!(head, at_branch("main", &second));
    assert_eq!(text(&at, "a.txt").unwrap(), "2");

    let head = world.update(&at, tag("v1")).await.unwrap();
    assert_eq!((head.branch, head.commit), (None, Some(first)));
    assert_eq!(text(&at, "a.txt").unwrap(), "1");

    let feature = world.commit("feature/two", &[("new.txt", "n")]);
    let head = world.update(&at, branch("feature/two")).await.unwrap();
    assert_eq!(head, at_branch("feature/two", &feature));
    world.update(&at, branch("main")).await.unwrap();
    assert_eq!(text(&at, "new.txt"), None);
    assert!(world.git.is_clean(&at).await.unwrap());
}

#[tokio::test]
async fn rewritten_history_is_followed() {
    let world = World::new();
    world.commit("main", &[("a.txt", "1")]);
    let (at, _) = world.cloned("x").await;
    run(
        &world.work(),
        &["commit", "-q", "--amend", "-m", "other words"],
    );
    run(&world.work(), &["push", "-q", "--force", "origin", "main"]);
    let head = world.update(&at, branch("main")).await.unwrap();
    assert_eq!(
        head.commit.unwrap(),
        run(&world.work(), &["rev-parse", "HEAD"])
    );
}

#[tokio::test]
async fn a_missing_revision_changes_nothing() {
    let world = World::new();
    let first = world.commit("main", &[("a.txt", "1")]);
    let (at, _) = world.cloned("x").await;
    world.commit("main", &[("a.txt", "2")]);
    for missing in [
        branch("nowhere"),
        tag("nowhere"),
        branch("-f"),
        branch("main^"),
    ] {
        let refused = world.update(&at, missing).await.unwrap_err();
        assert!(
            matches!(refused, GitError::MissingRevision { .. }),
            "{refused}"
        );
    }
    assert_eq!(
        world.git.head(&at.git_dir).unwrap(),
        at_branch("main", &first)
    );
    assert_eq!(text(&at, "a.txt").unwrap(), "1");
}

#[tokio::test]
async fn local_changes_stay_or_stop_the_update() {
    let world = World::new();
    let first = world.commit("main", &[("a.txt", "1"), ("b.txt", "1")]);
    let (at, _) = world.cloned("x").await;
    fs::write(at.work_tree.join("b.txt"), "mine").unwrap();
    fs::write(at.work_tree.join("a.txt"), "1").unwrap();
    fs::set_permissions(
        at.work_tree.join("a.txt"),
        fs::Permissions::from_mode(0o755),
    )
    .unwrap();
    assert!(!world.git.is_clean(&at).await.unwrap());
    world.commit("main", &[("a.txt", "2")]);
    world.update(&at, branch("main")).await.unwrap();
    assert_eq!(text(&at, "a.txt").unwrap(), "2");
    assert_eq!(text(&at, "b.txt").unwrap(), "mine");

    world.commit("main", &[("a.txt", "3"), ("b.txt", "3"), ("new.txt", "3")]);
    let before = world.git.head(&at.git_dir).unwrap();
    assert_ne!(before.commit.as_deref(), Some(first.as_str()));
    let refused = world.update(&at, branch("main")).await.unwrap_err();
    assert_eq!(
        refused,
        GitError::LocalChanges {
            file: "b.txt".to_owned()
        }
    );
    fs::remove_file(at.work_tree.join("b.txt")).unwrap();
    fs::write(at.work_tree.join("new.txt"), "mine too").unwrap();
    let refused = world.update(&at, branch("main")).await.unwrap_err();
    assert_eq!(
        refused,
        GitError::LocalChanges {
            file: "new.txt".to_owned()
        }
    );
    assert_eq!(text(&at, "a.txt").unwrap(), "2");
    assert_eq!(world.git.head(&at.git_dir).unwrap(), before);
}

#[tokio::test]
async fn an_interrupted_update_is_finished_by_the_next() {
    let world = World::new();
    world.commit(
        "main",
        &[("a.txt", "1"), ("gone.txt", "1"), ("kept.txt", "1")],
    );
    let (at, _) = world.cloned("x").await;
    fs::remove_file(world.work().join("gone.txt")).unwrap();
    let second = world.commit("main", &[("a.txt", "2"), ("new.txt", "2")]);
    // What is left when the power fails in the middle: some files written, the index locked.
    fs::write(
        at.git_dir.join("forebay-update"),
        format!("{second}\nmain\n"),
    )
    .unwrap();
    fs::write(at.git_dir.join("index.lock"), "").unwrap();
    fs::write(at.work_tree.join("a.txt"), "half").unwrap();
    fs::write(at.work_tree.join("new.txt"), "").unwrap();
    fs::write(at.work_tree.join("kept.txt"), "mine").unwrap();
    run(
        &at.git_dir,
        &["fetch", "-q", world.remote.address(), "main"],
    );

    let third = world.commit("main", &[("third.txt", "3")]);
    let head = world.update(&at, branch("main")).await.unwrap();
    assert_eq!(head, at_branch("main", &third));
    assert_eq!(text(&at, "a.txt").unwrap(), "2");
    assert_eq!(text(&at, "new.txt").unwrap(), "2");
    assert_eq!(text(&at, "third.txt").unwrap(), "3");
    assert_eq!(text(&at, "gone.txt"), None);
    assert_eq!(text(&at, "kept.txt").unwrap(), "mine");
    assert!(!at.git_dir.join("forebay-update").exists());
}

#[tokio::test]
async fn nothing_in_a_repository_or_work_tree_is_executed() {
    let world = World::new();
    let trap = world.dir.path().join("trap");
    let touch = format!("touch {}", trap.display());
    world.commit(
        "main",
        &[
            ("a.txt", "1"),
            (".gitattributes", "* filter=evil diff=evil\n"),
        ],
    );
    world.commit(
        "main",
        &[(
            ".gitmodules",
            "[submodule \"s\"]\n\tpath = s\n\turl = ../s\n",
        )],
    );
    let (at, _) = world.cloned("x").await;
    let planted = at.work_tree.join(".git");
    run(&at.work_tree, &["init", "-q"]);
    run(&at.work_tree, &["config", "core.fsmonitor", &touch]);
    run(&at.work_tree, &["config", "filter.evil.smudge", &touch]);
    run(&at.work_tree, &["config", "filter.evil.clean", &touch]);
    for hook in [
        "post-checkout",
        "post-index-change",
        "reference-transaction",
    ] {
        fs::create_dir_all(planted.join("hooks")).unwrap();
        let path = planted.join("hooks").join(hook);
        fs::write(&path, format!("#!/bin/sh\n{touch}\n")).unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).unwrap();
    }
    world.commit("main", &[("a.txt", "2")]);
    world.update(&at, branch("main")).await.unwrap();
    world.git.is_clean(&at).await.unwrap();
    assert_eq!(text(&at, "a.txt").unwrap(), "2");
    assert!(!trap.exists());
}

#[tokio::test]
async fn a_planted_link_does_not_lead_a_checkout_outside() {
    let world = World::new();
    world.commit("main", &[("d/a.txt", "1")]);
    let (at, _) = world.cloned("x").await;
    let outside = world.dir.path().join("outside");
    fs::create_dir(&outside).unwrap();
    fs::write(outside.join("a.txt"), "1").unwrap();
    fs::remove_dir_all(at.work_tree.join("d")).unwrap();
    symlink(&outside, at.work_tree.join("d")).unwrap();
    world.commit("main", &[("d/a.txt", "2"), ("d/b.txt", "2")]);
    // Whether it is refused as a local change or replaced: nothing is written through the link.
    drop(world.update(&at, branch("main")).await);
    assert_eq!(fs::read_to_string(outside.join("a.txt")).unwrap(), "1");
    assert!(!outside.join("b.txt").exists());
}

#[tokio::test]
async fn sparse_clones_have_the_chosen_folders() {
    let world = World::new();
    world.commit(
        "main",
        &[("top.txt", "1"), ("in/a.txt", "1"), ("out/b.txt", "1")],
    );
    let at = world.checkout("x");
    let patterns = ["in".to_owned()];
    let clone = world
        .git
        .clone_to(&world.remote, None, Some(&patterns), &at);
    clone.await.unwrap();
    assert!(text(&at, "top.txt").is_some() && text(&at, "in/a.txt").is_some());
    assert_eq!(text(&at, "out/b.txt"), None);
    world.commit("main", &[("in/a.txt", "2"), ("out/b.txt", "2")]);
    world.update(&at, branch("main")).await.unwrap();
    assert_eq!(text(&at, "in/a.txt").unwrap(), "2");
    assert_eq!(text(&at, "out/b.txt"), None);
    world
        .git
        .sparse_set(&at, &["out".to_owned()])
        .await
        .unwrap();
    assert_eq!(text(&at, "in/a.txt"), None);
    assert_eq!(text(&at, "out/b.txt").unwrap(), "2");
}

#[tokio::test]
async fn an_empty_repository_is_cloned_and_filled_later() {
    let world = World::new();
    let (at, head) = world.cloned("x").await;
    assert_eq!((head.branch.as_deref(), head.commit), (Some("main"), None));
    let first = world.commit("main", &[("a.txt", "1")]);
    let head = world.update(&at, branch("main")).await.unwrap();
    assert_eq!(head, at_branch("main", &first));
    assert_eq!(text(&at, "a.txt").unwrap(), "1");
}
