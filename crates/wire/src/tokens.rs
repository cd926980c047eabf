use serde::{Deserialize, Serialize};

use crate::endpoints::{
    Auth, Endpoint,
    Method::{Delete, Get, Patch, Post},
    refused, works,
};

pub const SIGN_IN_LINKS: &str = "/api/forebay/v1/sign-in-links";
pub const TOKEN: &str = "/token/{token_id}";
pub const MANAGED_LIST: &str = "/token-management/tokens";
pub const MANAGED: &str = "/token-management/tokens/{token_id}";

const USERS_TEST: &str = "crates/http/tests/it/users.rs";
const OWNER: &str = "the owner of a token is given as its creator too";

pub const ENDPOINTS: &[Endpoint] = &[
    works(Post, &[], SIGN_IN_LINKS, "acceptance/test_up.py"),
    works(Post, &["2.0"], "/token/create", "acceptance/test_tokens.py"),
    works(Get, &["2.0"], "/token/list", "acceptance/test_tokens.py"),
    works(Post, &["2.0"], "/token/delete", "acceptance/test_tokens.py"),
    works(Patch, &["2.0"], TOKEN, USERS_TEST).partial("the comment only; tokens have no scopes"),
    works(Get, &["2.0"], MANAGED_LIST, USERS_TEST)
        .auth(Auth::Admin)
        .partial(OWNER),
    works(Get, &["2.0"], MANAGED, USERS_TEST)
        .auth(Auth::Admin)
        .partial(OWNER),
    works(Delete, &["2.0"], MANAGED, USERS_TEST).auth(Auth::Admin),
    refused(
        Post,
        &["2.0"],
        "/token-management/on-behalf-of/tokens",
        "There are no service principals; POST /api/forebay/v1/users/{name}/tokens makes a token for a user.",
    ),
];

#[derive(Debug, Default, Deserialize)]
pub struct CreateToken {
    /// Seconds; absent or negative means the token never expires.
    pub lifetime_seconds: Option<i64>,
    pub comment: Option<String>,
}

#[derive(Debug, Serialize)]
pub struct TokenInfo {
    pub token_id: String,
    pub creation_time: i64,
    /// Milliseconds since the epoch; -1 for never.
    pub expiry_time: i64,
    pub comment: String,
}

#[derive(Debug, Serialize)]
pub struct CreatedToken {
    pub token_value: String,
    pub token_info: TokenInfo,
}

#[derive(Debug, Serialize)]
pub struct TokenList {
    pub token_infos: Vec<TokenInfo>,
}

#[derive(Debug, Deserialize)]
pub struct DeleteToken {
    pub token_id: String,
}

#[derive(Debug, Deserialize)]
pub struct UpdateToken {
    #[serde(default)]
    pub token: TokenFields,
    #[serde(default)]
    pub update_mask: String,
}

#[derive(Debug, Default, Deserialize)]
pub struct TokenFields {
    pub comment: Option<String>,
}

#[derive(Debug, Deserialize)]
pub struct ListManaged {
    pub created_by_id: Option<i64>,
    pub created_by_username: Option<String>,
}

/// A token as administrators see it.
#[derive(Debug, Serialize)]
pub struct ManagedToken {
    pub created_by_id: i64,
    pub created_by_username: String,
    pub owner_id: i64,
    #[serde(flatten)]
    pub token: TokenInfo,
}
