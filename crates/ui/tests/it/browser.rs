use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::Arc;

use axum::Router;
use axum::body::Body;
use axum::http::header::{ACCEPT, CONTENT_TYPE, COOKIE, HOST, LOCATION, ORIGIN, SET_COOKIE};
use axum::http::{Method, Request};
use axum::response::Response;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use forebay_testkit::{Answer, TestServer};
use forebay_ui::{Pages, Place};
use http_body_util::BodyExt;
use serde_json::json;
use tower::ServiceExt;

const HOSTS: [&str; 2] = ["forebay.test:7071", "forebay.test:7072"];

/// Two workspaces of one server with their pages.
pub(crate) struct Site {
    pub(crate) dev: TestServer,
    pub(crate) prod: TestServer,
    pub(crate) pages: Vec<Pages>,
    routers: Vec<Router>,
}

impl Site {
    pub(crate) async fn start() -> Self {
        let server = async |name: &str| {
            let name = name.to_owned();
            TestServer::start_with(|setup| {
                setup.config.name = name;
                setup.runtimes = None;
            })
            .await
        };
        let (dev, prod) = (server("dev").await, server("prod").await);
        let places =
            [(&dev, "dev", 7071), (&prod, "prod", 7072)].map(|(server, name, port)| Place {
                name: name.to_owned(),
                url: format!("http://{name}.forebay.test"),
                listener: SocketAddr::from(([127, 0, 0, 1], port)),
                services: Arc::clone(&server.app.services),
            });
        let pages = Pages::of_server(places.into());
        let routers = [&dev, &prod]
            .into_iter()
            .zip(&pages)
            .map(|(server, pages)| forebay_http::service(&server.app, pages.router()))
            .collect();
        Self {
            dev,
            prod,
            pages,
            routers,
        }
    }

    pub(crate) fn browser(&self) -> Browser<'_> {
        Browser {
            site: self,
            cookies: BTreeMap::new(),
        }
    }

    pub(crate) fn browser_with(&self, cookies: BTreeMap<String, String>) -> Browser<'_> {
        Browser {
            site: self,
            cookies,
        }
    }

    /// A browser in which the administrator of dev has signed in.
    pub(crate) async fn admin(&self) -> Browser<'_> {
        let mut browser = self.browser();
        let answer = browser.sign_in(0, &self.dev.admin).await;
        assert_eq!(answer.status, 303, "{}", answer.text());
        browser
    }

    /// Imports a notebook into dev and runs it to its end; the result is the run's id.
    pub(crate) async fn run(&self, path: &str, cells: &[&str]) -> i64 {
        let run = self.submit(path, cells).await;
        let wait = format!("/api/forebay/v1/runs/{run}?wait_ms=30000");
        let ended = self.dev.get(&wait).await.ok();
        assert!(ended["state"]["result_state"].is_string(), "{ended}");
        run
    }

    pub(crate) async fn submit(&self, path: &str, cells: &[&str]) -> i64 {
        self.write(path, cells).await;
        let settings = json!({"run_name": "t", "notebook_task": {"notebook_path": path}});
        let answer = self.dev.post("/api/2.1/jobs/runs/submit", settings).await;
        answer.ok()["run_id"].as_i64().unwrap()
    }

    /// A notebook in dev, also over one that is there.
    pub(crate) async fn write(&self, path: &str, cells: &[&str]) {
        let source = cells.join("\n\n# COMMAND ----------\n\n");
        let content = STANDARD.encode(format!("# Databricks notebook source\n{source}\n"));
        let import =
            json!({"path": path, "language": "PYTHON", "content": content, "overwrite": true});
        self.dev
            .post("/api/2.0/workspace/import", import)
            .await
            .ok();
    }
}

/// Keeps cookies by name for all ports of a host, as browsers do, and follows no redirect.
pub(crate) struct Browser<'a> {
    site: &'a Site,
    cookies: BTreeMap<String, String>,
}

impl Browser<'_> {
    /// The page of dev at `path`, which must be there.
    pub(crate) async fn page(&mut self, path: &str) -> String {
        let answer = self.get(path).await;
        assert_eq!(answer.status, 200, "{path}: {}", answer.text());
        answer.text()
    }

    pub(crate) async fn get(&mut self, path: &str) -> Answer {
        read(self.open(0, path).await).await
    }

    pub(crate) async fn open_text(&mut self, place: usize, path: &str) -> String {
        read(self.open(place, path).await).await.text()
    }

    pub(crate) fn cookies(&self) -> BTreeMap<String, String> {
        self.cookies.clone()
    }

    pub(crate) async fn sign_in(&mut self, place: usize, token: &str) -> Answer {
        let form = [("token", token), ("next", "/runs")];
        self.post(place, "/login", &form, Some(HOSTS[place])).await
    }

    /// The answer with its body still to come.
    pub(crate) async fn open(&mut self, place: usize, path: &str) -> Response {
        let request = Request::get(path).header(ACCEPT, "text/html,*/*");
        self.send(place, request.body(Body::empty()).unwrap()).await
    }

    /// Sends a form from a page of `origin`.
    pub(crate) async fn post(
        &mut self,
        place: usize,
        path: &str,
        form: &[(&str, &str)],
        origin: Option<&str>,
    ) -> Answer {
        let body = form_urlencoded::Serializer::new(String::new())
            .extend_pairs(form)
            .finish();
        let mut request = Request::post(path)
            .header(ACCEPT, "text/html,*/*")
            .header(CONTENT_TYPE, "application/x-www-form-urlencoded");
        if let Some(origin) = origin {
            request = request.header(ORIGIN, format!("http://{origin}"));
        }
        read(
            self.send(place, request.body(Body::from(body)).unwrap())
                .await,
        )
        .await
    }

    async fn send(&mut self, place: usize, mut request: Request<Body>) -> Response {
        assert!(matches!(*request.method(), Method::GET | Method::POST));
        let headers = request.headers_mut();
        headers.insert(HOST, HOSTS[place].parse().unwrap());
        let pairs: Vec<_> = self
            .cookies
            .iter()
            .map(|(k, v)| format!("{k}={v}"))
            .collect();
        headers.insert(COOKIE, pairs.join("; ").parse().unwrap());
        let router = self.site.routers[place].clone();
        let response = router.oneshot(request).await.unwrap();
        for cookie in response.headers().get_all(SET_COOKIE) {
            let text = cookie.to_str().unwrap();
            let (pair, rules) = text.split_once("; ").unwrap();
            let (name, value) = pair.split_once('=').unwrap();
            assert!(rules.contains("HttpOnly; SameSite=Lax"), "{text}");
            self.cookies.insert(name.to_owned(), value.to_owned());
        }
        response
    }
}

async fn read(response: Response) -> Answer {
    let (parts, body) = response.into_parts();
    Answer {
        status: parts.status,
        headers: parts.headers,
        body: body.collect().await.unwrap().to_bytes(),
    }
}

pub(crate) fn goes_to(answer: &Answer) -> &str {
    assert_eq!(answer.status, 303, "{}", answer.text());
    answer.headers[LOCATION].to_str().unwrap()
}

/// The form token of a page.
pub(crate) fn form_token(page: &str) -> String {
    let (_, rest) = page.split_once("name=\"form_token\" value=\"").unwrap();
    rest.split('"').next().unwrap().to_owned()
}
