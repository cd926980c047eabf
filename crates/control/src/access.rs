//! Who may touch what in the workspace tree: one pure function, which files, repos and runs share.

use forebay_types::{Error, Result, WorkspacePath};

use crate::Ctx;

/// Where runs see the checkout of their Git source. In the tree itself nothing is there, for nobody.
pub(crate) const CHECKOUTS: &str = "/Repos/.internal";

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Access {
    Read,
    Write,
}

/// Administrators may do everything. Everyone else reads and writes `/Shared` and the folders of
/// their own name in `/Users` and `/Repos`, and reads the folders on the way there, in whose
/// listings only what they may read is shown.
#[must_use]
pub fn may(ctx: &Ctx, path: &WorkspacePath, access: Access) -> bool {
    let below = path.as_str().strip_prefix(CHECKOUTS);
    if below.is_some_and(|rest| rest.is_empty() || rest.starts_with('/')) {
        return false;
    }
    if ctx.is_admin() {
        return true;
    }
    let mut segments = path.relative().split('/');
    let top = segments.next().unwrap_or_default();
    match (top, segments.next()) {
        ("Shared", _) => true,
        ("" | "Users" | "Repos", None) => access == Access::Read,
        ("Users" | "Repos", Some(owner)) => owner == ctx.user.name,
        _ => false,
    }
}

/// # Errors
/// `PERMISSION_DENIED` when [`may`] says no, whether or not there is anything at the path.
pub fn require(ctx: &Ctx, path: &WorkspacePath, access: Access) -> Result<()> {
    if may(ctx, path, access) {
        return Ok(());
    }
    let verb = match access {
        Access::Read => "read",
        Access::Write => "change",
    };
    Err(Error::denied(format!(
        "{} may not {verb} {path}.",
        ctx.user.name
    )))
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

    fn user(name: &str, admin: bool) -> Ctx {
        Ctx::new(User {
            id: UserId(1),
            name: name.to_owned(),
            display_name: name.to_owned(),
            admin,
            active: true,
            created_at: Millis(0),
        })
    }

    #[test]
    fn rights_by_path() {
        let table = [
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
        ];
        for (path, rights) in table {
            let path = WorkspacePath::parse(path).unwrap();
            for (access, letter) in [(Access::Read, 'r'), (Access::Write, 'w')] {
                let allowed = may(&user("bo@x", false), &path, access);
                assert_eq!(allowed, rights.contains(letter), "{path} {access:?}");
                assert!(may(&user("root", true), &path, access));
            }
        }
        let checkouts = WorkspacePath::parse("/Repos/.internal/abc").unwrap();
        assert!(!may(&user("root", true), &checkouts, Access::Read));
    }

    #[test]
    fn a_home_is_one_folder() {
        assert_eq!(home(&user("bo@x", false)).unwrap().as_str(), "/Users/bo@x");
        for name in ["../Shared", "a/b", "", ".", ".."] {
            assert_eq!(home(&user(name, false)), None, "{name}");
        }
    }
}
