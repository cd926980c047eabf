//! Environments by digest: built once with `uv` from a shipped lock, then never touched.

use std::collections::HashMap;
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use forebay_exec::StartError;
use nix::unistd::syncfs;
use sha2::{Digest, Sha256};
use tokio::process::{Child, ChildStdin, Command};

use crate::config::LocalConfig;
use crate::driver;
use crate::owner;
use crate::sandbox;
use crate::tools::{self, Python};

/// A tested set of packages for one Python version.
#[derive(Debug)]
pub(crate) struct Runtime {
    pub(crate) name: &'static str,
    pub(crate) python: &'static str,
    pub(crate) description: &'static str,
    /// The Spark engine that is among the packages.
    pub(crate) engine: &'static str,
    lock: &'static str,
    /// What a warm parent imports. Only modules that survive a fork: no event loop, no
    /// connection, no pool of threads before it.
    pub(crate) preload: &'static [&'static str],
}

pub(crate) const RUNTIMES: &[Runtime] = &[
    Runtime {
        name: "python-3.11",
        python: "3.11",
        description: "Python 3.11 with IPython, pandas 2, pyarrow, NumPy, Matplotlib and Spark on Sail",
        engine: "sail",
        lock: include_str!("../../../python/runtimes/python-3.11.lock"),
        preload: &[
            "numpy",
            "pandas",
            "pyarrow",
            "pyarrow.parquet",
            "matplotlib.font_manager",
            "pyspark.sql.connect.session",
            "pyspark.sql.functions",
        ],
    },
    Runtime {
        name: "python-3.11-apache",
        python: "3.11",
        description: "the same packages, and Apache Spark on the machine's Java",
        engine: "apache",
        lock: include_str!("../../../python/runtimes/python-3.11-apache.lock"),
        preload: &[
            "numpy",
            "pandas",
            "pyarrow",
            "pyarrow.parquet",
            "matplotlib.font_manager",
            "pyspark.sql",
            "pyspark.sql.functions",
        ],
    },
];

#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Environment {
    pub(crate) digest: String,
    pub(crate) folder: PathBuf,
    pub(crate) python: Python,
    pub(crate) identity: Identity,
}

/// Which folder it is. One that was deleted and built anew is another one, and whoever has it
/// mounted still sees the old one.
pub(crate) type Identity = (u64, u64);

impl Environment {
    pub(crate) fn interpreter(&self) -> PathBuf {
        self.folder.join("bin/python")
    }

    /// Whether nobody has deleted it.
    fn is_there(&self) -> bool {
        identity(&self.folder) == Some(self.identity)
    }
}

/// `None` where there is no environment, or only what a deletion has left.
fn identity(folder: &Path) -> Option<Identity> {
    std::fs::symlink_metadata(folder.join("bin/python")).ok()?;
    let found = std::fs::metadata(folder).ok()?;
    Some((found.dev(), found.ino()))
}

type Kept = tokio::sync::Mutex<Option<Arc<Environment>>>;

/// The environments of one folder.
#[derive(Debug)]
pub(crate) struct Environments {
    folder: PathBuf,
    driver: PathBuf,
    ready: HashMap<&'static str, Kept>,
    compilers: Mutex<Vec<Compiler>>,
    drafts: AtomicU32,
}

/// A byte compiler at work in the background. It ends with this process, however that ends.
#[derive(Debug)]
struct Compiler {
    process: Child,
    /// Never written to: the compiler ends when the other end of its input is closed.
    leash: ChildStdin,
}

/// Compiles the packages and the driver, makes Matplotlib's list of fonts, which every run would
/// otherwise make for itself, and has Java remember the classes of Apache Spark where that is.
const WARM_UP: &str = r"
import compileall, glob, os, pathlib, subprocess, sys, threading
os.nice(10)
def end_with_parent():
    os.read(0, 1)
    os._exit(1)
threading.Thread(target=end_with_parent, daemon=True).start()
folder, driver, *markers = sys.argv[1:]
for place in (driver, folder):
    compileall.compile_dir(place, quiet=2, workers=1)
fonts = os.path.join(folder, 'share', 'forebay', 'matplotlib')
os.makedirs(fonts, exist_ok=True)
subprocess.run([sys.executable, '-c', 'import matplotlib.font_manager'],
               env={**os.environ, 'MPLCONFIGDIR': fonts}, stdin=subprocess.DEVNULL,
               stderr=subprocess.DEVNULL)
if glob.glob(os.path.join(folder, 'lib/*/site-packages/pyspark/jars')):
    code = 'import sys; sys.path.append(sys.argv[1]); from forebay_driver.jvm import main; main(sys.argv[2])'
    subprocess.run([sys.executable, '-I', '-c', code, driver, folder], stderr=subprocess.DEVNULL)
for marker in markers:
    pathlib.Path(marker).touch()
";

impl Environments {
    pub(crate) fn open(config: &LocalConfig, driver: &Path) -> std::io::Result<Self> {
        let folder = config.shared().join("envs");
        std::fs::create_dir_all(&folder)?;
        owner::sweep(&folder, |name| {
            let rest = name.strip_prefix(".draft-")?;
            rest.split('-').next()?.parse().ok()
        })?;
        let ready = RUNTIMES
            .iter()
            .map(|runtime| (runtime.name, Kept::default()));
        Ok(Self {
            folder,
            driver: driver.to_owned(),
            ready: ready.collect(),
            compilers: Mutex::default(),
            drafts: AtomicU32::new(0),
        })
    }

    pub(crate) fn runtime(name: &str) -> Result<&'static Runtime, StartError> {
        let found = RUNTIMES.iter().find(|runtime| runtime.name == name);
        found.ok_or_else(|| StartError::UnknownRuntime {
            name: name.to_owned(),
            known: RUNTIMES
                .iter()
                .map(|runtime| runtime.name)
                .collect::<Vec<_>>()
                .join(", "),
        })
    }

    /// The environment, built if it is not there yet, or no longer. Side by side callers wait for
    /// one build.
    pub(crate) async fn ensure(
        &self,
        config: &LocalConfig,
        runtime: &'static Runtime,
    ) -> Result<Arc<Environment>, StartError> {
        let failed = |detail| StartError::Environment {
            runtime: runtime.name.to_owned(),
            detail,
        };
        let Some(kept) = self.ready.get(runtime.name) else {
            return Err(failed("it is not among the runtimes".to_owned()));
        };
        let mut kept = kept.lock().await;
        if let Some(found) = kept.as_ref() {
            if found.is_there() {
                return Ok(Arc::clone(found));
            }
            let name = runtime.name;
            tracing::warn!("somebody deleted the environment of {name}; it is built anew");
        }
        let found = self.open_or_build(config, runtime).await;
        let found = Arc::new(found.map_err(failed)?);
        *kept = Some(Arc::clone(&found));
        Ok(found)
    }

    async fn open_or_build(
        &self,
        config: &LocalConfig,
        runtime: &Runtime,
    ) -> Result<Environment, String> {
        let python = tools::find_python(config, runtime.python).await?;
        sandbox::check_folders(config, &[&python.base_prefix])?;
        let digest = digest(runtime.lock, &python);
        let folder = self.folder.join(&digest);
        let identity = match identity(&folder) {
            Some(found) => found,
            None => self.build(config, runtime, &digest, &python).await?,
        };
        let environment = Environment {
            folder,
            digest,
            python,
            identity,
        };
        // A newer server brings another driver to an environment that is ready.
        let markers = self.markers(&environment);
        if !markers.iter().all(|marker| marker.exists()) {
            self.warm_up(&environment, &markers)?;
        }
        Ok(environment)
    }

    async fn build(
        &self,
        config: &LocalConfig,
        runtime: &Runtime,
        digest: &str,
        python: &Python,
    ) -> Result<Identity, String> {
        let uv = tools::find_uv(config, python).await?;
        tracing::info!(
            runtime = runtime.name,
            environment = digest,
            "building the environment of {}",
            runtime.name
        );
        let (home, draft) = (self.folder.join(digest), self.draft());
        // Otherwise each parent that starts first compiles the driver for itself.
        let (built, ()) = tokio::join!(
            self.fill(config, runtime, python, &uv, &draft),
            self.compile_driver(python)
        );
        let kept = built.and_then(|()| {
            // A name that survives a loss of power must not stand for files that did not.
            let synced = std::fs::File::open(&draft).and_then(|at| Ok(syncfs(at)?));
            let kept = synced.and_then(|()| self.publish(&draft, &home));
            kept.map_err(|error| format!("cannot keep the environment: {error}"))?;
            identity(&home).ok_or_else(|| format!("{} is gone again", home.display()))
        });
        if kept.is_err() {
            // Nothing of a failed build is of use; what cannot be removed is swept at next start.
            drop(std::fs::remove_dir_all(&draft));
        }
        kept
    }

    async fn fill(
        &self,
        config: &LocalConfig,
        runtime: &Runtime,
        python: &Python,
        uv: &Path,
        draft: &Path,
    ) -> Result<(), String> {
        let command = |words: &[&str]| {
            let mut command = Command::new(uv);
            // On the same file system as the environments, so that files are shared by link.
            command.env("UV_CACHE_DIR", config.shared().join("cache/uv"));
            command.env("UV_SYSTEM_CERTS", "true");
            command.envs(&config.tool_env).args(words);
            command
        };
        let mut venv = command(&[
            "venv",
            "--quiet",
            "--relocatable",
            "--no-config",
            "--python",
        ]);
        tools::run(venv.arg(&python.executable).arg(draft)).await?;
        let lock = draft.join("runtime.lock");
        std::fs::write(&lock, runtime.lock).map_err(|error| format!("cannot write: {error}"))?;
        let sync = |words: &[&str]| {
            let mut sync = command(&["pip", "sync", "--quiet", "--require-hashes"]);
            sync.args(words).arg("--python");
            sync.arg(draft.join("bin/python")).arg(&lock);
            sync
        };
        // An index has nothing to add to what is there with the hashes of the lock.
        if tools::run(&mut sync(&["--offline"])).await.is_err() {
            tools::run(&mut sync(&[])).await?;
        }
        Ok(())
    }

    async fn compile_driver(&self, python: &Python) {
        let mut compile = Command::new(&python.executable);
        compile.args(["-I", "-m", "compileall", "-q"]);
        if let Err(error) = tools::run(compile.arg(&self.driver)).await {
            tracing::warn!(%error, "the driver was not compiled");
        }
    }

    /// In the place of what a deletion has left, if need be.
    fn publish(&self, draft: &Path, home: &Path) -> io::Result<()> {
        let remains = self.draft();
        if identity(home).is_none() {
            match std::fs::rename(home, &remains) {
                Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
                _ => {}
            }
        }
        // At once: a byte compiler that is still at work makes folders below it.
        let published = driver::publish(draft, home);
        drop(std::fs::remove_dir_all(remains));
        published
    }

    fn draft(&self) -> PathBuf {
        let number = self.drafts.fetch_add(1, Ordering::Relaxed);
        self.folder
            .join(format!(".draft-{}-{number}", std::process::id()))
    }

    /// What says that environment and driver are compiled for each other.
    fn markers(&self, environment: &Environment) -> [PathBuf; 2] {
        let driver = self.driver.join(format!(".warm-{}", environment.digest));
        [environment.folder.join(".warm"), driver]
    }

    /// The environment is usable at once and gets faster when this is done.
    fn warm_up(&self, environment: &Environment, markers: &[PathBuf]) -> Result<(), String> {
        let mut process = Command::new(environment.interpreter())
            .args(["-I", "-c", WARM_UP])
            .args([&environment.folder, &self.driver])
            .args(markers)
            .env_remove("PYTHONDONTWRITEBYTECODE")
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .kill_on_drop(true)
            .spawn()
            .map_err(|error| format!("cannot start the environment's interpreter: {error}"))?;
        let Some(leash) = process.stdin.take() else {
            return Err("the byte compiler has no input".to_owned());
        };
        let mut compilers = self
            .compilers
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        compilers.push(Compiler { process, leash });
        Ok(())
    }

    /// Waits until the background work is done.
    pub(crate) async fn settle(&self) {
        let compilers = {
            let mut compilers = self
                .compilers
                .lock()
                .unwrap_or_else(PoisonError::into_inner);
            std::mem::take(&mut *compilers)
        };
        for Compiler { mut process, leash } in compilers {
            if let Err(error) = process.wait().await {
                tracing::warn!(%error, "compiling an environment did not end well");
            }
            drop(leash);
        }
    }
}

fn digest(lock: &str, python: &Python) -> String {
    let mut digest = Sha256::new();
    for part in [
        lock,
        &python.version,
        &python.base_prefix.to_string_lossy(),
        std::env::consts::OS,
        std::env::consts::ARCH,
    ] {
        digest.update(part);
        digest.update([0]);
    }
    driver::half(&digest.finalize())
}
