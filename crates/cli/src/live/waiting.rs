use std::cell::Cell;
use std::future::Future;
use std::pin::pin;
use std::time::Duration;

use forebay_client::{Client, Run};
use indicatif::{ProgressBar, ProgressStyle};

use crate::output::Out;

/// Between two looks at why a run has not said anything yet.
const LOOK: Duration = Duration::from_millis(400);

/// A line on the terminal for as long as a run has said nothing; nothing at all in a pipe.
#[derive(Debug)]
pub(super) struct Waiting {
    bar: ProgressBar,
    run_id: i64,
    task_run_id: i64,
    stopped: Cell<bool>,
}

impl Waiting {
    pub(super) fn start(out: Out, run_id: i64, task_run_id: i64) -> Self {
        let bar = if out.is_watched() && !out.is_json() {
            ProgressBar::new_spinner()
        } else {
            ProgressBar::hidden()
        };
        if let Ok(style) =
            ProgressStyle::with_template("{spinner:.cyan} {wide_msg:.dim} {elapsed:.dim}")
        {
            bar.set_style(style);
        }
        bar.set_message(format!("run {run_id} waits for its turn"));
        bar.enable_steady_tick(Duration::from_millis(120));
        Self {
            bar,
            run_id,
            task_run_id,
            stopped: Cell::new(false),
        }
    }

    pub(super) fn stop(&self) {
        self.stopped.set(true);
        self.bar.finish_and_clear();
    }

    fn why(&self, run: &Run) -> String {
        let task = run
            .tasks
            .iter()
            .find(|task| task.run_id == self.task_run_id);
        let state = task.map_or(&run.state, |task| &task.state);
        match state.life_cycle_state.as_str() {
            _ if !state.state_message.is_empty() => state.state_message.clone(),
            "QUEUED" => "waits for its turn".to_owned(),
            "BLOCKED" => "waits for the tasks before it".to_owned(),
            // Nothing was heard of it yet, so its first cell has not begun.
            "PENDING" | "RUNNING" => "is starting; the first one builds its environment".to_owned(),
            other => format!("is {}", other.to_ascii_lowercase()),
        }
    }

    /// Waits for `work`, and meanwhile tells what the run waits for.
    pub(super) async fn until<T>(&self, client: &Client, work: impl Future<Output = T>) -> T {
        let mut work = pin!(work);
        loop {
            tokio::select! {
                done = &mut work => return done,
                () = tokio::time::sleep(LOOK), if !self.stopped.get() && !self.bar.is_hidden() => {
                    // Only the spinner's words depend on this answer; the next one may do better.
                    if let Ok(run) = client.run_get(self.run_id).await {
                        let why = self.why(&run);
                        self.bar.set_message(format!("run {} {why}", self.run_id));
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
