use serde::{Deserialize, Serialize};

use crate::endpoints::{
    Endpoint,
    Method::{Get, Post},
    works,
};

const TEST: &str = "acceptance/test_secrets.py";

pub const ENDPOINTS: &[Endpoint] = &[
    works(Post, &["2.0"], "/secrets/scopes/create", TEST)
        .partial("scopes backed by Azure Key Vault answer 501"),
    works(Post, &["2.0"], "/secrets/scopes/delete", TEST),
    works(Get, &["2.0"], "/secrets/scopes/list", TEST),
    works(Post, &["2.0"], "/secrets/put", TEST),
    works(Post, &["2.0"], "/secrets/delete", TEST),
    works(Get, &["2.0"], "/secrets/list", TEST),
    works(Get, &["2.0"], "/secrets/get", TEST),
    works(Post, &["2.0"], "/secrets/acls/put", TEST),
    works(Post, &["2.0"], "/secrets/acls/delete", TEST),
    works(Get, &["2.0"], "/secrets/acls/list", TEST),
    works(Get, &["2.0"], "/secrets/acls/get", TEST),
];

#[derive(Debug, Deserialize)]
pub struct CreateScope {
    pub scope: String,
    /// `users`, or absent for the caller.
    pub initial_manage_principal: Option<String>,
    /// `DATABRICKS` when absent.
    pub scope_backend_type: Option<String>,
    pub backend_azure_keyvault: Option<serde_json::Value>,
}

/// A request that names a scope and nothing else.
#[derive(Debug, Deserialize)]
pub struct ScopeName {
    pub scope: String,
}

#[derive(Debug, Serialize)]
pub struct ScopeInfo {
    pub name: String,
    pub backend_type: &'static str,
}

#[derive(Debug, Serialize)]
pub struct ScopeList {
    pub scopes: Vec<ScopeInfo>,
}

/// Exactly one of the two values; `bytes_value` is base64.
#[derive(Deserialize)]
pub struct PutSecret {
    pub scope: String,
    pub key: String,
    pub string_value: Option<String>,
    pub bytes_value: Option<String>,
}

/// A request that names one secret.
#[derive(Debug, Deserialize)]
pub struct SecretName {
    pub scope: String,
    pub key: String,
}

/// The value is base64.
#[derive(Serialize)]
pub struct SecretValue {
    pub key: String,
    pub value: String,
}

#[derive(Debug, Serialize)]
pub struct SecretInfo {
    pub key: String,
    pub last_updated_timestamp: i64,
}

#[derive(Debug, Serialize)]
pub struct SecretList {
    pub secrets: Vec<SecretInfo>,
}

#[derive(Debug, Deserialize)]
pub struct PutAcl {
    pub scope: String,
    pub principal: String,
    pub permission: String,
}

/// A request that names one entry of a scope's list.
#[derive(Debug, Deserialize)]
pub struct AclName {
    pub scope: String,
    pub principal: String,
}

#[derive(Debug, Serialize)]
pub struct AclItem {
    pub principal: String,
    pub permission: &'static str,
}

#[derive(Debug, Serialize)]
pub struct AclList {
    pub items: Vec<AclItem>,
}

// Values must not reach a log through a request's or answer's debug form.
impl std::fmt::Debug for PutSecret {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("PutSecret")
            .field("scope", &self.scope)
            .field("key", &self.key)
            .finish_non_exhaustive()
    }
}

impl std::fmt::Debug for SecretValue {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("SecretValue")
            .field("key", &self.key)
            .finish_non_exhaustive()
    }
}
