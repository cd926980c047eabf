use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use forebay_runtime::Clock;
use forebay_types::{ClusterId, Millis};
use tokio::sync::Notify;

/// Which clusters are in use by runs right now. Kept in memory only, because runs do not outlive
/// the process.
#[derive(Debug, Clone)]
pub(super) struct Usage {
    shared: Arc<Shared>,
}

#[derive(Debug)]
struct Shared {
    clock: Clock,
    /// Wakes the reconciler, for whom the end of the last use is news.
    nudge: Arc<Notify>,
    /// After a restart nobody knows when a cluster was used last, so it counts as now.
    opened_at: Millis,
    clusters: Mutex<HashMap<ClusterId, Entry>>,
}

#[derive(Debug, Clone, Copy)]
struct Entry {
    users: usize,
    ended_at: Millis,
}

/// Keeps a cluster in use until it is dropped: hold it as long as the run lives.
#[derive(Debug)]
pub struct ClusterUse {
    id: ClusterId,
    shared: Arc<Shared>,
}

impl Usage {
    pub(super) fn new(clock: Clock, nudge: Arc<Notify>) -> Self {
        Self {
            shared: Arc::new(Shared {
                opened_at: clock.now(),
                clock,
                nudge,
                clusters: Mutex::default(),
            }),
        }
    }

    pub(super) fn begin(&self, id: &ClusterId) -> ClusterUse {
        let mut clusters = self.shared.lock();
        let entry = clusters.entry(id.clone()).or_insert(Entry {
            users: 0,
            ended_at: self.shared.opened_at,
        });
        entry.users += 1;
        ClusterUse {
            id: id.clone(),
            shared: Arc::clone(&self.shared),
        }
    }

    pub(super) fn is_used(&self, id: &ClusterId) -> bool {
        self.shared
            .lock()
            .get(id)
            .is_some_and(|entry| entry.users > 0)
    }

    /// When a run last used the cluster, as far as this process knows.
    pub(super) fn last_end(&self, id: &ClusterId) -> Millis {
        let ended = self.shared.lock().get(id).map(|entry| entry.ended_at);
        ended.unwrap_or(self.shared.opened_at)
    }

    pub(super) fn forget(&self, id: &ClusterId) {
        let mut clusters = self.shared.lock();
        if clusters.get(id).is_some_and(|entry| entry.users == 0) {
            clusters.remove(id);
        }
    }
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, HashMap<ClusterId, Entry>> {
        self.clusters.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for ClusterUse {
    fn drop(&mut self) {
        let now = self.shared.clock.now();
        let mut unused = true;
        if let Some(entry) = self.shared.lock().get_mut(&self.id) {
            entry.users = entry.users.saturating_sub(1);
            entry.ended_at = now;
            unused = entry.users == 0;
        }
        if unused {
            self.shared.nudge.notify_one();
        }
    }
}
