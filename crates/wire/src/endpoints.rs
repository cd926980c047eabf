//! The endpoint ledger: every (method, path) this server knows, and how far it goes.
//!
//! The router registers exactly the rows that are not refused, the authorisation test walks all of
//! them, and `docs/compat.md` is printed from them. A row lives beside the types of its resource.

/// The HTTP method of a row.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Method {
    Get,
    Head,
    Post,
    Put,
    Patch,
    Delete,
}

impl Method {
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Get => "GET",
            Self::Head => "HEAD",
            Self::Post => "POST",
            Self::Put => "PUT",
            Self::Patch => "PATCH",
            Self::Delete => "DELETE",
        }
    }
}

/// Who may call.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Auth {
    /// Nobody needs to be known.
    Public,
    /// Any active user; what they may touch is decided by the service.
    User,
    /// Administrators only.
    Admin,
}

/// How far a row goes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Status {
    Works,
    /// Works but for what the text names.
    Partial(&'static str),
    /// Answers 501 `NOT_IMPLEMENTED`; the text says what to use instead, or is empty.
    Refused(&'static str),
}

/// One row, possibly under several API versions.
#[derive(Debug, Clone, Copy)]
pub struct Endpoint {
    pub method: Method,
    /// For example `["2.0", "2.1"]`; empty when `path` is already whole.
    pub versions: &'static [&'static str],
    /// Below `/api/<version>`, with `{name}` for a segment and `{*name}` for a rest.
    pub path: &'static str,
    pub auth: Auth,
    pub status: Status,
    /// The acceptance or integration test that drove it; empty is only right for refused rows.
    pub test: &'static str,
}

impl Endpoint {
    /// The concrete paths, one per version.
    #[must_use]
    pub fn paths(&self) -> Vec<String> {
        if self.versions.is_empty() {
            return vec![self.path.to_owned()];
        }
        self.versions
            .iter()
            .map(|version| format!("/api/{version}{}", self.path))
            .collect()
    }
}

/// A row that works for any active user; the usual case.
#[must_use]
pub const fn works(
    method: Method,
    versions: &'static [&'static str],
    path: &'static str,
    test: &'static str,
) -> Endpoint {
    Endpoint {
        method,
        versions,
        path,
        auth: Auth::User,
        status: Status::Works,
        test,
    }
}

/// A row that answers 501; `hint` says what to use instead, or is empty.
#[must_use]
pub const fn refused(
    method: Method,
    versions: &'static [&'static str],
    path: &'static str,
    hint: &'static str,
) -> Endpoint {
    Endpoint {
        method,
        versions,
        path,
        auth: Auth::User,
        status: Status::Refused(hint),
        test: "",
    }
}

impl Endpoint {
    #[must_use]
    pub const fn partial(mut self, how: &'static str) -> Self {
        self.status = Status::Partial(how);
        self
    }

    #[must_use]
    pub const fn auth(mut self, auth: Auth) -> Self {
        self.auth = auth;
        self
    }
}

/// Each resource's rows, in the order of the docs.
const TABLES: &[(&str, &[Endpoint])] = &[
    ("Identity", crate::identity::ENDPOINTS),
    ("Tokens", crate::tokens::ENDPOINTS),
    ("Jobs", crate::jobs::ENDPOINTS),
    ("Runs", crate::runs::ENDPOINTS),
    ("Queue", crate::queue::ENDPOINTS),
    ("Triggers", crate::triggers::ENDPOINTS),
    ("Retention", crate::retention::ENDPOINTS),
    ("Cost", crate::cost::ENDPOINTS),
    ("Notifications", crate::notifications::ENDPOINTS),
    ("Users", crate::users::ENDPOINTS),
    ("Around", crate::around::ENDPOINTS),
    ("Secrets", crate::secrets::ENDPOINTS),
    ("Workspace", crate::workspace::ENDPOINTS),
    ("Repos", crate::repos::ENDPOINTS),
    ("Git credentials", crate::git_credentials::ENDPOINTS),
    ("Clusters", crate::clusters::ENDPOINTS),
    ("Contexts and commands", crate::contexts::ENDPOINTS),
    ("Libraries", crate::libraries::ENDPOINTS),
    ("Permissions", crate::permissions::ENDPOINTS),
    ("DBFS", crate::dbfs::ENDPOINTS),
    ("Files", crate::files::ENDPOINTS),
];

/// All rows with the name of their resource.
pub fn all() -> impl Iterator<Item = (&'static str, &'static Endpoint)> {
    TABLES
        .iter()
        .flat_map(|(name, rows)| rows.iter().map(move |row| (*name, row)))
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    #[test]
    fn every_method_and_path_stands_once() {
        let mut seen = HashSet::new();
        for (_, row) in super::all() {
            for path in row.paths() {
                assert!(
                    seen.insert((row.method, path.clone())),
                    "{:?} {path} twice",
                    row.method
                );
            }
        }
    }
}
