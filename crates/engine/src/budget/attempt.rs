//! What one attempt may use.

use serde::{Deserialize, Serialize};

/// What one attempt of a task may use; what is absent has no limit here.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct AttemptBudget {
    /// Of all its processes together.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cpu_seconds: Option<u32>,
    /// Of all its processes together, at any one time.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub memory_mib: Option<u32>,
    /// From its start, the wait for its code and environment included.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub wall_seconds: Option<u32>,
}

impl AttemptBudget {
    /// Its limits with their names, as they are written.
    #[must_use]
    pub fn fields(&self) -> [(&'static str, Option<u32>); 3] {
        [
            ("cpu_seconds", self.cpu_seconds),
            ("memory_mib", self.memory_mib),
            ("wall_seconds", self.wall_seconds),
        ]
    }

    /// Its own limits, and where there are none those of `other`.
    #[must_use]
    pub fn or(self, other: Self) -> Self {
        Self {
            cpu_seconds: self.cpu_seconds.or(other.cpu_seconds),
            memory_mib: self.memory_mib.or(other.memory_mib),
            wall_seconds: self.wall_seconds.or(other.wall_seconds),
        }
    }

    /// No more than `ceiling`, which also holds where nothing is said.
    #[must_use]
    pub fn within(self, ceiling: Self) -> Self {
        let least = |own: Option<u32>, most: Option<u32>| own.into_iter().chain(most).min();
        Self {
            cpu_seconds: least(self.cpu_seconds, ceiling.cpu_seconds),
            memory_mib: least(self.memory_mib, ceiling.memory_mib),
            wall_seconds: least(self.wall_seconds, ceiling.wall_seconds),
        }
    }

    /// The first limit that is above `ceiling`: its name, itself and the ceiling.
    #[must_use]
    pub fn above(&self, ceiling: &Self) -> Option<(&'static str, u32, u32)> {
        let both = self.fields().into_iter().zip(ceiling.fields());
        both.filter_map(|((name, own), (_, most))| Some((name, own?, most?)))
            .find(|(_, own, most)| own > most)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_closest_word_counts_and_never_more_than_the_ceiling() {
        let of = |cpu_seconds, memory_mib, wall_seconds| AttemptBudget {
            cpu_seconds,
            memory_mib,
            wall_seconds,
        };
        let task = of(Some(10), None, None);
        let usual = of(Some(5), Some(512), None);
        let ceiling = of(Some(8), Some(1024), Some(60));
        let found = task.or(usual).within(ceiling);
        assert_eq!(found, of(Some(8), Some(512), Some(60)));
        assert_eq!(task.above(&ceiling), Some(("cpu_seconds", 10, 8)));
        assert_eq!(usual.above(&ceiling), None);
    }
}
