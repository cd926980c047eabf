mod of_workspace;

use std::sync::Arc;

use axum::Json;
use axum::extract::State;
use forebay_control::libraries::{Change, MoveRequest};
use forebay_store::ClusterLibrary;
use forebay_types::ClusterId;
use forebay_wire::Method::{Get, Post};
use forebay_wire::clusters::ClusterCall;
use forebay_wire::libraries::{BOTH, ClusterLibraries, MOVE, VERSIONS, VersionsOf};
use serde_json::{Value, json};

use crate::auth::Caller;
use crate::error::ApiResult;
use crate::extract::Params;
use crate::routes::Routes;
use crate::server::App;

pub(crate) fn routes(routes: &mut Routes) {
    of_workspace::routes(routes);
    routes.on(Get, &[], VERSIONS, versions);
    routes.on(Post, &[], MOVE, move_all);
    for (path, way) in [
        ("/libraries/install", Change::Install),
        ("/libraries/uninstall", Change::Uninstall),
    ] {
        let handler = move |app, caller, request| change(app, caller, request, way);
        routes.on(Post, BOTH, path, handler);
    }
    routes.on(Get, BOTH, "/libraries/cluster-status", cluster_status);
    routes.on(
        Get,
        BOTH,
        "/libraries/all-cluster-statuses",
        all_cluster_statuses,
    );
}

type Answer = ApiResult<Json<Value>>;

/// Puts the libraries of a request on its cluster, or takes them from it.
async fn change(
    State(app): State<Arc<App>>,
    Caller(ctx): Caller,
    Params(request): Params<ClusterLibraries>,
    change: Change,
) -> Answer {
    let id = ClusterId(request.cluster_id);
    let libraries = &app.services.libraries;
    libraries
        .change(&ctx, &id, change, request.libraries)
        .await?;
    Ok(Json(json!({})))
}

async fn cluster_status(
    State(app): State<Arc<App>>,
    Caller(ctx): Caller,
    Params(request): Params<ClusterCall>,
) -> Answer {
    let id = ClusterId(request.cluster_id);
    let libraries = app.services.libraries.of_cluster(&ctx, &id).await?;
    Ok(Json(of_cluster(&id, &libraries)))
}

async fn versions(
    State(app): State<Arc<App>>,
    Caller(ctx): Caller,
    Params(request): Params<VersionsOf>,
) -> Answer {
    let mut all = app.services.libraries.versions(&ctx).await?;
    if let Some(name) = &request.name {
        all.retain(|library| library.name == *name);
    }
    Ok(Json(json!({"libraries": all})))
}

async fn move_all(
    State(app): State<Arc<App>>,
    Caller(ctx): Caller,
    Params(request): Params<MoveRequest>,
) -> Answer {
    let moved = app.services.libraries.move_all(&ctx, request).await?;
    Ok(Json(json!(moved)))
}

async fn all_cluster_statuses(State(app): State<Arc<App>>, Caller(ctx): Caller) -> Answer {
    let clusters = app.services.libraries.of_clusters(&ctx).await?;
    let statuses: Vec<Value> = clusters
        .iter()
        .map(|(id, libraries)| of_cluster(id, libraries))
        .collect();
    Ok(Json(json!({"statuses": statuses})))
}

fn of_cluster(id: &ClusterId, libraries: &[ClusterLibrary]) -> Value {
    let statuses: Vec<Value> = libraries.iter().map(status).collect();
    json!({"cluster_id": id, "library_statuses": statuses})
}

fn status(library: &ClusterLibrary) -> Value {
    let spec: Value = serde_json::from_str(&library.library).unwrap_or_default();
    let mut status = json!({
        "library": spec,
        "status": library.state.as_str(),
        "is_library_for_all_clusters": library.for_all,
    });
    if !library.messages.is_empty() {
        status["messages"] = json!(library.messages);
    }
    status
}
