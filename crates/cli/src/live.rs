//! Following a run: its output as it comes, cell by cell, and its verdict.

mod printer;
mod waiting;

use std::time::Duration;

use forebay_client::{Client, Error, Run};

use crate::failure::{Exit, Failure, Outcome};
use crate::output::{BAD, GOOD, Out, duration};
use printer::Printer;
use waiting::Waiting;

/// Between two looks at a run's state.
const LOOK: Duration = Duration::from_millis(100);

/// Prints what runs say.
#[derive(Debug)]
pub(crate) struct Live<'a> {
    client: &'a Client,
    out: Out,
}

impl<'a> Live<'a> {
    pub(crate) fn new(client: &'a Client, out: Out) -> Self {
        Self { client, out }
    }

    /// Prints the run's output until it has ended.
    pub(crate) async fn follow(&self, run_id: i64) -> Result<Run, Failure> {
        let run = self.client.run_get(run_id).await?;
        let several = run.tasks.len() > 1;
        for id in run.output_ids() {
            let key = run.tasks.iter().find(|task| task.run_id == id);
            if several && let Some(task) = key {
                self.out.note(format_args!("task {}", task.task_key));
            }
            self.events(run_id, id, true).await?;
        }
        self.ended(run_id).await
    }

    /// Prints what the run has said so far.
    pub(crate) async fn print(&self, run_id: i64) -> Result<(), Failure> {
        let run = self.client.run_get(run_id).await?;
        for id in run.output_ids() {
            self.events(run_id, id, false).await?;
        }
        Ok(())
    }

    async fn events(&self, run_id: i64, task_run_id: i64, follow: bool) -> Result<(), Failure> {
        let mut events = self.client.run_events(task_run_id);
        let mut printer = Printer::new(self.out);
        let waiting = Waiting::start(self.out, run_id);
        loop {
            let next = events.next(follow);
            let line = match waiting.until(self.client, next).await {
                Ok(Some(line)) => line,
                Ok(None) => return printer.finish(),
                // A workspace that is not ours has no event log; its output comes in one piece.
                Err(Error::Api {
                    status: 404, code, ..
                }) if code == "ENDPOINT_NOT_FOUND" => {
                    waiting.stop();
                    return self.whole(run_id, task_run_id, follow).await;
                }
                Err(error) => return Err(error.into()),
            };
            waiting.stop();
            printer.print(&line)?;
        }
    }

    async fn whole(&self, run_id: i64, task_run_id: i64, follow: bool) -> Result<(), Failure> {
        if follow {
            self.ended(run_id).await?;
        }
        let output = self.client.run_output(task_run_id).await?;
        if self.out.is_json() {
            return self.out.json(&output);
        }
        for text in [output.logs, output.notebook_output.and_then(|o| o.result)] {
            if let Some(text) = text.filter(|text| !text.is_empty()) {
                self.out.line(text.trim_end())?;
            }
        }
        if let Some(error) = output.error_trace.or(output.error) {
            self.out.note(error.trim_end());
        }
        Ok(())
    }

    async fn ended(&self, run_id: i64) -> Result<Run, Failure> {
        loop {
            let run = self.client.run_get(run_id).await?;
            if run.state.has_ended() {
                return Ok(run);
            }
            tokio::time::sleep(LOOK).await;
        }
    }
}

/// The last line about a run, and the exit code that it means.
pub(crate) fn verdict(out: Out, run: &Run) -> Outcome {
    let good = run.state.succeeded();
    if out.is_json() {
        out.json(run)?;
    } else {
        let style = if good { GOOD } else { BAD };
        let took = run.duration_ms().map(duration).unwrap_or_default();
        let word = run.state.word();
        out.note(format_args!(
            "{style}{word}{style:#} in {took} · run {}",
            run.run_id
        ));
        if !good && !run.state.state_message.is_empty() {
            out.note(format_args!("  {}", run.state.state_message));
        }
    }
    Ok(if good { Exit::Ok } else { Exit::Failed })
}
