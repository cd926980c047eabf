//! A forked child behind its walls, with its cgroup and its folder, that waits for its run.
//!
//! Making one takes milliseconds, most of them the kernel's: who changes its cgroup waits until
//! nobody forks. So a warm parent has the next one made after each run, of the kind that this run
//! wanted; a run that finds none of its kind makes its own.

use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::PathBuf;

use serde_json::{Map, Value, json};

use crate::cgroup::{Cgroups, RunGroup};
use crate::owner;
use crate::zygote::Parent;
use forebay_exec::Limits;

/// What a child is made for. Runs that want the same are alike to it.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Wish {
    /// For the driver: see `child.py`.
    pub(crate) request: Map<String, Value>,
    pub(crate) limits: Limits,
}

#[derive(Debug)]
pub(crate) struct Seat {
    name: String,
    wish: Wish,
    pub(crate) group: RunGroup,
    /// Removed with what the run has left there by whoever takes the seat.
    pub(crate) scratch: PathBuf,
}

impl Seat {
    /// `name` is unique among the seats of this process. Returns before the child is there.
    pub(crate) fn prepare(
        cgroups: &Cgroups,
        parent: &Parent,
        wish: Wish,
        name: String,
    ) -> io::Result<Self> {
        let scratch = parent.scratch.join(&name);
        std::fs::create_dir_all(&scratch)?;
        let seat = Self {
            group: cgroups.create(&name, &wish.limits)?,
            name,
            wish,
            scratch,
        };
        let mut request = seat.wish.request.clone();
        request.insert("do".to_owned(), "prepare".into());
        request.insert("name".to_owned(), seat.name.clone().into());
        let doors = seat.group.doors()?;
        let doors: Vec<BorrowedFd<'_>> = doors.iter().map(AsFd::as_fd).collect();
        let asked = parent.fork(&Value::Object(request), &doors);
        if asked.is_err() {
            seat.clear();
        }
        asked.map(|()| seat)
    }

    pub(crate) fn is_for(&self, wish: &Wish) -> bool {
        self.wish == *wish
    }

    /// Gives the child its run.
    pub(crate) fn take(&self, parent: &Parent, theirs: &[OwnedFd; 4]) -> io::Result<()> {
        let fds: Vec<BorrowedFd<'_>> = theirs.iter().map(AsFd::as_fd).collect();
        parent.ask(&json!({"do": "run", "name": self.name}), &fds)
    }

    /// Nobody wants it. Blocks until the child is gone.
    pub(crate) fn leave(self, parent: &Parent) {
        // A parent that is gone has ended its children.
        drop(parent.ask(&json!({"do": "leave", "name": self.name}), &[]));
        self.clear();
    }

    fn clear(&self) {
        // What stays goes with the parent, or at the next start.
        drop(owner::remove_tree(&self.scratch));
    }
}
