use std::net::SocketAddr;
use std::sync::Arc;

use axum::extract::Request;
use axum::handler::Handler;
use axum::http::header::ACCEPT;
use axum::http::{HeaderName, HeaderValue};
use axum::middleware::{from_fn, map_response};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use axum::serve::ListenerExt;
use axum::{Json, Router};
use forebay_control::Services;
use forebay_runtime::{TaskKind, Tasks};
use forebay_types::Error;
use tokio::net::TcpListener;
use tower::ServiceExt;
use tower_http::catch_panic::CatchPanicLayer;

use crate::error::ApiError;
use crate::leftover::read_leftover;
use crate::routes::{router, unknown};

/// What every handler of one workspace is given.
#[derive(Debug)]
pub struct App {
    pub services: Arc<Services>,
}

/// The whole HTTP service of one workspace: the API, `/healthz`, and the pages given in `pages`,
/// whose fallback answers browsers that ask for what is not there.
pub fn service(app: &Arc<App>, pages: Router) -> Router {
    let workspace_id = app.services.identity.workspace_id;
    let stamp = HeaderValue::from(workspace_id);
    let (state, missing) = (Arc::clone(app), pages.clone());
    router(app)
        .route(
            "/healthz",
            get(|| async { Json(serde_json::json!({"status": "ok"})) }),
        )
        .merge(pages)
        .fallback(move |request| nowhere(state, missing, request))
        .layer(CatchPanicLayer::custom(panicked))
        .layer(from_fn(read_leftover))
        .layer(map_response(move |mut response: Response| {
            let stamp = stamp.clone();
            async move {
                response
                    .headers_mut()
                    .insert(HeaderName::from_static("x-databricks-org-id"), stamp);
                response
            }
        }))
}

/// People get the pages' own words where there is nothing, programs the API's.
async fn nowhere(app: Arc<App>, pages: Router, request: Request) -> Response {
    let accepts = request.headers().get(ACCEPT);
    let reads_html = accepts
        .and_then(|value| value.to_str().ok())
        .is_some_and(|types| types.contains("text/html"));
    if reads_html && !request.uri().path().starts_with("/api/") {
        let Ok(answer) = pages.oneshot(request).await;
        return answer;
    }
    unknown.call(request, app).await
}

fn panicked(_: Box<dyn std::any::Any + Send>) -> Response {
    ApiError(Error::internal("a handler panicked", "see the log above")).into_response()
}

/// Serves the workspace on `listener` until `tasks` stop; requests under way are finished.
pub fn serve(app: &Arc<App>, pages: Router, listener: TcpListener, tasks: &Tasks) {
    let service = service(app, pages).into_make_service_with_connect_info::<SocketAddr>();
    let stop = tasks.stopping();
    // Without this the last piece of an answer waits for the client's acknowledgement of the one
    // before, which clients delay by 40 ms.
    let listener = listener.tap_io(|stream| drop(stream.set_nodelay(true)));
    let name = format!("listener {}", app.services.setup.config.name);
    tasks.spawn(TaskKind::Listener, name, async move {
        axum::serve(listener, service)
            .with_graceful_shutdown(stop.cancelled_owned())
            .await
    });
}
