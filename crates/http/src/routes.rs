use std::collections::HashMap;
use std::sync::Arc;

use axum::Router;
use axum::extract::{DefaultBodyLimit, OriginalUri, State};
use axum::handler::Handler;
use axum::http::{HeaderMap, Method as HttpMethod};
use axum::middleware::from_fn_with_state;
use axum::routing::{MethodFilter, MethodRouter, on};
use forebay_types::{Error, ErrorCode};
use forebay_wire::{Endpoint, Method, Status, endpoints, sdk};

use crate::auth::{authenticate, caller};
use crate::error::ApiError;
use crate::server::App;

/// The API of one workspace. Every row of the ledger that is not refused has a handler, and every
/// handler has a row: both are checked here, at start and in a test.
///
/// # Panics
/// When ledger and handlers differ.
pub fn router(app: &Arc<App>) -> Router {
    let mut routes = Routes {
        app: Arc::clone(app),
        router: Router::new(),
        open: ledger(),
    };
    for register in [
        crate::around::routes,
        crate::clusters::routes,
        crate::contexts::routes,
        crate::cost::routes,
        crate::dbfs::routes,
        crate::files::routes,
        crate::git_credentials::routes,
        crate::identity::routes,
        crate::jobs::routes,
        crate::libraries::routes,
        crate::notifications::routes,
        crate::permissions::routes,
        crate::queue::routes,
        crate::repos::routes,
        crate::retention::routes,
        crate::runs::routes,
        crate::secrets::routes,
        crate::tokens::routes,
        crate::triggers::routes,
        crate::users::routes,
        crate::workspace::routes,
    ] {
        register(&mut routes);
    }
    routes.finish()
}

type Key = (Method, &'static [&'static str], &'static str);

fn ledger() -> HashMap<Key, &'static Endpoint> {
    endpoints::all()
        .map(|(_, row)| ((row.method, row.versions, row.path), row))
        .collect()
}

/// Collects handlers, each against its row of the ledger.
pub(crate) struct Routes {
    app: Arc<App>,
    router: Router<Arc<App>>,
    open: HashMap<Key, &'static Endpoint>,
}

impl Routes {
    /// Registers the handler of one row: same method, versions and path as in the ledger.
    pub(crate) fn on<H, T>(
        &mut self,
        method: Method,
        versions: &'static [&'static str],
        path: &'static str,
        handler: H,
    ) where
        H: Handler<T, Arc<App>>,
        T: 'static,
    {
        let row = self.open.remove(&(method, versions, path));
        let row = row
            .unwrap_or_else(|| panic!("no row in the ledger for {method:?} {versions:?} {path}"));
        self.mount(row, on(filter(method), handler));
    }

    fn mount(&mut self, row: &'static Endpoint, handler: MethodRouter<Arc<App>>) {
        let guard = from_fn_with_state((Arc::clone(&self.app), row.auth), authenticate);
        let handler = handler.layer(guard);
        for path in row.paths() {
            self.router = std::mem::take(&mut self.router).route(&path, handler.clone());
        }
    }

    fn finish(mut self) -> Router {
        for row in std::mem::take(&mut self.open).into_values() {
            let Status::Refused(hint) = row.status else {
                panic!(
                    "no handler for {:?} {:?} {}",
                    row.method, row.versions, row.path
                );
            };
            let what = format!("{} {}", row.method.as_str(), row.path);
            let refuse = move || async move {
                let error = Error::not_implemented(&what);
                let message = [error.message.as_str(), hint].join(" ");
                ApiError(Error::new(ErrorCode::NotImplemented, message.trim_end()))
            };
            self.mount(row, on(filter(row.method), refuse));
        }
        let app = Arc::clone(&self.app);
        self.router
            // Each extractor has a limit of its own; content is streamed, with the limit of its call.
            .layer(DefaultBodyLimit::disable())
            .method_not_allowed_fallback(unknown)
            .with_state(app)
    }
}

fn filter(method: Method) -> MethodFilter {
    match method {
        Method::Get => MethodFilter::GET,
        Method::Head => MethodFilter::HEAD,
        Method::Post => MethodFilter::POST,
        Method::Put => MethodFilter::PUT,
        Method::Patch => MethodFilter::PATCH,
        Method::Delete => MethodFilter::DELETE,
    }
}

/// What no row knows: never a page, never a 2xx. Calls that the SDK knows are refused by name; the
/// rest is a 404 in the API's own form. Who has no token learns nothing of the API.
pub(crate) async fn unknown(
    State(app): State<Arc<App>>,
    method: HttpMethod,
    OriginalUri(uri): OriginalUri,
    headers: HeaderMap,
) -> ApiError {
    let call = format!("{method} {}", uri.path());
    let known = sdk::is_call(method.as_str(), uri.path());
    if (known || uri.path().starts_with("/api/"))
        && let Err(error) = caller(&app, &headers).await
    {
        return ApiError(error);
    }
    ApiError(if known {
        Error::not_implemented(call)
    } else {
        let message = format!("No API found for '{call}'.");
        Error::new(ErrorCode::EndpointNotFound, message)
    })
}
