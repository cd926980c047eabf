//! Why something waits, and where in its line it stands.

use std::cmp::{Ordering, Reverse};
use std::collections::BinaryHeap;

use super::{Claimant, Room, Use};

/// The caps that can hold up a run.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Cap {
    Server,
    Workspace,
    Job,
    Key,
}

impl Cap {
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Server => "server",
            Self::Workspace => "workspace",
            Self::Job => "job",
            Self::Key => "key",
        }
    }
}

/// The cap that holds something up, and how full it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Held {
    pub cap: Cap,
    pub fill: Use,
}

impl Held {
    /// Such as `15 of 15 slots of the server are in use`.
    #[must_use]
    pub fn message(self) -> String {
        let Use { live, max } = self.fill;
        match self.cap {
            Cap::Server => format!("{live} of {max} slots of the server are in use"),
            Cap::Workspace => format!("{live} of {max} slots of the workspace are in use"),
            Cap::Job => format!("the job has {live} of {max} concurrent runs"),
            Cap::Key => format!("the key has {live} of {max} active runs"),
        }
    }
}

/// What holds up an attempt that waits for a slot; nothing when the next claim will start it.
#[must_use]
pub fn attempt_held(server: Use, workspace: Use) -> Option<Held> {
    let caps = [(Cap::Workspace, workspace), (Cap::Server, server)];
    let full = caps.into_iter().find(|(_, fill)| fill.live >= fill.max);
    full.map(|(cap, fill)| Held { cap, fill })
}

/// What holds up a run that waits to be admitted.
#[must_use]
pub fn run_held(job: Option<Room>, key: Option<Room>) -> Option<Held> {
    let caps = [(Cap::Job, job), (Cap::Key, key)];
    caps.into_iter().find_map(|(cap, room)| {
        let Room { active, max, .. } = room?;
        let fill = Use { live: active, max };
        (active >= max).then_some(Held { cap, fill })
    })
}

/// The waiting attempts of one tenant.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Line {
    pub claimant: Claimant,
    pub waiting: usize,
    /// Rank and id of the first of them.
    pub head: (i64, i64),
}

/// The lines merged into one: the attempts from the `skip`-th on, at most `take`, as
/// `(line, position in it)`, in the order in which they would start if nothing else happened.
#[must_use]
pub fn merged(lines: &[Line], skip: usize, take: usize) -> Vec<(usize, usize)> {
    let waiting = |(_, line): &(usize, &Line)| line.waiting > 0;
    let heads = lines
        .iter()
        .enumerate()
        .filter(waiting)
        .map(|(index, line)| {
            Reverse(Next {
                claimant: line.claimant,
                head: line.head,
                line: index,
                position: 0,
            })
        });
    let mut heap: BinaryHeap<Reverse<Next>> = heads.collect();
    let mut order = Vec::new();
    while order.len() < skip.saturating_add(take) {
        let Some(Reverse(mut next)) = heap.pop() else {
            break;
        };
        order.push((next.line, next.position));
        next.position += 1;
        next.claimant.live += 1;
        if next.position < lines[next.line].waiting {
            heap.push(Reverse(next));
        }
    }
    order.drain(..skip.min(order.len()));
    order
}

struct Next {
    claimant: Claimant,
    head: (i64, i64),
    line: usize,
    position: usize,
}

impl Ord for Next {
    fn cmp(&self, other: &Self) -> Ordering {
        let heads = self.head.cmp(&other.head);
        self.claimant.order(other.claimant).then(heads)
    }
}

impl PartialOrd for Next {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl PartialEq for Next {
    fn eq(&self, other: &Self) -> bool {
        self.cmp(other) == Ordering::Equal
    }
}

impl Eq for Next {}

/// How many waiting attempts would start before the one at `position` of line `mine`, if nothing
/// else happened. As [`merged`] would say, without merging.
#[must_use]
pub fn before(lines: &[Line], mine: usize, position: usize) -> usize {
    let Some(own) = lines.get(mine) else {
        return 0;
    };
    let mut at = own.claimant;
    at.live += position;
    let others = lines.iter().enumerate().filter(|(index, _)| *index != mine);
    let ahead = others.map(|(_, line)| {
        // The claims of a line grow with its position, so those ahead are its first ones.
        partition(line.waiting, |index| {
            let mut claimant = line.claimant;
            claimant.live += index;
            claimant.order(at).then(line.head.cmp(&own.head)) == Ordering::Less
        })
    });
    position + ahead.sum::<usize>()
}

/// How many of the first `count` numbers are `ahead`, when all that are come first.
fn partition(count: usize, ahead: impl Fn(usize) -> bool) -> usize {
    let (mut low, mut high) = (0, count);
    while low < high {
        let middle = low + (high - low) / 2;
        if ahead(middle) {
            low = middle + 1;
        } else {
            high = middle;
        }
    }
    low
}

#[cfg(test)]
mod tests {
    use super::*;

    fn line(live: usize, weight: u32, waiting: usize, head: i64) -> Line {
        Line {
            claimant: Claimant { live, weight },
            waiting,
            head: (head, head),
        }
    }

    #[test]
    fn the_place_in_line_is_the_place_in_the_merged_line() {
        let lines = [
            line(3, 1, 50, 1),
            line(0, 2, 7, 2),
            line(1, 1, 0, 3),
            line(0, 1, 20, 4),
        ];
        let all = merged(&lines, 0, usize::MAX);
        assert_eq!(all.len(), 77);
        for (place, (line, position)) in all.iter().enumerate() {
            assert_eq!(before(&lines, *line, *position), place, "{line} {position}");
        }
        assert_eq!(merged(&lines, 10, 5), all[10..15]);
    }

    #[test]
    fn the_cap_that_holds_is_named_with_its_use() {
        let fill = |live, max| Use { live, max };
        let held = attempt_held(fill(15, 15), fill(3, 15)).unwrap();
        assert_eq!(held.cap, Cap::Server);
        assert_eq!(held.message(), "15 of 15 slots of the server are in use");
        assert_eq!(
            attempt_held(fill(3, 15), fill(3, 3)).unwrap().cap,
            Cap::Workspace
        );
        assert_eq!(attempt_held(fill(3, 15), fill(3, 15)), None);
        let room = |active, max| {
            Some(Room {
                active,
                max,
                queued: true,
            })
        };
        assert_eq!(run_held(room(1, 1), room(0, 1)).unwrap().cap, Cap::Job);
        assert_eq!(run_held(room(0, 1), room(2, 2)).unwrap().cap, Cap::Key);
        assert_eq!(run_held(room(0, 1), None), None);
    }
}
