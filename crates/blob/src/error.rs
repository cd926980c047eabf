use std::io;

use forebay_types::{Error as DomainError, ErrorCode};
use thiserror::Error;

/// Why a file operation was refused. The texts complete "the path ...".
#[derive(Debug, Error)]
pub enum BlobError {
    #[error("does not exist")]
    Missing,
    #[error("exists already")]
    Exists,
    #[error("is a directory")]
    IsDirectory,
    #[error("passes through something that is not a directory")]
    NotDirectory,
    #[error("is a directory that is not empty")]
    NotEmpty,
    #[error("may not be reached: it leads outside of its root, or the system forbids it")]
    Forbidden(#[source] io::Error),
    #[error("is read-only")]
    ReadOnly,
    #[error("is on a full disk")]
    NoSpace,
    /// Source and target are on different file systems; copy and delete instead of moving.
    #[error("is on another file system")]
    CrossDevice,
    #[error("has a name that is too long for the file system")]
    TooLong,
    #[error("cannot be read or written")]
    Io(#[source] io::Error),
}

impl From<io::Error> for BlobError {
    fn from(error: io::Error) -> Self {
        use io::ErrorKind as K;
        match error.kind() {
            K::NotFound => Self::Missing,
            K::AlreadyExists => Self::Exists,
            K::IsADirectory => Self::IsDirectory,
            K::NotADirectory => Self::NotDirectory,
            K::DirectoryNotEmpty => Self::NotEmpty,
            K::ReadOnlyFilesystem => Self::ReadOnly,
            K::StorageFull | K::QuotaExceeded => Self::NoSpace,
            K::CrossesDevices => Self::CrossDevice,
            K::InvalidFilename => Self::TooLong,
            K::PermissionDenied => Self::Forbidden(error),
            _ => Self::Io(error),
        }
    }
}

impl From<rustix::io::Errno> for BlobError {
    fn from(error: rustix::io::Errno) -> Self {
        io::Error::from(error).into()
    }
}

impl BlobError {
    /// The error as the API tells it, for a path as the caller named it. Services match the cases
    /// for which their API has words of its own before they call this.
    #[must_use]
    pub fn at(self, path: &str) -> DomainError {
        match self {
            Self::Missing => DomainError::missing(format!("Path ({path}) doesn't exist.")),
            Self::Exists => DomainError::exists(format!("Path ({path}) already exists.")),
            Self::IsDirectory => DomainError::invalid(format!("Path ({path}) is a directory.")),
            Self::NotDirectory => DomainError::invalid(format!(
                "Path ({path}) passes through something that is not a directory."
            )),
            Self::NotEmpty => DomainError::new(
                ErrorCode::DirectoryNotEmpty,
                format!("Folder ({path}) is not empty"),
            ),
            Self::Forbidden(source) => DomainError::denied(format!(
                "Path ({path}) may not be reached: a link in it leads outside of the workspace, or \
                 the server's system forbids it."
            ))
            .because(source),
            Self::ReadOnly => DomainError::denied(format!("Path ({path}) is read-only.")),
            Self::NoSpace => DomainError::new(
                ErrorCode::TemporarilyUnavailable,
                format!(
                    "The server's disk is full; nothing was written at {path}. Free some space and \
                     repeat the call."
                ),
            ),
            Self::CrossDevice => DomainError::invalid(format!(
                "Path ({path}) is on another file system than its source."
            )),
            Self::TooLong => DomainError::invalid(format!(
                "Path ({path}) has a name that is too long for the server's file system."
            )),
            Self::Io(source) => DomainError::internal(format!("failed at path {path}"), source),
        }
    }
}
