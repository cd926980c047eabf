//! The executor of a server that has its attempts executed by a runner.

use std::ffi::OsString;
use std::io;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use async_trait::async_trait;
use forebay_exec::{
    Adoption, Execution, Executor, Host, Isolation, Place, Prepared, Program, RuntimeInfo,
    StartError, Workload,
};
use forebay_runtime::{Clock, TaskKind, Tasks};
use futures_util::future::BoxFuture;
use tokio::io::AsyncReadExt;
use tokio::process::Command;
use tracing::{error, info, warn};

use crate::execution::{FarRun, Writer};
use crate::home::{self, Process};
use crate::link::{Followed, Link};
use crate::protocol::{Reply, ToRunner, Welcome};
use crate::spool::{self, Reader};

/// For a new runner to look at the machine and listen.
const READY_MAX: Duration = Duration::from_secs(60);
/// For a runner that has the lock to listen, and for one that was asked to end to do so.
const PATIENCE: Duration = Duration::from_secs(5);
const LOOK_EVERY: Duration = Duration::from_millis(10);
/// Runners that may be asked to begin one attempt.
const RUNNERS_MAX: u32 = 3;

/// How to find a runner, and how to start one.
#[derive(Debug, Clone)]
pub struct RunnerSetup {
    /// See [`home`].
    pub folder: PathBuf,
    pub program: PathBuf,
    /// They make `program` a runner of `folder`, which says `ready` on its standard output.
    pub args: Vec<OsString>,
    /// What a runner started like this says in its [`Welcome`].
    pub build: String,
    pub options: String,
}

/// Starts attempts in a runner that outlives this process. Cheap to clone.
#[derive(Debug, Clone)]
pub struct RunnerClient(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    setup: RunnerSetup,
    clock: Clock,
    tasks: Tasks,
    link: tokio::sync::Mutex<Option<Arc<Link>>>,
    first: OnceLock<Welcome>,
    stopping: AtomicBool,
}

impl RunnerClient {
    /// Finds the runner of the folder, or starts one. `tasks` must go on while attempts are brought
    /// to their ends.
    ///
    /// # Errors
    /// When no runner can be started; its log says why.
    pub async fn open(setup: RunnerSetup, clock: Clock, tasks: Tasks) -> io::Result<Self> {
        let client = Self(Arc::new(Inner {
            setup,
            clock,
            tasks,
            link: tokio::sync::Mutex::default(),
            first: OnceLock::new(),
            stopping: AtomicBool::new(false),
        }));
        let link = client.0.link().await?;
        drop(client.0.first.set(link.welcome.clone()));
        Ok(client)
    }

    /// Ends the runner and everything it executes, at once.
    pub async fn kill(&self) {
        self.0.stopping.store(true, Ordering::Relaxed);
        if let Some(link) = &*self.0.link.lock().await {
            link.kill();
        }
    }

    /// Lets the runner go on without this server; one that has nothing to do ends.
    pub async fn leave(&self) {
        self.0.stopping.store(true, Ordering::Relaxed);
        let idle = match home::inspect(&self.0.setup.folder).await {
            Ok(Some(welcome)) => welcome.attempts.is_empty(),
            _ => false,
        };
        if idle {
            self.stop().await;
        }
    }

    fn first(&self) -> &Welcome {
        // `open` gives no client away without it.
        self.0.first.get_or_init(|| unreachable!("set by open"))
    }
}

impl Inner {
    /// The connection to a runner that answers.
    async fn link(self: &Arc<Self>) -> io::Result<Arc<Link>> {
        let mut current = self.link.lock().await;
        if let Some(link) = &*current
            && !link.closed.is_cancelled()
        {
            return Ok(Arc::clone(link));
        }
        if self.stopping.load(Ordering::Relaxed) {
            return Err(io::Error::other("the server is stopping"));
        }
        if let Some(old) = current.take() {
            old.ended().await;
        }
        let link = match self.find().await? {
            Some(link) => link,
            None => self.launch().await?,
        };
        *current = Some(Arc::clone(&link));
        let watch = Arc::clone(self).watch(Arc::clone(&link));
        self.tasks.spawn(TaskKind::Chore, "watch the runner", watch);
        Ok(link)
    }

    /// Sees to it that after a runner's death nothing of it is left, and tells its attempts.
    fn watch(self: Arc<Self>, link: Arc<Link>) -> BoxFuture<'static, io::Result<()>> {
        Box::pin(async move {
            link.closed.cancelled().await;
            // Whatever closed the connection: two runners must not have one folder.
            link.kill();
            link.ended().await;
            if !self.stopping.load(Ordering::Relaxed) {
                error!(
                    "the runner (process {}) went away; its attempts are lost, see {}",
                    link.welcome.pid,
                    self.setup.folder.join("log").display()
                );
                // The processes died with their parents. A new runner's first act is to end what
                // stays nevertheless, in the control groups of the dead one.
                if let Err(error) = self.link().await {
                    error!(%error, "a new runner cannot be started yet");
                }
            }
            link.gone.cancel();
            Ok(())
        })
    }

    /// Asks a runner to begin an attempt. `None` when it is gone before it has answered.
    async fn begin(
        self: &Arc<Self>,
        workload: &Workload,
        host: &Arc<dyn Host>,
    ) -> Result<Option<(Arc<Link>, Arc<Followed>)>, StartError> {
        let link = self.link().await.map_err(unreachable_runner)?;
        let is_session = matches!(workload.program, Program::Session { .. });
        if is_session && link.welcome.build != self.setup.build {
            // It may not know them, and what it does not know ends the connection.
            return Err(StartError::Invalid(
                "the runner is of another build; contexts start when its attempts have ended"
                    .to_owned(),
            ));
        }
        let attempt = workload.spool_dir.clone();
        let followed = link.follow(&attempt, Arc::clone(host));
        let mut asked = Asked {
            link: &link,
            attempt: Some(attempt),
        };
        let workload = Box::new(workload.clone());
        let reply = link.ask(|request| ToRunner::Start { request, workload });
        match reply.await {
            Some(Reply::Started) => {}
            Some(Reply::NotStarted(refusal)) => return Err(refusal.into()),
            _ => {
                link.gone.cancelled().await;
                return Ok(None);
            }
        }
        asked.attempt = None;
        drop(asked);
        Ok(Some((link, followed)))
    }

    /// The runner that is there, if it can be used.
    async fn find(&self) -> io::Result<Option<Arc<Link>>> {
        let folder = &self.setup.folder;
        let mut waited = Duration::ZERO;
        loop {
            if let Some(stream) = home::connect(folder).await? {
                return match Link::open(stream, &self.clock, &self.tasks).await {
                    Ok(link) => self.judge(link).await,
                    Err((error, process)) => {
                        warn!(%error, "the runner that is there cannot be used and is ended");
                        end(process.or(home::holder(folder)?)).await;
                        Ok(None)
                    }
                };
            }
            // It may just be starting.
            let Some(holder) = home::holder(folder).unwrap_or_default() else {
                return Ok(None);
            };
            if waited >= PATIENCE {
                warn!("the runner that is there does not listen and is ended");
                end(Some(holder)).await;
                return Ok(None);
            }
            waited += LOOK_EVERY;
            self.clock.sleep(LOOK_EVERY).await;
        }
    }

    /// Whether to go on with a runner that another server started.
    async fn judge(&self, link: Arc<Link>) -> io::Result<Option<Arc<Link>>> {
        let (found, wanted) = (&link.welcome, &self.setup);
        let busy = found.attempts.len();
        if found.options != wanted.options {
            warn!(
                attempts = busy,
                "the runner was started with other settings ({}) and is ended", found.options
            );
        } else if found.build == wanted.build {
            info!(attempts = busy, "found the runner (process {})", found.pid);
            return Ok(Some(link));
        } else if busy > 0 {
            warn!(
                attempts = busy,
                "the runner is of another build ({}); it is replaced at a start that finds it idle",
                found.build
            );
            return Ok(Some(link));
        }
        link.kill();
        link.ended().await;
        Ok(None)
    }

    async fn launch(&self) -> io::Result<Arc<Link>> {
        let setup = &self.setup;
        home::create(&setup.folder)?;
        let log = home::open_log(&setup.folder)?;
        let before = log.metadata()?.len();
        let mut child = Command::new(&setup.program)
            .args(&setup.args)
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(log)
            .spawn()?;
        let mut said = String::new();
        if let Some(mut stdout) = child.stdout.take() {
            let ready = async {
                while !said.ends_with('\n') {
                    let byte = stdout.read_u8().await?;
                    said.push(char::from(byte));
                }
                io::Result::Ok(())
            };
            // Its end shows below, by what it did not say.
            drop(tokio::time::timeout(READY_MAX, ready).await);
        }
        if said.trim() != "ready" {
            drop(child.start_kill());
            let log = setup.folder.join("log");
            let words = home::last_words(&log, before);
            return Err(io::Error::other(format!(
                "the runner did not start ({words}); see {}",
                log.display()
            )));
        }
        let none = || io::Error::other("the runner went away at its start");
        let stream = home::connect(&setup.folder).await?.ok_or_else(none)?;
        let link = Link::open(stream, &self.clock, &self.tasks).await;
        link.map_err(|(error, _)| error)
    }
}

async fn end(process: Option<Process>) {
    if let Some(process) = process {
        process.kill();
        process.ended().await;
    }
}

fn unreachable_runner(source: io::Error) -> StartError {
    let doing = "reaching the runner".to_owned();
    StartError::Host { doing, source }
}

/// Takes a start back that nobody waits for any more.
struct Asked<'a> {
    link: &'a Link,
    attempt: Option<PathBuf>,
}

impl Drop for Asked<'_> {
    fn drop(&mut self) {
        if let Some(attempt) = self.attempt.take() {
            self.link.unfollow(&attempt);
            self.link.say(ToRunner::Abandon { attempt });
        }
    }
}

#[async_trait]
impl Executor for RunnerClient {
    async fn start(
        &self,
        workload: Workload,
        host: Arc<dyn Host>,
    ) -> Result<Box<dyn Execution>, StartError> {
        if self.0.stopping.load(Ordering::Relaxed) {
            return Err(StartError::Stopping);
        }
        let mut runners = 1;
        let (link, followed) = loop {
            if let Some(begun) = self.0.begin(&workload, &host).await? {
                break begun;
            }
            // It is dead. Without a spool it never looked at what it was asked, and the next one may
            // begin it.
            let untouched = matches!(Reader::open(&workload.spool_dir), Ok(None));
            if runners == RUNNERS_MAX || !untouched {
                return Err(unreachable_runner(io::ErrorKind::BrokenPipe.into()));
            }
            runners += 1;
        };
        let attempt = workload.spool_dir;
        let spool = Reader::open(&attempt).and_then(|spool| {
            spool.ok_or_else(|| io::Error::new(io::ErrorKind::NotFound, "the spool"))
        });
        let spool = spool.map_err(|source| {
            link.say(ToRunner::Kill {
                attempt: attempt.clone(),
            });
            StartError::Host {
                doing: "opening the spool".to_owned(),
                source,
            }
        })?;
        let isolation = link.welcome.isolation.level.to_string();
        let writer = Some(Writer { link, followed });
        Ok(Box::new(FarRun::new(attempt, spool, 0, writer, isolation)))
    }

    async fn adopt(&self, spool_dir: &Path, from: u64, host: Arc<dyn Host>) -> Adoption {
        let isolation = self.first().isolation.level.to_string();
        let writer = match self.0.link().await {
            Ok(link) => attach(link, spool_dir, host).await,
            Err(error) => {
                warn!(%error, "no runner can be asked about an attempt");
                None
            }
        };
        // Asked about after the runner: one that has just ended has written its end.
        match Reader::open(spool_dir) {
            Ok(Some(spool)) => {
                let attempt = spool_dir.to_owned();
                let run = FarRun::new(attempt, spool, from, writer, isolation);
                Adoption::Found(Box::new(run))
            }
            Ok(None) if from == 0 => Adoption::NeverBegun,
            Ok(None) => Adoption::Lost,
            Err(error) => {
                error!(%error, "cannot open the spool in {}", spool_dir.display());
                Adoption::Lost
            }
        }
    }

    fn inherited(&self) -> Vec<PathBuf> {
        self.first().attempts.clone()
    }

    fn forget(&self, spool_dir: &Path) {
        spool::empty(spool_dir);
    }

    async fn prepare(&self, place: &Place) -> Result<Prepared, StartError> {
        let link = self.0.link().await.map_err(unreachable_runner)?;
        let place = place.clone();
        let reply = link.ask(|request| ToRunner::Prepare { request, place });
        match reply.await {
            Some(Reply::Prepared(prepared)) => Ok(prepared),
            Some(Reply::NotStarted(refusal)) => Err(refusal.into()),
            _ => Err(unreachable_runner(io::ErrorKind::BrokenPipe.into())),
        }
    }

    fn runtimes(&self) -> Vec<RuntimeInfo> {
        self.first().runtimes.clone()
    }

    fn isolation(&self) -> &Isolation {
        &self.first().isolation
    }

    async fn stop(&self) {
        self.0.stopping.store(true, Ordering::Relaxed);
        let link = self.0.link.lock().await.clone();
        if let Some(link) = link {
            link.say(ToRunner::Stop);
            // With attempts under way it stays for as long as they need.
            drop(tokio::time::timeout(PATIENCE, link.ended()).await);
        }
    }
}

/// Has the runner tell this server of an attempt, if it has it.
async fn attach(link: Arc<Link>, attempt: &Path, host: Arc<dyn Host>) -> Option<Writer> {
    let followed = link.follow(attempt, host);
    let reply = link.ask(|request| ToRunner::Attach {
        request,
        attempt: attempt.to_owned(),
    });
    match reply.await {
        Some(Reply::Attached { known: true }) => Some(Writer { link, followed }),
        Some(_) => {
            link.unfollow(attempt);
            None
        }
        None => {
            link.gone.cancelled().await;
            None
        }
    }
}
