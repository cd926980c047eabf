use std::sync::Arc;

use axum::extract::{FromRequestParts, Request, State};
use axum::http::HeaderMap;
use axum::http::header::AUTHORIZATION;
use axum::http::request::Parts;
use axum::middleware::Next;
use axum::response::Response;
use forebay_control::Ctx;
use forebay_control::tokens::token_from_header;
use forebay_types::{Error, ErrorCode};
use forebay_wire::Auth;

use crate::error::{ApiError, ApiResult};
use crate::server::App;

/// Lets a request pass that its row's [`Auth`] allows, and leaves the [`Ctx`] for the handler.
pub(crate) async fn authenticate(
    State((app, auth)): State<(Arc<App>, Auth)>,
    mut request: Request,
    next: Next,
) -> ApiResult<Response> {
    if auth != Auth::Public {
        let ctx = caller(&app, request.headers()).await?;
        if auth == Auth::Admin {
            ctx.require_admin("make this call")?;
        }
        request.extensions_mut().insert(ctx);
    }
    Ok(next.run(request).await)
}

/// Who sent a request with these headers, if the token's rate allows one more.
pub(crate) async fn caller(app: &App, headers: &HeaderMap) -> Result<Ctx, Error> {
    let header = headers
        .get(AUTHORIZATION)
        .and_then(|value| value.to_str().ok());
    let token = header.and_then(token_from_header).ok_or_else(|| {
        Error::new(
            ErrorCode::Unauthenticated,
            "Credential was not sent: use the header 'Authorization: Bearer <token>'.",
        )
    })?;
    Ok(Ctx::new(app.services.tokens.admit(&token).await?))
}

/// The caller, in a handler's signature.
pub(crate) struct Caller(pub(crate) Ctx);

impl<S: Sync> FromRequestParts<S> for Caller {
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, _state: &S) -> Result<Self, ApiError> {
        let ctx = parts.extensions.get::<Ctx>().cloned();
        Ok(Self(ctx.ok_or_else(|| {
            Error::internal(
                "the route is public but its handler wants a caller",
                "wiring fault",
            )
        })?))
    }
}
