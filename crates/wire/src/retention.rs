use crate::endpoints::{
    Auth, Endpoint,
    Method::{Get, Post},
    works,
};

pub const PREVIEW: &str = "/api/forebay/v1/retention/preview";
pub const APPLY: &str = "/api/forebay/v1/retention/apply";
pub const PIN: &str = "/api/forebay/v1/runs/{run_id}/pin";
pub const UNPIN: &str = "/api/forebay/v1/runs/{run_id}/unpin";
const TEST: &str = "crates/http/tests/it/retention.rs";

pub const ENDPOINTS: &[Endpoint] = &[
    works(Get, &[], PREVIEW, TEST).auth(Auth::Admin),
    works(Post, &[], APPLY, TEST).auth(Auth::Admin),
    works(Post, &[], PIN, TEST),
    works(Post, &[], UNPIN, TEST),
];
