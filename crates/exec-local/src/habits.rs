//! Which scripts and wheels use the packages that a parent of notebooks has imported.
//!
//! A parent that has imported next to nothing forks in a third of the time, and is right for most
//! programs. For one that imports pandas the other parent saves half a second. Nobody knows before
//! the program has run, so the first run finds out.

use std::collections::HashSet;
use std::sync::{Arc, Mutex, PoisonError};

use forebay_exec::{CellKind, Language, Place, Program};

use crate::zygote::Warmth;

/// Beyond this all are forgotten, and found out again.
const KNOWN_MAX: usize = 10_000;

/// Programs by workspace and name.
#[derive(Debug, Clone, Default)]
pub(crate) struct Habits(Arc<Mutex<HashSet<Key>>>);

type Key = (String, String);

/// One program's entry, for the run that may find it out.
#[derive(Debug)]
pub(crate) struct Habit {
    habits: Habits,
    key: Key,
}

impl Habits {
    /// The parent that suits a program.
    pub(crate) fn warmth(&self, place: &Place, program: &Program) -> Warmth {
        if let Program::Notebook { cells, .. } = program
            && cells.iter().any(|cell| cell.kind == CellKind::R)
        {
            return Warmth::R;
        }
        if let Program::Session { language, .. } = program
            && *language == Language::R
        {
            return Warmth::R;
        }
        match key(place, program) {
            Some(key) if !self.lock().contains(&key) => Warmth::Programs,
            _ => Warmth::Notebooks,
        }
    }

    /// `None` for notebooks, which always have the same parent.
    pub(crate) fn of(&self, place: &Place, program: &Program) -> Option<Habit> {
        let habits = self.clone();
        key(place, program).map(|key| Habit { habits, key })
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, HashSet<Key>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Habit {
    /// From now on the program is forked from the parent that has the packages.
    pub(crate) fn keep(self) {
        let mut known = self.habits.lock();
        if known.len() >= KNOWN_MAX {
            known.clear();
        }
        known.insert(self.key);
    }
}

fn key(place: &Place, program: &Program) -> Option<Key> {
    let name = match program {
        Program::Notebook { .. } | Program::Session { .. } => return None,
        // They never do.
        Program::Jar { .. } | Program::Submit { .. } => String::new(),
        Program::Script { file, .. } => file.clone(),
        Program::Wheel {
            package,
            entry_point,
            ..
        } => format!("{package}:{entry_point}"),
    };
    Some((place.workspace.clone(), name))
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use forebay_exec::{ExecCell, Mounts};
    use forebay_notebook::Language;

    use super::*;

    #[test]
    fn a_program_that_used_the_packages_gets_them_from_then_on() {
        let habits = Habits::default();
        let place = Place {
            workspace: "dev".to_owned(),
            runtime: "python-3.11".to_owned(),
            mounts: Mounts::default(),
        };
        let script = |file: &str| Program::Script {
            file: file.to_owned(),
            args: Vec::new(),
            source: None,
        };
        let notebook = Program::Notebook {
            path: "/n".to_owned(),
            cells: Vec::new(),
            parameters: BTreeMap::new(),
            wants_data: false,
        };
        assert_eq!(habits.warmth(&place, &notebook), Warmth::Notebooks);
        assert!(habits.of(&place, &notebook).is_none());
        let mut in_r = notebook.clone();
        if let Program::Notebook { cells, .. } = &mut in_r {
            cells.push(ExecCell {
                index: 0,
                title: None,
                kind: CellKind::R,
                source: "1".to_owned(),
                language: Language::R,
                flags: Vec::new(),
                lines_before: 0,
            });
        }
        assert_eq!(habits.warmth(&place, &in_r), Warmth::R);
        assert_eq!(habits.warmth(&place, &script("/a.py")), Warmth::Programs);
        habits.of(&place, &script("/a.py")).unwrap().keep();
        assert_eq!(habits.warmth(&place, &script("/a.py")), Warmth::Notebooks);
        assert_eq!(habits.warmth(&place, &script("/b.py")), Warmth::Programs);
    }
}
