use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, Result, bail};
use forebay_config::Config;
use forebay_control::{ExecutorHandle, Services, WorkspaceSetup, server_slots};
use forebay_exec::Executor;
use forebay_http::{App, serve};
use forebay_runner::RunnerClient;
use forebay_runtime::{CancellationToken, Clock, Tasks};
use forebay_ui::{Pages, Place};
use tokio::net::TcpListener;

use crate::data::DataLock;
use crate::profiles::write_profiles;
use crate::runner;

/// Where one workspace is reached.
#[derive(Debug, Clone)]
pub struct WorkspaceAddress {
    pub name: String,
    /// Without a trailing slash; without a port where port 80 of its own address is served.
    pub url: String,
    /// The address with the port, which is always served.
    pub listener: SocketAddr,
}

/// A running server: three workspaces by default, each a world of its own.
#[derive(Debug)]
pub struct Server {
    pub addresses: Vec<WorkspaceAddress>,
    pub apps: Vec<Arc<App>>,
    pub pages: Vec<Pages>,
    pub runner: RunnerClient,
    keep_runs: bool,
    tasks: Tasks,
    /// What connects the server with its runner, which is needed longer than the rest.
    runner_tasks: Tasks,
    _lock: DataLock,
}

impl Server {
    /// Takes the data folder, binds every port, finds or starts the runner, opens the workspaces,
    /// writes the client profiles and only then starts to answer. `program` is this program's file,
    /// which the runner is started from.
    ///
    /// # Errors
    /// When the configuration is not valid, the data folder is in use, or a port is taken.
    pub async fn start(config: Config, clock: Clock, program: &Path) -> Result<Self> {
        config.validate()?;
        let lock = DataLock::take(&config.data)?;
        let data = config
            .data
            .canonicalize()
            .context("cannot resolve the data folder")?;
        // All ports before anything else: what cannot be served is not opened either.
        let mut listeners = Vec::new();
        for index in 0..config.workspaces.len() {
            listeners.push(bind(&config, index).await?);
        }
        let runner_tasks = Tasks::default();
        let setup = runner::setup(&config, &data, program);
        let runner = RunnerClient::open(setup, clock.clone(), runner_tasks.clone())
            .await
            .context("cannot reach the runner")?;
        let opened = Opening {
            config: &config,
            data: &data,
            clock,
            runner: &runner,
        };
        let (addresses, apps, tasks) = match opened.workspaces(&listeners).await {
            Ok(opened) => opened,
            Err(error) => {
                runner.leave().await;
                return Err(error);
            }
        };
        let pages = pages(&addresses, &apps);
        for ((app, pages), bound) in apps.iter().zip(&pages).zip(listeners) {
            for listener in bound.listeners {
                serve(app, pages.router(), listener, &tasks);
            }
        }
        Ok(Self {
            addresses,
            apps,
            pages,
            runner,
            keep_runs: config.keep_runs,
            tasks,
            runner_tasks,
            _lock: lock,
        })
    }

    /// Addresses that sign the first administrator of each workspace in, once, for a while.
    ///
    /// # Errors
    /// When a database refuses.
    pub async fn sign_in_links(&self) -> Result<Vec<String>> {
        let mut links = Vec::new();
        for (app, pages) in self.apps.iter().zip(&self.pages) {
            let admin = app.services.identity.first_admin().await?;
            links.push(pages.sign_in_link(admin));
        }
        Ok(links)
    }

    /// Fires when a part of the server failed for good and the process should end.
    #[must_use]
    pub fn stopping(&self) -> CancellationToken {
        self.tasks.stopping()
    }

    /// Stops taking requests and waits for what is under way, at most for `grace`. Runs end, and the
    /// runner with them, unless they are kept.
    pub async fn stop(self, grace: Duration) -> bool {
        let ended = self.tasks.shutdown(grace).await;
        if self.keep_runs {
            self.runner.leave().await;
        } else {
            self.runner.stop().await;
            self.runner.kill().await;
        }
        self.runner_tasks.shutdown(RUNNER_GRACE).await;
        ended
    }
}

/// For the last words to the runner. One that goes on keeps its connection until this process ends.
const RUNNER_GRACE: Duration = Duration::from_millis(100);

/// What the workspaces are opened from.
struct Opening<'a> {
    config: &'a Config,
    data: &'a Path,
    clock: Clock,
    runner: &'a RunnerClient,
}

impl Opening<'_> {
    async fn workspaces(
        &self,
        listeners: &[Bound],
    ) -> Result<(Vec<WorkspaceAddress>, Vec<Arc<App>>, Tasks)> {
        let tasks = Tasks::default();
        let slots = server_slots(self.config);
        let mut addresses = Vec::new();
        let mut apps = Vec::new();
        for (index, workspace) in self.config.workspaces.iter().enumerate() {
            let derived = format!("http://{}", listeners[index].public);
            let url = workspace.public_url.clone().unwrap_or(derived);
            let url = url.trim_end_matches('/');
            addresses.push(WorkspaceAddress {
                name: workspace.name.clone(),
                url: url.to_owned(),
                listener: self.config.listener(index),
            });
            let setup = WorkspaceSetup {
                config: workspace.clone(),
                server: self.config.clone(),
                root: self.data.join(&workspace.name),
                public_url: url.to_owned(),
                clock: self.clock.clone(),
                tasks: tasks.clone(),
                runtimes: None,
                executor: ExecutorHandle(Arc::new(self.runner.clone())),
                slots: slots.clone(),
            };
            let services = Services::open(setup)
                .await
                .with_context(|| format!("cannot open the workspace {}", workspace.name))?;
            apps.push(Arc::new(App {
                services: Arc::new(services),
            }));
        }
        let profiled: Vec<_> = addresses
            .iter()
            .cloned()
            .zip(apps.iter().map(|app| &*app.services))
            .collect();
        write_profiles(&self.data.join("databrickscfg"), &profiled).await?;
        Ok((addresses, apps, tasks))
    }
}

fn pages(addresses: &[WorkspaceAddress], apps: &[Arc<App>]) -> Vec<Pages> {
    let places = addresses.iter().zip(apps).map(|(address, app)| Place {
        name: address.name.clone(),
        url: address.url.clone(),
        listener: address.listener,
        services: Arc::clone(&app.services),
    });
    Pages::of_server(places.collect())
}

struct Bound {
    listeners: Vec<TcpListener>,
    /// Host and port for links; the port is left out where it is 80.
    public: String,
}

async fn bind(config: &Config, index: usize) -> Result<Bound> {
    let address = config.listener(index);
    let listener = match TcpListener::bind(address).await {
        Ok(listener) => listener,
        Err(e) if e.kind() == std::io::ErrorKind::AddrInUse => bail!(
            "port {} is taken by another program; stop that one, or choose another with --port \
             (the workspaces use {} ports from it on)",
            address.port(),
            config.workspaces.len()
        ),
        Err(e) => return Err(e).with_context(|| format!("cannot listen on {address}")),
    };
    let mut bound = Bound {
        listeners: vec![listener],
        public: address.to_string(),
    };
    if config.port_80 != Some(false) && config.address.is_loopback() {
        let own = config.loopback_80(index);
        match TcpListener::bind(own).await {
            Ok(listener) => {
                bound.listeners.push(listener);
                bound.public = own.ip().to_string();
            }
            Err(e) if config.port_80 == Some(true) => {
                return Err(e).with_context(|| format!("cannot listen on {own} (port_80 = true)"));
            }
            // Not allowed here: clients that keep ports still work, and `up` says so.
            Err(_) => {}
        }
    }
    Ok(bound)
}
