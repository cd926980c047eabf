use forebay_types::{Error as DomainError, ErrorCode};
use thiserror::Error;

/// Why Git could not do what was asked. Cheap to clone, because callers that wait for one fetch
/// share its outcome.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum GitError {
    #[error("Git address '{address}' is not acceptable: {reason}")]
    BadAddress { address: String, reason: String },
    #[error("Git host does not answer at {address}: {reason}")]
    Unreachable { address: String, reason: String },
    #[error(
        "Git host of {address} is not known to this server: add its key to the known_hosts file \
         of the user who runs the server"
    )]
    UnknownHost { address: String },
    #[error("{address} refused the stored Git credential: check its user name and token")]
    WrongCredential { address: String },
    #[error(
        "{address} does not exist or is private: add a Git credential for its provider, and check \
         the address"
    )]
    NoCredential { address: String },
    #[error("{address} is not a Git repository, or does not exist")]
    NoRepository { address: String },
    #[error("{kind} '{name}' does not exist in {address}")]
    MissingRevision {
        kind: &'static str,
        name: String,
        address: String,
    },
    #[error(
        "Local changes in '{file}' would be overwritten; nothing was changed. Delete or save them \
         elsewhere first"
    )]
    LocalChanges { file: String },
    #[error("The server's disk is full; free some space and repeat the call")]
    NoSpace,
    #[error("Git did not finish to {doing} within {seconds} s")]
    TooSlow { doing: &'static str, seconds: u64 },
    #[error("Git failed to {doing}: {said}")]
    Failed { doing: &'static str, said: String },
    /// A fault of this server's, such as a folder that cannot be written.
    #[error("failed to {doing}: {reason}")]
    Server { doing: &'static str, reason: String },
}

impl GitError {
    pub(crate) fn server(doing: &'static str, error: std::io::Error) -> Self {
        match error.kind() {
            std::io::ErrorKind::StorageFull | std::io::ErrorKind::QuotaExceeded => Self::NoSpace,
            _ => Self::Server {
                doing,
                reason: error.to_string(),
            },
        }
    }
}

impl From<GitError> for DomainError {
    fn from(error: GitError) -> Self {
        use GitError as G;
        let code = match &error {
            G::BadAddress { .. } => ErrorCode::InvalidParameterValue,
            // Not 401 or 403, for which the legacy client shows a text of its own that blames
            // the access token of the workspace.
            G::Unreachable { .. }
            | G::UnknownHost { .. }
            | G::WrongCredential { .. }
            | G::NoCredential { .. }
            | G::NoRepository { .. }
            | G::TooSlow { .. }
            | G::Failed { .. } => ErrorCode::BadRequest,
            G::MissingRevision { .. } => ErrorCode::ResourceDoesNotExist,
            G::LocalChanges { .. } => ErrorCode::InvalidState,
            G::NoSpace => ErrorCode::TemporarilyUnavailable,
            G::Server { .. } => return Self::internal(error.to_string(), error),
        };
        Self::new(code, format!("{error}."))
    }
}
