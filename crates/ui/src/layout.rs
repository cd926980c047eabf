//! The frame of every page, and the headers that keep others' content harmless in it.

use axum::extract::{Request, State};
use axum::http::header::{
    CACHE_CONTROL, CONTENT_SECURITY_POLICY, REFERRER_POLICY, X_CONTENT_TYPE_OPTIONS,
};
use axum::http::{HeaderMap, HeaderName, HeaderValue, Method};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use forebay_types::Error;
use maud::{DOCTYPE, Markup, html};

use crate::assets::VERSION;
use crate::failure::{self, Failure, Said};
use crate::session::{Session, is_same_origin};
use crate::site::Pages;

/// No script but our one file, nothing from elsewhere, no form to elsewhere. Inline styles are
/// allowed because the frames of notebook outputs inherit this policy, and tables style themselves;
/// no style can come from outside or send anything out.
const POLICY: &str = "default-src 'none'; script-src 'self'; style-src 'self' 'unsafe-inline'; \
    img-src 'self' data:; connect-src 'self'; form-action 'self'; base-uri 'none'; \
    frame-ancestors 'none'";

/// The parts of the navigation.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Section {
    Home,
    Workspace,
    Repos,
    Runs,
    Queue,
    Jobs,
    Clusters,
    Libraries,
    None,
}

const NAVIGATION: [(Section, &str, &str); 8] = [
    (Section::Home, "/", "Home"),
    (Section::Workspace, "/workspace", "Workspace"),
    (Section::Repos, "/repos", "Repos"),
    (Section::Runs, "/runs", "Runs"),
    (Section::Queue, "/queue", "Queue"),
    (Section::Jobs, "/jobs", "Jobs"),
    (Section::Clusters, "/clusters", "Clusters"),
    (Section::Libraries, "/libraries", "Libraries"),
];

pub(crate) struct Page<'a> {
    pub(crate) title: &'a str,
    pub(crate) section: Section,
    pub(crate) body: Markup,
    /// Readers without scripts get the page anew every few seconds.
    pub(crate) changes: bool,
}

impl<'a> Page<'a> {
    pub(crate) fn new(title: &'a str, section: Section, body: Markup) -> Self {
        Self {
            title,
            section,
            body,
            changes: false,
        }
    }
}

impl Pages {
    /// The whole document.
    pub(crate) fn page(&self, session: Option<&Session>, page: Page<'_>) -> Markup {
        let workspace = &self.place().name;
        let version = VERSION.as_str();
        html! {
            (DOCTYPE)
            html lang="en" {
                head {
                    meta charset="utf-8";
                    meta name="viewport" content="width=device-width, initial-scale=1";
                    meta name="color-scheme" content="light dark";
                    title { (page.title) " · " (workspace) " · Forebay" }
                    link rel="icon" type="image/svg+xml" href={ "/ui/icon.svg?" (version) };
                    link rel="stylesheet" href={ "/ui/pages.css?" (version) };
                    script src={ "/ui/pages.js?" (version) } defer {}
                    @if page.changes {
                        noscript { meta http-equiv="refresh" content="5"; }
                    }
                }
                body class={ "env-" (environment(workspace)) } {
                    a class="skip" href="#main" { "Skip to the content" }
                    (self.bar(session, page.section))
                    main id="main" { (page.body) }
                }
            }
        }
    }

    fn bar(&self, session: Option<&Session>, section: Section) -> Markup {
        let workspace = &self.place().name;
        html! {
            header class="bar" {
                a class="brand" href="/" {
                    "Forebay " span class="env" title="Workspace" { (workspace) }
                }
                @if let Some(session) = session {
                    nav aria-label="Main" {
                        @for (part, address, label) in NAVIGATION {
                            a href=(address) aria-current=[(part == section).then_some("page")] {
                                (label)
                            }
                        }
                    }
                    form class="who" method="post" action="/logout" {
                        input type="hidden" name="form_token" value=(session.form_token());
                        span title="Signed in as" { (session.ctx.user.name) }
                        button type="submit" class="quiet" { "Sign out" }
                    }
                }
            }
        }
    }
}

/// Colours go by the name, so that production never looks like anything else.
fn environment(workspace: &str) -> &'static str {
    match workspace {
        "prod" | "production" => "prod",
        "staging" | "test" => "staging",
        "dev" => "dev",
        _ => "other",
    }
}

/// Refuses requests that another site made a browser send, renders failures, and sets the
/// headers of every page.
pub(crate) async fn dress(State(pages): State<Pages>, request: Request, next: Next) -> Response {
    let headers = request.headers().clone();
    let is_read = matches!(*request.method(), Method::GET | Method::HEAD);
    let mut response = if is_read || is_same_origin(&headers) {
        next.run(request).await
    } else {
        let message = "This request came from another site, so it was not carried out.";
        Failure(Error::denied(message)).into_response()
    };
    if let Some(said) = response.extensions_mut().remove::<Said>() {
        response = render_failure(&pages, &headers, &said, response).await;
    }
    let headers = response.headers_mut();
    for (name, value) in [
        (CONTENT_SECURITY_POLICY, POLICY),
        (X_CONTENT_TYPE_OPTIONS, "nosniff"),
        // Not "no-referrer": with that, browsers send forms without their origin.
        (REFERRER_POLICY, "same-origin"),
        (HeaderName::from_static("x-frame-options"), "DENY"),
        (CACHE_CONTROL, "no-store"),
    ] {
        headers
            .entry(name)
            .or_insert(HeaderValue::from_static(value));
    }
    response
}

async fn render_failure(
    pages: &Pages,
    headers: &HeaderMap,
    said: &Said,
    response: Response,
) -> Response {
    // The frame without a name is good enough where even the sign-in cannot be looked up.
    let session = Session::find(pages.services(), headers).await;
    let session = session.ok().flatten();
    let page = Page::new(said.title, Section::None, failure::body(said));
    (response.status(), pages.page(session.as_ref(), page)).into_response()
}
