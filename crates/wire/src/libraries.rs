use serde::Deserialize;
use serde_json::Value;

use crate::endpoints::{
    Endpoint,
    Method::{Get, Post},
    works,
};

/// The libraries of clusters answer alike under both versions.
pub const BOTH: &[&str] = &["1.2", "2.0"];

const TEST: &str = "acceptance/test_libraries.py";

pub const ENDPOINTS: &[Endpoint] = &[
    works(Post, BOTH, "/libraries/install", TEST).partial(
        "egg and maven are refused as in tasks; a library is tried out behind the walls of a run, \
         with those that are there, before it counts as installed",
    ),
    works(Post, BOTH, "/libraries/uninstall", TEST),
    works(Get, BOTH, "/libraries/cluster-status", TEST),
    works(Get, BOTH, "/libraries/all-cluster-statuses", TEST),
];

#[derive(Debug, Deserialize)]
pub struct ClusterLibraries {
    pub cluster_id: String,
    #[serde(default)]
    pub libraries: Vec<Value>,
}
