//! Grants on folders, notebooks, files and repos.

use std::sync::Arc;

use forebay_runtime::blocking;
use forebay_types::{
    Error, Grant, ObjectId, ObjectKind as Kind, ObjectRef, PermissionLevel, Principal, Result,
    WorkspacePath,
};

use super::{Object, ObjectKind, Workspace, missing};
use crate::Ctx;
use crate::access::{Access, Owner, Rights, owner};
use crate::permissions::{Entry, GrantChange, USERS, changed, require_principals};

impl Workspace {
    /// Everything that holds on an object: its own grants and those of the folders above.
    ///
    /// # Errors
    /// `PERMISSION_DENIED` without `CAN_READ`, also for an object that does not exist;
    /// `RESOURCE_DOES_NOT_EXIST` for administrators.
    pub async fn permissions(&self, ctx: &Ctx, object: &ObjectRef) -> Result<Vec<Entry>> {
        let found = self.permitted(ctx, object, Access::Read).await?;
        self.entries(object, &found.path).await
    }

    /// Changes the grants on an object itself, and gives everything that holds then.
    ///
    /// # Errors
    /// As for [`Self::permissions`], but without `CAN_MANAGE`; `RESOURCE_DOES_NOT_EXIST` for an
    /// unknown user or group.
    pub async fn permissions_change(
        &self,
        ctx: &Ctx,
        object: &ObjectRef,
        how: GrantChange,
        grants: Vec<Grant>,
    ) -> Result<Vec<Entry>> {
        let found = self.permitted(ctx, object, Access::Manage).await?;
        require_principals(&self.store, &grants).await?;
        let kind = object.kind;
        let change = move |current| changed(kind, current, how, grants);
        self.store.permission_update(object, change).await?;
        self.entries(object, &found.path).await
    }

    /// The object of this kind and id, for a caller who may do this much with it.
    async fn permitted(&self, ctx: &Ctx, object: &ObjectRef, access: Access) -> Result<Object> {
        let no_such = || {
            Error::missing(format!(
                "{} {} does not exist.",
                object.kind.singular(),
                object.id
            ))
        };
        let rights = Rights::of(&self.store, ctx).await?;
        let denied = || {
            Error::denied(format!(
                "{} does not have {} permission on {object}.",
                ctx.user.name,
                access.level().as_str()
            ))
        };
        let id = object.id.parse().map(ObjectId);
        let path = match id {
            Ok(id) => self.store.object_path(id).await?,
            Err(_) => None,
        };
        let Some(path) = path else {
            return Err(if ctx.is_admin() { no_such() } else { denied() });
        };
        if !rights.may(&path, access) {
            return Err(denied());
        }
        let found = self.status(ctx, &path).await?;
        let kind = match found.kind {
            ObjectKind::Directory => Kind::Directory,
            ObjectKind::Repo => Kind::Repo,
            ObjectKind::File | ObjectKind::Library => Kind::File,
            ObjectKind::Notebook { .. } => Kind::Notebook,
        };
        // A name may stand for something else by now.
        if kind != object.kind || found.path != path {
            return Err(no_such());
        }
        Ok(found)
    }

    async fn entries(&self, object: &ObjectRef, path: &WorkspacePath) -> Result<Vec<Entry>> {
        let mut entries = Vec::new();
        if let Some((top, principal)) = by_place(path)? {
            let from = match top == *path {
                true => None,
                false => Some(self.directory(&top).await?),
            };
            entries.push(Entry {
                principal,
                level: PermissionLevel::CanManage,
                from,
            });
        }
        for found in self.store.tree_grants(path).await? {
            entries.push(Entry {
                principal: found.grant.principal,
                level: found.grant.level,
                from: (found.object != *object).then_some(found.object),
            });
        }
        Ok(entries)
    }

    async fn directory(&self, path: &WorkspacePath) -> Result<ObjectRef> {
        let (inner, path) = (Arc::clone(&self.inner), path.clone());
        let find = move || inner.tree.locate(&path)?.ok_or_else(|| missing(&path));
        let found = self.object(blocking(find).await?).await?;
        Ok(ObjectRef::new(Kind::Directory, found.id))
    }
}

/// The folder at or above `path` that belongs to somebody by its place.
fn by_place(path: &WorkspacePath) -> Result<Option<(WorkspacePath, Principal)>> {
    let depth = match owner(path) {
        None => return Ok(None),
        Some(Owner::Everyone) => 1,
        Some(Owner::User(_)) => 2,
    };
    let top: Vec<&str> = path.relative().split('/').take(depth).collect();
    let top = WorkspacePath::parse(&format!("/{}", top.join("/")))?;
    let principal = match owner(path) {
        Some(Owner::User(name)) => Principal::User(name.to_owned()),
        _ => Principal::Group(USERS.to_owned()),
    };
    Ok(Some((top, principal)))
}
