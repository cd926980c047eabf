//! Who may start, and who is next.
//!
//! There are two lines. A *run* waits until its job and its key have room ([`admit`]). The
//! *attempts* of admitted runs wait for slots: [`share`] divides the free slots of a server among
//! its workspaces, [`next`] those of a workspace among its tenants. A tenant is a key, a job or a
//! user: whoever would otherwise crowd out the others.
//!
//! Nothing is counted here. Whoever asks brings the numbers, read from the rows in the transaction
//! that will claim.

mod explain;

use std::cmp::Ordering;

pub use explain::{Cap, Held, Line, attempt_held, before, merged, run_held};

/// How long a run must wait to overtake one of the next higher priority.
pub const AGEING_MS: i64 = 60_000;

/// Priorities that a run may have, from `-PRIORITY_MAX` on.
pub const PRIORITY_MAX: i64 = 1000;

/// One slot in so many goes to whoever has waited longest of those that have none, whatever the
/// weights say. So nothing starves, also where there are always more tenants than free slots.
const ELDEST_EVERY: u64 = 8;

/// Where a run stands among those of its tenant; the smallest is first.
///
/// Ageing is linear, so the order of two runs never changes while they wait, and an index serves it.
#[must_use]
pub fn rank(created_at_ms: i64, priority: i64) -> i64 {
    created_at_ms.saturating_sub(priority.saturating_mul(AGEING_MS))
}

/// How full a cap is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Use {
    pub live: usize,
    pub max: usize,
}

/// Somebody who shares slots with others.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Claimant {
    /// Slots held.
    pub live: usize,
    /// Its share of the slots in relation to the others' weights; 0 counts as 1.
    pub weight: u32,
}

impl Claimant {
    /// Who is served first. Comparing `(2 live + 1) / weight` brings everybody's slots as near to
    /// their share as whole slots can (Webster's method of apportionment).
    #[must_use]
    pub fn order(self, other: Self) -> Ordering {
        let claim = |who: Self, weight: u32| (2 * who.live as u128 + 1) * u128::from(weight.max(1));
        claim(self, other.weight).cmp(&claim(other, self.weight))
    }
}

/// A tenant with work that waits, and the first of that work.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Tenant {
    pub claimant: Claimant,
    /// When it was last given a slot, in slots given away; 0 for long ago. With few slots, whoever
    /// comes to the end of one would otherwise be the next again.
    pub served: u64,
    /// [`rank`] and id of its first waiting attempt.
    pub head: (i64, i64),
}

/// How the next slot is given away.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Turn {
    Fair,
    Eldest,
}

impl Turn {
    /// `given` is how many slots were given away so far.
    #[must_use]
    pub fn of(given: u64) -> Self {
        if given % ELDEST_EVERY == ELDEST_EVERY - 1 {
            Self::Eldest
        } else {
            Self::Fair
        }
    }
}

/// Whose first attempt gets the next slot.
#[must_use]
pub fn next(tenants: &[Tenant], turn: Turn) -> Option<usize> {
    let all = || tenants.iter().enumerate();
    let eldest = match turn {
        Turn::Eldest => all()
            .filter(|(_, one)| one.claimant.live == 0)
            .min_by_key(|(_, one)| one.head),
        Turn::Fair => None,
    };
    let rest = |one: &Tenant| (one.served, one.head);
    let fair =
        || all().min_by(|(_, a), (_, b)| a.claimant.order(b.claimant).then(rest(a).cmp(&rest(b))));
    eldest.or_else(fair).map(|(index, _)| index)
}

/// A workspace of a server.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Workspace {
    pub claimant: Claimant,
    /// How many more slots it could use at once.
    pub wants: usize,
}

/// What comes of one workspace's question for slots.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Share {
    /// Slots it may take now.
    pub mine: usize,
    /// Workspaces that have a better right to a free slot, to be told so.
    pub others: Vec<usize>,
}

/// Divides the free ones of `cap` slots among the workspaces that want some. The slots that others
/// have a better right to stay free for them.
#[must_use]
pub fn share(cap: usize, workspaces: &[Workspace], me: usize) -> Share {
    let mut left = workspaces.to_vec();
    let mut share = Share::default();
    let held: usize = left.iter().map(|workspace| workspace.claimant.live).sum();
    for _ in held..cap {
        let wanting = left.iter().enumerate().filter(|(_, one)| one.wants > 0);
        let first = wanting.min_by(|(_, a), (_, b)| a.claimant.order(b.claimant));
        let Some((first, _)) = first else {
            break;
        };
        left[first].claimant.live += 1;
        left[first].wants -= 1;
        if first == me {
            share.mine += 1;
        } else if !share.others.contains(&first) {
            share.others.push(first);
        }
    }
    share
}

/// How full a cap on runs is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Room {
    /// Runs that were admitted and have not ended.
    pub active: usize,
    pub max: usize,
    /// Whether an older run waits for the same room.
    pub queued: bool,
}

impl Room {
    fn is_free(self) -> bool {
        self.active < self.max && !self.queued
    }
}

/// What becomes of a new run.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Admission {
    Now,
    /// It waits until its job and its key have room.
    Queue,
    /// Its job is full and does not queue.
    Skip,
}

/// Decides on a new run. `queue` speaks of the job alone: a run whose key is full always waits.
#[must_use]
pub fn admit(job: Option<Room>, key: Option<Room>, queue: bool) -> Admission {
    let free = |room: Option<Room>| room.is_none_or(Room::is_free);
    match (free(job), free(key)) {
        (true, true) => Admission::Now,
        // A job that may have no run at all is switched off: nothing would ever take it from a queue.
        (false, _) if !queue || job.is_some_and(|job| job.max == 0) => Admission::Skip,
        _ => Admission::Queue,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn claimant(live: usize, weight: u32) -> Claimant {
        Claimant { live, weight }
    }

    /// Gives slots one by one to tenants that always want more.
    fn fill(slots: usize, weights: &[u32]) -> Vec<usize> {
        let mut live = vec![0; weights.len()];
        for given in 0..slots {
            let tenants: Vec<Tenant> = (live.iter().zip(weights))
                .map(|(live, weight)| Tenant {
                    claimant: claimant(*live, *weight),
                    served: 0,
                    head: (0, i64::try_from(given).unwrap()),
                })
                .collect();
            live[next(&tenants, Turn::Fair).unwrap()] += 1;
        }
        live
    }

    #[test]
    fn slots_follow_the_weights_to_the_nearest_whole_slot() {
        assert_eq!(fill(12, &[1, 2, 3]), [2, 4, 6]);
        assert_eq!(fill(15, &[1, 1, 1]), [5, 5, 5]);
        assert_eq!(fill(10, &[1, 9]), [1, 9]);
        assert_eq!(fill(3, &[1, 1, 1, 1]), [1, 1, 1, 0]);
    }

    #[test]
    fn with_one_slot_tenants_take_turns() {
        let tenant = |served, head| Tenant {
            claimant: claimant(0, 1),
            served,
            head: (head, head),
        };
        assert_eq!(next(&[tenant(7, 1), tenant(0, 9)], Turn::Fair), Some(1));
        assert_eq!(next(&[tenant(7, 1), tenant(8, 9)], Turn::Fair), Some(0));
    }

    #[test]
    fn of_equals_the_older_goes_first_and_priority_makes_older() {
        let at = |created, priority| Tenant {
            claimant: claimant(0, 1),
            served: 0,
            head: (rank(created, priority), 1),
        };
        let tenants = [at(2_000, 0), at(1_000, 0), at(60_500, 1)];
        assert_eq!(next(&tenants, Turn::Fair), Some(2));
        assert_eq!(next(&tenants[..2], Turn::Fair), Some(1));
        // A minute of waiting is worth one step of priority.
        assert!(rank(0, 0) < rank(AGEING_MS + 1, 1));
    }

    #[test]
    fn now_and_then_the_eldest_of_those_with_nothing_goes_first_whatever_its_weight() {
        let tenant = |live, weight, head| Tenant {
            claimant: claimant(live, weight),
            served: 0,
            head: (head, head),
        };
        let tenants = [tenant(9, 1, 1), tenant(0, 1, 2), tenant(0, 100, 3)];
        let firsts: Vec<usize> = (0..16)
            .filter_map(|given| next(&tenants, Turn::of(given)))
            .collect();
        assert_eq!(firsts.iter().filter(|first| **first == 1).count(), 2);
        assert_eq!(firsts.iter().filter(|first| **first == 2).count(), 14);
    }

    #[test]
    fn a_workspace_takes_no_slot_that_another_has_a_better_right_to() {
        let workspace = |live, weight, wants| Workspace {
            claimant: claimant(live, weight),
            wants,
        };
        let both = [workspace(10, 1, 5), workspace(0, 1, 3)];
        let expected = |mine, others: &[usize]| Share {
            mine,
            others: others.to_vec(),
        };
        assert_eq!(share(15, &both, 0), expected(2, &[1]));
        assert_eq!(share(15, &both, 1), expected(3, &[0]));
        assert_eq!(share(10, &both, 1), expected(0, &[]));
        let idle = [workspace(3, 1, 20), workspace(0, 1, 0)];
        assert_eq!(share(15, &idle, 0), expected(12, &[]));
    }

    #[test]
    fn a_run_waits_for_its_job_and_its_key() {
        let room = |active, max| {
            Some(Room {
                active,
                max,
                queued: false,
            })
        };
        assert_eq!(admit(None, None, false), Admission::Now);
        assert_eq!(admit(room(0, 1), room(1, 2), false), Admission::Now);
        assert_eq!(admit(room(1, 1), None, true), Admission::Queue);
        assert_eq!(admit(room(1, 1), None, false), Admission::Skip);
        assert_eq!(admit(room(0, 0), None, true), Admission::Skip);
        assert_eq!(admit(room(0, 1), room(2, 2), false), Admission::Queue);
        let behind = Room {
            active: 0,
            max: 1,
            queued: true,
        };
        assert_eq!(admit(Some(behind), None, true), Admission::Queue);
    }
}
