use std::sync::Arc;

use axum::Router;
use axum::body::Body;
use axum::http::header::{AUTHORIZATION, CONTENT_TYPE};
use axum::http::{Method, Request};
use forebay_config::{Config, Limits, WorkspaceConfig};
use forebay_control::{Ctx, ExecutorHandle, Services, WorkspaceSetup, server_slots};
use forebay_exec::dummy::DummyExecutor;
use forebay_http::{App, service};
use forebay_runtime::{Clock, Tasks};
use forebay_store::history_check;
use forebay_types::Millis;
use http_body_util::BodyExt;
use serde_json::Value;
use tempfile::TempDir;
use tower::ServiceExt;

use crate::{Answer, TestRuntimes};

/// The name of the user who is not an administrator.
pub const PLAIN_USER: &str = "plain@example.com";

/// When the clock of a test stands at first: 2023-11-14T22:13:20Z.
const START: Millis = Millis(1_700_000_000_000);

/// One workspace, with an administrator and a plain user.
#[derive(Debug)]
pub struct TestServer {
    pub app: Arc<App>,
    /// Manual; move it with [`Clock::advance`].
    pub clock: Clock,
    pub tasks: Tasks,
    /// Runs nothing and does as its cells say.
    pub executor: Arc<DummyExecutor>,
    /// The administrator's token.
    pub admin: String,
    /// The plain user's token.
    pub plain: String,
    router: Router,
    data: Data,
}

/// The data folder of a test. At the end of every test the rows of all its runs have to be what
/// their histories say.
#[derive(Debug)]
struct Data(TempDir);

impl Drop for Data {
    fn drop(&mut self) {
        let database = self.0.path().join("dev/forebay.db");
        if std::thread::panicking() || !database.is_file() {
            return;
        }
        let report = history_check(&database).unwrap();
        assert_eq!(report.problems, Vec::<String>::new());
    }
}

impl TestServer {
    pub async fn start() -> Self {
        Self::start_with(|_| {}).await
    }

    /// `change` may replace parts of what the workspace is built from.
    pub async fn start_with(change: impl FnOnce(&mut WorkspaceSetup)) -> Self {
        let data = Data(tempfile::tempdir().unwrap());
        Self::open(data, Clock::manual(START), change).await
    }

    /// Stops this server and opens another on what it left on disk. The tokens
    /// are new ones; the old ones work as well.
    pub async fn restart(self, change: impl FnOnce(&mut WorkspaceSetup)) -> Self {
        let Self {
            app,
            clock,
            tasks,
            router,
            data,
            ..
        } = self;
        tasks.shutdown(std::time::Duration::from_secs(10)).await;
        drop((app, router));
        Self::open(data, clock, change).await
    }

    async fn open(data: Data, clock: Clock, change: impl FnOnce(&mut WorkspaceSetup)) -> Self {
        let tasks = Tasks::default();
        let executor = Arc::new(DummyExecutor::default());
        let mut setup = WorkspaceSetup {
            config: WorkspaceConfig::default(),
            server: Config {
                data: data.0.path().to_owned(),
                limits: Limits {
                    // The clock stands still, so what a token may do in a second is all there is.
                    requests_burst: 1_000_000,
                    ..Limits::default()
                },
                ..Config::default()
            },
            root: data.0.path().join("dev"),
            public_url: "http://forebay.test".to_owned(),
            clock: clock.clone(),
            tasks: tasks.clone(),
            runtimes: Some(Arc::new(TestRuntimes::ready())),
            executor: ExecutorHandle(Arc::clone(&executor) as _),
            slots: server_slots(&Config::default()),
        };
        change(&mut setup);
        setup.slots = server_slots(&Config {
            workspaces: vec![setup.config.clone()],
            ..setup.server.clone()
        });
        let services = Services::open(setup).await.unwrap();
        let admin = services.identity.first_admin().await.unwrap();
        let plain = match services.store.user_get_by_name(PLAIN_USER).await.unwrap() {
            Some(user) => user,
            None => {
                let create = services.store.user_create(PLAIN_USER, false, clock.now());
                create.await.unwrap()
            }
        };
        let token = async |user| {
            let ctx = Ctx::new(user);
            services.tokens.create(&ctx, "test", None).await.unwrap().0
        };
        let (admin, plain) = (token(admin).await, token(plain).await);
        let app = Arc::new(App {
            services: Arc::new(services),
        });
        Self {
            router: service(&app, Router::new()),
            app,
            clock,
            tasks,
            executor,
            admin,
            plain,
            data,
        }
    }

    /// The folder that holds everything of this server.
    #[must_use]
    pub fn data(&self) -> &std::path::Path {
        self.data.0.path()
    }

    /// Sends a request as it is.
    pub async fn send(&self, request: Request<Body>) -> Answer {
        let response = self.router.clone().oneshot(request).await.unwrap();
        let (parts, body) = response.into_parts();
        Answer {
            status: parts.status,
            headers: parts.headers,
            body: body.collect().await.unwrap().to_bytes(),
        }
    }

    /// Sends a JSON body, or none when it is `null`; without a token when that is empty.
    pub async fn call(&self, token: &str, method: &str, path: &str, body: Value) -> Answer {
        let method = Method::from_bytes(method.as_bytes()).unwrap();
        let mut request = Request::builder().method(method).uri(path);
        if !token.is_empty() {
            request = request.header(AUTHORIZATION, format!("Bearer {token}"));
        }
        let body = if body.is_null() {
            Body::empty()
        } else {
            request = request.header(CONTENT_TYPE, "application/json");
            Body::from(body.to_string())
        };
        self.send(request.body(body).unwrap()).await
    }

    /// GET as the administrator.
    pub async fn get(&self, path: &str) -> Answer {
        self.call(&self.admin, "GET", path, Value::Null).await
    }

    /// POST as the administrator.
    pub async fn post(&self, path: &str, body: Value) -> Answer {
        self.call(&self.admin, "POST", path, body).await
    }
}
