use std::collections::HashMap;
use std::fmt;

use crate::run_if::RunIf;

/// How many tasks one plan may have.
pub const TASKS_MAX: usize = 1000;

/// A checked DAG of tasks; dependencies are indices into `tasks` and never form a cycle.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Plan {
    pub tasks: Vec<TaskPlan>,
}

/// One node, with all that the engine needs to know of it. What it executes is not its concern.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TaskPlan {
    pub key: String,
    pub depends_on: Vec<usize>,
    pub run_if: RunIf,
    pub disabled: bool,
    /// Attempts after the first; `None` for no end of them.
    pub retries_max: Option<u32>,
    pub retry_interval_ms: i64,
    pub retry_on_timeout: bool,
}

impl TaskPlan {
    /// A task that runs once, when all of `depends_on` succeeded.
    #[must_use]
    pub fn new(key: impl Into<String>) -> Self {
        Self {
            key: key.into(),
            depends_on: Vec::new(),
            run_if: RunIf::AllSuccess,
            disabled: false,
            retries_max: Some(0),
            retry_interval_ms: 0,
            retry_on_timeout: false,
        }
    }
}

/// Why a set of tasks is no plan. Every variant names the task.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum PlanError {
    Empty,
    TooMany(usize),
    BadKey(String),
    DuplicateKey(String),
    UnknownDependency {
        task: String,
        depends_on: String,
    },
    DependsOnItself(String),
    /// The keys along the cycle, in order.
    Cycle(Vec<String>),
}

impl fmt::Display for PlanError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Empty => write!(f, "tasks: at least one task is needed"),
            Self::TooMany(count) => write!(f, "tasks: {count} tasks, at most {TASKS_MAX}"),
            Self::BadKey(key) => write!(
                f,
                "task_key '{key}' is not valid: 1 to 100 letters, digits, '-' and '_'"
            ),
            Self::DuplicateKey(key) => write!(f, "task_key '{key}' stands twice"),
            Self::UnknownDependency { task, depends_on } => {
                write!(
                    f,
                    "task '{task}' depends_on '{depends_on}', which is no task of this job"
                )
            }
            Self::DependsOnItself(key) => write!(f, "task '{key}' depends on itself"),
            Self::Cycle(keys) => write!(f, "depends_on forms a cycle: {}", keys.join(" -> ")),
        }
    }
}

impl std::error::Error for PlanError {}

impl Plan {
    /// Checks keys and dependencies (given by key, per task in the order of `tasks`).
    ///
    /// # Errors
    /// The first thing that is wrong.
    pub fn new(mut tasks: Vec<TaskPlan>, depends_on: &[Vec<String>]) -> Result<Self, PlanError> {
        if tasks.is_empty() {
            return Err(PlanError::Empty);
        }
        if tasks.len() > TASKS_MAX {
            return Err(PlanError::TooMany(tasks.len()));
        }
        let mut by_key = HashMap::new();
        for (index, task) in tasks.iter().enumerate() {
            if !is_task_key(&task.key) {
                return Err(PlanError::BadKey(task.key.clone()));
            }
            if by_key.insert(task.key.clone(), index).is_some() {
                return Err(PlanError::DuplicateKey(task.key.clone()));
            }
        }
        for (task, keys) in tasks.iter_mut().zip(depends_on) {
            for key in keys {
                let Some(&index) = by_key.get(key) else {
                    return Err(PlanError::UnknownDependency {
                        task: task.key.clone(),
                        depends_on: key.clone(),
                    });
                };
                if *key == task.key {
                    return Err(PlanError::DependsOnItself(key.clone()));
                }
                if !task.depends_on.contains(&index) {
                    task.depends_on.push(index);
                }
            }
        }
        let plan = Self { tasks };
        match plan.cycle() {
            Some(keys) => Err(PlanError::Cycle(keys)),
            None => Ok(plan),
        }
    }

    /// Takes away, again and again, the tasks that nothing unfinished is before; what cannot be
    /// taken away lies on a cycle or behind one.
    fn cycle(&self) -> Option<Vec<String>> {
        let mut done = vec![false; self.tasks.len()];
        loop {
            let before = done.iter().filter(|done| **done).count();
            for (index, task) in self.tasks.iter().enumerate() {
                done[index] = done[index] || task.depends_on.iter().all(|on| done[*on]);
            }
            let after = done.iter().filter(|done| **done).count();
            if after == self.tasks.len() {
                return None;
            }
            if after == before {
                break;
            }
        }
        // From any task that is left, stepping to a dependency that is left must come round.
        let mut at = done.iter().position(|done| !done)?;
        let mut path = Vec::new();
        while !path.contains(&at) {
            path.push(at);
            at = *self.tasks[at].depends_on.iter().find(|on| !done[**on])?;
        }
        let start = path.iter().position(|index| *index == at)?;
        let mut keys: Vec<String> = path[start..]
            .iter()
            .map(|index| self.tasks[*index].key.clone())
            .collect();
        keys.push(self.tasks[at].key.clone());
        Some(keys)
    }
}

fn is_task_key(key: &str) -> bool {
    (1..=100).contains(&key.len())
        && key
            .chars()
            .all(|c| c.is_ascii_alphanumeric() || matches!(c, '-' | '_'))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn plan(edges: &[(&str, &[&str])]) -> Result<Plan, PlanError> {
        let tasks = edges.iter().map(|(key, _)| TaskPlan::new(*key)).collect();
        let depends_on: Vec<Vec<String>> = edges
            .iter()
            .map(|(_, on)| on.iter().map(ToString::to_string).collect())
            .collect();
        Plan::new(tasks, &depends_on)
    }

    #[test]
    fn errors_name_the_task() {
        let check = |edges: &[(&str, &[&str])], expected: &str| {
            assert_eq!(plan(edges).unwrap_err().to_string(), expected);
        };
        check(
            &[("a", &["b"])],
            "task 'a' depends_on 'b', which is no task of this job",
        );
        check(&[("a", &["a"])], "task 'a' depends on itself");
        check(&[("a", &[]), ("a", &[])], "task_key 'a' stands twice");
        check(
            &[("x", &[]), ("a", &["c", "x"]), ("b", &["a"]), ("c", &["b"])],
            "depends_on forms a cycle: a -> c -> b -> a",
        );
        check(
            &[("a b", &[])],
            "task_key 'a b' is not valid: 1 to 100 letters, digits, '-' and '_'",
        );
        assert_eq!(plan(&[]), Err(PlanError::Empty));
    }

    #[test]
    fn a_thousand_tasks_in_a_row_are_a_plan() {
        let keys: Vec<String> = (0..TASKS_MAX).map(|n| format!("t{n}")).collect();
        let tasks = keys.iter().rev().map(TaskPlan::new).collect();
        let depends_on: Vec<Vec<String>> = (0..TASKS_MAX)
            .rev()
            .map(|n| keys[..n].last().cloned().into_iter().collect())
            .collect();
        assert!(Plan::new(tasks, &depends_on).is_ok());
    }
}
