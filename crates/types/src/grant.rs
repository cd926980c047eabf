use std::fmt;

use crate::{Error, Result};

/// The kinds of object that carry permissions.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum ObjectKind {
    Job,
    Cluster,
    Directory,
    Notebook,
    File,
    Repo,
}

impl ObjectKind {
    /// The kinds of the workspace tree, which all have the same levels.
    pub const TREE: [Self; 4] = [Self::Directory, Self::Notebook, Self::File, Self::Repo];

    /// As in paths: `jobs`.
    #[must_use]
    pub fn plural(self) -> &'static str {
        match self {
            Self::Job => "jobs",
            Self::Cluster => "clusters",
            Self::Directory => "directories",
            Self::Notebook => "notebooks",
            Self::File => "files",
            Self::Repo => "repos",
        }
    }

    /// As in `object_type`: `job`.
    #[must_use]
    pub fn singular(self) -> &'static str {
        match self {
            Self::Job => "job",
            Self::Cluster => "cluster",
            Self::Directory => "directory",
            Self::Notebook => "notebook",
            Self::File => "file",
            Self::Repo => "repo",
        }
    }

    /// The levels this kind knows, weakest first; each includes those before it.
    #[must_use]
    pub fn levels(self) -> &'static [PermissionLevel] {
        use PermissionLevel as L;
        match self {
            Self::Job => &[L::CanView, L::CanManageRun, L::CanManage, L::IsOwner],
            Self::Cluster => &[L::CanAttachTo, L::CanRestart, L::CanManage],
            Self::Directory | Self::Notebook | Self::File | Self::Repo => {
                &[L::CanRead, L::CanRun, L::CanEdit, L::CanManage]
            }
        }
    }

    /// What the creator of an object gets.
    #[must_use]
    pub fn creator_level(self) -> PermissionLevel {
        match self {
            Self::Job => PermissionLevel::IsOwner,
            _ => PermissionLevel::CanManage,
        }
    }

    /// Reads a level of this kind.
    ///
    /// # Errors
    /// `INVALID_PARAMETER_VALUE` that lists the levels there are.
    pub fn level(self, name: &str) -> Result<PermissionLevel> {
        let known = self.levels();
        let found = known.iter().find(|level| level.as_str() == name);
        found.copied().ok_or_else(|| {
            let known: Vec<_> = known.iter().map(|level| level.as_str()).collect();
            Error::invalid(format!(
                "Invalid value for field 'permission_level': '{name}' is not a level of {}; use one of {}.",
                self.plural(),
                known.join(", ")
            ))
        })
    }

    /// Whether somebody with `has` may do what needs `wanted`.
    #[must_use]
    pub fn allows(self, has: PermissionLevel, wanted: PermissionLevel) -> bool {
        let rank = |level| self.levels().iter().position(|known| *known == level);
        rank(has) >= rank(wanted)
    }
}

/// What a principal may do with one object.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum PermissionLevel {
    CanView,
    CanManageRun,
    IsOwner,
    CanManage,
    CanAttachTo,
    CanRestart,
    CanRead,
    CanRun,
    CanEdit,
}

impl PermissionLevel {
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::CanView => "CAN_VIEW",
            Self::CanManageRun => "CAN_MANAGE_RUN",
            Self::IsOwner => "IS_OWNER",
            Self::CanManage => "CAN_MANAGE",
            Self::CanAttachTo => "CAN_ATTACH_TO",
            Self::CanRestart => "CAN_RESTART",
            Self::CanRead => "CAN_READ",
            Self::CanRun => "CAN_RUN",
            Self::CanEdit => "CAN_EDIT",
        }
    }

    /// One sentence for a person.
    #[must_use]
    pub fn about(self) -> &'static str {
        match self {
            Self::CanView => "Can view the object and its runs.",
            Self::CanManageRun => "Can view, run now and cancel runs.",
            Self::IsOwner => "Owns the object; it runs with the owner's rights.",
            Self::CanManage => "Can do everything, including changing permissions.",
            Self::CanAttachTo => "Can use the cluster for runs.",
            Self::CanRestart => "Can use, start, restart and terminate the cluster.",
            Self::CanRead => "Can read.",
            Self::CanRun => "Can read and run.",
            Self::CanEdit => "Can read, run and change.",
        }
    }
}

/// One object that carries permissions.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct ObjectRef {
    pub kind: ObjectKind,
    /// The id as text, whatever its kind.
    pub id: String,
}

impl ObjectRef {
    pub fn new(kind: ObjectKind, id: impl fmt::Display) -> Self {
        Self {
            kind,
            id: id.to_string(),
        }
    }
}

impl fmt::Display for ObjectRef {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}", self.kind.singular(), self.id)
    }
}

/// Who holds a permission. Names are compared without case.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum Principal {
    User(String),
    Group(String),
}

impl Principal {
    #[must_use]
    pub fn name(&self) -> &str {
        match self {
            Self::User(name) | Self::Group(name) => name,
        }
    }

    #[must_use]
    pub fn is(&self, other: &Self) -> bool {
        std::mem::discriminant(self) == std::mem::discriminant(other)
            && self.name().to_lowercase() == other.name().to_lowercase()
    }
}

/// A principal's own level on one object; what comes from elsewhere is not here.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Grant {
    pub principal: Principal,
    pub level: PermissionLevel,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_level_includes_the_weaker_ones_of_its_kind() {
        let job = ObjectKind::Job;
        assert!(job.allows(PermissionLevel::IsOwner, PermissionLevel::CanManage));
        assert!(job.allows(PermissionLevel::CanView, PermissionLevel::CanView));
        assert!(!job.allows(PermissionLevel::CanManageRun, PermissionLevel::CanManage));
        let error = ObjectKind::Cluster.level("CAN_VIEW").unwrap_err();
        assert!(error.message.contains("CAN_ATTACH_TO"), "{error}");
    }
}
