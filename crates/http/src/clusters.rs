use std::sync::Arc;

use axum::Json;
use axum::extract::State;
use forebay_control::clusters::{Clusters, Machine};
use forebay_store::{Cluster, ClusterEvent};
use forebay_types::{ClusterId, ClusterState, Error, Result};
use forebay_wire::Method::{Get, Post};
use forebay_wire::clusters::{
    BOTH, ChangeOwner, ClusterCall, ClusterEvents, ClusterFilter, ListClusters, ResizeCluster,
    UpdateCluster,
};
use forebay_wire::lenient;
use serde_json::{Map, Value, json};

use crate::auth::Caller;
use crate::error::ApiResult;
use crate::extract::{ApiVersion, Fields, Params};
use crate::routes::Routes;
use crate::server::App;

pub(crate) fn routes(routes: &mut Routes) {
    routes.on(Post, BOTH, "/clusters/create", create);
    routes.on(Post, BOTH, "/clusters/edit", edit);
    routes.on(Post, BOTH, "/clusters/update", update);
    routes.on(Post, BOTH, "/clusters/start", start);
    routes.on(Post, BOTH, "/clusters/restart", restart);
    routes.on(Post, BOTH, "/clusters/delete", delete);
    routes.on(Post, BOTH, "/clusters/permanent-delete", permanent_delete);
    routes.on(Post, BOTH, "/clusters/resize", resize);
    routes.on(Get, BOTH, "/clusters/get", get);
    routes.on(Get, BOTH, "/clusters/list", list);
    routes.on(Post, BOTH, "/clusters/events", events);
    routes.on(Post, BOTH, "/clusters/pin", pin);
    routes.on(Post, BOTH, "/clusters/unpin", unpin);
    routes.on(Post, BOTH, "/clusters/change-owner", change_owner);
    routes.on(Get, BOTH, "/clusters/spark-versions", spark_versions);
    routes.on(Get, BOTH, "/clusters/list-node-types", list_node_types);
    routes.on(Get, BOTH, "/clusters/list-zones", list_zones);
}

type Answer = ApiResult<Json<Value>>;

fn done() -> Answer {
    Ok(Json(json!({})))
}

/// Takes a text field out of a definition, in which it would only be in the way.
fn take(fields: &mut Map<String, Value>, name: &str) -> Result<Option<String>> {
    match fields.remove(name) {
        None | Some(Value::Null) => Ok(None),
        Some(Value::String(text)) => Ok(Some(text)),
        Some(_) => Err(Error::invalid(format!(
            "Invalid value for field '{name}': must be text."
        ))),
    }
}

fn take_id(fields: &mut Map<String, Value>) -> Result<ClusterId> {
    let id = take(fields, "cluster_id")?;
    let missing = || Error::invalid("Missing required field: cluster_id");
    id.map(ClusterId).ok_or_else(missing)
}

async fn create(
    State(app): State<Arc<App>>,
    Caller(ctx): Caller,
    Fields(mut fields): Fields,
) -> Answer {
    let chosen = take(&mut fields, "cluster_id")?;
    let token = take(&mut fields, "idempotency_token")?;
    fields.remove("apply_policy_default_values");
    let clusters = &app.services.clusters;
    let id = clusters.create(&ctx, chosen, token, fields).await?;
    Ok(Json(json!({"cluster_id": id})))
}

async fn edit(
    State(app): State<Arc<App>>,
    Caller(ctx): Caller,
    Fields(mut fields): Fields,
) -> Answer {
    let id = take_id(&mut fields)?;
    fields.remove("apply_policy_default_values");
    app.services.clusters.edit(&ctx, &id, fields).await?;
    done()
}

async fn update(
    State(app): State<Arc<App>>,
    Caller(ctx): Caller,
    Params(request): Params<UpdateCluster>,
) -> Answer {
    let id = ClusterId(request.cluster_id);
    let mask = request.update_mask.split(',').map(str::trim);
    let mask: Vec<_> = mask
        .filter(|path| !path.is_empty())
        .map(str::to_owned)
        .collect();
    let clusters = &app.services.clusters;
    clusters.update(&ctx, &id, mask, request.cluster).await?;
    done()
}

async fn resize(
    State(app): State<Arc<App>>,
    Caller(ctx): Caller,
    Params(request): Params<ResizeCluster>,
) -> Answer {
    let mut size = Map::new();
    if let Some(workers) = request.num_workers {
        size.insert("num_workers".to_owned(), workers.into());
    }
    if let Some(autoscale) = request.autoscale {
        size.insert("autoscale".to_owned(), autoscale);
    }
    let id = ClusterId(request.cluster_id);
    app.services.clusters.resize(&ctx, &id, size).await?;
    done()
}

async fn change_owner(
    State(app): State<Arc<App>>,
    Caller(ctx): Caller,
    Params(request): Params<ChangeOwner>,
) -> Answer {
    let id = ClusterId(request.cluster_id);
    let clusters = &app.services.clusters;
    clusters
        .change_owner(&ctx, &id, request.owner_username)
        .await?;
    done()
}

/// Handlers of the calls that say which cluster, and no more.
macro_rules! plain_calls {
    ($($name:ident => |$clusters:ident, $ctx:ident, $id:ident| $call:expr;)+) => {$(
        async fn $name(
            State(app): State<Arc<App>>,
            Caller($ctx): Caller,
            Params(request): Params<ClusterCall>,
        ) -> Answer {
            let $clusters = &app.services.clusters;
            let $id = ClusterId(request.cluster_id);
            $call.await?;
            done()
        }
    )+};
}

plain_calls! {
    start => |clusters, ctx, id| clusters.start(&ctx, &id);
    restart => |clusters, ctx, id| clusters.restart(&ctx, &id);
    delete => |clusters, ctx, id| clusters.terminate(&ctx, &id);
    permanent_delete => |clusters, ctx, id| clusters.remove(&ctx, &id);
    pin => |clusters, ctx, id| clusters.pin(&ctx, &id, true);
    unpin => |clusters, ctx, id| clusters.pin(&ctx, &id, false);
}

async fn get(
    State(app): State<Arc<App>>,
    Caller(ctx): Caller,
    Params(request): Params<ClusterCall>,
) -> Answer {
    let clusters = &app.services.clusters;
    let cluster = clusters.get(&ctx, &ClusterId(request.cluster_id)).await?;
    Ok(Json(info(clusters, cluster)))
}

const PAGE_DEFAULT: usize = 20;
const PAGE_MAX: usize = 100;

/// 2.0 lists everything; 2.1 gives pages, whose token is the number of clusters before it.
async fn list(
    State(app): State<Arc<App>>,
    Caller(ctx): Caller,
    version: ApiVersion,
    Params(mut request): Params<ListClusters>,
) -> Answer {
    let clusters = &app.services.clusters;
    read_dotted(&mut request)?;
    let mut found = clusters.list(&ctx).await?;
    found.retain(|cluster| matches(&request.filter_by, cluster));
    let name = |cluster: &Cluster| text(cluster, "cluster_name").to_lowercase();
    if request.sort_by.field.as_deref() == Some("CLUSTER_NAME") {
        found.sort_by_key(name);
    } else {
        // Pinned ones first; newest first is how they come.
        found.sort_by_key(|cluster| !cluster.pinned);
    }
    if request.sort_by.direction.as_deref() == Some("DESC") && request.sort_by.field.is_some() {
        found.reverse();
    }
    let mut answer = Map::new();
    if version >= ApiVersion::V2_1 {
        let start = page_start(request.page_token.as_deref())?;
        let size = request.page_size.unwrap_or(PAGE_DEFAULT).clamp(1, PAGE_MAX);
        let end = start.saturating_add(size);
        if end < found.len() {
            answer.insert("next_page_token".to_owned(), end.to_string().into());
        }
        found = found.into_iter().skip(start).take(size).collect();
    }
    let entries: Vec<_> = found.into_iter().map(|c| info(clusters, c)).collect();
    answer.insert("clusters".to_owned(), entries.into());
    Ok(Json(answer.into()))
}

fn page_start(token: Option<&str>) -> Result<usize> {
    let Some(token) = token.filter(|token| !token.is_empty()) else {
        return Ok(0);
    };
    let wrong = |_| Error::invalid("Invalid value for field 'page_token': not one of ours.");
    token.parse().map_err(wrong)
}

/// Query strings name nested fields with dots: `filter_by.is_pinned=true`.
fn read_dotted(request: &mut ListClusters) -> Result<()> {
    let mut filter = Map::new();
    let mut sort = Map::new();
    for (name, value) in std::mem::take(&mut request.dotted) {
        match name.split_once('.') {
            Some(("filter_by", field @ ("cluster_states" | "cluster_sources"))) => {
                let items = match value {
                    Value::Array(items) => items,
                    one => vec![one],
                };
                filter.insert(field.to_owned(), items.into());
            }
            Some(("filter_by", field)) => drop(filter.insert(field.to_owned(), value)),
            Some(("sort_by", field)) => drop(sort.insert(field.to_owned(), value)),
            _ => {}
        }
    }
    if !filter.is_empty() {
        request.filter_by = lenient::from_map(filter)?;
    }
    if !sort.is_empty() {
        request.sort_by = lenient::from_map(sort)?;
    }
    Ok(())
}

fn matches(filter: &ClusterFilter, cluster: &Cluster) -> bool {
    let among = |names: &[String], name: &str| {
        names.is_empty() || names.iter().any(|wanted| wanted == name)
    };
    among(&filter.cluster_states, cluster.state.as_str())
        && among(&filter.cluster_sources, cluster.source.as_str())
        && filter.is_pinned.is_none_or(|pinned| pinned == cluster.pinned)
        // No cluster here has a policy.
        && filter.policy_id.as_deref().unwrap_or_default().is_empty()
}

fn text<'a>(cluster: &'a Cluster, field: &str) -> &'a str {
    let value = cluster.settings.get(field).and_then(Value::as_str);
    value.unwrap_or_default()
}

/// The definition as it was given, and beside it where the cluster stands.
fn info(clusters: &Clusters, cluster: Cluster) -> Value {
    let machine = clusters.machine();
    let runtime = clusters.runtime_of(&cluster);
    let engine = runtime.as_deref().and_then(|name| clusters.engine_of(name));
    let mut info = cluster.settings.clone();
    info.entry("cluster_name").or_insert_with(|| "".into());
    let mut put = |name: &str, value: Value| drop(info.insert(name.to_owned(), value));
    put("cluster_id", json!(cluster.id));
    put("creator_user_name", json!(cluster.creator));
    put("cluster_source", json!(cluster.source.as_str()));
    put("state", json!(cluster.state.as_str()));
    put("state_message", json!(cluster.state_message));
    let started = cluster.started_at.unwrap_or(cluster.created_at);
    put("start_time", json!(started));
    if let Some(at) = cluster.restarted_at {
        put("last_restarted_time", json!(at));
    }
    if let Some(at) = cluster.terminated_at {
        put("terminated_time", json!(at));
    }
    if let Some(reason) = cluster.termination {
        put("termination_reason", reason);
    }
    if cluster.state == ClusterState::Running {
        put("cluster_cores", json!(f64::from(machine.cores)));
        put("cluster_memory_mb", json!(machine.memory_mb));
    }
    let name = cluster.settings.get("cluster_name").cloned();
    put(
        "default_tags",
        json!({
            "Vendor": "Forebay", "Creator": cluster.creator, "ClusterId": cluster.id,
            "ClusterName": name.unwrap_or_default(),
        }),
    );
    put(
        "forebay",
        json!({"runtime": runtime, "engine": engine, "pinned": cluster.pinned}),
    );
    put("spec", Value::Object(cluster.settings));
    Value::Object(info)
}

const EVENTS_DEFAULT: usize = 50;
const EVENTS_MAX: usize = 500;

async fn events(
    State(app): State<Arc<App>>,
    Caller(ctx): Caller,
    Params(request): Params<ClusterEvents>,
) -> Answer {
    let id = ClusterId(request.cluster_id.clone());
    let mut events = app.services.clusters.events(&ctx, &id).await?;
    let from = request.start_time.unwrap_or(i64::MIN);
    let to = request.end_time.unwrap_or(i64::MAX);
    events.retain(|event| {
        let kinds = &request.event_types;
        (from..=to).contains(&event.at.0) && (kinds.is_empty() || kinds.contains(&event.kind))
    });
    if request.order.as_deref() != Some("ASC") {
        events.reverse();
    }
    let total = events.len();
    let limit = request
        .limit
        .or(request.page_size)
        .unwrap_or(EVENTS_DEFAULT);
    if limit == 0 || limit > EVENTS_MAX {
        return Err(Error::invalid(format!(
            "Invalid value for field 'limit': must be between 1 and {EVENTS_MAX}."
        ))
        .into());
    }
    let offset = match request.offset {
        Some(offset) => offset,
        None => page_start(request.page_token.as_deref())?,
    };
    let next = offset.saturating_add(limit);
    let shown = events.into_iter().skip(offset).take(limit);
    let shown: Vec<_> = shown.map(|event| event_info(&id, event)).collect();
    let mut answer = json!({"events": shown, "total_count": total});
    if next < total {
        let mut page = json!({"cluster_id": id, "offset": next, "limit": limit});
        for (name, value) in [
            ("start_time", json!(request.start_time)),
            ("end_time", json!(request.end_time)),
            ("order", json!(request.order)),
            ("event_types", json!(request.event_types)),
        ] {
            if !value.is_null() {
                page[name] = value;
            }
        }
        answer["next_page"] = page;
        answer["next_page_token"] = next.to_string().into();
    }
    Ok(Json(answer))
}

fn event_info(id: &ClusterId, event: ClusterEvent) -> Value {
    json!({"cluster_id": id, "timestamp": event.at, "type": event.kind, "details": event.details})
}

/// A version that the SDKs' helpers find, since they look for "LTS" and a Scala version. Its
/// Python is the one of the default runtime.
const FAMILIAR_VERSION: &str = "15.4.x-scala2.12";

async fn spark_versions(State(app): State<Arc<App>>) -> Json<Value> {
    let clusters = &app.services.clusters;
    let runtimes = clusters.runtimes();
    let default = forebay_control::clusters::runtime_for(FAMILIAR_VERSION, None, &runtimes);
    let default = default.unwrap_or_default();
    let mut versions = vec![json!({
        "key": FAMILIAR_VERSION,
        "name": format!("15.4 LTS (runs on the Forebay runtime {default})"),
    })];
    versions.extend(runtimes.into_iter().map(|runtime| {
        let name = format!("Forebay runtime {}: {}", runtime.name, runtime.description);
        json!({"key": runtime.name, "name": name})
    }));
    Json(json!({"versions": versions}))
}

async fn list_node_types(State(app): State<Arc<App>>) -> Json<Value> {
    let machine = app.services.clusters.machine();
    Json(json!({"node_types": [local(machine)]}))
}

const NODE: &str = "local";

/// The fields that the SDKs' helpers filter by.
fn local(machine: Machine) -> Value {
    let Machine {
        cores,
        memory_mb,
        disk_gb,
    } = machine;
    json!({
        "node_type_id": NODE,
        "instance_type_id": NODE,
        "description": format!("this machine: {cores} cores, {memory_mb} MB; other node types mean the same"),
        "category": "General Purpose",
        "memory_mb": memory_mb,
        "num_cores": f64::from(cores),
        "num_gpus": 0,
        "is_deprecated": false,
        "is_hidden": false,
        "is_graviton": cfg!(target_arch = "aarch64"),
        "is_io_cache_enabled": false,
        "is_encrypted_in_transit": false,
        "photon_driver_capable": false,
        "photon_worker_capable": false,
        "support_cluster_tags": false,
        "support_ebs_volumes": false,
        "support_port_forwarding": false,
        "node_instance_type": {
            "instance_type_id": NODE,
            "local_disks": 1,
            "local_disk_size_gb": disk_gb,
            "local_nvme_disks": 0,
            "local_nvme_disk_size_gb": 0,
        },
    })
}

async fn list_zones() -> Json<Value> {
    Json(json!({"zones": [NODE], "default_zone": NODE}))
}
