use std::cell::{Cell, RefCell};
use std::future::Future;
use std::pin::pin;
use std::time::Duration;

use forebay_client::{Client, Run, TaskRun, Usage};
use indicatif::{ProgressBar, ProgressStyle};

use crate::output::{Out, bytes, duration};

/// Between two looks at why a run has not said anything yet.
const LOOK: Duration = Duration::from_millis(400);
/// Between two looks at what a run uses that says nothing more.
const LOOK_AGAIN: Duration = Duration::from_secs(2);

/// A line on the terminal for as long as a run says nothing; nothing at all in a pipe.
#[derive(Debug)]
pub(super) struct Waiting {
    watched: bool,
    run_id: i64,
    task_run_id: i64,
    bar: RefCell<Option<ProgressBar>>,
    /// Whether it has said something.
    heard: Cell<bool>,
}

impl Waiting {
    pub(super) fn start(out: Out, run_id: i64, task_run_id: i64) -> Self {
        let waiting = Self {
            watched: out.is_watched() && !out.is_json(),
            run_id,
            task_run_id,
            bar: RefCell::default(),
            heard: Cell::new(false),
        };
        if waiting.watched {
            waiting.show("waits for its turn");
        }
        waiting
    }

    /// Makes room for what the run says.
    pub(super) fn stop(&self) {
        self.heard.set(true);
        if let Some(bar) = self.bar.take() {
            bar.finish_and_clear();
        }
    }

    fn show(&self, words: &str) {
        let mut bar = self.bar.borrow_mut();
        let bar = bar.get_or_insert_with(|| {
            let bar = ProgressBar::new_spinner();
            let style = "{spinner:.cyan} {wide_msg:.dim} {elapsed:.dim}";
            if let Ok(style) = ProgressStyle::with_template(style) {
                bar.set_style(style);
            }
            bar.enable_steady_tick(Duration::from_millis(120));
            bar
        });
        bar.set_message(format!("run {} {words}", self.run_id));
    }

    fn words(&self, run: &Run) -> Option<String> {
        let id = self.task_run_id;
        let task = run.tasks.iter().find(|task| task.run_id == id);
        if self.heard.get() {
            return using(task?.own.usage?);
        }
        Some(why(run, task))
    }

    /// Waits for `work`, and meanwhile tells what the run waits for, or what it uses. Not in a line
    /// that the run has left open.
    pub(super) async fn until<T>(
        &self,
        client: &Client,
        open: bool,
        work: impl Future<Output = T>,
    ) -> T {
        let mut work = pin!(work);
        let mut pause = if self.heard.get() { LOOK_AGAIN } else { LOOK };
        loop {
            tokio::select! {
                done = &mut work => return done,
                () = tokio::time::sleep(pause), if self.watched && !open => {
                    // Only the spinner's words depend on this answer; the next one may do better.
                    if let Ok(run) = client.run_get(self.run_id).await
                        && let Some(words) = self.words(&run)
                    {
                        self.show(&words);
                    }
                    if self.heard.get() {
                        pause = LOOK_AGAIN;
                    }
                }
            }
        }
    }
}

impl Drop for Waiting {
    fn drop(&mut self) {
        self.stop();
    }
}

/// Why a run has not said anything yet.
fn why(run: &Run, task: Option<&TaskRun>) -> String {
    let state = task.map_or(&run.state, |task| &task.state);
    match state.life_cycle_state.as_str() {
        _ if !state.state_message.is_empty() => state.state_message.clone(),
        "QUEUED" => "waits for its turn".to_owned(),
        "BLOCKED" => "waits for the tasks before it".to_owned(),
        // It may have begun; how much it uses tells whether it does anything.
        "RUNNING" => {
            let used = task.and_then(|task| task.own.usage).and_then(using);
            used.unwrap_or_else(|| "runs and has said nothing yet".to_owned())
        }
        "PENDING" => "is starting; the first one builds its environment".to_owned(),
        other => format!("is {}", other.to_ascii_lowercase()),
    }
}

/// What it uses by now; nothing when the system did not count.
fn using(usage: Usage) -> Option<String> {
    let cpu = usage.cpu_ms.map(|ms| {
        let ms = i64::try_from(ms).unwrap_or(i64::MAX);
        format!("{} CPU", duration(ms))
    });
    let memory = usage
        .memory_bytes
        .map(|count| format!("{} memory", bytes(count)));
    let parts: Vec<String> = [cpu, memory].into_iter().flatten().collect();
    (!parts.is_empty()).then(|| format!("runs: {}", parts.join(", ")))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn run(task: serde_json::Value) -> Run {
        let run = json!({"run_id": 1, "state": {"life_cycle_state": "RUNNING"}, "tasks": [task]});
        serde_json::from_value(run).unwrap()
    }

    #[test]
    fn a_run_that_says_nothing_tells_what_it_uses_once_that_is_known() {
        let mut task =
            json!({"run_id": 2, "task_key": "t", "state": {"life_cycle_state": "RUNNING"}});
        let shown =
            |task: &serde_json::Value| why(&run(task.clone()), run(task.clone()).tasks.first());
        assert_eq!(shown(&task), "runs and has said nothing yet");
        let usage =
            json!({"cpu_ms": 61_000, "memory_bytes": 20 << 20, "wall_ms": 5, "read_bytes": null});
        task["forebay"] = json!({"usage": usage});
        assert_eq!(shown(&task), "runs: 1 min 01 s CPU, 20.0 MiB memory");
        // As long as something else is to be told, that comes first.
        task["state"]["state_message"] = json!("Preparing the environment.");
        assert_eq!(shown(&task), "Preparing the environment.");
        // The facts of an attempt that has ended may be of any form.
        task["forebay"] = json!({"usage": null, "digest": "d"});
        assert!(run(task).tasks[0].own.usage.is_none());
    }
}
