use std::sync::Arc;

use axum::Json;
use axum::extract::{Path, State};
use forebay_control::permissions::{ADMINS, Entry, GrantChange, grant};
use forebay_types::{Error, ObjectKind, ObjectRef, PermissionLevel, Principal, Result};
use forebay_wire::Method::{Get, Patch, Put};
use forebay_wire::permissions::{
    AccessEntry, ChangePermissions, EffectivePermission, LEVELS, ONE, ObjectPermissions,
    PermissionLevelInfo, PermissionLevels,
};

use crate::auth::Caller;
use crate::error::ApiResult;
use crate::extract::Params;
use crate::routes::Routes;
use crate::server::App;

pub(crate) fn routes(routes: &mut Routes) {
    routes.on(Get, &["2.0"], ONE, get);
    routes.on(Put, &["2.0"], ONE, replace);
    routes.on(Patch, &["2.0"], ONE, merge);
    routes.on(Get, &["2.0"], LEVELS, levels);
}

type ObjectPath = Path<(String, String)>;

fn object((kind, id): (String, String)) -> Result<ObjectRef> {
    let kinds = [ObjectKind::Job, ObjectKind::Cluster].into_iter();
    let mut kinds = kinds.chain(ObjectKind::TREE);
    let known = kinds.find(|known| known.plural() == kind);
    let kind = known.ok_or_else(|| Error::not_implemented(format!("permissions/{kind}")))?;
    Ok(ObjectRef::new(kind, id))
}

fn is_in_tree(object: &ObjectRef) -> bool {
    ObjectKind::TREE.contains(&object.kind)
}

async fn get(
    State(app): State<Arc<App>>,
    Caller(ctx): Caller,
    Path(path): ObjectPath,
) -> ApiResult<Json<ObjectPermissions>> {
    let object = object(path)?;
    let services = &app.services;
    let entries = if is_in_tree(&object) {
        services.workspace.permissions(&ctx, &object).await?
    } else {
        let grants = services.permissions.get(&ctx, &object).await?;
        grants.into_iter().map(Entry::from).collect()
    };
    Ok(Json(answer(&object, entries)))
}

async fn replace(
    state: State<Arc<App>>,
    caller: Caller,
    path: ObjectPath,
    request: Params<ChangePermissions>,
) -> ApiResult<Json<ObjectPermissions>> {
    change(state, caller, path, request, GrantChange::Replace).await
}

async fn merge(
    state: State<Arc<App>>,
    caller: Caller,
    path: ObjectPath,
    request: Params<ChangePermissions>,
) -> ApiResult<Json<ObjectPermissions>> {
    change(state, caller, path, request, GrantChange::Merge).await
}

async fn change(
    State(app): State<Arc<App>>,
    Caller(ctx): Caller,
    Path(path): ObjectPath,
    Params(request): Params<ChangePermissions>,
    how: GrantChange,
) -> ApiResult<Json<ObjectPermissions>> {
    let object = object(path)?;
    let entries = request.access_control_list.into_iter();
    let grants = entries.map(|entry| grant(object.kind, entry));
    let grants = grants.collect::<Result<Vec<_>>>()?;
    let services = &app.services;
    let entries = if is_in_tree(&object) {
        let workspace = &services.workspace;
        let change = workspace.permissions_change(&ctx, &object, how, grants);
        change.await?
    } else {
        let permissions = &services.permissions;
        let grants = permissions.change(&ctx, &object, how, grants).await?;
        grants.into_iter().map(Entry::from).collect()
    };
    Ok(Json(answer(&object, entries)))
}

async fn levels(Path(path): ObjectPath) -> ApiResult<Json<PermissionLevels>> {
    let levels = object(path)?.kind.levels().iter();
    let infos = levels.map(|level| PermissionLevelInfo {
        permission_level: level.as_str(),
        description: level.about(),
    });
    Ok(Json(PermissionLevels {
        permission_levels: infos.collect(),
    }))
}

/// What holds on the object, by principal, and what administrators have in any case.
fn answer(object: &ObjectRef, entries: Vec<Entry>) -> ObjectPermissions {
    let admins = Principal::Group(ADMINS.to_owned());
    let above = match is_in_tree(object) {
        true => ObjectKind::Directory,
        false => object.kind,
    };
    let always = EffectivePermission {
        permission_level: PermissionLevel::CanManage.as_str(),
        inherited: true,
        inherited_from_object: vec![format!("/{}/", above.plural())],
    };
    let mut found: Vec<(Principal, Vec<EffectivePermission>)> = Vec::new();
    for one in entries {
        let level = effective(&one);
        match found.iter_mut().find(|(known, _)| known.is(&one.principal)) {
            Some((_, levels)) => levels.push(level),
            None => found.push((one.principal, vec![level])),
        }
    }
    let mut levels = match found.iter().position(|(known, _)| known.is(&admins)) {
        Some(at) => found.remove(at).1,
        None => Vec::new(),
    };
    levels.push(always);
    found.push((admins, levels));
    let entries = found.into_iter().map(|(who, levels)| entry(who, levels));
    ObjectPermissions {
        object_id: format!("/{}/{}", object.kind.plural(), object.id),
        object_type: object.kind.singular(),
        access_control_list: entries.collect(),
    }
}

fn effective(entry: &Entry) -> EffectivePermission {
    let from = entry.from.iter();
    EffectivePermission {
        permission_level: entry.level.as_str(),
        inherited: entry.from.is_some(),
        inherited_from_object: from
            .map(|object| format!("/{}/{}", object.kind.plural(), object.id))
            .collect(),
    }
}

fn entry(principal: Principal, all_permissions: Vec<EffectivePermission>) -> AccessEntry {
    let display_name = match &principal {
        Principal::User(name) => Some(name.clone()),
        Principal::Group(_) => None,
    };
    let (user_name, group_name) = match principal {
        Principal::User(name) => (Some(name), None),
        Principal::Group(name) => (None, Some(name)),
    };
    AccessEntry {
        user_name,
        group_name,
        display_name,
        all_permissions,
    }
}
