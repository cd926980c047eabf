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
        !Path::new(&format!("/proc/{pid}")).exists()
    }
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
}
