use std::path::PathBuf;

use clap::Args;
use indicatif::{ProgressBar, ProgressStyle};
use serde::Serialize;

use crate::failure::Failure;
use crate::output::{Format, Out, bytes, time};

/// Arguments of `forebay backup`.
#[derive(Debug, Args)]
pub struct BackupArgs {
    /// Data folder of the server [default: .forebay]
    #[arg(
        long,
        value_name = "DIR",
        default_value = ".forebay",
        hide_default_value = true
    )]
    pub data: PathBuf,
    /// The file to write; it must not exist
    pub file: PathBuf,
    /// Form of the answer
    #[arg(long, value_enum, value_name = "FORMAT", default_value = "text")]
    output: Format,
}

/// Arguments of `forebay restore`.
#[derive(Debug, Args)]
pub struct RestoreArgs {
    /// A file that `forebay backup` wrote
    pub file: PathBuf,
    /// The data folder to make; it must not exist, or be empty
    #[arg(long, value_name = "DIR")]
    pub data: PathBuf,
    /// Form of the answer
    #[arg(long, value_enum, value_name = "FORMAT", default_value = "text")]
    output: Format,
}

impl BackupArgs {
    #[must_use]
    pub fn out(&self) -> Out {
        Out::new(self.output)
    }
}

impl RestoreArgs {
    #[must_use]
    pub fn out(&self) -> Out {
        Out::new(self.output)
    }
}

/// Draws how far a copy is, for a person who watches, and tells at its end what was in it.
#[derive(Debug)]
pub struct CopyProgress {
    out: Out,
    bar: ProgressBar,
}

impl CopyProgress {
    #[must_use]
    pub fn new(out: Out) -> Self {
        let bar = if out.is_watched() {
            ProgressBar::new_spinner()
        } else {
            ProgressBar::hidden()
        };
        let style = ProgressStyle::with_template("{spinner} {msg}");
        bar.set_style(style.unwrap_or_else(|_| ProgressStyle::default_spinner()));
        Self { out, bar }
    }

    pub fn show(&self, files: u64, size: u64) {
        self.bar
            .set_message(format!("{files} files, {}", bytes(size)));
        self.bar.tick();
    }

    /// Prints the report, as JSON or in words: `verb` what, from when, and how much.
    ///
    /// # Errors
    /// When standard output is closed.
    pub fn report(
        &self,
        report: &impl Serialize,
        (verb, made_at): (&str, i64),
        (workspaces, files, size): (&[String], u64, u64),
        notes: &[String],
    ) -> Result<(), Failure> {
        self.bar.finish_and_clear();
        if self.out.is_json() {
            return self.out.json(report);
        }
        for note in notes {
            self.out.note(format_args!("note: {note}"));
        }
        self.out.line(format_args!(
            "{verb} {}: {files} files, {}, as of {}",
            workspaces.join(", "),
            bytes(size),
            time(made_at)
        ))
    }
}
