use clap::Args;
use serde::Serialize;

use crate::args::ServerArgs;
use crate::failure::{Exit, Failure, Outcome};
use crate::output::{BAD, DIM, Format, GOOD, Out, WARN};

/// Arguments of `forebay doctor`.
#[derive(Debug, Args)]
pub struct DoctorArgs {
    #[command(flatten)]
    pub server: ServerArgs,
    /// Form of the answer
    #[arg(long, value_enum, value_name = "FORMAT", default_value = "text")]
    output: Format,
}

impl DoctorArgs {
    #[must_use]
    pub fn out(&self) -> Out {
        Out::new(self.output)
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
enum Level {
    Ok,
    /// Works, but not as well as it could.
    Warn,
    Fail,
}

/// One thing that was looked at.
#[derive(Debug, Clone, Serialize)]
pub struct Check {
    level: Level,
    /// What was looked at, in a word or two.
    name: &'static str,
    /// What was found.
    found: String,
    /// What to do about it; empty when all is well.
    #[serde(rename = "do", skip_serializing_if = "String::is_empty")]
    advice: String,
}

impl Check {
    pub fn ok(name: &'static str, found: impl Into<String>) -> Self {
        Self::new(Level::Ok, name, found, "")
    }

    pub fn warn(name: &'static str, found: impl Into<String>, advice: impl Into<String>) -> Self {
        Self::new(Level::Warn, name, found, advice)
    }

    pub fn fail(name: &'static str, found: impl Into<String>, advice: impl Into<String>) -> Self {
        Self::new(Level::Fail, name, found, advice)
    }

    fn new(
        level: Level,
        name: &'static str,
        found: impl Into<String>,
        advice: impl Into<String>,
    ) -> Self {
        Self {
            level,
            name,
            found: found.into(),
            advice: advice.into(),
        }
    }
}

/// All that was looked at, in order.
#[derive(Debug, Default)]
pub struct Checks(pub Vec<Check>);

impl Checks {
    /// Prints one line per check; a check that did not pass is a failure of the command.
    ///
    /// # Errors
    /// When standard output is closed.
    pub fn report(&self, out: Out) -> Outcome {
        if out.is_json() {
            out.json(&self.0)?;
        } else {
            self.text(out)?;
        }
        let failed = self.0.iter().any(|check| check.level == Level::Fail);
        Ok(if failed { Exit::Failed } else { Exit::Ok })
    }

    fn text(&self, out: Out) -> Result<(), Failure> {
        let width = self.0.iter().map(|check| check.name.len()).max();
        let width = width.unwrap_or_default();
        for check in &self.0 {
            let (style, word) = match check.level {
                Level::Ok => (GOOD, "ok  "),
                Level::Warn => (WARN, "warn"),
                Level::Fail => (BAD, "fail"),
            };
            let Check { name, found, .. } = check;
            out.line(format_args!(
                "{style}{word}{style:#}  {name:<width$}  {found}"
            ))?;
            if !check.advice.is_empty() {
                let blank = "";
                out.line(format_args!(
                    "      {blank:<width$}  {DIM}{}{DIM:#}",
                    check.advice
                ))?;
            }
        }
        Ok(())
    }
}
