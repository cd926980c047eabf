//! The domain error. It knows the API's error codes and nothing of HTTP.

use std::error::Error as StdError;
use std::fmt;

pub type Result<T, E = Error> = std::result::Result<T, E>;

/// One row for each code: its name here and the API's own.
macro_rules! error_codes {
    ($($(#[$about:meta])* $name:ident = $code:literal;)+) => {
        /// The closed set of failures a caller can tell apart; the names are the API's own.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
        pub enum ErrorCode {
            $($(#[$about])* $name,)+
        }

        impl ErrorCode {
            pub const ALL: &'static [Self] = &[$(Self::$name),+];

            /// The `error_code` of the JSON body.
            #[must_use]
            pub fn as_str(self) -> &'static str {
                match self {
                    $(Self::$name => $code,)+
                }
            }
        }
    };
}

error_codes! {
    BadRequest = "BAD_REQUEST";
    InvalidParameterValue = "INVALID_PARAMETER_VALUE";
    MalformedRequest = "MALFORMED_REQUEST";
    InvalidState = "INVALID_STATE";
    /// The caller showed no valid credential.
    Unauthenticated = "UNAUTHENTICATED";
    PermissionDenied = "PERMISSION_DENIED";
    ResourceDoesNotExist = "RESOURCE_DOES_NOT_EXIST";
    /// There is no Unity Catalog; clients take this as "go on without one".
    MetastoreDoesNotExist = "METASTORE_DOES_NOT_EXIST";
    /// An unknown route.
    EndpointNotFound = "ENDPOINT_NOT_FOUND";
    /// The Files API's form of "does not exist".
    NotFound = "NOT_FOUND";
    ResourceAlreadyExists = "RESOURCE_ALREADY_EXISTS";
    /// The 409 form of "exists", used by import-file, the Files API and serving.
    AlreadyExists = "ALREADY_EXISTS";
    ResourceConflict = "RESOURCE_CONFLICT";
    DirectoryNotEmpty = "DIRECTORY_NOT_EMPTY";
    DirectoryNotEmptyFilesApi = "BAD_REQUEST";
    DirectoryNotFoundFilesApi = "NOT_FOUND";
    MaxBlockSizeExceeded = "MAX_BLOCK_SIZE_EXCEEDED";
    MaxReadSizeExceeded = "MAX_READ_SIZE_EXCEEDED";
    MaxNotebookSizeExceeded = "MAX_NOTEBOOK_SIZE_EXCEEDED";
    IoError = "IO_ERROR";
    ResourceLimitExceeded = "RESOURCE_LIMIT_EXCEEDED";
    RequestLimitExceeded = "REQUEST_LIMIT_EXCEEDED";
    PreconditionFailed = "PRECONDITION_FAILED";
    RangeNotSatisfiable = "BAD_REQUEST";
    PayloadTooLarge = "PAYLOAD_TOO_LARGE";
    NotImplemented = "NOT_IMPLEMENTED";
    TemporarilyUnavailable = "TEMPORARILY_UNAVAILABLE";
    Internal = "INTERNAL_ERROR";
}

/// What went wrong, in words for the caller, and apart from them the cause for the operator.
///
/// The message never repeats its source; the edge logs the chain once and shows the caller only
/// the message.
pub struct Error {
    pub code: ErrorCode,
    pub message: String,
    wait_s: Option<u32>,
    source: Option<Box<dyn StdError + Send + Sync>>,
}

impl Error {
    pub fn new(code: ErrorCode, message: impl Into<String>) -> Self {
        Self {
            code,
            message: message.into(),
            wait_s: None,
            source: None,
        }
    }

    /// Says after how many seconds the same call may succeed.
    #[must_use]
    pub fn retry_after_s(mut self, seconds: u32) -> Self {
        self.wait_s = Some(seconds);
        self
    }

    /// Seconds after which the same call may succeed, where that is known.
    #[must_use]
    pub fn wait_s(&self) -> Option<u32> {
        self.wait_s
    }

    /// Attaches the cause, which only the log shows.
    #[must_use]
    pub fn because(mut self, source: impl Into<Box<dyn StdError + Send + Sync>>) -> Self {
        self.source = Some(source.into());
        self
    }

    /// A value the caller sent is not acceptable; the message names the field.
    pub fn invalid(message: impl Into<String>) -> Self {
        Self::new(ErrorCode::InvalidParameterValue, message)
    }

    pub fn missing(message: impl Into<String>) -> Self {
        Self::new(ErrorCode::ResourceDoesNotExist, message)
    }

    pub fn exists(message: impl Into<String>) -> Self {
        Self::new(ErrorCode::ResourceAlreadyExists, message)
    }

    pub fn denied(message: impl Into<String>) -> Self {
        Self::new(ErrorCode::PermissionDenied, message)
    }

    pub fn state(message: impl Into<String>) -> Self {
        Self::new(ErrorCode::InvalidState, message)
    }

    /// `what` is the feature as the caller named it, such as `for_each_task`.
    pub fn not_implemented(what: impl fmt::Display) -> Self {
        Self::new(
            ErrorCode::NotImplemented,
            format!("{what} is not implemented by this server; see docs/compat.md for what is"),
        )
    }

    /// A fault of ours: `doing` says which operation failed, the source says why.
    pub fn internal(
        doing: impl Into<String>,
        source: impl Into<Box<dyn StdError + Send + Sync>>,
    ) -> Self {
        Self::new(ErrorCode::Internal, doing).because(source)
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)
    }
}

impl fmt::Debug for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.code.as_str(), self.message)?;
        let mut cause = self.source();
        while let Some(error) = cause {
            write!(f, ": {error}")?;
            cause = error.source();
        }
        Ok(())
    }
}

impl StdError for Error {
    fn source(&self) -> Option<&(dyn StdError + 'static)> {
        self.source
            .as_ref()
            .map(|source| &**source as &(dyn StdError + 'static))
    }
}
