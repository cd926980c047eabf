//! Whose leftovers are whose: things that must not outlive their server carry its process id.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};

/// The places that this process has used.
static OPENED: Mutex<BTreeSet<PathBuf>> = Mutex::new(BTreeSet::new());

/// Tells leftovers in one place from what is in use.
#[derive(Debug)]
pub(crate) struct Leftovers {
    own_too: bool,
}

impl Leftovers {
    /// In a container a server often has the id of its predecessor, so what bears our own id
    /// when this process comes to `place` for the first time is not ours.
    pub(crate) fn of(place: &Path) -> Self {
        let mut opened = OPENED.lock().unwrap_or_else(PoisonError::into_inner);
        Self {
            own_too: opened.insert(place.to_owned()),
        }
    }

    pub(crate) fn is_dead(&self, pid: u32) -> bool {
        if pid == std::process::id() {
            return self.own_too;
        }
        is_over(pid)
    }
}

/// Whether there is no such process, or only what is left of it until its parent looks.
fn is_over(pid: u32) -> bool {
    let Ok(stat) = std::fs::read_to_string(format!("/proc/{pid}/stat")) else {
        return true;
    };
    // After the name, which is in parentheses and may have some itself.
    let state = stat.rsplit_once(')').map(|(_, rest)| rest.trim_start());
    state.is_some_and(|state| state.starts_with(['Z', 'X']))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn our_own_id_is_a_predecessors_only_at_first() {
        let place = tempfile::tempdir().unwrap();
        let own = std::process::id();
        assert!(Leftovers::of(place.path()).is_dead(own));
        let again = Leftovers::of(place.path());
        assert!(!again.is_dead(own));
        assert!(!again.is_dead(std::os::unix::process::parent_id()));
        assert!(again.is_dead(i32::MAX as u32));
    }

    #[test]
    fn a_process_that_nobody_has_buried_is_dead() {
        let mut child = std::process::Command::new("true").spawn().unwrap();
        let stat = format!("/proc/{}/stat", child.id());
        while !std::fs::read_to_string(&stat).unwrap().contains(") Z ") {
            std::thread::yield_now();
        }
        let place = tempfile::tempdir().unwrap();
        assert!(Leftovers::of(place.path()).is_dead(child.id()));
        child.wait().unwrap();
    }
}
