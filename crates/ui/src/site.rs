use std::net::SocketAddr;
use std::sync::Arc;

use axum::Router;
use axum::http::HeaderMap;
use axum::http::header::HOST;
use axum::middleware::from_fn_with_state;
use axum::routing::{get, post};
use forebay_control::Services;
use forebay_runtime::Clock;
use forebay_store::User;
use forebay_types::Millis;

use crate::{
    assets, clusters, failure, home, job, jobs, layout, libraries, login, queue, repos, run, runs,
    schedule, workspace,
};

/// One workspace of the server, as the pages of all of them know it.
#[derive(Debug, Clone)]
pub struct Place {
    pub name: String,
    /// The address for links, without a trailing slash.
    pub url: String,
    /// The address with the port, which is always served.
    pub listener: SocketAddr,
    pub services: Arc<Services>,
}

/// The pages of one workspace. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Pages(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    places: Arc<[Place]>,
    here: usize,
}

impl Pages {
    /// The pages of each workspace of a server, which know of one another.
    #[must_use]
    pub fn of_server(places: Vec<Place>) -> Vec<Self> {
        let places: Arc<[Place]> = places.into();
        (0..places.len())
            .map(|here| {
                Self(Arc::new(Inner {
                    places: Arc::clone(&places),
                    here,
                }))
            })
            .collect()
    }

    /// An address that signs `user` in once, within 15 minutes.
    #[must_use]
    pub fn sign_in_link(&self, user: User) -> String {
        let (code, _) = self.services().sign_in.issue(user);
        format!("{}/login?code={code}", self.place().url)
    }

    /// All pages, each behind a session except for the sign-in and the style sheet. The fallback
    /// says in words that there is nothing.
    pub fn router(&self) -> Router {
        Router::new()
            .route("/", get(home::show))
            .route("/live", get(home::live))
            .route("/queue", get(queue::show))
            .route("/queue/live", get(queue::live))
            .route("/login", get(login::show).post(login::sign_in))
            .route("/logout", post(login::sign_out))
            .route("/runs", get(runs::show))
            .route("/runs/{run_id}", get(run::show))
            .route("/runs/{run_id}/live", get(run::live))
            .route("/runs/{run_id}/cancel", post(run::cancel))
            .route("/runs/{run_id}/repair", post(run::repair))
            .route("/runs/{run_id}/notebook.ipynb", get(run::download))
            .route("/jobs", get(jobs::list))
            .route("/jobs/{job_id}", get(job::show))
            .route("/jobs/{job_id}/live", get(job::live))
            .route("/jobs/{job_id}/definition.json", get(job::document))
            .route("/jobs/{job_id}/run", post(job::run))
            .route("/jobs/{job_id}/pause", post(job::pause))
            .route("/schedule", get(schedule::show))
            .route("/jobs/{job_id}/runs/{run_id}", get(run::show_of_job))
            .route("/workspace", get(workspace::root))
            .route("/workspace/", get(workspace::root))
            .route("/workspace/{*path}", get(workspace::show))
            .route("/repos", get(repos::list))
            .route("/repos/{repo_id}", get(repos::show).post(repos::check_out))
            .route("/clusters", get(clusters::list))
            .route("/libraries", get(libraries::list))
            .route("/libraries/{name}", get(libraries::show))
            .route("/libraries/{name}/move", post(libraries::move_all))
            .route("/ui/{name}", get(assets::serve))
            .fallback(failure::nowhere)
            .layer(from_fn_with_state(self.clone(), layout::dress))
            .with_state(self.clone())
    }

    pub(crate) fn place(&self) -> &Place {
        &self.0.places[self.0.here]
    }

    pub(crate) fn services(&self) -> &Services {
        &self.place().services
    }

    pub(crate) fn clock(&self) -> &Clock {
        &self.services().setup.clock
    }

    pub(crate) fn now(&self) -> Millis {
        self.clock().now()
    }

    /// Every workspace of the server, and whether it is this one.
    pub(crate) fn places(&self) -> impl Iterator<Item = (&Place, bool)> {
        let here = self.0.here;
        let places = self.0.places.iter().enumerate();
        places.map(move |(index, place)| (place, index == here))
    }

    /// Where a browser that reached us by the host in `headers` reaches `other`: by ports of one
    /// host when it uses ports, so that the session cookies of all workspaces go to all.
    pub(crate) fn address_of(&self, other: &Place, headers: &HeaderMap) -> String {
        let host = headers.get(HOST).and_then(|value| value.to_str().ok());
        let own_port = self.place().listener.port().to_string();
        match host.and_then(|host| host.rsplit_once(':')) {
            Some((name, port)) if port == own_port => {
                format!("http://{name}:{}", other.listener.port())
            }
            _ => other.url.clone(),
        }
    }
}
