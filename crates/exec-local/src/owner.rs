//! Whose leftovers are whose: things that must not outlive their server carry its process id.

use std::collections::BTreeSet;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};

use forebay_runtime::remove_tree;

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

/// Removes what dead processes have left in a folder: entries of which `owner` tells the process.
/// What cannot be removed is told, and stays for the next start: it must not keep this one.
///
/// # Errors
/// When the folder cannot be read.
pub(crate) fn sweep(folder: &Path, owner: impl Fn(&str) -> Option<u32>) -> io::Result<()> {
    let leftovers = Leftovers::of(folder);
    for entry in std::fs::read_dir(folder)? {
        let entry = entry?;
        let name = entry.file_name();
        let Some(pid) = name.to_str().and_then(&owner) else {
            continue;
        };
        if !leftovers.is_dead(pid) {
            continue;
        }
        let path = entry.path();
        let removed = match entry.file_type()?.is_dir() {
            true => remove_tree(&path),
            false => std::fs::remove_file(&path),
        };
        if let Err(error) = removed {
            tracing::warn!(%error, "{} of a process that is gone cannot be removed", path.display());
        }
    }
    Ok(())
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
    use std::fs::Permissions;
    use std::os::unix::fs::PermissionsExt;

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
    fn what_dead_processes_left_goes_and_what_others_have_stays() {
        let place = tempfile::tempdir().unwrap();
        let (dead, alive) = (i32::MAX as u32, std::os::unix::process::parent_id());
        for name in [
            format!("{dead}-1"),
            format!("{alive}-1"),
            "other".to_owned(),
        ] {
            std::fs::create_dir_all(place.path().join(name).join("closed")).unwrap();
        }
        let closed = place.path().join(format!("{dead}-1/closed"));
        std::fs::set_permissions(&closed, Permissions::from_mode(0o000)).unwrap();
        std::fs::write(place.path().join(format!("{dead}-2.log")), "").unwrap();
        let owner = |name: &str| name.split('-').next()?.parse().ok();
        sweep(place.path(), owner).unwrap();
        let left = std::fs::read_dir(place.path()).unwrap();
        let mut left: Vec<_> = left.map(|entry| entry.unwrap().file_name()).collect();
        left.sort();
        let alive = format!("{alive}-1");
        assert_eq!(left, [alive.as_str(), "other"]);
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
