//! The record of one attempt on disk: a line per event, and one for its end.
//!
//! Only the runner that executes the attempt writes; a line is there when its line break is. What a
//! server has not taken when it dies is here for the next one, and when the runner dies too, here is
//! how far the program came.

use std::fs::File;
use std::io::{self, BufRead, BufReader, ErrorKind, Write};
use std::path::{Path, PathBuf};

use forebay_exec::{Ended, Event};
use forebay_types::Millis;
use serde::{Deserialize, Serialize};

use crate::protocol::Refusal;

const NAME: &str = "events.jsonl";

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Line {
    Event {
        /// From 1, without gaps.
        seq: u64,
        at: Millis,
        event: Event,
    },
    /// The program has ended; nothing follows.
    Ended { events: u64, ended: Box<Ended> },
    /// The program never began; the only line.
    NotStarted(Refusal),
}

/// Collects lines until [`Writer::flush`].
#[derive(Debug)]
pub(crate) struct Writer {
    file: File,
    lines: Vec<u8>,
    events: u64,
}

impl Writer {
    /// # Errors
    /// When the folder cannot be made, or an attempt has been there before.
    pub(crate) fn create(folder: &Path) -> io::Result<Self> {
        let path = folder.join(NAME);
        let open = || File::options().append(true).create_new(true).open(&path);
        // Mostly the folder is there already.
        let file = match open() {
            Err(error) if error.kind() == ErrorKind::NotFound => {
                std::fs::create_dir_all(folder)?;
                open()
            }
            other => other,
        };
        Ok(Self {
            file: file?,
            lines: Vec::new(),
            events: 0,
        })
    }

    pub(crate) fn event(&mut self, at: Millis, event: Event) -> io::Result<()> {
        self.events += 1;
        let seq = self.events;
        self.line(&Line::Event { seq, at, event })
    }

    /// How many events were written so far.
    pub(crate) fn events(&self) -> u64 {
        self.events
    }

    pub(crate) fn line(&mut self, line: &Line) -> io::Result<()> {
        serde_json::to_writer(&mut self.lines, line)?;
        self.lines.push(b'\n');
        Ok(())
    }

    /// Puts the lines where readers see them. After an error a part of them is there and the rest
    /// is not lost: the next call goes on after it.
    pub(crate) fn flush(&mut self) -> io::Result<()> {
        while !self.lines.is_empty() {
            match self.file.write(&self.lines) {
                Ok(0) => return Err(ErrorKind::WriteZero.into()),
                Ok(written) => drop(self.lines.drain(..written)),
                Err(e) if e.kind() == ErrorKind::Interrupted => {}
                Err(e) => return Err(e),
            }
        }
        Ok(())
    }
}

/// Reads lines as they are completed.
#[derive(Debug)]
pub(crate) struct Reader {
    file: BufReader<File>,
    /// The beginning of a line whose end was not there yet.
    half: Vec<u8>,
}

impl Reader {
    /// `None` when there is no spool.
    pub(crate) fn open(folder: &Path) -> io::Result<Option<Self>> {
        match File::open(folder.join(NAME)) {
            Ok(file) => Ok(Some(Self {
                file: BufReader::with_capacity(1 << 16, file),
                half: Vec::new(),
            })),
            Err(e) if e.kind() == ErrorKind::NotFound => Ok(None),
            Err(e) => Err(e),
        }
    }

    /// The next line, or `None` when it is not complete yet.
    pub(crate) fn next(&mut self) -> io::Result<Option<Line>> {
        self.file.read_until(b'\n', &mut self.half)?;
        if self.half.last() != Some(&b'\n') {
            return Ok(None);
        }
        let line = serde_json::from_slice(&self.half)?;
        self.half.clear();
        Ok(Some(line))
    }
}

/// Empties the spool of an attempt whose end is recorded; the file goes with the folder. A file that
/// goes for each attempt is, with what it makes the file system do for the next one, a tenth of what
/// a small run costs.
pub(crate) fn empty(folder: &Path) {
    let path: PathBuf = folder.join(NAME);
    let emptied = File::options().write(true).truncate(true).open(&path);
    if let Err(error) = emptied
        && error.kind() != ErrorKind::NotFound
    {
        tracing::warn!(%error, "cannot empty {}", path.display());
    }
}

/// Removes the spool; what else is in the folder stays.
pub(crate) fn remove(folder: &Path) {
    let path: PathBuf = folder.join(NAME);
    if let Err(error) = std::fs::remove_file(&path)
        && error.kind() != ErrorKind::NotFound
    {
        tracing::warn!(%error, "cannot remove {}", path.display());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn event(cell: usize) -> Event {
        Event::CellStarted { cell }
    }

    #[test]
    fn a_reader_beside_the_writer_sees_whole_lines_only() {
        let folder = tempfile::tempdir().unwrap();
        let mut writer = Writer::create(folder.path()).unwrap();
        let mut reader = Reader::open(folder.path()).unwrap().unwrap();
        assert_eq!(reader.next().unwrap(), None);
        writer.event(Millis(7), event(0)).unwrap();
        assert_eq!(reader.next().unwrap(), None, "not flushed");
        writer.flush().unwrap();
        let first = Line::Event {
            seq: 1,
            at: Millis(7),
            event: event(0),
        };
        assert_eq!(reader.next().unwrap(), Some(first));

        let path = folder.path().join(NAME);
        let whole = br#"{"event":{"seq":2,"at":8,"event":{"event":"cell_started","cell":1}}}"#;
        let mut file = File::options().append(true).open(path).unwrap();
        for byte in whole {
            file.write_all(&[*byte]).unwrap();
            assert_eq!(reader.next().unwrap(), None);
        }
        file.write_all(b"\n").unwrap();
        assert!(matches!(
            reader.next().unwrap(),
            Some(Line::Event { seq: 2, .. })
        ));
    }

    #[test]
    fn an_attempt_has_one_spool_ever() {
        let folder = tempfile::tempdir().unwrap();
        let spool = folder.path().join("spool");
        assert!(Reader::open(&spool).unwrap().is_none());
        let first = Writer::create(&spool).unwrap();
        assert_eq!(
            Writer::create(&spool).unwrap_err().kind(),
            ErrorKind::AlreadyExists
        );
        drop(first);
        empty(&spool);
        assert_eq!(
            Writer::create(&spool).unwrap_err().kind(),
            ErrorKind::AlreadyExists
        );
        let mut emptied = Reader::open(&spool).unwrap().unwrap();
        assert_eq!(emptied.next().unwrap(), None);
        remove(&spool);
        empty(&spool);
        assert!(Reader::open(&spool).unwrap().is_none());
        remove(&spool);
    }
}
