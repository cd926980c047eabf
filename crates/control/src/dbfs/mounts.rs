//! One tree made of several folders: the workspace's own, its volumes, and configured mounts.

use std::path::Path;

use forebay_blob::{Root, Staging};
use forebay_config::Mount as MountConfig;
use forebay_types::{DbfsPath, Error, Result};

use crate::WorkspaceDirs;

#[derive(Debug)]
pub(super) struct Mounts {
    /// The longest path first, so that the first that fits is the right one.
    mounts: Vec<Mount>,
}

#[derive(Debug)]
struct Mount {
    path: DbfsPath,
    root: Root,
    read_only: bool,
}

/// Where a path is.
#[derive(Debug)]
pub(super) struct Place<'a> {
    pub(super) root: &'a Root,
    /// Below the root; empty for the mount point itself.
    pub(super) below: String,
    pub(super) read_only: bool,
}

impl Place<'_> {
    pub(super) fn require_writable(&self, path: &DbfsPath) -> Result<()> {
        if self.read_only {
            return Err(Error::denied(format!(
                "Path {path} is on a mount that is read-only."
            )));
        }
        Ok(())
    }

    pub(super) fn is_mount_point(&self) -> bool {
        self.below.is_empty()
    }
}

impl Mounts {
    pub(super) fn open(
        dirs: &WorkspaceDirs,
        configured: &[MountConfig],
        staging: &Staging,
    ) -> Result<Self> {
        let root = open(&dirs.dbfs, staging)?;
        let volumes = open(&dirs.volumes, staging)?;
        let mut mounts = Vec::new();
        for config in configured {
            let path = DbfsPath::parse(&config.path)?;
            if path.is_root() || path.as_str() == "/Volumes" {
                return Err(Error::invalid(format!(
                    "mount.path: {path} cannot be a mount."
                )));
            }
            // The mount point is a folder of the tree, which shows it in listings, and to which
            // runs bind the mounted folder.
            root.mkdirs(path.relative())
                .map_err(|e| e.at(path.as_str()))?;
            mounts.push(Mount {
                path,
                root: open(&config.folder, staging)?,
                read_only: config.read_only,
            });
        }
        mounts.push(Mount {
            path: DbfsPath::parse("/Volumes")?,
            root: volumes,
            read_only: false,
        });
        mounts.push(Mount {
            path: DbfsPath::parse("/")?,
            root,
            read_only: false,
        });
        mounts.sort_by_key(|mount| std::cmp::Reverse(mount.path.as_str().len()));
        Ok(Self { mounts })
    }

    pub(super) fn place(&self, path: &DbfsPath) -> Result<Place<'_>> {
        let mount = self.mounts.iter().find(|mount| path.is_within(&mount.path));
        let mount =
            mount.ok_or_else(|| Error::internal("the tree has no root", path.to_string()))?;
        let below = path.as_str()[mount.path.as_str().len()..]
            .trim_start_matches('/')
            .to_owned();
        Ok(Place {
            root: &mount.root,
            below,
            read_only: mount.read_only,
        })
    }

    /// The mount point that is strictly below `path`, if there is one.
    pub(super) fn mount_below(&self, path: &DbfsPath) -> Option<&DbfsPath> {
        let mut points = self.mounts.iter().map(|mount| &mount.path);
        points.find(|point| point.is_within(path) && *point != path)
    }
}

fn open(folder: &Path, staging: &Staging) -> Result<Root> {
    Root::open(folder, staging).map_err(|e| e.at(&folder.display().to_string()))
}
