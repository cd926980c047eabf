use forebay_types::{Error, ErrorCode};
use serde::{Deserialize, Serialize};

/// The JSON body of every failed call.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct ErrorBody {
    pub error_code: String,
    pub message: String,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub details: Vec<serde_json::Value>,
}

impl From<&Error> for ErrorBody {
    fn from(error: &Error) -> Self {
        // Clients of the Files API go by the reason in the details, not by the code.
        let reason = match error.code {
            ErrorCode::DirectoryNotEmptyFilesApi => Some("FILES_API_DIRECTORY_IS_NOT_EMPTY"),
            ErrorCode::DirectoryNotFoundFilesApi => Some("FILES_API_DIRECTORY_IS_NOT_FOUND"),
            _ => None,
        };
        let details = reason.map(|reason| {
            serde_json::json!({
                "@type": "type.googleapis.com/google.rpc.ErrorInfo",
                "reason": reason,
                "domain": "filesystem.databricks.com"
            })
        });
        Self {
            error_code: error.code.as_str().to_owned(),
            message: error.message.clone(),
            details: details.into_iter().collect(),
        }
    }
}

/// The HTTP status of an error code.
#[must_use]
pub fn http_status(code: ErrorCode) -> u16 {
    use ErrorCode as C;
    match code {
        C::BadRequest
        | C::InvalidParameterValue
        | C::MalformedRequest
        | C::InvalidState
        | C::ResourceAlreadyExists
        | C::DirectoryNotEmpty
        | C::DirectoryNotEmptyFilesApi
        | C::MaxBlockSizeExceeded
        | C::MaxReadSizeExceeded
        | C::MaxNotebookSizeExceeded
        | C::IoError
        | C::ResourceLimitExceeded => 400,
        C::Unauthenticated => 401,
        C::PermissionDenied => 403,
        C::ResourceDoesNotExist
        | C::MetastoreDoesNotExist
        | C::EndpointNotFound
        | C::NotFound
        | C::DirectoryNotFoundFilesApi => 404,
        C::AlreadyExists | C::ResourceConflict => 409,
        C::PreconditionFailed => 412,
        C::PayloadTooLarge => 413,
        C::RangeNotSatisfiable => 416,
        C::RequestLimitExceeded => 429,
        C::Internal => 500,
        C::NotImplemented => 501,
        C::TemporarilyUnavailable => 503,
    }
}
