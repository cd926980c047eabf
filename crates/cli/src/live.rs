//! Following a run: its output as it comes, cell by cell, and its verdict.

mod printer;
mod waiting;

use std::time::Duration;

use forebay_client::{Client, Error, Run};

use crate::failure::{Exit, Failure, Outcome};
use crate::output::{BAD, BOLD, DIM, GOOD, Out, duration};
use printer::Printer;
use waiting::Waiting;

/// Between two looks at the state of a run whose server cannot be waited for.
const LOOK: Duration = Duration::from_millis(500);

/// A run that has ended, and whether its output told why it failed.
#[derive(Debug)]
pub(crate) struct Followed {
    pub(crate) run: Run,
    told: bool,
}

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
    pub(crate) async fn follow(&self, run_id: i64) -> Result<Followed, Failure> {
        let told = self.outputs(run_id, true).await?;
        let run = self.ended(run_id).await?;
        Ok(Followed { run, told })
    }

    /// Prints what the run has said so far.
    pub(crate) async fn print(&self, run_id: i64) -> Result<(), Failure> {
        self.outputs(run_id, false).await?;
        Ok(())
    }

    /// Says whether an error was among what was printed.
    async fn outputs(&self, run_id: i64, follow: bool) -> Result<bool, Failure> {
        let run = self.client.run_get(run_id).await?;
        if run.tasks.is_empty() {
            return self.events(&run, run_id, true, follow).await;
        }
        let mut told = false;
        for task in &run.tasks {
            if run.tasks.len() > 1 && !self.out.is_json() {
                self.out
                    .note(format_args!("{BOLD}task {}{BOLD:#}", task.task_key));
            }
            let notebook = task.notebook_task.is_some();
            told |= self.events(&run, task.run_id, notebook, follow).await?;
        }
        Ok(told)
    }

    async fn events(&self, run: &Run, id: i64, heads: bool, follow: bool) -> Result<bool, Failure> {
        let mut events = self.client.run_events(id);
        let mut printer = Printer::new(self.out, heads);
        let waiting = Waiting::start(self.out, run.run_id, id);
        loop {
            let next = events.next(follow);
            let line = match waiting.until(self.client, printer.is_open(), next).await {
                Ok(Some(line)) => line,
                Ok(None) => return printer.finish(),
                // Without an event log the output comes in one piece.
                Err(error) if is_foreign(&error) => {
                    waiting.stop();
                    return self.whole(run.run_id, id, follow).await;
                }
                Err(error) => return Err(error.into()),
            };
            waiting.stop();
            printer.print(&line)?;
        }
    }

    async fn whole(&self, run_id: i64, task_run_id: i64, follow: bool) -> Result<bool, Failure> {
        if follow {
            self.ended(run_id).await?;
        }
        let output = self.client.run_output(task_run_id).await?;
        if self.out.is_json() {
            self.out.json(&output)?;
            return Ok(true);
        }
        let result = output.notebook_output.and_then(|output| output.result);
        for text in [output.logs, result].into_iter().flatten() {
            if !text.is_empty() {
                self.out.line(text.trim_end())?;
            }
        }
        Ok(self.error(output.error_trace.or(output.error)))
    }

    fn error(&self, text: Option<String>) -> bool {
        let Some(text) = text.filter(|text| !text.is_empty()) else {
            return false;
        };
        self.out.note(text.trim_end());
        true
    }

    /// The last lines about a run, and the exit code that it means.
    pub(crate) async fn verdict(&self, followed: &Followed) -> Outcome {
        let Followed { run, told } = followed;
        let good = run.state.succeeded();
        let exit = if good { Exit::Ok } else { Exit::Failed };
        if self.out.is_json() {
            self.out.json(run)?;
            return Ok(exit);
        }
        if !good && !told {
            self.reasons(run).await?;
        }
        let style = if good { GOOD } else { BAD };
        let took = run.duration_ms().map(duration).unwrap_or_default();
        let word = run.state.word();
        let id = run.run_id;
        self.out
            .note(format_args!("{style}{word}{style:#} in {took} · run {id}"));
        if !good {
            self.out
                .note(format_args!("{DIM}{}{DIM:#}", run.run_page_url));
        }
        Ok(exit)
    }

    /// Why a run failed whose cells said nothing of it, such as for want of an environment.
    async fn reasons(&self, run: &Run) -> Result<(), Failure> {
        let failed = run.tasks.iter().filter(|task| !task.state.succeeded());
        let mut told = false;
        for task in failed {
            let output = self.client.run_output(task.run_id).await?;
            told |= self.error(output.error.or(output.error_trace));
        }
        if !told {
            self.error(Some(run.state.state_message.clone()));
        }
        Ok(())
    }

    async fn ended(&self, run_id: i64) -> Result<Run, Failure> {
        loop {
            let run = match self.client.run_wait(run_id).await {
                Err(error) if is_foreign(&error) => {
                    tokio::time::sleep(LOOK).await;
                    self.client.run_get(run_id).await?
                }
                answer => answer?,
            };
            if run.state.has_ended() {
                return Ok(run);
            }
        }
    }
}

/// A workspace that is not ours knows only the public API.
fn is_foreign(error: &Error) -> bool {
    matches!(error, Error::Api { status: 404, code, .. } if code == "ENDPOINT_NOT_FOUND")
}
