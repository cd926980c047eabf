use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, Result, bail};
use forebay_config::{Config, env_var};
use forebay_control::{ExecutorHandle, Services, WorkspaceSetup};
use forebay_exec::IsolationLevel;
use forebay_exec_local::{LocalConfig, LocalExecutor};
use forebay_http::{App, serve};
use forebay_runtime::{CancellationToken, Clock, Tasks};
use forebay_ui::{Pages, Place};
use tokio::net::TcpListener;

use crate::data::DataLock;
use crate::profiles::write_profiles;

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
    tasks: Tasks,
    _lock: DataLock,
}

impl Server {
    /// Takes the data folder, binds every port, opens the workspaces, writes the client profiles
    /// and only then starts to answer.
    ///
    /// # Errors
    /// When the configuration is not valid, the data folder is in use, or a port is taken.
    pub async fn start(config: Config, clock: Clock) -> Result<Self> {
        config.validate()?;
        let lock = DataLock::take(&config.data)?;
        let data = config
            .data
            .canonicalize()
            .context("cannot resolve the data folder")?;
        let tasks = Tasks::default();
        let executor = ExecutorHandle(Arc::new(local_executor(&config, &data).await?));
        let mut addresses = Vec::new();
        let mut apps = Vec::new();
        // All ports before any workspace: what cannot be served is not opened either.
        let mut listeners = Vec::new();
        for index in 0..config.workspaces.len() {
            listeners.push(bind(&config, index).await?);
        }
        for (index, workspace) in config.workspaces.iter().enumerate() {
            let bound = &listeners[index];
            let derived = format!("http://{}", bound.public);
            let url = workspace.public_url.clone().unwrap_or(derived);
            addresses.push(WorkspaceAddress {
                name: workspace.name.clone(),
                url: url.trim_end_matches('/').to_owned(),
                listener: config.listener(index),
            });
            let setup = WorkspaceSetup {
                config: workspace.clone(),
                server: config.clone(),
                root: data.join(&workspace.name),
                public_url: url.trim_end_matches('/').to_owned(),
                clock: clock.clone(),
                tasks: tasks.clone(),
                runtimes: None,
                executor: executor.clone(),
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
        write_profiles(&data.join("databrickscfg"), &profiled).await?;
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
            tasks,
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

    /// Stops taking requests and waits for what is under way, at most for `grace`.
    pub async fn stop(self, grace: Duration) -> bool {
        self.tasks.shutdown(grace).await
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

/// One executor for all workspaces; it keeps environments and never shares a process between them.
async fn local_executor(config: &Config, data: &std::path::Path) -> Result<LocalExecutor> {
    let mut local = LocalConfig::new(data.join("exec"), env_var("PATH").unwrap_or_default());
    local.uv.clone_from(&config.uv);
    local.python.clone_from(&config.python);
    if config.isolation == "none" {
        local.isolation_min = IsolationLevel::None;
    }
    LocalExecutor::open(local)
        .await
        .context("cannot prepare the local executor")
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
