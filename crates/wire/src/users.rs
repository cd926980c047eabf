//! Users and groups in SCIM's form, RFC 7644.

use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::endpoints::{
    Auth, Endpoint,
    Method::{Delete, Get, Patch, Post, Put},
    refused, works,
};
use crate::identity::ScimUser;

const TEST: &str = "crates/http/tests/it/users.rs";
const V: &[&str] = &["2.0"];
const GROUPS: &str = "Every workspace has the groups admins and users; who is an administrator stands in the user's groups.";

pub const USERS: &str = "/preview/scim/v2/Users";
pub const USER: &str = "/preview/scim/v2/Users/{id}";
pub const GROUP_LIST: &str = "/preview/scim/v2/Groups";
pub const GROUP: &str = "/preview/scim/v2/Groups/{id}";
/// Own call: a token for another user.
pub const USER_TOKENS: &str = "/users/{name}/tokens";

pub const ENDPOINTS: &[Endpoint] = &[
    works(Get, V, USERS, TEST)
        .partial("filters on userName, displayName and id with eq, co or sw; no sorting"),
    works(Post, V, USERS, TEST).auth(Auth::Admin),
    works(Get, V, USER, TEST),
    works(Put, V, USER, TEST).auth(Auth::Admin),
    works(Patch, V, USER, TEST)
        .auth(Auth::Admin)
        .partial("of active, displayName and groups"),
    works(Delete, V, USER, TEST).auth(Auth::Admin),
    works(Get, V, GROUP_LIST, TEST).partial("filters on displayName and id; no sorting"),
    works(Get, V, GROUP, TEST),
    refused(Post, V, GROUP_LIST, GROUPS),
    refused(Put, V, GROUP, GROUPS),
    refused(Patch, V, GROUP, GROUPS),
    refused(Delete, V, GROUP, GROUPS),
    refused(Get, V, "/groups/list", GROUPS),
    refused(Get, V, "/groups/list-members", GROUPS),
    refused(Get, V, "/groups/list-parents", GROUPS),
    refused(Post, V, "/groups/create", GROUPS),
    refused(Post, V, "/groups/delete", GROUPS),
    refused(Post, V, "/groups/add-member", GROUPS),
    refused(Post, V, "/groups/remove-member", GROUPS),
    works(Post, &["forebay/v1"], USER_TOKENS, TEST).auth(Auth::Admin),
];

#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ScimQuery {
    pub filter: Option<String>,
    /// From 1.
    pub start_index: Option<usize>,
    pub count: Option<usize>,
}

/// A user as clients write it; what is not here is ignored, as SCIM asks.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct WriteUser {
    pub user_name: Option<String>,
    pub display_name: Option<String>,
    pub active: Option<bool>,
    pub groups: Option<Vec<WriteGroupRef>>,
    #[serde(default)]
    pub roles: Vec<Value>,
}

#[derive(Debug, Deserialize)]
pub struct WriteGroupRef {
    /// The group's id.
    pub value: Option<String>,
    pub display: Option<String>,
}

#[derive(Debug, Deserialize)]
pub struct PatchUser {
    #[serde(rename = "Operations", default)]
    pub operations: Vec<PatchOperation>,
}

#[derive(Debug, Deserialize)]
pub struct PatchOperation {
    /// `add`, `replace` or `remove`, in any case.
    pub op: String,
    pub path: Option<String>,
    #[serde(default)]
    pub value: Value,
}

#[derive(Debug, Serialize)]
pub struct ScimList<T> {
    pub schemas: [&'static str; 1],
    #[serde(rename = "totalResults")]
    pub total_results: usize,
    #[serde(rename = "startIndex")]
    pub start_index: usize,
    #[serde(rename = "itemsPerPage")]
    pub items_per_page: usize,
    #[serde(rename = "Resources")]
    pub resources: Vec<T>,
}

pub type ScimUserList = ScimList<ScimUser>;

#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct ScimGroup {
    pub schemas: [&'static str; 1],
    pub id: String,
    pub display_name: String,
    pub members: Vec<ScimMember>,
}

#[derive(Debug, Serialize)]
pub struct ScimMember {
    pub display: String,
    pub value: String,
    #[serde(rename = "$ref")]
    pub reference: String,
}

#[derive(Debug, Default, Deserialize)]
pub struct CreateUserToken {
    /// Seconds; absent or not positive means the token never expires.
    pub lifetime_seconds: Option<i64>,
    pub comment: Option<String>,
    /// Creates a plain user of that name when there is none.
    #[serde(default)]
    pub create_user: bool,
}
