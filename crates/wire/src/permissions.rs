use serde::{Deserialize, Serialize};

use crate::endpoints::{
    Endpoint,
    Method::{Get, Patch, Put},
    works,
};

const TEST: &str = "crates/http/tests/it/permissions.rs";
const V: &[&str] = &["2.0"];
const KINDS: &str = "for jobs, clusters, directories, notebooks, files and repos; other kinds of object are refused";

pub const ONE: &str = "/permissions/{object_type}/{object_id}";
pub const LEVELS: &str = "/permissions/{object_type}/{object_id}/permissionLevels";

pub const ENDPOINTS: &[Endpoint] = &[
    works(Get, V, ONE, TEST).partial(KINDS),
    works(Put, V, ONE, TEST).partial(KINDS),
    works(Patch, V, ONE, TEST).partial(KINDS),
    works(Get, V, LEVELS, TEST).partial(KINDS),
];

#[derive(Debug, Deserialize)]
pub struct ChangePermissions {
    #[serde(default)]
    pub access_control_list: Vec<AccessControl>,
}

/// One principal and its level; exactly one of the three names is given.
#[derive(Debug, Deserialize)]
pub struct AccessControl {
    pub user_name: Option<String>,
    pub group_name: Option<String>,
    pub service_principal_name: Option<String>,
    pub permission_level: String,
}

#[derive(Debug, Serialize)]
pub struct ObjectPermissions {
    /// Such as `/jobs/123`.
    pub object_id: String,
    /// Such as `job`.
    pub object_type: &'static str,
    pub access_control_list: Vec<AccessEntry>,
}

#[derive(Debug, Serialize)]
pub struct AccessEntry {
    #[serde(skip_serializing_if = "Option::is_none")]
    pub user_name: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub group_name: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub display_name: Option<String>,
    pub all_permissions: Vec<EffectivePermission>,
}

#[derive(Debug, Serialize)]
pub struct EffectivePermission {
    pub permission_level: &'static str,
    pub inherited: bool,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub inherited_from_object: Vec<String>,
}

#[derive(Debug, Serialize)]
pub struct PermissionLevels {
    pub permission_levels: Vec<PermissionLevelInfo>,
}

#[derive(Debug, Serialize)]
pub struct PermissionLevelInfo {
    pub permission_level: &'static str,
    pub description: &'static str,
}
