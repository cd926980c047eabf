use serde::Serialize;

use crate::endpoints::{Auth, Endpoint, Method::Get, works};

pub const ENDPOINTS: &[Endpoint] = &[
    works(
        Get,
        &[],
        "/.well-known/databricks-config",
        "acceptance/test_auth.py",
    )
    .auth(Auth::Public),
    works(
        Get,
        &["2.0"],
        "/preview/scim/v2/Me",
        "acceptance/test_auth.py",
    ),
];

/// Answer of `/.well-known/databricks-config`.
#[derive(Debug, Serialize)]
pub struct HostConfig {
    pub oidc_endpoint: String,
    pub workspace_id: String,
    pub account_id: String,
    pub cloud: &'static str,
    pub host_type: &'static str,
}

/// A user in SCIM's form.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct ScimUser {
    pub schemas: [&'static str; 1],
    pub id: String,
    pub user_name: String,
    pub display_name: String,
    pub active: bool,
    pub emails: Vec<ScimEmail>,
    pub groups: Vec<ScimGroupRef>,
    pub entitlements: Vec<ScimValue>,
    pub roles: Vec<ScimValue>,
}

#[derive(Debug, Serialize)]
pub struct ScimEmail {
    pub value: String,
    #[serde(rename = "type")]
    pub kind: &'static str,
    pub primary: bool,
}

#[derive(Debug, Serialize)]
pub struct ScimGroupRef {
    pub display: String,
    pub value: String,
    #[serde(rename = "type")]
    pub kind: &'static str,
    #[serde(rename = "$ref")]
    pub reference: String,
}

#[derive(Debug, Serialize)]
pub struct ScimValue {
    pub value: String,
}
