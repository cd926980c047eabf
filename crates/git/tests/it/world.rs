use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use forebay_git::{Checkout, Git, GitError, GitSetup, Head, Remote, Revision};
use tempfile::TempDir;

/// An origin below an allowed root, and a [`Git`] that may read it.
pub(crate) struct World {
    pub(crate) dir: TempDir,
    pub(crate) git: Git,
    pub(crate) remote: Remote,
}

impl World {
    pub(crate) fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let root = dir.path().join("root");
        let origin = root.join("origin.git");
        fs::create_dir_all(&origin).unwrap();
        run(&origin, &["init", "-q", "--bare", "-b", "main"]);
        let work = dir.path().join("work");
        fs::create_dir(&work).unwrap();
        run(&work, &["init", "-q", "-b", "main"]);
        run(
            &work,
            &["remote", "add", "origin", origin.to_str().unwrap()],
        );
        fs::create_dir(dir.path().join("staging")).unwrap();
        let git = open(dir.path());
        let remote = git.remote(origin.to_str().unwrap()).unwrap();
        Self { dir, git, remote }
    }

    pub(crate) fn work(&self) -> PathBuf {
        self.dir.path().join("work")
    }

    /// Writes files, commits, pushes to `branch`, and returns the commit's id.
    pub(crate) fn commit(&self, branch: &str, files: &[(&str, &str)]) -> String {
        let work = self.work();
        run(&work, &["checkout", "-q", "-B", branch]);
        for (path, text) in files {
            let path = work.join(path);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, text).unwrap();
        }
        run(&work, &["add", "--all"]);
        run(&work, &["commit", "-q", "-m", "a change"]);
        run(&work, &["push", "-q", "--force", "origin", branch]);
        run(&work, &["rev-parse", "HEAD"])
    }

    pub(crate) fn tag(&self, args: &[&str]) {
        run(&self.work(), &[&["tag"], args].concat());
        run(&self.work(), &["push", "-q", "--tags", "origin"]);
    }

    pub(crate) fn checkout(&self, name: &str) -> Checkout {
        let staging = self.dir.path().join("staging");
        fs::create_dir(staging.join(name)).unwrap();
        Checkout {
            git_dir: staging.join(format!("{name}.git")),
            work_tree: staging.join(name),
        }
    }

    pub(crate) async fn cloned(&self, name: &str) -> (Checkout, Head) {
        let to = self.checkout(name);
        let head = self.git.clone_to(&self.remote, None, None, &to).await;
        (to, head.unwrap())
    }

    pub(crate) async fn update(&self, at: &Checkout, to: Revision) -> Result<Head, GitError> {
        self.git.update(&self.remote, None, at, &to).await
    }
}

pub(crate) fn open(dir: &Path) -> Git {
    let path = std::env::var_os("PATH").unwrap().into_string().unwrap();
    Git::open(GitSetup {
        home: dir.join("home"),
        roots: vec![dir.join("root")],
        environment: vec![("PATH", path)],
    })
    .unwrap()
}

pub(crate) fn run(dir: &Path, args: &[&str]) -> String {
    let done = Command::new("git")
        .args(args)
        .current_dir(dir)
        .env("GIT_CONFIG_GLOBAL", "/dev/null")
        .env("GIT_CONFIG_SYSTEM", "/dev/null")
        .envs([("GIT_AUTHOR_NAME", "Ada"), ("GIT_AUTHOR_EMAIL", "a@x.org")])
        .envs([
            ("GIT_COMMITTER_NAME", "Ada"),
            ("GIT_COMMITTER_EMAIL", "a@x.org"),
        ])
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&done.stderr);
    assert!(done.status.success(), "git {args:?}: {said}");
    String::from_utf8(done.stdout).unwrap().trim().to_owned()
}

pub(crate) fn branch(name: &str) -> Revision {
    Revision::Branch(name.to_owned())
}

pub(crate) fn tag(name: &str) -> Revision {
    Revision::Tag(name.to_owned())
}

/// The text of a file of the work tree; `None` when it is missing.
pub(crate) fn text(at: &Checkout, name: &str) -> Option<String> {
    fs::read_to_string(at.work_tree.join(name)).ok()
}
