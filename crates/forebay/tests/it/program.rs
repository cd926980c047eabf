//! The built program in a folder of its own, with or without a server beside it.

use std::path::Path;
use std::process::Stdio;

use forebay::Server;
use forebay_config::Config;
use forebay_runtime::Clock;
use tempfile::TempDir;
use tokio::process::Command;

/// What a whole run of the program left.
#[derive(Debug)]
pub(crate) struct Ran {
    pub(crate) code: i32,
    pub(crate) stdout: String,
    pub(crate) stderr: String,
}

impl Ran {
    /// Insists on success and gives standard output.
    pub(crate) fn ok(&self) -> &str {
        assert_eq!(self.code, 0, "{self:?}");
        &self.stdout
    }

    /// Exit code, standard output and standard error in one comparison.
    pub(crate) fn is(&self, code: i32, stdout: &str, stderr: &str) {
        let got = (self.code, self.stdout.as_str(), self.stderr.as_str());
        assert_eq!(got, (code, stdout, stderr));
    }
}

/// A person's folder: the program runs in it and sees nothing else of this machine's settings.
#[derive(Debug)]
pub(crate) struct Program {
    pub(crate) folder: TempDir,
    env: Vec<(&'static str, String)>,
}

impl Program {
    pub(crate) fn new() -> Self {
        Self {
            folder: tempfile::tempdir().unwrap(),
            env: Vec::new(),
        }
    }

    pub(crate) fn env(mut self, name: &'static str, value: impl Into<String>) -> Self {
        self.env.push((name, value.into()));
        self
    }

    pub(crate) fn path(&self) -> &Path {
        self.folder.path()
    }

    pub(crate) fn write(&self, name: &str, text: &str) {
        let path = self.path().join(name);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(path, text).unwrap();
    }

    #[expect(
        clippy::disallowed_methods,
        reason = "the search path of the test is that of the program"
    )]
    pub(crate) async fn run(&self, args: &[&str]) -> Ran {
        let output = Command::new(env!("CARGO_BIN_EXE_forebay"))
            .args(args)
            .current_dir(self.path())
            .env_clear()
            .env("PATH", std::env::var("PATH").unwrap())
            .env("HOME", self.path())
            .env("TZ", "UTC")
            .envs(self.env.iter().map(|(name, value)| (name, value)))
            .stdin(Stdio::null())
            .output()
            .await
            .unwrap();
        Ran {
            code: output.status.code().unwrap(),
            stdout: String::from_utf8(output.stdout).unwrap(),
            stderr: String::from_utf8(output.stderr).unwrap(),
        }
    }
}

/// A server in this process whose data folder is the program's default one.
pub(crate) async fn served() -> (Program, Server) {
    let program = Program::new();
    let config = Config {
        data: program.path().join(".forebay"),
        port: free_ports(3),
        port_80: Some(false),
        ..Config::default()
    };
    let server = start(config).await;
    (program, server)
}

/// The program that was built is the one that runners are started from.
pub(crate) async fn start(config: Config) -> Server {
    let program = Path::new(env!("CARGO_BIN_EXE_forebay"));
    Server::start(config, Clock::system(), program)
        .await
        .unwrap()
}

/// The first of `count` neighbouring ports that nobody listens on.
pub(crate) fn free_ports(count: u16) -> u16 {
    let listen = |port: u16| std::net::TcpListener::bind(("127.0.0.1", port));
    for _ in 0..100 {
        let first = listen(0).unwrap().local_addr().unwrap().port();
        let Some(end) = first.checked_add(count) else {
            continue;
        };
        if (first..end).all(|port| listen(port).is_ok()) {
            return first;
        }
    }
    panic!("there are no {count} neighbouring free ports");
}
