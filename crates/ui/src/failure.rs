use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use forebay_types::{Error, ErrorCode};
use maud::{Markup, html};
use tracing::error;

/// An error on its way to a reader. [`crate::layout::dress`] puts it into the page's frame.
#[derive(Debug)]
pub(crate) struct Failure(pub(crate) Error);

pub(crate) type PageResult<T = Response> = Result<T, Failure>;

impl From<Error> for Failure {
    fn from(error: Error) -> Self {
        Self(error)
    }
}

impl Failure {
    /// What a form asked for was refused: its page is there all the same, so it is not "not found".
    pub(crate) fn of_form(mut error: Error) -> Self {
        if error.code == ErrorCode::InvalidParameterValue {
            error.code = ErrorCode::InvalidState;
        }
        Self(error)
    }
}

/// What a failed page says, kept beside the response until it is rendered.
#[derive(Debug, Clone)]
pub(crate) struct Said {
    pub(crate) title: &'static str,
    pub(crate) message: String,
}

impl IntoResponse for Failure {
    fn into_response(self) -> Response {
        let Self(error) = self;
        let (status, title) = kind(error.code);
        let message = if status == StatusCode::INTERNAL_SERVER_ERROR {
            let id = format!("{:016x}", rand::random::<u64>());
            error!(error.id = %id, error = ?error, "page failed, id {id}");
            format!("{error}. The server's log says more under the id {id}.")
        } else {
            error.message
        };
        let mut response = status.into_response();
        response.extensions_mut().insert(Said { title, message });
        response
    }
}

fn kind(code: ErrorCode) -> (StatusCode, &'static str) {
    use ErrorCode as C;
    match code {
        C::PermissionDenied | C::Unauthenticated => (StatusCode::FORBIDDEN, "Not allowed"),
        // An id that nothing has is "invalid" for the API; a page of it is simply not there.
        C::ResourceDoesNotExist | C::NotFound | C::EndpointNotFound | C::InvalidParameterValue => {
            (StatusCode::NOT_FOUND, "Not found")
        }
        C::Internal | C::IoError => (StatusCode::INTERNAL_SERVER_ERROR, "Our fault"),
        C::TemporarilyUnavailable => (StatusCode::SERVICE_UNAVAILABLE, "Not now"),
        C::NotImplemented => (StatusCode::NOT_IMPLEMENTED, "Not there yet"),
        _ => (StatusCode::BAD_REQUEST, "That did not work"),
    }
}

pub(crate) async fn nowhere() -> Failure {
    Failure(Error::missing(
        "There is no page at this address. It may have been moved or deleted, or mistyped.",
    ))
}

pub(crate) fn body(said: &Said) -> Markup {
    html! {
        section class="said" {
            h1 { (said.title) }
            p { (said.message) }
            p { a href="/" { "Go to the home page" } " or " a href="/runs" { "see the runs" } "." }
        }
    }
}
