use std::sync::Arc;

use axum::Json;
use axum::extract::State;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use forebay_store::SecretAcl;
use forebay_types::{Error, Result};
use forebay_wire::Method::{Get, Post};
use forebay_wire::secrets::{
    AclItem, AclList, AclName, CreateScope, PutAcl, PutSecret, ScopeInfo, ScopeList, ScopeName,
    SecretInfo, SecretList, SecretName, SecretValue,
};
use serde_json::{Value, json};

use crate::auth::Caller;
use crate::error::ApiResult;
use crate::extract::Params;
use crate::routes::Routes;
use crate::server::App;

pub(crate) fn routes(routes: &mut Routes) {
    routes.on(Post, &["2.0"], "/secrets/scopes/create", scope_create);
    routes.on(Post, &["2.0"], "/secrets/scopes/delete", scope_delete);
    routes.on(Get, &["2.0"], "/secrets/scopes/list", scope_list);
    routes.on(Post, &["2.0"], "/secrets/put", put);
    routes.on(Post, &["2.0"], "/secrets/delete", delete);
    routes.on(Get, &["2.0"], "/secrets/list", list);
    routes.on(Get, &["2.0"], "/secrets/get", get);
    routes.on(Post, &["2.0"], "/secrets/acls/put", acl_put);
    routes.on(Post, &["2.0"], "/secrets/acls/delete", acl_delete);
    routes.on(Get, &["2.0"], "/secrets/acls/list", acl_list);
    routes.on(Get, &["2.0"], "/secrets/acls/get", acl_get);
}

type Service = State<Arc<App>>;
type Answer<T> = ApiResult<Json<T>>;

async fn scope_create(
    State(app): Service,
    Caller(ctx): Caller,
    Params(request): Params<CreateScope>,
) -> Answer<Value> {
    let everyone = manage_principal_is_everyone(&request)?;
    let secrets = &app.services.secrets;
    secrets.scope_create(&ctx, &request.scope, everyone).await?;
    Ok(Json(json!({})))
}

fn manage_principal_is_everyone(request: &CreateScope) -> Result<bool> {
    let backend = request
        .scope_backend_type
        .as_deref()
        .unwrap_or("DATABRICKS");
    if request.backend_azure_keyvault.is_some() || backend == "AZURE_KEYVAULT" {
        return Err(Error::not_implemented("scope_backend_type AZURE_KEYVAULT"));
    }
    if backend != "DATABRICKS" {
        return Err(Error::invalid(format!(
            "Field 'scope_backend_type' is '{backend}'; use DATABRICKS."
        )));
    }
    match request.initial_manage_principal.as_deref() {
        None | Some("") => Ok(false),
        Some("users") => Ok(true),
        Some(other) => Err(Error::invalid(format!(
            "Field 'initial_manage_principal' is '{other}'; only 'users' is allowed."
        ))),
    }
}

async fn scope_delete(
    State(app): Service,
    Caller(ctx): Caller,
    Params(request): Params<ScopeName>,
) -> Answer<Value> {
    let secrets = &app.services.secrets;
    secrets.scope_delete(&ctx, &request.scope).await?;
    Ok(Json(json!({})))
}

async fn scope_list(State(app): Service, Caller(ctx): Caller) -> Answer<ScopeList> {
    let scopes = app.services.secrets.scope_list(&ctx).await?;
    let info = |scope: forebay_store::SecretScope| ScopeInfo {
        name: scope.name,
        backend_type: "DATABRICKS",
    };
    Ok(Json(ScopeList {
        scopes: scopes.into_iter().map(info).collect(),
    }))
}

async fn put(
    State(app): Service,
    Caller(ctx): Caller,
    Params(request): Params<PutSecret>,
) -> Answer<Value> {
    let (scope, key) = (request.scope, request.key);
    let value = value(request.string_value, request.bytes_value)?;
    app.services.secrets.put(&ctx, &scope, &key, &value).await?;
    Ok(Json(json!({})))
}

fn value(text: Option<String>, bytes: Option<String>) -> Result<Vec<u8>> {
    match (text, bytes) {
        (Some(text), None) => Ok(text.into_bytes()),
        (None, Some(encoded)) => STANDARD
            .decode(encoded.trim())
            .map_err(|e| Error::invalid(format!("Field 'bytes_value' is not base64: {e}"))),
        _ => Err(Error::invalid(
            "Exactly one of 'string_value' and 'bytes_value' must be given.",
        )),
    }
}

async fn delete(
    State(app): Service,
    Caller(ctx): Caller,
    Params(request): Params<SecretName>,
) -> Answer<Value> {
    let secrets = &app.services.secrets;
    secrets.delete(&ctx, &request.scope, &request.key).await?;
    Ok(Json(json!({})))
}

async fn list(
    State(app): Service,
    Caller(ctx): Caller,
    Params(request): Params<ScopeName>,
) -> Answer<SecretList> {
    let entries = app.services.secrets.list(&ctx, &request.scope).await?;
    let info = |entry: forebay_store::SecretEntry| SecretInfo {
        key: entry.key,
        last_updated_timestamp: entry.updated_at.0,
    };
    Ok(Json(SecretList {
        secrets: entries.into_iter().map(info).collect(),
    }))
}

async fn get(
    State(app): Service,
    Caller(ctx): Caller,
    Params(request): Params<SecretName>,
) -> Answer<SecretValue> {
    let secrets = &app.services.secrets;
    let (key, value) = secrets.get(&ctx, &request.scope, &request.key).await?;
    Ok(Json(SecretValue {
        key,
        value: STANDARD.encode(value),
    }))
}

async fn acl_put(
    State(app): Service,
    Caller(ctx): Caller,
    Params(request): Params<PutAcl>,
) -> Answer<Value> {
    let secrets = &app.services.secrets;
    secrets
        .acl_put(
            &ctx,
            &request.scope,
            &request.principal,
            &request.permission,
        )
        .await?;
    Ok(Json(json!({})))
}

async fn acl_delete(
    State(app): Service,
    Caller(ctx): Caller,
    Params(request): Params<AclName>,
) -> Answer<Value> {
    let secrets = &app.services.secrets;
    secrets
        .acl_delete(&ctx, &request.scope, &request.principal)
        .await?;
    Ok(Json(json!({})))
}

async fn acl_list(
    State(app): Service,
    Caller(ctx): Caller,
    Params(request): Params<ScopeName>,
) -> Answer<AclList> {
    let acls = app.services.secrets.acl_list(&ctx, &request.scope).await?;
    Ok(Json(AclList {
        items: acls.into_iter().map(item).collect(),
    }))
}

async fn acl_get(
    State(app): Service,
    Caller(ctx): Caller,
    Params(request): Params<AclName>,
) -> Answer<AclItem> {
    let secrets = &app.services.secrets;
    let acl = secrets
        .acl_get(&ctx, &request.scope, &request.principal)
        .await?;
    Ok(Json(item(acl)))
}

fn item(acl: SecretAcl) -> AclItem {
    AclItem {
        principal: acl.principal,
        permission: acl.permission.as_str(),
    }
}
