use serde::Deserialize;
use serde_json::{Map, Value};

use crate::endpoints::{
    Endpoint,
    Method::{Get, Post},
    works,
};

/// Clusters answer alike under both versions, but for the paging of the list.
pub const BOTH: &[&str] = &["2.0", "2.1"];

const TEST: &str = "acceptance/test_clusters.py";
/// What of a definition is kept without effect, because there is one machine.
const KEPT: &str = "node types, workers, disks, tags, access modes and cloud attributes are kept and have no effect; \
    docker_image, cluster_log_conf, ssh_public_keys and clone_from are refused; \
    every spark_version of the service runs on the default runtime, and the state message names it; \
    extension: the field cluster_id chooses the id";
const PINS: &str =
    "clusters are never removed by themselves, so a pin is kept and can be filtered by, no more";

pub const ENDPOINTS: &[Endpoint] = &[
    works(Post, BOTH, "/clusters/create", TEST).partial(KEPT),
    works(Post, BOTH, "/clusters/edit", TEST).partial(KEPT),
    works(
        Post,
        BOTH,
        "/clusters/update",
        "crates/http/tests/it/clusters.rs",
    )
    .partial(KEPT),
    works(Post, BOTH, "/clusters/start", TEST),
    works(
        Post,
        BOTH,
        "/clusters/restart",
        "crates/http/tests/it/clusters.rs",
    ),
    works(Post, BOTH, "/clusters/delete", TEST)
        .partial("runs under way on the cluster go on; only new ones start it again"),
    works(Post, BOTH, "/clusters/permanent-delete", TEST),
    works(
        Post,
        BOTH,
        "/clusters/resize",
        "crates/http/tests/it/clusters.rs",
    )
    .partial("the number of workers is kept and has no effect on one machine"),
    works(Get, BOTH, "/clusters/get", TEST),
    works(Get, BOTH, "/clusters/list", TEST),
    works(Post, BOTH, "/clusters/events", TEST)
        .partial("the newest 1000 events of a cluster are kept"),
    works(
        Post,
        BOTH,
        "/clusters/pin",
        "crates/http/tests/it/clusters.rs",
    )
    .partial(PINS),
    works(
        Post,
        BOTH,
        "/clusters/unpin",
        "crates/http/tests/it/clusters.rs",
    )
    .partial(PINS),
    works(
        Post,
        BOTH,
        "/clusters/change-owner",
        "crates/http/tests/it/clusters.rs",
    ),
    works(Get, BOTH, "/clusters/spark-versions", TEST),
    works(Get, BOTH, "/clusters/list-node-types", TEST).partial(
        "the one node type is this machine; any other name is accepted and means the same",
    ),
    works(Get, BOTH, "/clusters/list-zones", TEST).partial("the one zone is this machine"),
];

/// Calls about one cluster that say no more than which.
#[derive(Debug, Deserialize)]
pub struct ClusterCall {
    pub cluster_id: String,
}

#[derive(Debug, Deserialize)]
pub struct UpdateCluster {
    pub cluster_id: String,
    /// Names of fields, with commas between them.
    pub update_mask: String,
    #[serde(default)]
    pub cluster: Map<String, Value>,
}

#[derive(Debug, Deserialize)]
pub struct ResizeCluster {
    pub cluster_id: String,
    pub num_workers: Option<i64>,
    pub autoscale: Option<Value>,
}

#[derive(Debug, Deserialize)]
pub struct ChangeOwner {
    pub cluster_id: String,
    pub owner_username: String,
}

/// Filters come nested in a body or with dots in a query.
#[derive(Debug, Default, Deserialize)]
pub struct ListClusters {
    pub page_size: Option<usize>,
    pub page_token: Option<String>,
    #[serde(default)]
    pub filter_by: ClusterFilter,
    #[serde(default)]
    pub sort_by: ClusterSort,
    #[serde(flatten)]
    pub dotted: Map<String, Value>,
}

#[derive(Debug, Default, Deserialize)]
pub struct ClusterFilter {
    #[serde(default)]
    pub cluster_states: Vec<String>,
    #[serde(default)]
    pub cluster_sources: Vec<String>,
    pub is_pinned: Option<bool>,
    pub policy_id: Option<String>,
}

#[derive(Debug, Default, Deserialize)]
pub struct ClusterSort {
    /// `CLUSTER_NAME` or `DEFAULT`.
    pub field: Option<String>,
    /// `ASC` or `DESC`.
    pub direction: Option<String>,
}

#[derive(Debug, Deserialize)]
pub struct ClusterEvents {
    pub cluster_id: String,
    pub start_time: Option<i64>,
    pub end_time: Option<i64>,
    /// `DESC`, unless it says `ASC`.
    pub order: Option<String>,
    #[serde(default)]
    pub event_types: Vec<String>,
    pub offset: Option<usize>,
    pub limit: Option<usize>,
    pub page_size: Option<usize>,
    pub page_token: Option<String>,
}
