use axum::Json;
use axum::http::{HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use forebay_types::{Error, ErrorCode};
use forebay_wire::ErrorBody;
use forebay_wire::error::http_status;
use tracing::error;

/// A domain error on its way out. Faults of ours are logged here, once, with their whole chain;
/// the caller gets an id to quote instead.
#[derive(Debug)]
pub struct ApiError(pub Error);

impl<E: Into<Error>> From<E> for ApiError {
    fn from(error: E) -> Self {
        Self(error.into())
    }
}

pub(crate) type ApiResult<T> = Result<T, ApiError>;

impl IntoResponse for ApiError {
    fn into_response(self) -> Response {
        let mut body = ErrorBody::from(&self.0);
        if self.0.code == ErrorCode::Internal {
            let id = format!("{:016x}", rand::random::<u64>());
            error!(error.id = %id, error = ?self.0, "request failed, id {id}");
            body.message = format!(
                "Internal error {id}: {}. The server's log has more.",
                self.0
            );
        } else if std::error::Error::source(&self.0).is_some() {
            tracing::warn!(error = ?self.0, "request refused for a reason of ours");
        }
        let status = StatusCode::from_u16(http_status(self.0.code))
            .unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
        let mut response = (status, Json(body)).into_response();
        if matches!(
            status,
            StatusCode::TOO_MANY_REQUESTS | StatusCode::SERVICE_UNAVAILABLE
        ) {
            let seconds = HeaderValue::from(self.0.wait_s().unwrap_or(1));
            response.headers_mut().insert(header::RETRY_AFTER, seconds);
        }
        response
    }
}
