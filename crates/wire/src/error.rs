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

/// What a code means and what to do about it, in sentences for the caller.
#[must_use]
pub fn help(code: ErrorCode) -> (&'static str, &'static str) {
    use ErrorCode as C;
    match code {
        C::BadRequest => (
            "The call does not fit what it is about, or another program that it needed refused.",
            "Read the message; it says what does not fit.",
        ),
        C::InvalidParameterValue => (
            "A value in the call is not acceptable. Jobs and runs that do not exist say so with this code too, as clients expect.",
            "Correct the field that the message names.",
        ),
        C::MalformedRequest => (
            "The body or the query cannot be read: broken JSON, a wrong type, a missing field.",
            "Correct what stands at the place that the message names.",
        ),
        C::InvalidState => (
            "The thing is there and cannot do this now, such as a run that is still active.",
            "Bring it into the state that the message names, then repeat the call.",
        ),
        C::Unauthenticated => (
            "The call brought no token, or one that this workspace does not know.",
            "Send `Authorization: Bearer TOKEN` with a token of this very workspace; `forebay token create` makes one.",
        ),
        C::PermissionDenied => (
            "The user of the token may not do this. What somebody may not even see says so too, whether or not it exists.",
            "Ask somebody with `CAN_MANAGE` to share it, or an administrator.",
        ),
        C::ResourceDoesNotExist => (
            "There is nothing of this name or id.",
            "Check the name; a list call shows what there is.",
        ),
        C::MetastoreDoesNotExist => (
            "There is no Unity Catalog.",
            "Nothing: clients go on without one.",
        ),
        C::EndpointNotFound => (
            "No call has this method and path.",
            "Check the path and the version; `docs/compat.md` lists every call.",
        ),
        C::NotFound => (
            "The Files API's word for a file that is not there.",
            "Check the path.",
        ),
        C::ResourceAlreadyExists => (
            "The name is taken.",
            "Choose another, delete what is there, or overwrite it where the call can.",
        ),
        C::AlreadyExists => (
            "The same, as import-file and the Files API say it (409): another caller was first.",
            "Read what is there, or overwrite it.",
        ),
        C::ResourceConflict => (
            "Somebody else changes the same thing at this moment.",
            "Repeat the call.",
        ),
        C::DirectoryNotEmpty => (
            "The folder has something in it.",
            "Delete it with `recursive`, or empty it first.",
        ),
        C::DirectoryNotEmptyFilesApi => (
            "A folder of a volume has something in it.",
            "Empty it first.",
        ),
        C::DirectoryNotFoundFilesApi => (
            "The folder above the file is not there.",
            "Make the folder first.",
        ),
        C::MaxBlockSizeExceeded => (
            "A block of a DBFS upload has more than 1 MB.",
            "Send smaller blocks, or put the file in one call.",
        ),
        C::MaxReadSizeExceeded => (
            "The content is too large for an answer in base64.",
            "Repeat the call with `direct_download=true`, or read it in pieces.",
        ),
        C::MaxNotebookSizeExceeded => (
            "The notebook has more than 10 MB.",
            "Clear its outputs, or keep its data in files.",
        ),
        C::IoError => (
            "Reading or writing a file of DBFS failed.",
            "Read the message; the log of the server says more.",
        ),
        C::ResourceLimitExceeded => (
            "There would be more of something than the limit that the message names.",
            "Remove some, or raise the limit in the configuration where there is one.",
        ),
        C::RequestLimitExceeded => (
            "One token sends more calls than it may.",
            "Wait as long as the header `Retry-After` says; clients do that by themselves.",
        ),
        C::PreconditionFailed => (
            "The file is not the one that the call was meant for.",
            "Read it again, then repeat the call.",
        ),
        C::RangeNotSatisfiable => (
            "The range that was asked for lies beyond the end of the file.",
            "Ask for the size first.",
        ),
        C::PayloadTooLarge => (
            "The body is larger than this call takes.",
            "Send less, or use the call that the message names.",
        ),
        C::NotImplemented => (
            "This server does not have the call, the field or the kind of task that the message names.",
            "`docs/compat.md` says what there is instead.",
        ),
        C::TemporarilyUnavailable => (
            "The server cannot do this at the moment: it starts, it stops, or its disk is full.",
            "Repeat the call in a while; look at the server's log when it stays so.",
        ),
        C::Internal => (
            "A fault of the server's own.",
            "Look into the server's log, and report it.",
        ),
    }
}
