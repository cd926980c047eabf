use serde::{Deserialize, Serialize};

use crate::endpoints::{
    Endpoint,
    Method::{Get, Post},
    works,
};

pub const ENDPOINTS: &[Endpoint] = &[
    works(Post, &["2.0"], "/token/create", "acceptance/test_tokens.py"),
    works(Get, &["2.0"], "/token/list", "acceptance/test_tokens.py"),
    works(Post, &["2.0"], "/token/delete", "acceptance/test_tokens.py"),
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
