use std::sync::Arc;

use axum::Json;
use axum::extract::{Path, State};
use axum::http::StatusCode;
use forebay_control::permissions::{ADMINS, USERS as EVERYBODY};
use forebay_store::{NewUser, User, UserChange};
use forebay_types::{Error, ErrorCode, Result, UserId};
use forebay_wire::Method::{Delete, Get, Patch, Post, Put};
use forebay_wire::identity::ScimUser;
use forebay_wire::tokens::CreatedToken;
use forebay_wire::users::{
    CreateUserToken, GROUP, GROUP_LIST, PatchOperation, PatchUser, ScimGroup, ScimList, ScimMember,
    ScimQuery, ScimUserList, USER, USER_TOKENS, USERS, WriteGroupRef, WriteUser,
};
use serde_json::Value;

use crate::auth::Caller;
use crate::error::ApiResult;
use crate::extract::Params;
use crate::identity::{GROUPS, scim};
use crate::routes::Routes;
use crate::server::App;
use crate::tokens::info;

pub(crate) fn routes(routes: &mut Routes) {
    routes.on(Get, &["2.0"], USERS, list);
    routes.on(Post, &["2.0"], USERS, create);
    routes.on(Get, &["2.0"], USER, get);
    routes.on(Put, &["2.0"], USER, replace);
    routes.on(Patch, &["2.0"], USER, patch);
    routes.on(Delete, &["2.0"], USER, delete);
    routes.on(Get, &["2.0"], GROUP_LIST, list_groups);
    routes.on(Get, &["2.0"], GROUP, get_group);
    routes.on(Post, &["forebay/v1"], USER_TOKENS, create_token);
}

const PAGE_MAX: usize = 1000;

async fn list(
    State(app): State<Arc<App>>,
    Caller(ctx): Caller,
    Params(query): Params<ScimQuery>,
) -> ApiResult<Json<ScimUserList>> {
    let mut users = app.services.users.list(&ctx).await?;
    if let Some(filter) = Filter::parse(query.filter.as_deref())? {
        // An attribute that is not ours is refused also where there is nobody to compare.
        filter.attribute(&["username", "displayname", "id"])?;
        users.retain(|user| match filter.attribute.as_str() {
            "username" => filter.accepts(&user.name),
            "displayname" => filter.accepts(&user.display_name),
            _ => filter.accepts(&user.id.to_string()),
        });
    }
    let users = users.into_iter().map(scim).collect();
    Ok(Json(page(users, &query)))
}

fn page<T>(all: Vec<T>, query: &ScimQuery) -> ScimList<T> {
    let start_index = query.start_index.unwrap_or(1).max(1);
    let count = query.count.unwrap_or(PAGE_MAX).min(PAGE_MAX);
    let total_results = all.len();
    let resources: Vec<_> = all.into_iter().skip(start_index - 1).take(count).collect();
    ScimList {
        schemas: ["urn:ietf:params:scim:api:messages:2.0:ListResponse"],
        total_results,
        start_index,
        items_per_page: resources.len(),
        resources,
    }
}

fn user_id(text: &str) -> Result<UserId> {
    let missing = |_| Error::missing(format!("User with id {text} does not exist."));
    text.parse().map(UserId).map_err(missing)
}

async fn get(
    State(app): State<Arc<App>>,
    Caller(ctx): Caller,
    Path(id): Path<String>,
) -> ApiResult<Json<ScimUser>> {
    let user = app.services.users.get(&ctx, user_id(&id)?).await?;
    Ok(Json(scim(user)))
}

async fn create(
    State(app): State<Arc<App>>,
    Caller(ctx): Caller,
    Params(request): Params<WriteUser>,
) -> ApiResult<(StatusCode, Json<ScimUser>)> {
    refuse_roles(&request)?;
    let missing = || Error::invalid("Missing required field: userName");
    let name = request.user_name.ok_or_else(missing)?;
    let new = NewUser {
        display_name: request.display_name.unwrap_or_else(|| name.clone()),
        name,
        admin: is_admin(request.groups.as_deref().unwrap_or_default())?,
        active: request.active.unwrap_or(true),
    };
    let user = app.services.users.create(&ctx, new).await;
    // SCIM clients know an existing user by status 409.
    let user = user.map_err(|error| match error.code {
        ErrorCode::ResourceAlreadyExists => Error::new(ErrorCode::AlreadyExists, error.message),
        _ => error,
    })?;
    Ok((StatusCode::CREATED, Json(scim(user))))
}

fn refuse_roles(request: &WriteUser) -> Result<()> {
    if request.roles.is_empty() {
        return Ok(());
    }
    Err(Error::not_implemented("SCIM attribute 'roles'"))
}

/// Everybody is in `users`, whatever is said; `admins` makes an administrator.
fn is_admin(groups: &[WriteGroupRef]) -> Result<bool> {
    let mut admin = false;
    for group in groups {
        let named = group.value.as_deref().or(group.display.as_deref());
        let named = named.unwrap_or_default();
        let known = GROUPS
            .iter()
            .find(|(id, name)| *id == named || *name == named);
        match known {
            Some((_, name)) => admin |= *name == ADMINS,
            None => return Err(Error::missing(format!("Group {named} does not exist."))),
        }
    }
    Ok(admin)
}

async fn replace(
    State(app): State<Arc<App>>,
    Caller(ctx): Caller,
    Path(id): Path<String>,
    Params(request): Params<WriteUser>,
) -> ApiResult<Json<ScimUser>> {
    refuse_roles(&request)?;
    let id = user_id(&id)?;
    let users = &app.services.users;
    let current = users.get(&ctx, id).await?;
    refuse_rename(&current, request.user_name.as_deref())?;
    let admin = request.groups.as_deref().map(is_admin).transpose()?;
    let change = UserChange {
        display_name: request.display_name,
        // An update of other things does not make or unmake an administrator by silence.
        admin,
        active: request.active,
    };
    Ok(Json(scim(users.change(&ctx, id, change).await?)))
}

fn refuse_rename(user: &User, name: Option<&str>) -> Result<()> {
    match name {
        Some(name) if !name.eq_ignore_ascii_case(&user.name) => Err(Error::invalid(
            "Field 'userName' cannot be changed; it names the home folder.",
        )),
        _ => Ok(()),
    }
}

async fn patch(
    State(app): State<Arc<App>>,
    Caller(ctx): Caller,
    Path(id): Path<String>,
    Params(request): Params<PatchUser>,
) -> ApiResult<Json<ScimUser>> {
    let id = user_id(&id)?;
    let mut change = UserChange::default();
    for operation in request.operations {
        apply(operation, &mut change)?;
    }
    let user = app.services.users.change(&ctx, id, change).await?;
    Ok(Json(scim(user)))
}

fn apply(operation: PatchOperation, change: &mut UserChange) -> Result<()> {
    let remove = match operation.op.to_lowercase().as_str() {
        "add" | "replace" => false,
        "remove" => true,
        other => {
            return Err(Error::invalid(format!(
                "Invalid value for field 'Operations.op': '{other}' is none of add, replace and remove."
            )));
        }
    };
    match (operation.path, operation.value) {
        (Some(path), value) => set(&path, value, remove, change),
        (None, Value::Object(fields)) if !remove => fields
            .into_iter()
            .try_for_each(|(path, value)| set(&path, value, false, change)),
        (None, _) => Err(Error::invalid(
            "Missing required field: Operations.path, or an object in Operations.value",
        )),
    }
}

fn set(path: &str, value: Value, remove: bool, change: &mut UserChange) -> Result<()> {
    let wrong = || Error::invalid(format!("Invalid value for '{path}' in Operations."));
    match path.to_lowercase().as_str() {
        "active" if !remove => {
            let flag = match &value {
                Value::Bool(flag) => Some(*flag),
                // The Python SDK leaves a value out that is false.
                Value::Null => Some(false),
                Value::String(text) => text.to_lowercase().parse().ok(),
                _ => None,
            };
            change.active = Some(flag.ok_or_else(wrong)?);
        }
        "displayname" if !remove => {
            change.display_name = Some(value.as_str().ok_or_else(wrong)?.to_owned());
        }
        // `groups`, or `groups[value eq "1"]` as SCIM removes one of several.
        path if path == "groups" || path.starts_with("groups[") => {
            let mut refs = match value {
                Value::Null => Vec::new(),
                value => serde_json::from_value(value).map_err(|_| wrong())?,
            };
            if let Some(named) = path.split('"').nth(1) {
                refs.push(WriteGroupRef {
                    value: Some(named.to_owned()),
                    display: None,
                });
            }
            let everything = refs.is_empty();
            if is_admin(&refs)? || (everything && remove) {
                change.admin = Some(!remove);
            }
        }
        _ => {
            return Err(Error::not_implemented(format!(
                "SCIM patch of '{path}' (active, displayName and groups can be patched)"
            )));
        }
    }
    Ok(())
}

async fn delete(
    State(app): State<Arc<App>>,
    Caller(ctx): Caller,
    Path(id): Path<String>,
) -> ApiResult<StatusCode> {
    app.services.users.delete(&ctx, user_id(&id)?).await?;
    Ok(StatusCode::NO_CONTENT)
}

async fn list_groups(
    State(app): State<Arc<App>>,
    Caller(ctx): Caller,
    Params(query): Params<ScimQuery>,
) -> ApiResult<Json<ScimList<ScimGroup>>> {
    let users = app.services.users.list(&ctx).await?;
    let mut groups: Vec<_> = GROUPS.iter().map(|(id, _)| group(id, &users)).collect();
    if let Some(filter) = Filter::parse(query.filter.as_deref())? {
        filter.attribute(&["displayname", "id"])?;
        groups.retain(|group| match filter.attribute.as_str() {
            "displayname" => filter.accepts(&group.display_name),
            _ => filter.accepts(&group.id),
        });
    }
    Ok(Json(page(groups, &query)))
}

async fn get_group(
    State(app): State<Arc<App>>,
    Caller(ctx): Caller,
    Path(id): Path<String>,
) -> ApiResult<Json<ScimGroup>> {
    if !GROUPS.iter().any(|(known, _)| *known == id) {
        return Err(Error::missing(format!("Group with id {id} does not exist.")).into());
    }
    let users = app.services.users.list(&ctx).await?;
    Ok(Json(group(&id, &users)))
}

fn group(id: &str, users: &[User]) -> ScimGroup {
    let name = GROUPS.iter().find(|(known, _)| *known == id);
    let name = name.map_or(EVERYBODY, |(_, name)| name);
    let members = users.iter().filter(|user| name != ADMINS || user.admin);
    let members = members.map(|user| ScimMember {
        display: user.display_name.clone(),
        value: user.id.to_string(),
        reference: format!("Users/{}", user.id),
    });
    ScimGroup {
        schemas: ["urn:ietf:params:scim:schemas:core:2.0:Group"],
        id: id.to_owned(),
        display_name: name.to_owned(),
        members: members.collect(),
    }
}

async fn create_token(
    State(app): State<Arc<App>>,
    Caller(ctx): Caller,
    Path(name): Path<String>,
    Params(request): Params<CreateUserToken>,
) -> ApiResult<Json<CreatedToken>> {
    let users = &app.services.users;
    let user = match users.get_by_name(&ctx, &name).await {
        Err(error) if request.create_user && error.code == ErrorCode::ResourceDoesNotExist => {
            let new = NewUser {
                display_name: name.clone(),
                name,
                admin: false,
                active: true,
            };
            users.create(&ctx, new).await?
        }
        found => found?,
    };
    let comment = request.comment.unwrap_or_default();
    let tokens = &app.services.tokens;
    let created = tokens.create_for(&ctx, &user, &comment, request.lifetime_seconds);
    let (token_value, row) = created.await?;
    Ok(Json(CreatedToken {
        token_value,
        token_info: info(row),
    }))
}

/// One comparison: `userName eq "a@b.c"`. Texts are compared without case, as SCIM asks for names.
struct Filter {
    /// In lower case.
    attribute: String,
    operator: String,
    value: String,
}

impl Filter {
    fn parse(text: Option<&str>) -> Result<Option<Self>> {
        let Some(text) = text.map(str::trim).filter(|text| !text.is_empty()) else {
            return Ok(None);
        };
        let wrong = || {
            Error::invalid(format!(
                "Invalid value for field 'filter': '{text}' is not like userName eq \"a@b.c\" (eq, co or sw)."
            ))
        };
        let (attribute, rest) = text.split_once(' ').ok_or_else(wrong)?;
        let (operator, value) = rest.trim_start().split_once(' ').ok_or_else(wrong)?;
        let value = value.trim();
        let quoted = value
            .strip_prefix('"')
            .and_then(|rest| rest.strip_suffix('"'));
        let value = quoted.unwrap_or(value);
        let operator = operator.to_lowercase();
        let known = ["eq", "co", "sw"].contains(&operator.as_str());
        if !known || value.contains('"') || (quoted.is_none() && value.contains(' ')) {
            return Err(wrong());
        }
        Ok(Some(Self {
            attribute: attribute.to_lowercase(),
            operator,
            value: value.to_lowercase(),
        }))
    }

    fn attribute(&self, known: &[&str]) -> Result<()> {
        if known.contains(&self.attribute.as_str()) {
            return Ok(());
        }
        Err(Error::not_implemented(format!(
            "SCIM filter on '{}'",
            self.attribute
        )))
    }

    fn accepts(&self, text: &str) -> bool {
        let text = text.to_lowercase();
        match self.operator.as_str() {
            "co" => text.contains(&self.value),
            "sw" => text.starts_with(&self.value),
            _ => text == self.value,
        }
    }
}
