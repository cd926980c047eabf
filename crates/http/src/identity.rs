use std::sync::Arc;

use axum::Json;
use axum::extract::State;
use forebay_control::permissions::{ADMINS, USERS};
use forebay_store::User;
use forebay_wire::Method::Get;
use forebay_wire::identity::{HostConfig, ScimEmail, ScimGroupRef, ScimUser, ScimValue};

use crate::auth::Caller;
use crate::routes::Routes;
use crate::server::App;

pub(crate) fn routes(routes: &mut Routes) {
    routes.on(Get, &[], "/.well-known/databricks-config", host_config);
    routes.on(Get, &["2.0"], "/preview/scim/v2/Me", me);
}

async fn host_config(State(app): State<Arc<App>>) -> Json<HostConfig> {
    let workspace_id = app.services.identity.workspace_id.to_string();
    Json(HostConfig {
        oidc_endpoint: format!("{}/oidc", app.services.setup.public_url),
        account_id: workspace_id.clone(),
        workspace_id,
        cloud: "AWS",
        host_type: "WORKSPACE_HOST",
    })
}

async fn me(Caller(ctx): Caller) -> Json<ScimUser> {
    Json(scim(ctx.user))
}

/// The groups of every workspace: id and name.
pub(crate) const GROUPS: [(&str, &str); 2] = [("1", ADMINS), ("2", USERS)];

/// Everyone is in the group `users`; administrators also in `admins`.
pub(crate) fn scim(user: User) -> ScimUser {
    let groups = GROUPS
        .iter()
        .filter(|(_, name)| *name != ADMINS || user.admin);
    let groups = groups.map(|(id, name)| ScimGroupRef {
        display: (*name).to_owned(),
        value: (*id).to_owned(),
        kind: "direct",
        reference: format!("Groups/{id}"),
    });
    let groups = groups.collect();
    ScimUser {
        schemas: ["urn:ietf:params:scim:schemas:core:2.0:User"],
        id: user.id.to_string(),
        emails: vec![ScimEmail {
            value: user.name.clone(),
            kind: "work",
            primary: true,
        }],
        user_name: user.name,
        display_name: user.display_name,
        active: user.active,
        groups,
        entitlements: vec![ScimValue {
            value: "workspace-access".to_owned(),
        }],
        roles: Vec::new(),
    }
}
