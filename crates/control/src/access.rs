//! Who may touch what in the workspace tree: one pure decision, which the tree, repos and runs share.
//!
//! Everyone has `/Shared` and the folders of their own name in `/Users` and `/Repos`; what else a
//! user has, others gave. A grant holds for an object and everything below it, and nothing takes
//! away what a folder above gives.

use std::sync::Arc;

use forebay_store::Store;
use forebay_types::{Error, ObjectKind, PermissionLevel, Result, WorkspacePath};

use crate::Ctx;
use crate::permissions::USERS;

/// Where runs see the checkout of their Git source. In the tree itself nothing is there, for nobody.
pub(crate) const CHECKOUTS: &str = "/Repos/.internal";

/// What a call wants to do, weakest first.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Access {
    Read,
    Run,
    /// Also to make something in a folder.
    Write,
    /// Also to delete, and to give rights to others.
    Manage,
}

impl Access {
    pub(crate) fn level(self) -> PermissionLevel {
        match self {
            Self::Read => PermissionLevel::CanRead,
            Self::Run => PermissionLevel::CanRun,
            Self::Write => PermissionLevel::CanEdit,
            Self::Manage => PermissionLevel::CanManage,
        }
    }

    fn verb(self) -> &'static str {
        match self {
            Self::Read => "read",
            Self::Run => "run",
            Self::Write => "change",
            Self::Manage => "delete or share",
        }
    }
}

/// What one user may do in the tree, as it stood when a call began.
#[derive(Debug, Clone)]
pub(crate) struct Rights {
    ctx: Ctx,
    /// What others gave, by path.
    shares: Arc<[(WorkspacePath, PermissionLevel)]>,
}

impl Rights {
    /// # Errors
    /// When the database refuses.
    pub(crate) async fn of(store: &Store, ctx: &Ctx) -> Result<Self> {
        let shares = match ctx.is_admin() {
            true => Vec::new(),
            false => store.tree_shares(&ctx.user.name, USERS).await?,
        };
        let (ctx, shares) = (ctx.clone(), shares.into());
        Ok(Self { ctx, shares })
    }

    pub(crate) fn is_admin(&self) -> bool {
        self.ctx.is_admin()
    }

    pub(crate) fn shares(&self) -> &[(WorkspacePath, PermissionLevel)] {
        &self.shares
    }

    /// The strongest level on what is, or would be, at `path`. The folders on the way to what a user
    /// has can be read, and in their listings only that is shown.
    pub(crate) fn level(&self, path: &WorkspacePath) -> Option<PermissionLevel> {
        let below = path.as_str().strip_prefix(CHECKOUTS);
        if below.is_some_and(|rest| rest.is_empty() || rest.starts_with('/')) {
            return None;
        }
        if self.ctx.is_admin() || owner(path).is_some_and(|owner| owner.includes(&self.ctx)) {
            return Some(PermissionLevel::CanManage);
        }
        let given = self.shares.iter().filter(|(at, _)| path.is_within(at));
        let strongest = given.map(|(_, level)| *level).reduce(|one, other| {
            match ObjectKind::Directory.allows(one, other) {
                true => one,
                false => other,
            }
        });
        let on_the_way = || {
            matches!(path.relative(), "" | "Users" | "Repos")
                || self.shares.iter().any(|(at, _)| at.is_within(path))
        };
        strongest.or_else(|| on_the_way().then_some(PermissionLevel::CanRead))
    }

    pub(crate) fn may(&self, path: &WorkspacePath, access: Access) -> bool {
        let level = self.level(path);
        level.is_some_and(|level| ObjectKind::Directory.allows(level, access.level()))
    }

    /// # Errors
    /// `PERMISSION_DENIED` when [`Self::may`] says no, whether or not there is anything at the path.
    pub(crate) fn require(&self, path: &WorkspacePath, access: Access) -> Result<()> {
        if self.may(path, access) {
            return Ok(());
        }
        Err(Error::denied(format!(
            "{} may not {} {path}.",
            self.ctx.user.name,
            access.verb()
        )))
    }
}

/// Who has a folder, and all in it, by its place.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Owner<'a> {
    Everyone,
    User(&'a str),
}

impl Owner<'_> {
    fn includes(self, ctx: &Ctx) -> bool {
        match self {
            Self::Everyone => true,
            Self::User(name) => name == ctx.user.name,
        }
    }
}

/// Whom a path belongs to by its place, if anyone.
pub(crate) fn owner(path: &WorkspacePath) -> Option<Owner<'_>> {
    let mut segments = path.relative().split('/');
    match (segments.next().unwrap_or_default(), segments.next()) {
        ("Shared", _) => Some(Owner::Everyone),
        ("Users" | "Repos", Some(name)) => Some(Owner::User(name)),
        _ => None,
    }
}

/// The home folder of the caller; `None` when the name cannot be a folder.
#[must_use]
pub fn home(ctx: &Ctx) -> Option<WorkspacePath> {
    let home = WorkspacePath::parse(&format!("/Users/{}", ctx.user.name)).ok()?;
    (home.name() == ctx.user.name).then_some(home)
}

#[cfg(test)]
mod tests {
    use forebay_store::User;
    use forebay_types::{Millis, UserId};

    use super::*;

    fn ctx(name: &str, admin: bool) -> Ctx {
        Ctx::new(User {
            id: UserId(1),
            name: name.to_owned(),
            display_name: name.to_owned(),
            admin,
            active: true,
            created_at: Millis(0),
        })
    }

    fn path(text: &str) -> WorkspacePath {
        WorkspacePath::parse(text).unwrap()
    }

    fn rights(shares: &[(&str, PermissionLevel)]) -> Rights {
        Rights {
            ctx: ctx("bo@x", false),
            shares: shares
                .iter()
                .map(|(at, level)| (path(at), *level))
                .collect(),
        }
    }

    #[test]
    fn rights_by_place() {
        let admin = Rights {
            ctx: ctx("root", true),
            shares: [].into(),
        };
        for (at, access) in [
            ("/", "r"),
            ("/Users", "r"),
            ("/Repos", "r"),
            ("/Shared", "rw"),
            ("/Shared/a/b", "rw"),
            ("/Users/bo@x", "rw"),
            ("/Users/bo@x/a", "rw"),
            ("/Repos/bo@x", "rw"),
            ("/Repos/bo@x/p/a", "rw"),
            ("/Users/bo@xy", ""),
            ("/Users/Bo@x", ""),
            ("/Users/al@x/a", ""),
            ("/Repos/al@x/p", ""),
            ("/Sharedx", ""),
            ("/other", ""),
        ] {
            for (kind, letter) in [(Access::Read, 'r'), (Access::Manage, 'w')] {
                let allowed = rights(&[]).may(&path(at), kind);
                assert_eq!(allowed, access.contains(letter), "{at} {kind:?}");
                assert!(admin.may(&path(at), kind));
            }
        }
        assert!(!admin.may(&path("/Repos/.internal/abc"), Access::Read));
    }

    #[test]
    fn a_grant_holds_below_and_opens_the_way() {
        use PermissionLevel as L;
        let given = rights(&[
            ("/Users/al@x/p", L::CanRun),
            ("/Users/al@x/p/deep", L::CanRead),
            ("/Users/al@x/p/edit", L::CanEdit),
            ("/team", L::CanManage),
        ]);
        for (at, level) in [
            ("/Users/al@x", Some(L::CanRead)),
            ("/Users/al@x/other", None),
            ("/Users/al@x/px", None),
            ("/Users/al@x/p", Some(L::CanRun)),
            ("/Users/al@x/p/deep/n", Some(L::CanRun)),
            ("/Users/al@x/p/edit/n", Some(L::CanEdit)),
            ("/team/x", Some(L::CanManage)),
        ] {
            assert_eq!(given.level(&path(at)), level, "{at}");
        }
        assert!(given.may(&path("/Users/al@x/p/n"), Access::Run));
        let refused = given.require(&path("/Users/al@x/p/n"), Access::Write);
        assert!(refused.unwrap_err().message.contains("may not change"));
    }

    #[test]
    fn a_home_is_one_folder() {
        assert_eq!(home(&ctx("bo@x", false)).unwrap().as_str(), "/Users/bo@x");
        for name in ["../Shared", "a/b", "", ".", ".."] {
            assert_eq!(home(&ctx(name, false)), None, "{name}");
        }
    }
}
