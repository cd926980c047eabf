use std::fs;
use std::os::unix::fs::symlink;
use std::path::PathBuf;
use std::sync::Barrier;

use bytes::Bytes;
use forebay_types::{Error, ErrorCode};
use futures_util::{StreamExt, TryStreamExt, stream};

use crate::{BlobError, Kind, Mode, Root, Staged, Staging, chunks, receive};

struct Fixture {
    dir: tempfile::TempDir,
    root: Root,
    staging: Staging,
}

fn fixture() -> Fixture {
    let dir = tempfile::tempdir().unwrap();
    for name in ["root", "staging", "outside"] {
        fs::create_dir(dir.path().join(name)).unwrap();
    }
    fs::write(dir.path().join("outside/secret"), "s").unwrap();
    let staging = Staging::open(&dir.path().join("staging")).unwrap();
    let root = Root::open(&dir.path().join("root"), &staging).unwrap();
    Fixture { dir, root, staging }
}

impl Fixture {
    fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    fn staged(&self, text: &str) -> Staged {
        let mut staged = self.staging.create().unwrap();
        staged.write(text.as_bytes()).unwrap();
        staged
    }

    fn put(&self, path: &str, text: &str, mode: Mode) -> Result<(), BlobError> {
        let sealed = self.staged(text).seal()?;
        self.root.publish(sealed, path, mode)?.sync()
    }

    fn read(&self, path: &str) -> String {
        let blob = self.root.open_file(path).unwrap();
        String::from_utf8(blob.read(0, 1 << 20).unwrap()).unwrap()
    }

    fn staging_is_empty(&self) -> bool {
        fs::read_dir(self.path("staging")).unwrap().next().is_none()
    }
}

#[test]
fn of_many_that_create_one_name_exactly_one_wins() {
    let f = fixture();
    let start = Barrier::new(8);
    let wins: Vec<bool> = std::thread::scope(|scope| {
        let writers: Vec<_> = (0..8)
            .map(|n| {
                let (f, start) = (&f, &start);
                scope.spawn(move || {
                    start.wait();
                    match f.put("lock", &n.to_string(), Mode::IfAbsent) {
                        Ok(()) => true,
                        Err(BlobError::Exists) => false,
                        Err(e) => panic!("{e}"),
                    }
                })
            })
            .collect();
        writers
            .into_iter()
            .map(|writer| writer.join().unwrap())
            .collect()
    });
    assert_eq!(wins.iter().filter(|won| **won).count(), 1);
    let winner = wins.iter().position(|won| *won).unwrap();
    assert_eq!(f.read("lock"), winner.to_string());
    assert!(f.staging_is_empty());
}

#[test]
fn a_file_is_replaced_whole_and_readers_keep_the_old_one() {
    let f = fixture();
    f.put("x", "old", Mode::IfAbsent).unwrap();
    let reader = f.root.open_file("x").unwrap();
    f.put("x", "new text", Mode::Replace).unwrap();
    assert_eq!(reader.read(0, 100).unwrap(), b"old");
    assert_eq!(f.read("x"), "new text");
}

#[test]
fn an_upload_that_is_dropped_leaves_nothing() {
    let f = fixture();
    drop(f.staged("half"));
    assert!(f.staging_is_empty());
    let missing = f.put("no/such/folder/x", "text", Mode::IfAbsent);
    assert!(matches!(missing, Err(BlobError::Missing)));
    assert!(f.staging_is_empty());
}

#[test]
fn links_never_lead_outside() {
    let f = fixture();
    symlink(f.path("outside"), f.path("root/absolute")).unwrap();
    symlink("../outside", f.path("root/relative")).unwrap();
    symlink("/etc/passwd", f.path("root/passwd")).unwrap();
    for link in ["absolute", "relative"] {
        let secret = format!("{link}/secret");
        assert!(matches!(
            f.root.open_file(&secret),
            Err(BlobError::Forbidden(_))
        ));
        assert!(matches!(f.root.stat(&secret), Err(BlobError::Forbidden(_))));
        assert!(matches!(f.root.list(link), Err(BlobError::Forbidden(_))));
        assert!(matches!(
            f.put(&format!("{link}/new"), "x", Mode::Replace),
            Err(BlobError::Forbidden(_))
        ));
        assert!(f.root.mkdirs(&format!("{link}/new")).is_err());
        assert!(f.root.remove_file(&secret).is_err());
    }
    assert!(matches!(
        f.root.open_file("passwd"),
        Err(BlobError::Forbidden(_))
    ));
    assert!(
        f.root.list("").unwrap().is_empty(),
        "links outside are not listed"
    );
    f.root.remove_all("absolute").unwrap();
    assert_eq!(fs::read_to_string(f.path("outside/secret")).unwrap(), "s");
    assert!(!f.path("outside/new").exists());
}

#[test]
fn writing_to_a_link_replaces_the_link() {
    let f = fixture();
    symlink(f.path("outside/secret"), f.path("root/x")).unwrap();
    f.put("x", "mine", Mode::Replace).unwrap();
    assert_eq!(f.read("x"), "mine");
    assert_eq!(fs::read_to_string(f.path("outside/secret")).unwrap(), "s");
}

#[test]
fn links_beneath_the_root_are_followed_and_named() {
    let f = fixture();
    f.root.mkdirs("a/b").unwrap();
    f.put("a/b/x", "text", Mode::IfAbsent).unwrap();
    symlink("a/b", f.path("root/short")).unwrap();
    assert_eq!(f.read("short/x"), "text");
    assert_eq!(f.root.real_path("short/x").unwrap(), "a/b/x");
    assert_eq!(f.root.real_path("").unwrap(), "");
    let listed = f.root.list("").unwrap();
    assert_eq!(
        listed.iter().map(|e| e.name.as_str()).collect::<Vec<_>>(),
        ["a", "short"]
    );
    assert!(
        listed
            .iter()
            .all(|entry| entry.meta.kind == Kind::Directory)
    );
}

#[test]
fn a_pipe_is_neither_listed_nor_waited_for() {
    let f = fixture();
    let fifo = rustix::fs::FileType::Fifo;
    rustix::fs::mknodat(rustix::fs::CWD, f.path("root/pipe"), fifo, 0o644.into(), 0).unwrap();
    assert!(matches!(f.root.open_file("pipe"), Err(BlobError::Missing)));
    assert_eq!(f.root.stat("pipe").unwrap(), None);
    assert!(f.root.list("").unwrap().is_empty());
}

#[test]
fn directories_are_made_with_those_above_and_removed_by_kind() {
    let f = fixture();
    f.root.mkdirs("a/b/c").unwrap();
    f.root.mkdirs("a/b/c").unwrap();
    f.put("a/file", "x", Mode::IfAbsent).unwrap();
    assert!(matches!(
        f.root.mkdirs("a/file"),
        Err(BlobError::NotDirectory)
    ));
    assert!(matches!(
        f.root.mkdirs("a/file/below"),
        Err(BlobError::NotDirectory)
    ));
    assert!(matches!(f.root.remove_dir("a"), Err(BlobError::NotEmpty)));
    assert!(matches!(
        f.put("a/b", "x", Mode::Replace),
        Err(BlobError::IsDirectory)
    ));
    f.root.remove_dir("a/b/c").unwrap();
    f.root.remove_all("a").unwrap();
    assert_eq!(f.root.stat("a").unwrap(), None);
    assert!(f.staging_is_empty());
}

#[test]
fn a_rename_takes_only_free_names() {
    let f = fixture();
    f.root.mkdirs("full/sub").unwrap();
    f.root.mkdirs("empty").unwrap();
    f.put("x", "x", Mode::IfAbsent).unwrap();
    assert!(matches!(
        f.root.rename("full", &f.root, "empty"),
        Err(BlobError::Exists)
    ));
    assert!(matches!(
        f.root.rename("gone", &f.root, "y"),
        Err(BlobError::Missing)
    ));
    f.root.rename("full", &f.root, "moved").unwrap();
    f.root.rename("x", &f.root, "moved/x").unwrap();
    assert_eq!(f.read("moved/x"), "x");
}

#[test]
fn trees_are_copied() {
    let f = fixture();
    f.root.mkdirs("a/b").unwrap();
    f.put("a/b/x", "text", Mode::IfAbsent).unwrap();
    f.root.copy_all("a", &f.root, "copy").unwrap();
    assert_eq!(f.read("copy/b/x"), "text");
    assert!(matches!(
        f.root.copy_all("a", &f.root, "copy"),
        Err(BlobError::Exists)
    ));
}

#[test]
fn a_staged_tree_lands_whole_or_goes() {
    let f = fixture();
    let fill = || {
        let tree = f.staging.create_tree().unwrap();
        tree.root.mkdirs("sub").unwrap();
        let sealed = f.staged("text").seal().unwrap();
        tree.root
            .publish(sealed, "sub/x", Mode::IfAbsent)
            .unwrap()
            .sync()
            .unwrap();
        tree
    };
    drop(fill());
    fill().land(&f.root, "made").unwrap().sync().unwrap();
    assert_eq!(f.read("made/sub/x"), "text");
    assert!(matches!(
        fill().land(&f.root, "made"),
        Err(BlobError::Exists)
    ));
    assert!(f.staging_is_empty());
}

#[test]
fn a_name_that_is_too_long_is_a_refusal() {
    let f = fixture();
    let long = "n".repeat(300);
    assert_eq!(f.root.stat(&long).unwrap(), None);
    assert!(matches!(f.root.mkdirs(&long), Err(BlobError::TooLong)));
}

fn body(pieces: &[&'static str]) -> impl futures_util::Stream<Item = forebay_types::Result<Bytes>> {
    stream::iter(pieces.to_vec()).map(|piece| Ok(Bytes::from_static(piece.as_bytes())))
}

#[tokio::test]
async fn a_body_is_written_in_order_and_read_back_in_ranges() {
    let f = fixture();
    let staged = f.staging.create().unwrap();
    let mut writer = staged.writer(0).unwrap();
    let write = move |piece: &[u8]| writer.write(piece);
    assert_eq!(
        receive(body(&["ab", "cd", "e"]), 5, write).await.unwrap(),
        5
    );
    f.root
        .publish(staged.seal().unwrap(), "x", Mode::IfAbsent)
        .unwrap()
        .sync()
        .unwrap();
    let pieces: Vec<Bytes> = chunks(f.root.open_file("x").unwrap(), 1, 3)
        .try_collect()
        .await
        .unwrap();
    assert_eq!(pieces.concat(), b"bcd");
    let beyond: Result<Vec<_>, _> = chunks(f.root.open_file("x").unwrap(), 4, 9)
        .try_collect()
        .await;
    assert!(beyond.is_err());
}

#[tokio::test]
async fn a_failing_disk_fails_the_upload_after_the_whole_body_was_read() {
    let mut left = 3;
    let counted = stream::poll_fn(move |_| {
        left -= 1;
        std::task::Poll::Ready((left >= 0).then(|| Ok(Bytes::from_static(b"piece"))))
    });
    let error = receive(counted, 100, |_| Err(BlobError::NoSpace))
        .await
        .unwrap_err();
    assert_eq!(error.code, ErrorCode::TemporarilyUnavailable);
    assert!(error.message.contains("disk is full"), "{error}");
}

#[tokio::test]
async fn a_body_that_breaks_off_or_is_too_long_is_refused() {
    let broken = stream::iter([
        Ok(Bytes::from_static(b"a")),
        Err(Error::invalid("broke off")),
    ]);
    let error = receive(broken, 100, |_| Ok(())).await.unwrap_err();
    assert_eq!(error.message, "broke off");
    let error = receive(body(&["abc", "def"]), 5, |_| Ok(()))
        .await
        .unwrap_err();
    assert_eq!(error.code, ErrorCode::PayloadTooLarge);
}
