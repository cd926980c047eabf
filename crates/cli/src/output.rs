use std::fmt::Display;
use std::io::{self, IsTerminal, Write};

use anstyle::{AnsiColor, Style};
use clap::ValueEnum;
use serde::Serialize;

use crate::failure::Failure;

#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, ValueEnum)]
pub enum Format {
    #[default]
    Text,
    Json,
}

pub(crate) const DIM: Style = Style::new().dimmed();
pub(crate) const BOLD: Style = Style::new().bold();
pub(crate) const GOOD: Style = AnsiColor::Green.on_default().bold();
pub(crate) const BAD: Style = AnsiColor::Red.on_default().bold();
pub(crate) const WARN: Style = AnsiColor::Yellow.on_default().bold();
pub(crate) const HINT: Style = AnsiColor::Cyan.on_default();

/// Where a command writes: data to standard output, everything else to standard error. Colours are
/// left out where no terminal reads them.
#[derive(Debug, Clone, Copy)]
pub struct Out {
    pub format: Format,
}

impl Out {
    #[must_use]
    pub fn new(format: Format) -> Self {
        Self { format }
    }

    #[must_use]
    pub fn is_json(self) -> bool {
        self.format == Format::Json
    }

    /// A person watches, so that progress is worth drawing.
    #[must_use]
    pub fn is_watched(self) -> bool {
        io::stderr().is_terminal()
    }

    /// A line of the command's answer.
    ///
    /// # Errors
    /// When standard output is closed.
    pub fn line(self, text: impl Display) -> Result<(), Failure> {
        Ok(writeln!(anstream::stdout().lock(), "{text}")?)
    }

    /// Text as it is, without a line end of its own.
    ///
    /// # Errors
    /// When standard output is closed.
    pub fn text(self, text: &str) -> Result<(), Failure> {
        let mut stdout = anstream::stdout().lock();
        stdout.write_all(text.as_bytes())?;
        Ok(stdout.flush()?)
    }

    /// Bytes as they are, colours and all.
    ///
    /// # Errors
    /// When standard output is closed.
    pub fn bytes(self, bytes: &[u8]) -> Result<(), Failure> {
        let mut stdout = io::stdout().lock();
        stdout.write_all(bytes)?;
        Ok(stdout.flush()?)
    }

    /// One JSON value on one line.
    ///
    /// # Errors
    /// When standard output is closed.
    pub fn json(self, value: &impl Serialize) -> Result<(), Failure> {
        let text = serde_json::to_string(value).map_err(io::Error::other)?;
        self.line(text)
    }

    /// One JSON value over several lines, for what a person may want to read as well.
    ///
    /// # Errors
    /// When standard output is closed.
    pub fn json_pretty(self, value: &impl Serialize) -> Result<(), Failure> {
        let text = serde_json::to_string_pretty(value).map_err(io::Error::other)?;
        self.line(text)
    }

    /// A line beside the answer. Nobody can be told when standard error is closed, so that is no
    /// reason to fail.
    pub fn note(self, text: impl Display) {
        drop(writeln!(anstream::stderr().lock(), "{text}"));
    }

    /// Text beside the answer, without a line end of its own.
    pub fn note_text(self, text: &str) {
        drop(write!(anstream::stderr().lock(), "{text}"));
    }

    /// The last words of a command that could not do its work.
    pub fn failure(self, failure: &Failure) {
        if !failure.message.is_empty() {
            self.note(format_args!("{BAD}error{BAD:#}: {}", failure.message));
        }
        if let Some(hint) = &failure.hint {
            self.note(format_args!("{HINT}hint{HINT:#}: {hint}"));
        }
    }

    /// Rows below their heads, columns as wide as they need to be.
    ///
    /// # Errors
    /// When standard output is closed.
    pub fn table<const N: usize>(
        self,
        heads: [&str; N],
        rows: &[[String; N]],
    ) -> Result<(), Failure> {
        let width = |i: usize| {
            let cells = rows.iter().map(|row| row[i].chars().count());
            cells.fold(heads[i].chars().count(), usize::max)
        };
        let widths: [usize; N] = std::array::from_fn(width);
        let line = |cells: [&str; N]| {
            let mut text = String::new();
            for (cell, width) in cells.iter().zip(widths) {
                text.push_str(&format!("{cell:<width$}  "));
            }
            text.trim_end().to_owned()
        };
        self.line(format_args!("{BOLD}{}{BOLD:#}", line(heads)))?;
        for row in rows {
            self.line(line(std::array::from_fn(|i| row[i].as_str())))?;
        }
        Ok(())
    }
}

/// `87 ms`, `1.2 s`, `3 min 05 s`, `2 h 07 min`.
#[must_use]
pub(crate) fn duration(ms: i64) -> String {
    let seconds = ms / 1000;
    match ms {
        ..1000 => format!("{ms} ms"),
        1000..60_000 => format!("{seconds}.{} s", ms % 1000 / 100),
        60_000..3_600_000 => format!("{} min {:02} s", seconds / 60, seconds % 60),
        _ => format!("{} h {:02} min", seconds / 3600, seconds / 60 % 60),
    }
}

/// `999 B`, `1.5 KiB`, `20.0 MiB`, `3.2 GiB`.
#[must_use]
pub(crate) fn bytes(count: u64) -> String {
    const UNITS: [&str; 4] = ["KiB", "MiB", "GiB", "TiB"];
    if count < 1024 {
        return format!("{count} B");
    }
    let mut size = count as f64 / 1024.0;
    let mut unit = 0;
    while size >= 1024.0 && unit + 1 < UNITS.len() {
        size /= 1024.0;
        unit += 1;
    }
    format!("{size:.1} {}", UNITS[unit])
}

/// `2026-11-20 21:08:34` in the time zone of this machine.
#[must_use]
pub(crate) fn time(ms: i64) -> String {
    let Ok(at) = jiff::Timestamp::from_millisecond(ms) else {
        return "-".to_owned();
    };
    at.to_zoned(jiff::tz::TimeZone::system())
        .strftime("%Y-%m-%d %H:%M:%S")
        .to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_are_short_and_keep_their_unit() {
        let shown = [0, 1023, 1024, 1536, 20 << 20, 5 << 40].map(bytes);
        let expected = ["0 B", "1023 B", "1.0 KiB", "1.5 KiB", "20.0 MiB", "5.0 TiB"];
        assert_eq!(shown, expected);
    }

    #[test]
    fn durations_are_short_and_keep_their_unit() {
        let shown = [0, 999, 1_000, 1_250, 59_999, 61_000, 7_620_000].map(duration);
        let expected = [
            "0 ms",
            "999 ms",
            "1.0 s",
            "1.2 s",
            "59.9 s",
            "1 min 01 s",
            "2 h 07 min",
        ];
        assert_eq!(shown, expected);
    }
}
