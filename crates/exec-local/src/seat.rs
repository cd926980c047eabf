//! A forked child behind its walls, with its cgroup and its folder, that waits for its run.
//!
//! Making one takes milliseconds, most of them the kernel's: who changes its cgroup waits until
//! nobody forks. So a warm parent has the next one made after each run, of the kind that this run
//! wanted; a run that finds none of its kind makes its own.

use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use serde_json::{Map, Value, json};

use crate::group::{Groups, RunGroup};
use crate::scratch::Folder;
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
    /// Its run's own folder in the private mounts, when that was known.
    private: Option<String>,
    /// Whether it was told to start a JVM, see [`crate::java`].
    java: bool,
    pub(crate) group: RunGroup,
    /// Given back with what the run has left there by whoever takes the seat.
    pub(crate) scratch: Folder,
}

impl Seat {
    /// `name` is unique among the seats of this process. Returns before the child is there.
    pub(crate) fn prepare(
        groups: &Groups,
        parent: &Parent,
        wish: Wish,
        name: String,
        private: Option<&str>,
    ) -> io::Result<Self> {
        let group = groups.create(&name, &wish.limits)?;
        // Last, for a folder stays when it is dropped.
        let scratch = parent.folders.take()?;
        let seat = Self {
            group,
            name,
            wish,
            private: private.map(str::to_owned),
            java: false,
            scratch,
        };
        let mut request = seat.wish.request.clone();
        request.insert("do".to_owned(), "prepare".into());
        request.insert("name".to_owned(), seat.name.clone().into());
        request.insert("folder".to_owned(), seat.scratch.name().into());
        request.insert("private".to_owned(), json!(private));
        let doors = seat.group.doors().iter();
        let doors: Vec<BorrowedFd<'_>> = doors.map(AsFd::as_fd).collect();
        let asked = parent.fork(&Value::Object(request), &doors);
        match asked {
            Ok(()) => Ok(seat),
            Err(error) => {
                seat.clear();
                Err(error)
            }
        }
    }

    /// Has the child start a JVM. Its name.
    pub(crate) fn warm(&mut self, parent: &Parent, job: &Value) -> io::Result<String> {
        parent.ask(&json!({"do": "warm", "name": self.name, "job": job}), &[])?;
        self.java = true;
        Ok(self.name.clone())
    }

    pub(crate) fn is_for(&self, wish: &Wish) -> bool {
        self.wish == *wish
    }

    /// Gives the child its run, and the run's own folder if it does not have it yet.
    pub(crate) fn take(
        &mut self,
        parent: &Parent,
        theirs: &[OwnedFd; 4],
        private: Option<&str>,
    ) -> io::Result<()> {
        if self.java {
            self.group.start_counting();
        }
        let fds: Vec<BorrowedFd<'_>> = theirs.iter().map(AsFd::as_fd).collect();
        let missing = private.filter(|_| self.private.is_none());
        let request = json!({"do": "run", "name": self.name, "private": missing});
        parent.ask(&request, &fds)
    }

    /// Nobody wants it. Blocks until the child is gone.
    pub(crate) fn leave(self, parent: &Parent) {
        // A parent that is gone has ended its children.
        drop(parent.ask(&json!({"do": "leave", "name": self.name}), &[]));
        self.clear();
    }

    fn clear(self) {
        // The child may still be there. What stays goes with the parent, or at the next start.
        drop(self.scratch.remove());
    }
}
