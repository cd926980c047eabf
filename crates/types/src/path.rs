//! Paths that were checked once. Each kind is absolute, has no empty, `.` or `..` segment, no NUL,
//! and no trailing slash; `relative()` may therefore be joined to a root.

use std::fmt;

use serde::Serialize;
use thiserror::Error;

use crate::Error as DomainError;

/// The longest path accepted, in bytes, and the longest name between two slashes.
const PATH_BYTES_MAX: usize = 4096;
const NAME_BYTES_MAX: usize = 255;

#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum PathError {
    #[error("Path must be absolute: {0}")]
    NotAbsolute(String),
    #[error("Path must not contain '..': {0}")]
    Climbs(String),
    #[error("Path must not contain NUL or line breaks: {0:?}")]
    Control(String),
    #[error("Path is too long: {0} bytes, at most {PATH_BYTES_MAX}")]
    TooLong(usize),
    #[error("Name is too long: {bytes} bytes, at most {NAME_BYTES_MAX}: {start}…")]
    NameTooLong { bytes: usize, start: String },
    #[error("Path must start with /Volumes/<catalog>/<schema>/<volume>: {0}")]
    NotAVolume(String),
}

impl From<PathError> for DomainError {
    fn from(error: PathError) -> Self {
        Self::invalid(format!("Invalid path: {error}"))
    }
}

/// Collapses slashes and `.`; refuses what climbs. The result is `/` or `/a/b`.
fn normalise(raw: &str) -> Result<String, PathError> {
    if raw.len() > PATH_BYTES_MAX {
        return Err(PathError::TooLong(raw.len()));
    }
    if raw.contains(['\0', '\n', '\r']) {
        return Err(PathError::Control(raw.to_owned()));
    }
    if !raw.starts_with('/') {
        return Err(PathError::NotAbsolute(raw.to_owned()));
    }
    let mut path = String::with_capacity(raw.len());
    for segment in raw
        .split('/')
        .filter(|segment| !segment.is_empty() && *segment != ".")
    {
        if segment == ".." {
            return Err(PathError::Climbs(raw.to_owned()));
        }
        if segment.len() > NAME_BYTES_MAX {
            return Err(PathError::NameTooLong {
                bytes: segment.len(),
                start: segment.chars().take(40).collect(),
            });
        }
        path.push('/');
        path.push_str(segment);
    }
    if path.is_empty() {
        path.push('/');
    }
    Ok(path)
}

macro_rules! checked_path {
    ($($(#[$meta:meta])* $name:ident),+ $(,)?) => {$(
        $(#[$meta])*
        #[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
        #[serde(transparent)]
        pub struct $name(String);

        impl $name {
            /// The path as text; `/` for the root.
            #[must_use]
            pub fn as_str(&self) -> &str {
                &self.0
            }

            /// The path without its leading slash; empty for the root.
            #[must_use]
            pub fn relative(&self) -> &str {
                self.0.trim_start_matches('/')
            }

            #[must_use]
            pub fn is_root(&self) -> bool {
                self.0 == "/"
            }

            /// The last segment; empty for the root.
            #[must_use]
            pub fn name(&self) -> &str {
                self.0.rsplit('/').next().unwrap_or_default()
            }

            /// The folder above; `None` for the root.
            #[must_use]
            pub fn parent(&self) -> Option<Self> {
                if self.is_root() {
                    return None;
                }
                let (parent, _) = self.0.rsplit_once('/')?;
                Some(Self(if parent.is_empty() { "/".to_owned() } else { parent.to_owned() }))
            }

            /// Appends a relative path, which is checked like any other.
            ///
            /// # Errors
            /// When the result climbs or is too long.
            pub fn join(&self, relative: &str) -> Result<Self, PathError> {
                normalise(&format!("{}/{relative}", self.0)).map(Self)
            }

            /// Whether `self` is `folder` or lies below it.
            #[must_use]
            pub fn is_within(&self, folder: &Self) -> bool {
                folder.is_root()
                    || self.0 == folder.0
                    || self.0.strip_prefix(&folder.0).is_some_and(|rest| rest.starts_with('/'))
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&self.0)
            }
        }
    )+};
}

checked_path!(
    /// A path of the workspace tree, without the `/Workspace` alias: `/Users/a@b.c/etl`.
    WorkspacePath,
    /// A path of the workspace's file system, without the `dbfs:` scheme: `/FileStore/x.csv`.
    DbfsPath,
    /// A path below `/Volumes`, with that prefix.
    VolumePath,
);

impl WorkspacePath {
    /// Accepts `/x` and `/Workspace/x`, which name one object, and collapses slashes.
    ///
    /// # Errors
    /// When the path is relative, climbs, or is too long.
    pub fn parse(raw: &str) -> Result<Self, PathError> {
        let path = normalise(raw)?;
        Ok(match path.strip_prefix("/Workspace") {
            Some("") => Self("/".to_owned()),
            Some(rest) if rest.starts_with('/') => Self(rest.to_owned()),
            _ => Self(path),
        })
    }

    /// Resolves `target` as a notebook in the folder of `self` names another: absolute, or
    /// relative with `./` and `../`, never above the root.
    ///
    /// # Errors
    /// When the target climbs above the root or is too long.
    pub fn resolve_sibling(&self, target: &str) -> Result<Self, PathError> {
        if target.starts_with('/') {
            return Self::parse(target);
        }
        let mut segments: Vec<&str> = self.0.split('/').filter(|part| !part.is_empty()).collect();
        segments.pop();
        for segment in target.split('/') {
            match segment {
                "" | "." => {}
                ".." => {
                    if segments.pop().is_none() {
                        return Err(PathError::Climbs(target.to_owned()));
                    }
                }
                name => segments.push(name),
            }
        }
        Self::parse(&format!("/{}", segments.join("/")))
    }
}

impl DbfsPath {
    /// Accepts `dbfs:/x` and `/x`.
    ///
    /// # Errors
    /// When the path is relative, climbs, or is too long.
    pub fn parse(raw: &str) -> Result<Self, PathError> {
        normalise(raw.strip_prefix("dbfs:").unwrap_or(raw)).map(Self)
    }
}

impl VolumePath {
    /// Accepts `/Volumes/<catalog>/<schema>/<volume>[/…]`, also with `dbfs:` before it.
    ///
    /// # Errors
    /// When the path is not below a volume, climbs, or is too long.
    pub fn parse(raw: &str) -> Result<Self, PathError> {
        let path = normalise(raw.strip_prefix("dbfs:").unwrap_or(raw))?;
        let mut segments = path.split('/').skip(1);
        if segments.next() != Some("Volumes") || segments.count() < 3 {
            return Err(PathError::NotAVolume(raw.to_owned()));
        }
        Ok(Self(path))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn workspace_alias_and_double_slashes_name_the_same_object() {
        for raw in [
            "/Users/a/x",
            "/Workspace/Users/a/x",
            "//Workspace//Users/a/x/",
            "/Users/./a/x",
        ] {
            assert_eq!(
                WorkspacePath::parse(raw).unwrap().as_str(),
                "/Users/a/x",
                "{raw}"
            );
        }
        assert!(WorkspacePath::parse("/Workspace").unwrap().is_root());
        assert_eq!(
            WorkspacePath::parse("/Workspaces/x").unwrap().as_str(),
            "/Workspaces/x"
        );
    }

    #[test]
    fn climbing_and_control_characters_are_refused() {
        assert!(matches!(
            WorkspacePath::parse("/a/../b"),
            Err(PathError::Climbs(_))
        ));
        assert!(matches!(
            DbfsPath::parse("dbfs:/a\0b"),
            Err(PathError::Control(_))
        ));
        assert!(matches!(
            DbfsPath::parse("a/b"),
            Err(PathError::NotAbsolute(_))
        ));
        let long = format!("/{}", "n".repeat(256));
        assert!(matches!(
            DbfsPath::parse(&long),
            Err(PathError::NameTooLong { bytes: 256, .. })
        ));
    }

    #[test]
    fn siblings_resolve_from_the_folder_of_the_notebook() {
        let notebook = WorkspacePath::parse("/Repos/me/p/notebooks/train").unwrap();
        let resolve = |target| {
            notebook
                .resolve_sibling(target)
                .map(|path| path.to_string())
        };
        assert_eq!(resolve("./prep").unwrap(), "/Repos/me/p/notebooks/prep");
        assert_eq!(resolve("./../utils/x").unwrap(), "/Repos/me/p/utils/x");
        assert_eq!(resolve("/Shared/x").unwrap(), "/Shared/x");
        assert!(resolve("../../../../../x").is_err());
    }

    #[test]
    fn within_respects_segment_borders() {
        let folder = WorkspacePath::parse("/Users/a").unwrap();
        assert!(
            WorkspacePath::parse("/Users/a/b")
                .unwrap()
                .is_within(&folder)
        );
        assert!(
            !WorkspacePath::parse("/Users/ab")
                .unwrap()
                .is_within(&folder)
        );
    }
}
