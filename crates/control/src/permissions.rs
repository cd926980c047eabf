use std::collections::HashSet;

use forebay_store::Store;
use forebay_types::{
    Error, ErrorCode, Grant, ObjectKind, ObjectRef, PermissionLevel, Principal, Result,
};

use forebay_wire::lenient;
use forebay_wire::permissions::AccessControl;
use serde::Deserialize;
use serde_json::{Map, Value};

use crate::Ctx;

/// The two groups of every workspace; membership follows from the user.
pub const ADMINS: &str = "admins";
/// Everybody.
pub const USERS: &str = "users";

/// How a change of permissions treats what was there.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum GrantChange {
    /// The given grants are all there are afterwards.
    Replace,
    /// The given grants are added; a principal's earlier level gives way.
    Merge,
}

/// What holds on an object: somebody's level, and the object it comes from unless that is the very
/// one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Entry {
    pub principal: Principal,
    pub level: PermissionLevel,
    pub from: Option<ObjectRef>,
}

impl From<Grant> for Entry {
    fn from(Grant { principal, level }: Grant) -> Self {
        Self {
            principal,
            level,
            from: None,
        }
    }
}

/// Who may do what with jobs and clusters; for what is in the workspace tree see
/// [`crate::workspace::Workspace::permissions`].
///
/// Administrators may do everything. Others have the strongest of their own grant and that of the
/// group `users`; the creator of an object gets the first grant in the transaction that makes it.
#[derive(Debug, Clone)]
pub struct Permissions {
    store: Store,
}

impl Permissions {
    pub(crate) fn new(store: Store) -> Self {
        Self { store }
    }

    /// The caller's level on an object; `None` for a stranger. Says nothing about existence.
    ///
    /// # Errors
    /// When the database refuses.
    pub async fn level_of(&self, ctx: &Ctx, object: &ObjectRef) -> Result<Option<PermissionLevel>> {
        let kind = object.kind;
        if ctx.is_admin() {
            return Ok(kind.levels().last().copied());
        }
        let grants = self.store.permission_list(object).await?;
        let mine = Principal::User(ctx.user.name.clone());
        let everybody = Principal::Group(USERS.to_owned());
        let levels = grants
            .iter()
            .filter(|grant| grant.principal.is(&mine) || grant.principal.is(&everybody))
            .map(|grant| grant.level);
        Ok(levels.reduce(|best, level| {
            if kind.allows(level, best) {
                level
            } else {
                best
            }
        }))
    }

    /// # Errors
    /// `PERMISSION_DENIED` when the caller has less than `wanted`, also for an object that does not
    /// exist; so a stranger cannot find out which ids do.
    pub async fn require(
        &self,
        ctx: &Ctx,
        object: &ObjectRef,
        wanted: PermissionLevel,
    ) -> Result<()> {
        match self.level_of(ctx, object).await? {
            Some(has) if object.kind.allows(has, wanted) => Ok(()),
            _ => Err(Error::denied(format!(
                "{} does not have {} permission on {object}.",
                ctx.user.name,
                wanted.as_str()
            ))),
        }
    }

    /// The ids of the kind's objects on which the caller has any level; `None` means all of them.
    ///
    /// # Errors
    /// When the database refuses.
    pub async fn visible(&self, ctx: &Ctx, kind: ObjectKind) -> Result<Option<HashSet<String>>> {
        if ctx.is_admin() {
            return Ok(None);
        }
        let levels = self
            .store
            .permission_levels(kind, &ctx.user.name, &[USERS])
            .await?;
        Ok(Some(levels.into_keys().collect()))
    }

    /// The direct grants on an object.
    ///
    /// # Errors
    /// `PERMISSION_DENIED` for strangers, `RESOURCE_DOES_NOT_EXIST` for a missing object.
    pub async fn get(&self, ctx: &Ctx, object: &ObjectRef) -> Result<Vec<Grant>> {
        let weakest = object.kind.levels().first();
        if let Some(weakest) = weakest {
            self.require(ctx, object, *weakest).await?;
        }
        self.require_exists(object).await?;
        self.store.permission_list(object).await
    }

    /// Changes the direct grants on an object and gives the new ones.
    ///
    /// # Errors
    /// `PERMISSION_DENIED` without `CAN_MANAGE`, `RESOURCE_DOES_NOT_EXIST` for a missing object or
    /// principal, `INVALID_PARAMETER_VALUE` when a job would not have exactly one owner.
    pub async fn change(
        &self,
        ctx: &Ctx,
        object: &ObjectRef,
        how: GrantChange,
        grants: Vec<Grant>,
    ) -> Result<Vec<Grant>> {
        self.require(ctx, object, PermissionLevel::CanManage)
            .await?;
        self.require_exists(object).await?;
        require_principals(&self.store, &grants).await?;
        let kind = object.kind;
        self.store
            .permission_update(object, move |current| changed(kind, current, how, grants))
            .await
    }

    async fn require_exists(&self, object: &ObjectRef) -> Result<()> {
        if self.store.permission_object_exists(object).await? {
            return Ok(());
        }
        Err(Error::missing(format!(
            "{} {} does not exist.",
            object.kind.singular(),
            object.id
        )))
    }
}

/// # Errors
/// `RESOURCE_DOES_NOT_EXIST` for a user or group that is not there.
pub(crate) async fn require_principals(store: &Store, grants: &[Grant]) -> Result<()> {
    for Grant { principal, .. } in grants {
        let (kind, known) = match principal {
            Principal::User(name) => ("user", store.user_get_by_name(name).await?.is_some()),
            Principal::Group(name) => ("group", [ADMINS, USERS].contains(&name.as_str())),
        };
        if !known {
            return Err(Error::new(
                ErrorCode::ResourceDoesNotExist,
                format!("Principal: {kind} {} does not exist.", principal.name()),
            ));
        }
    }
    Ok(())
}

/// Reads an entry of an `access_control_list`.
///
/// # Errors
/// `INVALID_PARAMETER_VALUE` unless it names one principal and a level of the kind;
/// `NOT_IMPLEMENTED` for service principals.
pub fn grant(kind: ObjectKind, entry: AccessControl) -> Result<Grant> {
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

/// The grants of a new job, or of a submitted run, from the `access_control_list` that stands among
/// its settings and is taken out of them. The creator is the owner unless another is named.
///
/// # Errors
/// As for [`grant`]; for an unknown user or group; when there would not be exactly one owner.
pub(crate) async fn first_grants(
    store: &Store,
    ctx: &Ctx,
    settings: &mut Map<String, Value>,
) -> Result<Vec<Grant>> {
    let list = settings.shift_remove("access_control_list");
    let fields = Map::from_iter([("access_control_list".to_owned(), list.unwrap_or_default())]);
    let list: AccessList = lenient::from_map(fields)?;
    let given = list.access_control_list.unwrap_or_default().into_iter();
    let given: Vec<Grant> = given
        .map(|entry| grant(ObjectKind::Job, entry))
        .collect::<Result<_>>()?;
    require_principals(store, &given).await?;
    let creator = Grant {
        principal: Principal::User(ctx.user.name.clone()),
        level: PermissionLevel::IsOwner,
    };
    let how = match given.iter().any(|grant| grant.level == creator.level) {
        true => GrantChange::Replace,
        false => GrantChange::Merge,
    };
    changed(ObjectKind::Job, vec![creator], how, given)
}

#[derive(Debug, Deserialize)]
struct AccessList {
    access_control_list: Option<Vec<AccessControl>>,
}

/// The rules of a change; the last level that is given for a principal counts.
pub(crate) fn changed(
    kind: ObjectKind,
    current: Vec<Grant>,
    how: GrantChange,
    grants: Vec<Grant>,
) -> Result<Vec<Grant>> {
    let mut next = match how {
        GrantChange::Replace => Vec::new(),
        GrantChange::Merge => current,
    };
    for grant in grants {
        refuse_weaker_admins(&grant)?;
        next.retain(|other: &Grant| !other.principal.is(&grant.principal));
        next.push(grant);
    }
    if kind == ObjectKind::Job {
        let owners: Vec<_> = next
            .iter()
            .filter(|grant| grant.level == PermissionLevel::IsOwner)
            .collect();
        let [owner] = owners.as_slice() else {
            return Err(Error::invalid("The job must have exactly one owner."));
        };
        if matches!(owner.principal, Principal::Group(_)) {
            return Err(Error::invalid("A group cannot be the owner of a job."));
        }
    }
    Ok(next)
}

/// Administrators always may everything; a lesser grant would look as if it took that away.
fn refuse_weaker_admins(grant: &Grant) -> Result<()> {
    let admins = grant.principal.is(&Principal::Group(ADMINS.to_owned()));
    if admins && grant.level != PermissionLevel::CanManage {
        return Err(Error::invalid(
            "The group 'admins' always has CAN_MANAGE; it cannot be given less.",
        ));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use PermissionLevel as L;

    use super::*;

    fn user(name: &str, level: L) -> Grant {
        Grant {
            principal: Principal::User(name.to_owned()),
            level,
        }
    }

    #[test]
    fn last_level_per_principal_wins_and_merge_keeps_the_others() {
        let current = vec![user("ann", L::CanManage), user("bob", L::CanRestart)];
        let grants = vec![user("BOB", L::CanManage), user("bob", L::CanAttachTo)];
        let merged = changed(
            ObjectKind::Cluster,
            current.clone(),
            GrantChange::Merge,
            grants.clone(),
        );
        let expected = [user("ann", L::CanManage), user("bob", L::CanAttachTo)];
        assert_eq!(merged.unwrap(), expected);
        let replaced = changed(ObjectKind::Cluster, current, GrantChange::Replace, grants);
        assert_eq!(replaced.unwrap(), expected[1..]);
    }

    #[test]
    fn a_job_has_exactly_one_owner_and_that_is_a_person() {
        let owned = vec![user("ann", L::IsOwner)];
        let change = |how, grants| changed(ObjectKind::Job, owned.clone(), how, grants);
        let second = change(GrantChange::Merge, vec![user("bob", L::IsOwner)]);
        assert_eq!(
            second.unwrap_err().message,
            "The job must have exactly one owner."
        );
        assert!(change(GrantChange::Replace, vec![user("bob", L::CanView)]).is_err());
        let handed_over = vec![user("bob", L::IsOwner), user("ann", L::CanManage)];
        assert!(change(GrantChange::Merge, handed_over).is_ok());
        let group = Grant {
            principal: Principal::Group(USERS.to_owned()),
            level: L::IsOwner,
        };
        assert!(change(GrantChange::Replace, vec![group]).is_err());
    }
}
