use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use forebay_engine::admission::{Claimant, Use, Workspace, share};
use forebay_types::Millis;
use tokio::sync::Notify;

/// How long a workspace's wish for slots counts. Dispatchers repeat it each second, so one that is
/// older belongs to a workspace in trouble, and the others shall not wait for it.
const WISH_MS: i64 = 5_000;

/// Tenants whose last slot is remembered.
const SERVED_MAX: usize = 1024;

/// What one workspace may have of a server's slots.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SlotLimits {
    pub workspace: String,
    pub max: usize,
    pub weight: u32,
}

/// The slots of one server, over the databases of all its workspaces.
///
/// A slot is a live row, and each database knows its own. What is kept here of a workspace is only
/// a copy of what its rows said at its last claim: it is replaced at each claim and each poll, never
/// added to, so nothing can leak for longer than that. A workspace whose rows nobody has read yet
/// counts as full.
///
/// The copy is made inside the claim's transaction. Should its commit fail, the copy is wrong until
/// the next claim, and the cap holds all the same: claims that were not committed are not started,
/// and an end is only reported when the attempt's processes are gone.
#[derive(Debug, Clone)]
pub struct ServerSlots(Arc<Server>);

#[derive(Debug)]
struct Server {
    cap: usize,
    workspaces: Mutex<Vec<Entry>>,
}

#[derive(Debug)]
struct Entry {
    limits: SlotLimits,
    live: Option<usize>,
    wants: usize,
    wished_at: Millis,
    wake: Arc<Notify>,
    walk: Walk,
}

/// How far the walk over the tenants of a workspace has come. Losing it does no harm.
#[derive(Debug, Default)]
pub(crate) struct Walk {
    /// Slots given away so far.
    pub(crate) given: u64,
    /// The tenant looked at last.
    pub(crate) tenant: String,
    /// When tenants were last given a slot, as far as that is worth knowing.
    pub(crate) served: HashMap<String, u64>,
}

impl Walk {
    pub(crate) fn serve(&mut self, tenant: &str) {
        self.given += 1;
        self.served.insert(tenant.to_owned(), self.given);
        if self.served.len() > SERVED_MAX {
            let old = self.given - SERVED_MAX as u64 / 2;
            self.served.retain(|_, at| *at > old);
        }
    }
}

/// A server's slots as one workspace sees them. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Slots {
    server: Arc<Server>,
    me: usize,
    wake: Arc<Notify>,
}

impl ServerSlots {
    /// All workspaces of the server, because each counts as full until its rows are known.
    #[must_use]
    pub fn new(cap: usize, workspaces: Vec<SlotLimits>) -> Self {
        let entry = |limits| Entry {
            limits,
            live: None,
            wants: 0,
            wished_at: Millis(0),
            wake: Arc::default(),
            walk: Walk::default(),
        };
        Self(Arc::new(Server {
            cap,
            workspaces: Mutex::new(workspaces.into_iter().map(entry).collect()),
        }))
    }

    /// The view of one workspace; `None` when the server has no such one.
    #[must_use]
    pub fn of(&self, workspace: &str) -> Option<Slots> {
        let entries = self.0.lock();
        let me = (entries.iter()).position(|entry| entry.limits.workspace == workspace)?;
        Some(Slots {
            server: Arc::clone(&self.0),
            me,
            wake: Arc::clone(&entries[me].wake),
        })
    }
}

impl Server {
    fn lock(&self) -> MutexGuard<'_, Vec<Entry>> {
        self.workspaces
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
    }
}

impl Slots {
    /// Slots of a server with this one workspace.
    #[must_use]
    pub fn of_one(max: usize) -> Self {
        let limits = SlotLimits {
            workspace: String::new(),
            max,
            weight: 1,
        };
        let server = ServerSlots::new(max, vec![limits]).0;
        let wake = Arc::clone(&server.lock()[0].wake);
        Self {
            server,
            me: 0,
            wake,
        }
    }

    /// Completes when another workspace left a slot to this one.
    pub async fn offered(&self) {
        self.wake.notified().await;
    }

    /// The use of the server's cap, and of this workspace's own.
    #[must_use]
    pub fn in_use(&self) -> (Use, Use) {
        let entries = self.server.lock();
        let live = entries.iter().filter_map(|entry| entry.live).sum();
        let max = self.server.cap;
        let own = &entries[self.me];
        let workspace = Use {
            live: own.live.unwrap_or(0),
            max: own.limits.max.min(max),
        };
        (Use { live, max }, workspace)
    }

    /// How many attempts of this workspace may be live at once.
    pub(crate) fn max(&self) -> usize {
        self.server.lock()[self.me].limits.max.min(self.server.cap)
    }

    /// Whether other workspaces know yet how many slots the rows of this one hold.
    pub(crate) fn is_known(&self) -> bool {
        self.server.lock()[self.me].live.is_some()
    }

    /// Takes up to `wants` free slots, of which the workspace's rows take `live` already. They are
    /// held until [`Slots::settle`].
    pub(crate) fn ask(&self, live: usize, wants: usize, now: Millis) -> usize {
        let mut entries = self.server.lock();
        let own = &mut entries[self.me];
        own.live = Some(live);
        own.wants = wants;
        own.wished_at = now;
        let known: Option<Vec<Workspace>> = (entries.iter())
            .map(|entry| {
                let fresh = now.since(entry.wished_at) < WISH_MS;
                Some(Workspace {
                    claimant: Claimant {
                        live: entry.live?,
                        weight: entry.limits.weight,
                    },
                    wants: if fresh { entry.wants } else { 0 },
                })
            })
            .collect();
        let Some(known) = known else {
            return 0;
        };
        let shared = share(self.server.cap, &known, self.me);
        for other in shared.others {
            entries[other].wake.notify_one();
        }
        let own = &mut entries[self.me];
        own.live = Some(live + shared.mine);
        own.wants = wants - shared.mine;
        shared.mine
    }

    /// Says what the rows of the workspace come to after its claim.
    pub(crate) fn settle(&self, live: usize) {
        self.server.lock()[self.me].live = Some(live);
    }

    pub(crate) fn walk(&self) -> Walk {
        std::mem::take(&mut self.server.lock()[self.me].walk)
    }

    pub(crate) fn walked(&self, walk: Walk) {
        self.server.lock()[self.me].walk = walk;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn two(cap: usize, max: usize) -> (Slots, Slots) {
        let limits = |workspace: &str| SlotLimits {
            workspace: workspace.to_owned(),
            max,
            weight: 1,
        };
        let server = ServerSlots::new(cap, vec![limits("a"), limits("b")]);
        (server.of("a").unwrap(), server.of("b").unwrap())
    }

    #[test]
    fn nothing_is_given_before_every_workspace_was_read() {
        let (a, b) = two(4, 9);
        assert_eq!(a.ask(0, 9, Millis(1)), 0);
        // The rows of b hold slots since before this start.
        assert_eq!(b.ask(3, 0, Millis(1)), 0);
        assert_eq!(a.ask(0, 9, Millis(1)), 1);
    }

    #[tokio::test]
    async fn a_slot_that_is_another_s_by_right_stays_free_for_it_but_not_for_ever() {
        let (a, b) = two(4, 9);
        assert_eq!(b.ask(0, 0, Millis(0)), 0);
        assert_eq!(a.ask(0, 9, Millis(0)), 4);
        assert_eq!(b.ask(0, 1, Millis(0)), 0);
        // One of a ends: its slot is b's, who is told.
        assert_eq!(a.ask(3, 9, Millis(10)), 0);
        b.offered().await;
        assert_eq!(b.ask(0, 1, Millis(20)), 1);
        // b wants another and is never heard of again.
        assert_eq!(b.ask(1, 1, Millis(20)), 0);
        assert_eq!(a.ask(2, 9, Millis(30)), 0);
        assert_eq!(a.ask(2, 9, Millis(20 + WISH_MS)), 1);
    }

    #[test]
    fn what_a_claim_did_not_use_is_free_again() {
        let (a, b) = two(4, 9);
        b.settle(0);
        assert_eq!(a.ask(0, 4, Millis(0)), 4);
        assert_eq!(b.ask(0, 4, Millis(0)), 0);
        a.settle(1);
        assert_eq!(b.ask(0, 4, Millis(0)), 3);
        assert_eq!(
            a.in_use(),
            (Use { live: 4, max: 4 }, Use { live: 1, max: 4 })
        );
    }
}
