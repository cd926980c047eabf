use axum::Json;
use forebay_types::{Error, ErrorCode};
use forebay_wire::Method::{Get, Post};
use forebay_wire::around::Telemetry;
use serde_json::{Value, json};

use crate::error::ApiError;
use crate::extract::Params;
use crate::routes::Routes;

pub(crate) fn routes(routes: &mut Routes) {
    routes.on(Post, &[], "/telemetry-ext", telemetry);
    let assignment = "/unity-catalog/current-metastore-assignment";
    routes.on(Get, &["2.1"], assignment, no_metastore);
    let summary = "/unity-catalog/metastore_summary";
    routes.on(Get, &["2.1"], summary, no_metastore);
    routes.on(Get, &["2.0"], "/instance-pools/list", no_pools);
    routes.on(Get, &["2.0"], "/policies/clusters/list", no_policies);
}

/// Says that everything arrived, or clients spend seconds on sending it again.
async fn telemetry(Params(request): Params<Telemetry>) -> Json<Value> {
    let count = request.proto_logs.len();
    Json(json!({"errors": [], "numProtoSuccess": count, "numSuccess": 0}))
}

/// Clients go on without a catalog on this code, and give up on any other.
async fn no_metastore() -> ApiError {
    ApiError(Error::new(
        ErrorCode::MetastoreDoesNotExist,
        "No metastore is assigned to this workspace: this server has no Unity Catalog.",
    ))
}

async fn no_pools() -> Json<Value> {
    Json(json!({"instance_pools": []}))
}

async fn no_policies() -> Json<Value> {
    Json(json!({"policies": []}))
}
