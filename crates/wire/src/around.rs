//! Calls that clients make on their way to something else, of which this server has little.

use serde::Deserialize;
use serde_json::Value;

use crate::endpoints::{
    Auth, Endpoint,
    Method::{Get, Post},
    refused, works,
};

const TEST: &str = "crates/http/tests/it/endpoints.rs";
const NO_CATALOG: &str = "there is no Unity Catalog: the answer is always METASTORE_DOES_NOT_EXIST";
const OAUTH: &str = "Use a personal access token.";

pub const ENDPOINTS: &[Endpoint] = &[
    works(Post, &[], "/telemetry-ext", "acceptance/test_auth.py")
        .partial("received, counted in the answer, and discarded"),
    works(
        Get,
        &["2.1"],
        "/unity-catalog/current-metastore-assignment",
        TEST,
    )
    .partial(NO_CATALOG),
    works(Get, &["2.1"], "/unity-catalog/metastore_summary", TEST).partial(NO_CATALOG),
    works(Get, &["2.0"], "/instance-pools/list", TEST)
        .partial("pools cannot be made, so there are none"),
    works(Get, &["2.0"], "/policies/clusters/list", TEST)
        .partial("policies cannot be made, so there are none"),
    refused(
        Get,
        &[],
        "/oidc/.well-known/oauth-authorization-server",
        OAUTH,
    )
    .auth(Auth::Public),
    refused(Get, &[], "/oidc/v1/authorize", OAUTH).auth(Auth::Public),
    refused(Post, &[], "/oidc/v1/token", OAUTH).auth(Auth::Public),
];

/// What clients report about their own use.
#[derive(Debug, Default, Deserialize)]
pub struct Telemetry {
    #[serde(rename = "protoLogs", default)]
    pub proto_logs: Vec<Value>,
}
