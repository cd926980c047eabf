//! From a driver's frames and raw pipes to events: order, limits, redaction.

use std::collections::VecDeque;
use std::time::Instant;

use forebay_exec::{
    CellStatus, Event, Limits, MimeBundle, Redactor, StreamName, StreamRedactor, TRUNCATED,
};
use serde_json::Value;

/// Neighbouring pieces of a stream become one event up to this size.
const MERGE_BYTES_MAX: usize = 64 << 10;
/// What an event counts for besides its content, so that empty ones are not for free.
const EVENT_BYTES: u64 = 64;
/// Of an exception: its name, its message, its traceback.
pub(crate) const NAME_BYTES_MAX: usize = 1 << 10;
pub(crate) const MESSAGE_BYTES_MAX: usize = 64 << 10;
pub(crate) const TRACE_BYTES_MAX: usize = 1 << 20;

#[derive(Debug)]
pub(crate) struct Output {
    events: VecDeque<Event>,
    pub(crate) redactor: Redactor,
    stdout: Stream,
    stderr: Stream,
    cell: usize,
    /// When the current cell began, as long as it goes on.
    open: Option<Instant>,
    cell_bytes: u64,
    run_bytes: u64,
    truncated: bool,
    cell_limit: u64,
    run_limit: u64,
}

#[derive(Debug, Default)]
struct Stream {
    redactor: StreamRedactor,
    /// The beginning of a character whose other bytes have not come through the pipe yet.
    partial: Vec<u8>,
}

impl Output {
    pub(crate) fn new(limits: &Limits) -> Self {
        Self {
            events: VecDeque::new(),
            redactor: Redactor::default(),
            stdout: Stream::default(),
            stderr: Stream::default(),
            cell: 0,
            open: None,
            cell_bytes: 0,
            run_bytes: 0,
            truncated: false,
            cell_limit: limits.output_cell_bytes,
            run_limit: limits.output_run_bytes,
        }
    }

    pub(crate) fn next(&mut self) -> Option<Event> {
        self.events.pop_front()
    }

    /// Events that wait for somebody to take them.
    pub(crate) fn waiting(&self) -> usize {
        self.events.len()
    }

    pub(crate) fn is_over_limit(&self) -> bool {
        self.run_bytes > self.run_limit
    }

    pub(crate) fn begin(&mut self, cell: usize) {
        self.flush();
        self.cell = cell;
        self.open = Some(Instant::now());
        self.cell_bytes = 0;
        self.truncated = false;
        self.charge(EVENT_BYTES);
        self.events.push_back(Event::CellStarted { cell });
    }

    pub(crate) fn finish(&mut self, status: CellStatus, duration_ms: u64) {
        self.flush();
        self.open = None;
        let cell = self.cell;
        self.charge(EVENT_BYTES);
        self.events.push_back(Event::CellFinished {
            cell,
            status,
            duration_ms,
        });
    }

    /// Ends the cell that was cut short.
    pub(crate) fn close(&mut self) {
        self.flush();
        if let Some(started) = self.open.take() {
            let elapsed = u64::try_from(started.elapsed().as_millis()).unwrap_or(u64::MAX);
            self.finish(CellStatus::Failed, elapsed);
        }
    }

    pub(crate) fn text(&mut self, name: StreamName, text: &str) {
        let redactor = &self.redactor;
        let stream = match name {
            StreamName::Stdout => &mut self.stdout,
            StreamName::Stderr => &mut self.stderr,
        };
        let shown = stream.redactor.push(redactor, text);
        self.show(name, &shown);
    }

    /// Bytes from a pipe, which may end inside a character.
    pub(crate) fn bytes(&mut self, name: StreamName, bytes: &[u8]) {
        let stream = match name {
            StreamName::Stdout => &mut self.stdout,
            StreamName::Stderr => &mut self.stderr,
        };
        let mut whole = std::mem::take(&mut stream.partial);
        whole.extend_from_slice(bytes);
        stream.partial = split_partial(&mut whole);
        let text = String::from_utf8_lossy(&whole).into_owned();
        self.text(name, &text);
    }

    /// `id_bytes`: what the event holds besides the two bundles.
    pub(crate) fn display(
        &mut self,
        mut data: MimeBundle,
        mut metadata: MimeBundle,
        id_bytes: usize,
        event: impl FnOnce(usize, MimeBundle, MimeBundle) -> Event,
    ) {
        self.flush();
        let size = EVENT_BYTES + id_bytes as u64 + bundle_bytes(&data) + bundle_bytes(&metadata);
        if !self.admit(size) {
            return;
        }
        for value in data.values_mut().chain(metadata.values_mut()) {
            self.redactor.value(value);
        }
        self.events.push_back(event(self.cell, data, metadata));
    }

    pub(crate) fn clear(&mut self, wait: bool) {
        self.flush();
        if !self.admit(EVENT_BYTES) {
            return;
        }
        let cell = self.cell;
        self.events.push_back(Event::ClearOutput { cell, wait });
    }

    /// An exception shows even in a cell that has written its share, cut to a size of its own.
    pub(crate) fn error(&mut self, ename: &str, evalue: &str, traceback: &[String]) {
        self.flush();
        let ename = cut(ename, NAME_BYTES_MAX).to_owned();
        let evalue = cut(&self.redactor.text(evalue), MESSAGE_BYTES_MAX).to_owned();
        let mut room = TRACE_BYTES_MAX;
        let mut kept = Vec::new();
        // A secret of several lines shows in no line alone.
        let whole = traceback.join("\n");
        let shown = self.redactor.text(&whole);
        let lines: Vec<&str> = match shown == whole {
            true => traceback.iter().map(String::as_str).collect(),
            false => shown.split('\n').collect(),
        };
        // The last lines say most.
        for line in lines.into_iter().rev() {
            let line = line.to_owned();
            let cost = line.len() + 16;
            if cost > room {
                break;
            }
            room -= cost;
            kept.push(line);
        }
        kept.reverse();
        let size = ename.len() + evalue.len() + (TRACE_BYTES_MAX - room);
        self.charge(EVENT_BYTES + size as u64);
        self.events.push_back(Event::Error {
            cell: self.cell,
            ename,
            evalue,
            traceback: kept,
        });
    }

    /// Shows what was held back, because something else comes next.
    fn flush(&mut self) {
        for name in [StreamName::Stdout, StreamName::Stderr] {
            let stream = match name {
                StreamName::Stdout => &mut self.stdout,
                StreamName::Stderr => &mut self.stderr,
            };
            let partial = std::mem::take(&mut stream.partial);
            let mut shown = stream
                .redactor
                .push(&self.redactor, &String::from_utf8_lossy(&partial));
            shown.push_str(&stream.redactor.flush(&self.redactor));
            self.show(name, &shown);
        }
    }

    fn show(&mut self, name: StreamName, text: &str) {
        if text.is_empty() {
            return;
        }
        let room = usize::try_from(self.cell_limit.saturating_sub(self.cell_bytes));
        let cut = text.floor_char_boundary(room.unwrap_or(usize::MAX));
        let kept = &text[..cut];
        if !kept.is_empty() {
            self.push(name, kept);
        }
        self.admit(text.len() as u64);
    }

    /// Counts what is shown in any case.
    fn charge(&mut self, size: u64) {
        self.cell_bytes = self.cell_bytes.saturating_add(size);
        self.run_bytes = self.run_bytes.saturating_add(size);
    }

    /// Counts output; `false` when there is no room for it in the cell. Says so once per cell.
    fn admit(&mut self, size: u64) -> bool {
        if self.truncated {
            return false;
        }
        let room = self.cell_limit.saturating_sub(self.cell_bytes);
        self.cell_bytes += size.min(room);
        self.run_bytes += size.min(room);
        if size <= room {
            return true;
        }
        self.truncated = true;
        let notice = format!(
            "\n{TRUNCATED} this cell wrote more than {} bytes]\n",
            self.cell_limit
        );
        self.push(StreamName::Stderr, &notice);
        false
    }

    fn push(&mut self, name: StreamName, text: &str) {
        if let Some(Event::Stream {
            cell,
            name: last,
            text: end,
        }) = self.events.back_mut()
            && *cell == self.cell
            && *last == name
            && end.len() + text.len() <= MERGE_BYTES_MAX
        {
            end.push_str(text);
            return;
        }
        self.events.push_back(Event::Stream {
            cell: self.cell,
            name,
            text: text.to_owned(),
        });
    }
}

fn bundle_bytes(bundle: &MimeBundle) -> u64 {
    let sizes = bundle.iter().map(|(mime, value)| match value {
        Value::String(text) => mime.len() + text.len(),
        other => mime.len() + other.to_string().len(),
    });
    sizes.sum::<usize>() as u64
}

/// The beginning of a text, in whole characters.
pub(crate) fn cut(text: &str, bytes_max: usize) -> &str {
    &text[..text.floor_char_boundary(bytes_max)]
}

/// The end of a text, in whole characters.
pub(crate) fn cut_front(text: &str, bytes_max: usize) -> &str {
    &text[text.ceil_char_boundary(text.len().saturating_sub(bytes_max))..]
}

/// Takes an unfinished character off the end.
fn split_partial(bytes: &mut Vec<u8>) -> Vec<u8> {
    for back in 1..=bytes.len().min(3) {
        let at = bytes.len() - back;
        let length = match bytes[at] {
            0xC0..=0xDF => 2,
            0xE0..=0xEF => 3,
            0xF0..=0xF7 => 4,
            0x80..=0xBF => continue,
            _ => 1,
        };
        if length > back {
            return bytes.split_off(at);
        }
        break;
    }
    Vec::new()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn output(cell: u64, run: u64) -> Output {
        Output::new(&Limits {
            output_cell_bytes: cell,
            output_run_bytes: run,
            ..Limits::default()
        })
    }

    fn texts(output: &mut Output) -> Vec<String> {
        let mut found = Vec::new();
        while let Some(event) = output.next() {
            if let Event::Stream { text, .. } = event {
                found.push(text);
            }
        }
        found
    }

    #[test]
    fn a_character_cut_by_the_pipe_is_put_together() {
        let mut output = output(100, 100);
        let bytes = "aé€😀".as_bytes();
        for byte in bytes {
            output.bytes(StreamName::Stdout, &[*byte]);
        }
        assert_eq!(texts(&mut output).concat(), "aé€😀");
    }

    #[test]
    fn bytes_that_are_no_text_are_shown_as_such() {
        let mut output = output(100, 100);
        output.bytes(StreamName::Stdout, b"ok \xff\xfe\n");
        assert_eq!(texts(&mut output).concat(), "ok \u{fffd}\u{fffd}\n");
    }

    #[test]
    fn a_cell_over_its_limit_is_cut_once_and_the_next_cell_is_not() {
        let mut output = output(10 + EVENT_BYTES, 1000);
        output.begin(0);
        output.text(StreamName::Stdout, "12345678é0");
        output.text(StreamName::Stdout, "more");
        output.finish(CellStatus::Succeeded, 1);
        output.begin(1);
        output.text(StreamName::Stdout, "next");
        let shown = texts(&mut output);
        assert_eq!(shown[0], "12345678é");
        assert!(shown[1].contains("more than 74 bytes"), "{shown:?}");
        assert_eq!(shown[2], "next");
        assert_eq!(shown.len(), 3);
        assert!(!output.is_over_limit());
    }

    #[test]
    fn only_what_is_kept_counts_for_the_run() {
        let mut output = output(10 + EVENT_BYTES, 3 * (10 + EVENT_BYTES) - 1);
        for cell in 0..3 {
            assert!(!output.is_over_limit());
            output.begin(cell);
            output.text(StreamName::Stdout, &"x".repeat(1000));
        }
        assert!(output.is_over_limit());
    }

    #[test]
    fn events_without_text_count_too() {
        let kinds: [fn(&mut Output); 4] = [
            |output| output.begin(0),
            |output| output.finish(CellStatus::Succeeded, 0),
            |output| output.clear(true),
            |output| output.display(MimeBundle::new(), MimeBundle::new(), 0, shown),
        ];
        for kind in kinds {
            let mut output = output(1 << 20, 100 * EVENT_BYTES);
            for _ in 0..100 {
                assert!(!output.is_over_limit());
                kind(&mut output);
            }
            kind(&mut output);
            assert!(output.is_over_limit());
        }
    }

    fn shown(cell: usize, data: MimeBundle, metadata: MimeBundle) -> Event {
        Event::Display {
            cell,
            data,
            metadata,
            display_id: None,
        }
    }

    #[test]
    fn metadata_and_names_of_displays_count() {
        let mut output = output(1000, 1 << 20);
        let metadata = MimeBundle::from_iter([("a".to_owned(), Value::from("x".repeat(500)))]);
        output.display(MimeBundle::new(), metadata, 0, shown);
        assert_eq!(output.waiting(), 1);
        output.display(MimeBundle::new(), MimeBundle::new(), 500, shown);
        assert!(matches!(output.next(), Some(Event::Display { .. })));
        assert!(texts(&mut output)[0].contains("output truncated"));
    }

    #[test]
    fn errors_are_cut_and_counted_but_always_shown() {
        let mut output = output(10, 3 << 20);
        output.redactor.add(b"hunter2!");
        let lines = vec!["x".repeat(900 << 10), "hunter2!".repeat(1 << 10)];
        output.text(StreamName::Stdout, "more than ten bytes");
        for _ in 0..4 {
            assert!(!output.is_over_limit());
            output.error("E", &"é".repeat(1 << 20), &lines);
        }
        assert!(output.is_over_limit());
        let mut errors = Vec::new();
        while let Some(event) = output.next() {
            if let Event::Error {
                evalue, traceback, ..
            } = event
            {
                errors.push((evalue.len(), traceback));
            }
        }
        assert_eq!(errors.len(), 4);
        assert_eq!(errors[0].0, MESSAGE_BYTES_MAX);
        assert_eq!(errors[0].1[1], "[REDACTED]".repeat(1 << 10));
    }

    #[test]
    fn a_secret_of_several_lines_is_hidden_in_the_lines_of_a_traceback() {
        let mut output = output(1 << 20, 1 << 20);
        output.redactor.add(b"-----BEGIN\nkey\n-----END");
        let lines = [
            "Traceback",
            "ValueError: -----BEGIN",
            "key",
            "-----END",
            "x",
        ];
        output.error("E", "", &lines.map(str::to_owned));
        let Some(Event::Error { traceback, .. }) = output.next() else {
            panic!("no error");
        };
        assert_eq!(traceback, ["Traceback", "ValueError: [REDACTED]", "x"]);
    }

    #[test]
    fn cuts_keep_characters_whole() {
        assert_eq!((cut("aéb", 2), cut_front("aéb", 2)), ("a", "b"));
        assert_eq!((cut("aéb", 9), cut_front("aéb", 9)), ("aéb", "aéb"));
    }

    #[test]
    fn a_secret_over_two_pieces_is_hidden() {
        let mut output = output(100, 100);
        output.redactor.add(b"hunter2!");
        output.text(StreamName::Stdout, "it is hunt");
        output.text(StreamName::Stdout, "er2!\n");
        assert_eq!(texts(&mut output).concat(), "it is [REDACTED]\n");
    }
}
