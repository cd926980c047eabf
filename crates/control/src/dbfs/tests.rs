use std::fs;
use std::path::Path;
use std::time::Duration;

use forebay_config::Mount;
use forebay_runtime::Clock;
use forebay_store::User;
use forebay_types::{DbfsPath, ErrorCode, Millis, Result, UserId};

use super::Dbfs;
use crate::{Ctx, WorkspaceDirs};

struct Fixture {
    dir: tempfile::TempDir,
    dbfs: Dbfs,
    clock: Clock,
}

fn path(text: &str) -> DbfsPath {
    DbfsPath::parse(text).unwrap()
}

fn user(id: i64) -> Ctx {
    Ctx::new(User {
        id: UserId(id),
        name: id.to_string(),
        display_name: String::new(),
        admin: false,
        active: true,
        created_at: Millis(0),
    })
}

/// A workspace with the mounts `/mnt/data` and, read-only, `/mnt/fixed`, which holds `given`.
fn fixture() -> Fixture {
    let dir = tempfile::tempdir().unwrap();
    let at = |name: &str| dir.path().join(name);
    for name in ["data", "fixed"] {
        fs::create_dir(at(name)).unwrap();
    }
    fs::write(at("fixed/given"), "given").unwrap();
    let mount = |name: &str, read_only| Mount {
        path: format!("/mnt/{name}"),
        folder: at(name),
        read_only,
    };
    let dirs = WorkspaceDirs::open(&at("workspace")).unwrap();
    let clock = Clock::manual(Millis(0));
    let dbfs = Dbfs::open(
        &dirs,
        &[mount("data", false), mount("fixed", true)],
        clock.clone(),
    )
    .unwrap();
    Fixture { dir, dbfs, clock }
}

impl Fixture {
    async fn put(&self, name: &str, text: &str, overwrite: bool) -> Result<()> {
        let mut staged = self.dbfs.stage().await?;
        staged.write(text.as_bytes()).unwrap();
        self.dbfs.put(&path(name), overwrite, staged).await
    }

    async fn text(&self, name: &str) -> Result<String> {
        Ok(String::from_utf8(self.dbfs.read(&path(name), None, None).await?).unwrap())
    }

    async fn names(&self, folder: &str) -> Vec<String> {
        let files = self.dbfs.list(&path(folder)).await.unwrap();
        files
            .into_iter()
            .map(|file| file.path.to_string())
            .collect()
    }
}

fn code<T>(result: Result<T>) -> ErrorCode {
    result.err().expect("a refusal").code
}

#[tokio::test]
async fn mounts_are_places_of_the_tree() {
    let f = fixture();
    f.put("/mnt/data/sub/x", "x", false).await.unwrap();
    assert_eq!(
        fs::read_to_string(f.dir.path().join("data/sub/x")).unwrap(),
        "x"
    );
    assert_eq!(f.names("/mnt").await, ["/mnt/data", "/mnt/fixed"]);
    assert_eq!(f.names("/mnt/data").await, ["/mnt/data/sub"]);
    assert_eq!(f.text("/mnt/fixed/given").await.unwrap(), "given");
    f.put("/Volumes/a/b/c/x", "v", false).await.unwrap();
    assert!(f.dir.path().join("workspace/volumes/a/b/c/x").is_file());
}

#[tokio::test]
async fn a_read_only_mount_is_never_written() {
    let f = fixture();
    let ctx = user(1);
    assert_eq!(
        code(f.put("/mnt/fixed/new", "x", true).await),
        ErrorCode::PermissionDenied
    );
    assert_eq!(
        code(f.dbfs.create(&ctx, &path("/mnt/fixed/new"), true).await),
        ErrorCode::PermissionDenied
    );
    assert_eq!(
        code(f.dbfs.mkdirs(&path("/mnt/fixed/new")).await),
        ErrorCode::PermissionDenied
    );
    assert_eq!(
        code(f.dbfs.delete(&path("/mnt/fixed/given"), true).await),
        ErrorCode::PermissionDenied
    );
    let (given, out) = (path("/mnt/fixed/given"), path("/out"));
    assert_eq!(
        code(f.dbfs.rename(&given, &out).await),
        ErrorCode::PermissionDenied
    );
    f.put("/x", "x", false).await.unwrap();
    assert_eq!(
        code(f.dbfs.rename(&path("/x"), &path("/mnt/fixed/x")).await),
        ErrorCode::PermissionDenied
    );
    assert_eq!(f.names("/mnt/fixed").await, ["/mnt/fixed/given"]);
}

#[tokio::test]
async fn mounts_and_what_is_above_them_cannot_be_deleted_or_moved() {
    let f = fixture();
    for fixed in ["/", "/mnt", "/mnt/data", "/Volumes"] {
        assert_eq!(
            code(f.dbfs.delete(&path(fixed), true).await),
            ErrorCode::InvalidParameterValue,
            "{fixed}"
        );
    }
    assert_eq!(
        code(f.dbfs.rename(&path("/mnt"), &path("/other")).await),
        ErrorCode::InvalidParameterValue
    );
    assert!(f.dir.path().join("fixed/given").is_file());
}

#[tokio::test]
async fn moves_take_free_names_and_go_into_directories() {
    let f = fixture();
    for name in ["/a/x", "/b/y", "/z"] {
        f.put(name, name, false).await.unwrap();
    }
    let rename = |from: &str, to: &str| {
        let (dbfs, from, to) = (f.dbfs.clone(), path(from), path(to));
        async move { dbfs.rename(&from, &to).await }
    };
    assert_eq!(
        code(rename("/nothing", "/n").await),
        ErrorCode::ResourceDoesNotExist
    );
    assert_eq!(
        code(rename("/z", "/b/y").await),
        ErrorCode::ResourceAlreadyExists
    );
    assert_eq!(
        code(rename("/a", "/a/below").await),
        ErrorCode::InvalidParameterValue
    );
    rename("/a", "/b").await.unwrap();
    assert_eq!(f.text("/b/a/x").await.unwrap(), "/a/x");
    rename("/b", "/mnt/data/new/deep").await.unwrap();
    assert_eq!(f.text("/mnt/data/new/deep/a/x").await.unwrap(), "/a/x");
    assert_eq!(
        code(f.dbfs.status(&path("/b")).await),
        ErrorCode::ResourceDoesNotExist
    );
}

#[tokio::test]
async fn a_handle_makes_its_file_at_close_and_the_last_close_wins() {
    let f = fixture();
    let ctx = user(1);
    let (one, two) = (
        f.dbfs.create(&ctx, &path("/f"), true).await.unwrap(),
        f.dbfs.create(&ctx, &path("/f"), true).await.unwrap(),
    );
    f.dbfs.add_block(&ctx, one, b"one".to_vec()).await.unwrap();
    f.dbfs.add_block(&ctx, two, b"two".to_vec()).await.unwrap();
    assert_eq!(code(f.text("/f").await), ErrorCode::ResourceDoesNotExist);
    f.dbfs.close(&ctx, two).await.unwrap();
    f.dbfs.close(&ctx, one).await.unwrap();
    assert_eq!(f.text("/f").await.unwrap(), "one");
    assert_eq!(
        code(f.dbfs.close(&ctx, one).await),
        ErrorCode::ResourceDoesNotExist
    );
}

#[tokio::test]
async fn without_overwrite_a_name_taken_meanwhile_is_seen_at_close() {
    let f = fixture();
    let ctx = user(1);
    let handle = f.dbfs.create(&ctx, &path("/f"), false).await.unwrap();
    f.put("/f", "first", false).await.unwrap();
    assert_eq!(
        code(f.dbfs.create(&ctx, &path("/f"), false).await),
        ErrorCode::ResourceAlreadyExists
    );
    assert_eq!(
        code(f.dbfs.close(&ctx, handle).await),
        ErrorCode::ResourceAlreadyExists
    );
    assert_eq!(f.text("/f").await.unwrap(), "first");
    assert!(staging_is_empty(f.dir.path()));
}

#[tokio::test]
async fn handles_belong_to_their_user_and_end_when_idle() {
    let f = fixture();
    let ctx = user(1);
    let handle = f.dbfs.create(&ctx, &path("/f"), false).await.unwrap();
    assert_eq!(
        code(f.dbfs.close(&user(2), handle).await),
        ErrorCode::ResourceDoesNotExist
    );
    f.clock.advance(Duration::from_secs(9 * 60));
    f.dbfs.add_block(&ctx, handle, b"x".to_vec()).await.unwrap();
    f.clock.advance(Duration::from_secs(9 * 60));
    f.dbfs.add_block(&ctx, handle, b"y".to_vec()).await.unwrap();
    f.clock.advance(Duration::from_secs(10 * 60));
    f.dbfs.sweep();
    assert!(staging_is_empty(f.dir.path()));
    assert_eq!(
        code(f.dbfs.close(&ctx, handle).await),
        ErrorCode::ResourceDoesNotExist
    );
}

#[tokio::test]
async fn open_handles_are_bounded() {
    let f = fixture();
    let ctx = user(1);
    for _ in 0..super::handles::OPEN_MAX {
        f.dbfs.create(&ctx, &path("/f"), true).await.unwrap();
    }
    assert_eq!(
        code(f.dbfs.create(&ctx, &path("/f"), true).await),
        ErrorCode::ResourceLimitExceeded
    );
}

fn staging_is_empty(dir: &Path) -> bool {
    fs::read_dir(dir.join("workspace/staging"))
        .unwrap()
        .next()
        .is_none()
}
