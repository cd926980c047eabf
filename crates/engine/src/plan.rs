use std::collections::HashMap;
use std::fmt;

use crate::run_if::RunIf;

/// How many tasks one plan may have.
pub const TASKS_MAX: usize = 1000;

/// A checked DAG of tasks; dependencies are indices into `tasks` and never form a cycle.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Plan {
    pub tasks: Vec<TaskPlan>,
    /// By task: those that wait for it.
    dependents: Vec<Vec<usize>>,
}

/// One edge of the DAG.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Dependency {
    pub task: usize,
    /// The edge counts only when the condition at its start came out like this.
    pub outcome: Option<bool>,
}

/// One node, with all that the engine needs to know of it. What it executes is not its concern.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TaskPlan {
    pub key: String,
    pub depends_on: Vec<Dependency>,
    pub run_if: RunIf,
    pub disabled: bool,
    /// Whether an attempt needs one of the slots that the caps count. What only waits or compares
    /// (a condition, a for-each, a run of another job) needs none.
    pub takes_slot: bool,
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
            takes_slot: true,
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
    /// Checks keys and dependencies (by key with the outcome they need, per task in the order of
    /// `tasks`).
    ///
    /// # Errors
    /// The first thing that is wrong.
    pub fn new(
        mut tasks: Vec<TaskPlan>,
        depends_on: &[Vec<(String, Option<bool>)>],
    ) -> Result<Self, PlanError> {
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
        let mut dependents = vec![Vec::new(); tasks.len()];
        for (index, (task, edges)) in tasks.iter_mut().zip(depends_on).enumerate() {
            for (key, outcome) in edges {
                let Some(&before) = by_key.get(key) else {
                    return Err(PlanError::UnknownDependency {
                        task: task.key.clone(),
                        depends_on: key.clone(),
                    });
                };
                if before == index {
                    return Err(PlanError::DependsOnItself(key.clone()));
                }
                let edge = Dependency {
                    task: before,
                    outcome: *outcome,
                };
                if !task.depends_on.contains(&edge) {
                    task.depends_on.push(edge);
                    dependents[before].push(index);
                }
            }
        }
        let plan = Self { tasks, dependents };
        match plan.cycle() {
            Some(keys) => Err(PlanError::Cycle(keys)),
            None => Ok(plan),
        }
    }

    /// The tasks that wait for `task`; one that needs several outcomes of it stands there as often.
    #[must_use]
    pub fn dependents(&self, task: usize) -> &[usize] {
        self.dependents.get(task).map_or(&[], Vec::as_slice)
    }

    /// `start` and all tasks behind it, by index.
    #[must_use]
    pub fn with_dependents(&self, start: &[usize]) -> Vec<bool> {
        let mut reached = vec![false; self.tasks.len()];
        let mut next = start.to_vec();
        while let Some(task) = next.pop() {
            if !std::mem::replace(&mut reached[task], true) {
                next.extend(self.dependents(task));
            }
        }
        reached
    }

    /// All tasks before `task`, not itself, by index.
    #[must_use]
    pub fn upstream(&self, task: usize) -> Vec<bool> {
        self.with_upstream(&self.before(task).collect::<Vec<_>>())
    }

    /// `start` and all tasks before it, by index.
    #[must_use]
    pub fn with_upstream(&self, start: &[usize]) -> Vec<bool> {
        let mut reached = vec![false; self.tasks.len()];
        let mut next = start.to_vec();
        while let Some(task) = next.pop() {
            if !std::mem::replace(&mut reached[task], true) {
                next.extend(self.before(task));
            }
        }
        reached
    }

    fn before(&self, task: usize) -> impl Iterator<Item = usize> {
        self.tasks[task].depends_on.iter().map(|edge| edge.task)
    }

    /// Takes away the tasks that nothing unfinished is before; what is left lies on a cycle or
    /// behind one.
    fn cycle(&self) -> Option<Vec<String>> {
        let mut waits_for: Vec<usize> = self
            .tasks
            .iter()
            .map(|task| task.depends_on.len())
            .collect();
        let mut free: Vec<usize> = (0..self.tasks.len())
            .filter(|task| waits_for[*task] == 0)
            .collect();
        while let Some(task) = free.pop() {
            for &dependent in self.dependents(task) {
                waits_for[dependent] -= 1;
                if waits_for[dependent] == 0 {
                    free.push(dependent);
                }
            }
        }
        // From any task that is left, stepping to a dependency that is left must come round.
        let mut at = waits_for.iter().position(|count| *count > 0)?;
        let mut path = Vec::new();
        while !path.contains(&at) {
            path.push(at);
            let mut edges = self.tasks[at].depends_on.iter();
            at = edges.find(|edge| waits_for[edge.task] > 0)?.task;
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
        let depends_on: Vec<Vec<(String, Option<bool>)>> = edges
            .iter()
            .map(|(_, on)| on.iter().map(|key| ((*key).to_owned(), None)).collect())
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
        let depends_on: Vec<Vec<(String, Option<bool>)>> = (0..TASKS_MAX)
            .rev()
            .map(|n| {
                keys[..n]
                    .last()
                    .cloned()
                    .map(|key| (key, None))
                    .into_iter()
                    .collect()
            })
            .collect();
        let plan = Plan::new(tasks, &depends_on).unwrap();
        let all = |reached: Vec<bool>| reached.into_iter().filter(|task| *task).count();
        assert_eq!(all(plan.upstream(0)), TASKS_MAX - 1);
        assert_eq!(all(plan.with_dependents(&[TASKS_MAX - 1])), TASKS_MAX);
    }
}
