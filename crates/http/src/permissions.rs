use std::sync::Arc;

use axum::Json;
use axum::extract::{Path, State};
use forebay_control::permissions::{ADMINS, GrantChange};
use forebay_types::{Error, Grant, ObjectKind, ObjectRef, PermissionLevel, Principal, Result};
use forebay_wire::Method::{Get, Patch, Put};
use forebay_wire::permissions::{
    AccessControl, AccessEntry, ChangePermissions, EffectivePermission, LEVELS, ONE,
    ObjectPermissions, PermissionLevelInfo, PermissionLevels,
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

/// Who may touch what in the workspace tree follows from its path, so grants on folders, notebooks
/// and repos would have no effect; they are refused rather than kept.
fn object((kind, id): (String, String)) -> Result<ObjectRef> {
    const KINDS: [ObjectKind; 2] = [ObjectKind::Job, ObjectKind::Cluster];
    let known = KINDS.into_iter().find(|known| known.plural() == kind);
    let kind = known.ok_or_else(|| Error::not_implemented(format!("permissions/{kind}")))?;
    Ok(ObjectRef::new(kind, id))
}

async fn get(
    State(app): State<Arc<App>>,
    Caller(ctx): Caller,
    Path(path): ObjectPath,
) -> ApiResult<Json<ObjectPermissions>> {
    let object = object(path)?;
    let grants = app.services.permissions.get(&ctx, &object).await?;
    Ok(Json(answer(&object, grants)))
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
    let permissions = &app.services.permissions;
    let grants = permissions.change(&ctx, &object, how, grants).await?;
    Ok(Json(answer(&object, grants)))
}

fn grant(kind: ObjectKind, entry: AccessControl) -> Result<Grant> {
    let principal = match (
        entry.user_name,
        entry.group_name,
        entry.service_principal_name,
    ) {
        (Some(name), None, None) => Principal::User(name),
        (None, Some(name), None) => Principal::Group(name),
        (None, None, Some(_)) => return Err(Error::not_implemented("service_principal_name")),
        _ => {
            return Err(Error::invalid(
                "Invalid value for field 'access_control_list': each entry names exactly one of \
                 user_name, group_name and service_principal_name.",
            ));
        }
    };
    let level = kind.level(&entry.permission_level)?;
    Ok(Grant { principal, level })
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

/// The direct grants, and what administrators have in any case.
fn answer(object: &ObjectRef, grants: Vec<Grant>) -> ObjectPermissions {
    let kind = object.kind.plural();
    let admins = Principal::Group(ADMINS.to_owned());
    let inherited = EffectivePermission {
        permission_level: PermissionLevel::CanManage.as_str(),
        inherited: true,
        inherited_from_object: vec![format!("/{kind}/")],
    };
    let (direct, others): (Vec<_>, Vec<_>) = grants
        .into_iter()
        .partition(|grant| grant.principal.is(&admins));
    let mut entries: Vec<_> = others
        .into_iter()
        .map(|grant| entry(grant.principal, vec![own(grant.level)]))
        .collect();
    let mut levels: Vec<_> = direct.iter().map(|grant| own(grant.level)).collect();
    levels.push(inherited);
    entries.push(entry(admins, levels));
    ObjectPermissions {
        object_id: format!("/{kind}/{}", object.id),
        object_type: object.kind.singular(),
        access_control_list: entries,
    }
}

fn own(level: PermissionLevel) -> EffectivePermission {
    EffectivePermission {
        permission_level: level.as_str(),
        inherited: false,
        inherited_from_object: Vec::new(),
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
