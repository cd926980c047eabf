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
        "Maven coordinates are of one exact version; a library is tried out behind the walls of a run, \
         with those that are there, before it counts as installed",
    ),
    works(Post, BOTH, "/libraries/uninstall", TEST),
    works(Get, BOTH, "/libraries/cluster-status", TEST),
    works(Get, BOTH, "/libraries/all-cluster-statuses", TEST),
    works(Post, OLD, "/libraries/upload", OLD_TEST).partial(FILES),
    works(Post, OLD, "/libraries/create", OLD_TEST)
        .partial("as upload, or with path and jar_specification.uri for a file in DBFS"),
    works(Get, OLD, "/libraries/list", OLD_TEST),
    works(Get, OLD, "/libraries/status", OLD_TEST),
    works(Post, OLD, "/libraries/delete", OLD_TEST)
        .partial("refused while a job or cluster points at the library"),
    works(Post, OLD, "/libraries/attach", OLD_TEST),
    works(Post, OLD, "/libraries/detach", OLD_TEST),
    works(Get, &[], VERSIONS, MOVE_TEST),
    works(Post, &[], MOVE, MOVE_TEST),
];

/// Libraries with their versions, and who uses which.
pub const VERSIONS: &str = "/api/forebay/v1/libraries";
/// Every user of one version to another, at once.
pub const MOVE: &str = "/api/forebay/v1/libraries/move";
const MOVE_TEST: &str = "acceptance/test_library_versions.py";

/// Libraries of the workspace.
pub const OLD: &[&str] = &["1.2"];
const OLD_TEST: &str = "acceptance/test_workspace_libraries.py";
const FILES: &str = "java-jar, python-egg and python-whl; a name is never given new content";

/// What an upload says beside its file.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct UploadLibrary {
    pub lib_type: Option<String>,
    pub name: Option<String>,
    pub folder: Option<String>,
    /// Of the form that takes a file which is there already.
    pub path: Option<String>,
    #[serde(rename = "jar_specification")]
    pub jar: Option<JarSpecification>,
    #[serde(rename = "jar_specification.uri")]
    pub jar_uri: Option<String>,
}

#[derive(Debug, Deserialize)]
pub struct JarSpecification {
    pub uri: String,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct LibraryCall {
    pub library_id: i64,
    /// `__ALL_CLUSTERS` stands for all there are and will be.
    pub cluster_id: Option<String>,
}

#[derive(Debug, Deserialize)]
pub struct ClusterLibraries {
    pub cluster_id: String,
    #[serde(default)]
    pub libraries: Vec<Value>,
}

/// Of which library; without a name, of all.
#[derive(Debug, Deserialize)]
pub struct VersionsOf {
    pub name: Option<String>,
}
