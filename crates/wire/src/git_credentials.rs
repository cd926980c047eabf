use serde::{Deserialize, Serialize};

use crate::endpoints::{
    Endpoint,
    Method::{Delete, Get, Patch, Post},
    works,
};

const TEST: &str = "acceptance/test_repos.py";
const OWN_ONLY: &str = "principal_id, for another principal's credentials, answers 501";

pub const ENDPOINTS: &[Endpoint] = &[
    works(Post, &["2.0"], "/git-credentials", TEST).partial(OWN_ONLY),
    works(Get, &["2.0"], "/git-credentials", TEST).partial(OWN_ONLY),
    works(Get, &["2.0"], "/git-credentials/{credential_id}", TEST).partial(OWN_ONLY),
    works(Patch, &["2.0"], "/git-credentials/{credential_id}", TEST).partial(OWN_ONLY),
    works(Delete, &["2.0"], "/git-credentials/{credential_id}", TEST).partial(OWN_ONLY),
];

/// Of a change, what is absent stays as it is.
#[derive(Deserialize)]
pub struct PutGitCredential {
    pub git_provider: Option<String>,
    pub name: Option<String>,
    pub git_username: Option<String>,
    pub git_email: Option<String>,
    pub personal_access_token: Option<String>,
    pub principal_id: Option<i64>,
}

// The token must not reach a log through the request's debug form.
impl std::fmt::Debug for PutGitCredential {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("PutGitCredential")
            .field("git_provider", &self.git_provider)
            .finish_non_exhaustive()
    }
}

/// Whose credentials a call without a body is about.
#[derive(Debug, Deserialize)]
pub struct OfPrincipal {
    pub principal_id: Option<i64>,
}

/// Without the token, which no call returns.
#[derive(Debug, Serialize)]
pub struct GitCredentialInfo {
    pub credential_id: i64,
    pub git_provider: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub git_username: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub git_email: Option<String>,
    pub is_default_for_provider: bool,
}

#[derive(Debug, Serialize)]
pub struct GitCredentialList {
    pub credentials: Vec<GitCredentialInfo>,
}
