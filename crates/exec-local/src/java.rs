//! The JVM that waits for the next run of Java.
//!
//! A JVM takes seconds to start and to load Spark. After a run that used one, the child that waits
//! for the next run of the same kind starts another, so that this run finds it ready
//! (`warm_jvm.py`). There is one on a server, because each holds half a gigabyte: the place that
//! used Java last has it.

use std::sync::{Arc, Mutex, PoisonError, Weak};
use std::time::Duration;

use serde_json::{Value, json};

use crate::group::Groups;
use crate::seat::Wish;
use crate::zygote::Parent;

/// A JVM that nobody has wanted for so long ends.
const IDLE: Duration = Duration::from_secs(10 * 60);

/// A parent, and the name of its child.
type Place = (Weak<Parent>, String);

/// Where the JVM waits.
#[derive(Debug, Clone, Default)]
pub(crate) struct Waiting(Arc<Mutex<Option<Place>>>);

/// What the next run of a kind gets when this one has used Java.
#[derive(Debug)]
pub(crate) struct Next {
    pub(crate) waiting: Waiting,
    pub(crate) groups: Groups,
    /// The warm one; the run itself may have had another.
    pub(crate) parent: Arc<Parent>,
    pub(crate) wish: Wish,
    /// The first frame of a run of this kind.
    pub(crate) job: Value,
    /// For the child, should none have been made ahead.
    pub(crate) name: String,
}

impl Next {
    /// Has the child that waits for such a run start it. Blocks for some milliseconds.
    pub(crate) fn order(self) {
        let Self { parent, job, .. } = self;
        let prepared = parent.prepare_spare(&self.groups, self.wish.clone(), self.name);
        if let Err(error) = prepared {
            tracing::warn!(%error, "no child is there to start a JVM for the next run");
            return;
        }
        let job = json!({
            "interpreter": job["interpreter"],
            "local_dir": job["local_dir"],
            "working_dir": job["working_dir"],
            "spark": {"conf": {}, "memory_bytes": job["spark"]["memory_bytes"]},
            "idle_seconds": IDLE.as_secs(),
        });
        if let Some(name) = parent.warm(&self.wish, &job) {
            self.waiting.replace(&parent, name);
        }
    }
}

impl Waiting {
    /// It waits here now, and nowhere else.
    fn replace(&self, parent: &Arc<Parent>, name: String) {
        let mut place = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let before = place.replace((Arc::downgrade(parent), name.clone()));
        drop(place);
        if let Some((owner, old)) = before
            && old != name
            && let Some(owner) = owner.upgrade()
        {
            owner.cool(&old);
        }
    }
}
