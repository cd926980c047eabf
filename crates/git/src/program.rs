use std::ffi::{OsStr, OsString};
use std::fs::{self, File};
use std::io::Write;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::sync::Arc;
use std::time::Duration;

use nix::sys::signal::{Signal, killpg};
use nix::unistd::Pid;
use tokio::io::{AsyncRead, AsyncReadExt};
use tokio::net::TcpStream;
use tokio::process::Command;
use tokio::sync::Semaphore;

use crate::error::GitError;
use crate::mirror::Mirrors;
use crate::remote::{Kind, Remote};

/// What a [`Git`] needs to know of its surroundings.
#[derive(Debug, Clone)]
pub struct GitSetup {
    /// A folder of its own: settings, the helper that answers for credentials, mirrors.
    pub home: PathBuf,
    /// Local addresses are allowed below these folders only.
    pub roots: Vec<PathBuf>,
    /// What `git` gets of the server's environment: `PATH`, proxies, certificates, SSH.
    pub environment: Vec<(&'static str, String)>,
}

/// A user's key to a Git host. Its password reaches `git` through the environment of that one
/// process, never through arguments, addresses or files.
#[derive(Clone)]
pub struct Credential {
    pub username: String,
    pub password: String,
    /// Mirrors are shared among calls of one owner only.
    pub owner: i64,
}

impl std::fmt::Debug for Credential {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Credential")
            .field("username", &self.username)
            .finish_non_exhaustive()
    }
}

/// Runs `git` for one workspace. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Git(pub(crate) Arc<Inner>);

#[derive(Debug)]
pub(crate) struct Inner {
    home: PathBuf,
    roots: Vec<PathBuf>,
    environment: Vec<(&'static str, String)>,
    pub(crate) mirrors: Mirrors,
    slots: Arc<Semaphore>,
}

/// Only what stands here counts: no system-wide or personal configuration is read.
const SETTINGS: &str = "\
# Written by Forebay at every start.
[init]
\tdefaultBranch = main
[core]
\thooksPath = /dev/null
\tfsmonitor = false
\tattributesFile = /dev/null
\texcludesFile = /dev/null
\tautocrlf = false
[credential]
\thelper =
[fetch]
\tunpackLimit = 1
[gc]
\tauto = 0
[maintenance]
\tauto = false
[submodule]
\trecurse = false
[diff]
\tignoreSubmodules = all
[advice]
\tdetachedHead = false
[http]
\tlowSpeedLimit = 1
\tlowSpeedTime = 60
";

/// Answers only for the host of the address: a redirect elsewhere gets nothing.
const ASKPASS: &str = r#"#!/bin/sh
case "$1" in
"Username for '$FOREBAY_GIT_SCHEME://$FOREBAY_GIT_HOST'"*) printf '%s\n' "$FOREBAY_GIT_USERNAME" ;;
"Password for '$FOREBAY_GIT_SCHEME://"*"@$FOREBAY_GIT_HOST'"*) printf '%s\n' "$FOREBAY_GIT_PASSWORD" ;;
*) exit 1 ;;
esac
"#;

/// Overrides for every call: a clone's own configuration could say otherwise.
const OVERRIDES: &[&str] = &[
    "core.hooksPath=/dev/null",
    "core.fsmonitor=false",
    "core.fileMode=false",
    "core.logAllRefUpdates=false",
];

/// How long a host may take to accept a connection.
const CONNECT_MAX: Duration = Duration::from_secs(15);
/// How many calls run at once; others wait for their turn.
const PROGRAMS_MAX: usize = 32;
/// What is kept of a program's words.
const STDERR_BYTES_MAX: usize = 16 << 10;
const STDOUT_BYTES_MAX: usize = 64 << 20;

impl Git {
    /// Prepares the home folder. Blocks.
    ///
    /// # Errors
    /// When it cannot be written, or an allowed root does not exist.
    pub fn open(setup: GitSetup) -> Result<Self, GitError> {
        let cannot = |e| GitError::server("prepare the folder for Git", e);
        fs::create_dir_all(setup.home.join("mirrors")).map_err(cannot)?;
        let home = setup.home.canonicalize().map_err(cannot)?;
        replace(&home.join("gitconfig"), SETTINGS, 0o600).map_err(cannot)?;
        replace(&home.join("askpass"), ASKPASS, 0o700).map_err(cannot)?;
        let mut roots = Vec::new();
        for root in &setup.roots {
            let real = root.canonicalize();
            roots.push(real.map_err(|e| GitError::Server {
                doing: "find a folder given with --repo-root",
                reason: format!("{}: {e}", root.display()),
            })?);
        }
        Ok(Self(Arc::new(Inner {
            mirrors: Mirrors::new(home.join("mirrors")),
            slots: Arc::new(Semaphore::new(PROGRAMS_MAX)),
            home,
            roots,
            environment: setup.environment,
        })))
    }

    /// Checks an address.
    ///
    /// # Errors
    /// `BadAddress` that says what is wrong with it.
    pub fn remote(&self, address: &str) -> Result<Remote, GitError> {
        Remote::parse(address, &self.0.roots)
    }

    /// A call of `git` that will read as "failed to `doing`".
    pub(crate) fn call(&self, doing: &'static str) -> Call {
        let mut command = Command::new("git");
        let home = &self.0.home;
        command
            .env_clear()
            .envs(self.0.environment.iter().map(|(name, value)| (name, value)))
            .env("HOME", home)
            .env("LC_ALL", "C")
            .env("GIT_CONFIG_NOSYSTEM", "1")
            .env("GIT_CONFIG_GLOBAL", home.join("gitconfig"))
            .env("GIT_ATTR_NOSYSTEM", "1")
            .env("GIT_TERMINAL_PROMPT", "0")
            .env("GIT_ASKPASS", home.join("askpass"))
            .env("GIT_LITERAL_PATHSPECS", "1")
            .env("GIT_OPTIONAL_LOCKS", "0")
            .env("GIT_ALLOW_PROTOCOL", "none")
            .current_dir(home)
            .stdin(Stdio::null())
            .stdout(Stdio::piped());
        if !self
            .0
            .environment
            .iter()
            .any(|(name, _)| *name == "GIT_SSH_COMMAND")
        {
            command.env(
                "GIT_SSH_COMMAND",
                "ssh -o BatchMode=yes -o ConnectTimeout=15",
            );
        }
        for setting in OVERRIDES {
            command.args(["-c", setting]);
        }
        Call {
            command,
            doing,
            time_max: Duration::from_secs(120),
            slots: Arc::clone(&self.0.slots),
        }
    }

    /// A call that talks to `remote`.
    pub(crate) fn remote_call(
        &self,
        doing: &'static str,
        remote: &Remote,
        credential: Option<&Credential>,
    ) -> Call {
        let mut call = self
            .call(doing)
            .env("GIT_ALLOW_PROTOCOL", remote.protocols());
        if let (Kind::Http(http), Some(credential)) = (remote.kind(), credential) {
            call = call
                .env("FOREBAY_GIT_SCHEME", &http.scheme)
                .env("FOREBAY_GIT_HOST", &http.authority)
                .env("FOREBAY_GIT_USERNAME", &credential.username)
                .env("FOREBAY_GIT_PASSWORD", &credential.password);
        }
        call
    }

    /// Finds out early, and in plain words, that a host does not answer: `git` itself would wait
    /// for minutes.
    pub(crate) async fn reach(&self, remote: &Remote) -> Result<(), GitError> {
        let Kind::Http(http) = remote.kind() else {
            return Ok(());
        };
        let proxied =
            |name: &str| name.to_ascii_lowercase().ends_with("_proxy") && name != "no_proxy";
        if self.0.environment.iter().any(|(name, _)| proxied(name)) {
            return Ok(());
        }
        let connect = TcpStream::connect((http.host.as_str(), http.port));
        let reason = match tokio::time::timeout(CONNECT_MAX, connect).await {
            Ok(Ok(_)) => return Ok(()),
            Ok(Err(e)) => e.to_string(),
            Err(_) => format!("no connection within {} s", CONNECT_MAX.as_secs()),
        };
        Err(GitError::Unreachable {
            address: remote.address().to_owned(),
            reason,
        })
    }
}

/// Readers see the old or the new text, never half of it.
fn replace(path: &Path, text: &str, mode: u32) -> std::io::Result<()> {
    let new = path.with_extension("new");
    let mut options = File::options();
    options.create(true).truncate(true).write(true).mode(mode);
    options.open(&new)?.write_all(text.as_bytes())?;
    fs::rename(&new, path)
}

/// One call of `git`, with bounded time and output, in a process group of its own.
#[derive(Debug)]
pub(crate) struct Call {
    command: Command,
    doing: &'static str,
    time_max: Duration,
    slots: Arc<Semaphore>,
}

/// How a call ended.
#[derive(Debug)]
pub(crate) struct Done {
    pub(crate) success: bool,
    pub(crate) stdout: String,
    pub(crate) stderr: String,
}

/// Ends a process and its children unless they ended by themselves.
struct Group(Option<i32>);

impl Drop for Group {
    fn drop(&mut self) {
        if let Some(id) = self.0 {
            // It may have ended in this moment, which is as good.
            killpg(Pid::from_raw(id), Signal::SIGKILL).ok();
        }
    }
}

impl Call {
    pub(crate) fn args<S: AsRef<OsStr>>(mut self, args: impl IntoIterator<Item = S>) -> Self {
        self.command.args(args);
        self
    }

    pub(crate) fn env(mut self, name: &str, value: impl AsRef<OsStr>) -> Self {
        self.command.env(name, value);
        self
    }

    pub(crate) fn dir(mut self, path: &Path) -> Self {
        self.command.current_dir(path);
        self
    }

    pub(crate) fn time_max(mut self, seconds: u64) -> Self {
        self.time_max = Duration::from_secs(seconds);
        self
    }

    /// Hands `lock` to the process as its standard input: the lock is held until both this server
    /// and the process are gone, so a server that starts after a crash waits for it.
    pub(crate) fn holding(mut self, lock: &File) -> Result<Self, GitError> {
        let lock = lock
            .try_clone()
            .map_err(|e| GitError::server("share a lock", e))?;
        self.command.stdin(Stdio::from(lock));
        Ok(self)
    }

    pub(crate) fn stdout_to(mut self, file: File) -> Self {
        self.command.stdout(Stdio::from(file));
        self
    }

    /// Runs it; a status other than 0 is an error with what `git` said.
    pub(crate) async fn run(self) -> Result<String, GitError> {
        let doing = self.doing;
        let done = self.done().await?;
        if done.success {
            return Ok(done.stdout);
        }
        Err(failure(doing, &done.stderr))
    }

    /// Runs it, whatever its status.
    pub(crate) async fn done(mut self) -> Result<Done, GitError> {
        let doing = self.doing;
        let slots = Arc::clone(&self.slots);
        let _slot = slots.acquire().await.map_err(|e| GitError::Server {
            doing: "start git",
            reason: e.to_string(),
        })?;
        self.command.process_group(0).kill_on_drop(true);
        self.command.stderr(Stdio::piped());
        let mut child = self.spawn()?;
        let mut group = Group(child.id().and_then(|id| i32::try_from(id).ok()));
        let (out, err) = (child.stdout.take(), child.stderr.take());
        let work = async {
            let out = keep(out, STDOUT_BYTES_MAX);
            let err = keep(err, STDERR_BYTES_MAX);
            let (out, err) = tokio::try_join!(out, err)?;
            let status = child.wait().await?;
            Ok((out, err, status))
        };
        let seconds = self.time_max.as_secs();
        let ended = tokio::time::timeout(self.time_max, work)
            .await
            .map_err(|_| GitError::TooSlow { doing, seconds })?;
        let (out, err, status) = ended.map_err(|e| GitError::server(doing, e))?;
        group.0 = None;
        Ok(Done {
            success: status.success(),
            stdout: String::from_utf8_lossy(&out).into_owned(),
            stderr: String::from_utf8_lossy(&err).into_owned(),
        })
    }

    fn spawn(&mut self) -> Result<tokio::process::Child, GitError> {
        self.command.spawn().map_err(|e| match e.kind() {
            std::io::ErrorKind::NotFound => GitError::Server {
                doing: "start git",
                reason: "the program is not installed (Debian package git)".to_owned(),
            },
            _ => GitError::server("start git", e),
        })
    }
}

/// Reads to the end and keeps the first `bytes_max` bytes.
async fn keep(from: Option<impl AsyncRead + Unpin>, bytes_max: usize) -> std::io::Result<Vec<u8>> {
    let mut kept = Vec::new();
    let Some(mut from) = from else {
        return Ok(kept);
    };
    let mut buffer = vec![0; 16 << 10];
    loop {
        let count = from.read(&mut buffer).await?;
        if count == 0 {
            return Ok(kept);
        }
        let room = bytes_max - kept.len();
        kept.extend_from_slice(&buffer[..count.min(room)]);
    }
}

/// What `git` said, when it is not about a remote.
pub(crate) fn failure(doing: &'static str, stderr: &str) -> GitError {
    if stderr.contains("No space left on device") || stderr.contains("Disk quota exceeded") {
        return GitError::NoSpace;
    }
    GitError::Failed {
        doing,
        said: said(stderr),
    }
}

/// The lines that tell most: those `git` marks as errors, else the last one.
pub(crate) fn said(stderr: &str) -> String {
    let lines: Vec<&str> = stderr
        .lines()
        .map(str::trim)
        .filter(|l| !l.is_empty())
        .collect();
    let marked = |line: &&&str| {
        ["fatal: ", "error: ", "remote: ", "ERROR: "]
            .iter()
            .any(|mark| line.starts_with(mark))
    };
    let mut chosen: Vec<&str> = lines.iter().filter(marked).copied().take(3).collect();
    if chosen.is_empty() {
        chosen = lines.last().into_iter().copied().collect();
    }
    let text = chosen.join("; ");
    match text.is_empty() {
        true => "it gave no reason".to_owned(),
        false => text
            .chars()
            .take(500)
            .collect::<String>()
            .trim_end_matches('.')
            .to_owned(),
    }
}

/// Sorts what `git` says about a remote into the cases a caller can act on. The texts are those
/// of the C locale of git 2.30 to 2.50, curl and OpenSSH.
pub(crate) fn remote_failure(
    doing: &'static str,
    remote: &Remote,
    with_credential: bool,
    stderr: &str,
) -> GitError {
    let address = remote.address().to_owned();
    let has = |texts: &[&str]| texts.iter().any(|text| stderr.contains(text));
    if has(&["Host key verification failed"]) {
        return GitError::UnknownHost { address };
    }
    if has(&[
        "Could not resolve host",
        "Could not connect",
        "Failed to connect",
        "Connection refused",
        "Connection timed out",
        "Connection reset",
        "No route to host",
        "Network is unreachable",
        "SSL certificate problem",
        "Operation too slow",
    ]) {
        let reason = said(stderr);
        return GitError::Unreachable { address, reason };
    }
    if has(&[
        "Authentication failed",
        "could not read Username",
        "could not read Password",
        "returned error: 401",
        "returned error: 403",
        "Permission denied (",
        "unable to read askpass response",
    ]) {
        return match with_credential {
            true => GitError::WrongCredential { address },
            false => GitError::NoCredential { address },
        };
    }
    if has(&[
        "not found",
        "returned error: 404",
        "does not appear to be a git repository",
        "not valid: is this a git repository?",
        "No such file or directory",
    ]) {
        return GitError::NoRepository { address };
    }
    failure(doing, stderr)
}

/// `--name=value` with a value that need not be text.
pub(crate) fn option(name: &str, value: &Path) -> OsString {
    let mut option = OsString::from(name);
    option.push("=");
    option.push(value);
    option
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_git_says_of_a_remote_becomes_a_case() {
        let remote = Remote::parse("https://host/a/b", &[]).unwrap();
        let case = |with, text| remote_failure("x", &remote, with, text);
        let resolve = "fatal: unable to access 'u': Could not resolve host: host";
        assert!(matches!(case(false, resolve), GitError::Unreachable { .. }));
        let user = "fatal: could not read Username for 'u': terminal prompts disabled";
        assert!(matches!(case(false, user), GitError::NoCredential { .. }));
        let denied = "remote: no\nfatal: Authentication failed for 'u'";
        assert!(matches!(
            case(true, denied),
            GitError::WrongCredential { .. }
        ));
        let missing = "fatal: repository 'u' not found";
        assert!(matches!(case(true, missing), GitError::NoRepository { .. }));
        assert_eq!(
            case(true, "error: write: No space left on device"),
            GitError::NoSpace
        );
        assert_eq!(
            case(true, "hint: x\nfatal: odd thing.\n"),
            GitError::Failed {
                doing: "x",
                said: "fatal: odd thing".to_owned()
            }
        );
    }
}
