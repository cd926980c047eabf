//! Small things that many pages show: states, times, durations, sizes.

use forebay_engine::{Phase, Verdict};
use forebay_types::Millis;
use jiff::Timestamp;
use maud::{Markup, html};

/// The word and the tone of a state; the tone is a class of the style sheet.
pub(crate) fn phase_words(phase: Phase) -> (&'static str, &'static str) {
    match phase {
        Phase::Queued => ("Queued", "wait"),
        Phase::Blocked => ("Not begun", "wait"),
        Phase::Pending => ("Waiting", "wait"),
        Phase::Running => ("Running", "busy"),
        Phase::Terminating => ("Stopping", "busy"),
        Phase::WaitingForRetry => ("Will retry", "wait"),
        Phase::Ended(verdict) => verdict_words(verdict),
    }
}

fn verdict_words(verdict: Verdict) -> (&'static str, &'static str) {
    match verdict {
        Verdict::Succeeded => ("Succeeded", "good"),
        Verdict::SucceededWithFailures => ("Succeeded with failures", "warn"),
        Verdict::Failed => ("Failed", "bad"),
        Verdict::TimedOut => ("Timed out", "bad"),
        Verdict::Canceled => ("Canceled", "off"),
        Verdict::UpstreamFailed => ("Upstream failed", "off"),
        Verdict::UpstreamCanceled => ("Upstream canceled", "off"),
        Verdict::Excluded => ("Left out", "off"),
        Verdict::Disabled => ("Disabled", "off"),
        Verdict::Skipped => ("Skipped", "off"),
        Verdict::InternalError => ("Could not run", "bad"),
    }
}

/// A sign for a state where there is no room for its word, so that it is not told by colour alone.
pub(crate) fn glyph(phase: Phase) -> &'static str {
    match phase {
        Phase::Queued | Phase::Blocked | Phase::Pending => "…",
        Phase::WaitingForRetry => "↻",
        Phase::Running | Phase::Terminating => "▸",
        Phase::Ended(Verdict::Canceled | Verdict::UpstreamCanceled) => "⊘",
        Phase::Ended(verdict) => match verdict_words(verdict).1 {
            "good" => "✓",
            "warn" => "!",
            "bad" => "✕",
            _ => "–",
        },
    }
}

pub(crate) fn badge(phase: Phase) -> Markup {
    let (word, tone) = phase_words(phase);
    state(word, tone)
}

pub(crate) fn state(word: &str, tone: &str) -> Markup {
    html! { span class={ "state " (tone) } { (word) } }
}

/// A moment as time passed since; the exact time is in the title, and scripts put it into the
/// reader's own zone.
pub(crate) fn when(at: Millis, now: Millis) -> Markup {
    html! {
        time datetime=(iso(at)) title=(exact(at)) data-show="ago" { (ago(at, now)) }
    }
}

/// A moment that says the same however late it is read.
pub(crate) fn exact_time(at: Millis) -> Markup {
    html! { time datetime=(iso(at)) data-show="exact" { (exact(at)) } }
}

/// A moment in as little room as there can be: the day, and the time of the day below it.
pub(crate) fn short_time(at: Millis) -> Markup {
    let text = timestamp(at).strftime("%d %b\n%H:%M").to_string();
    html! { time datetime=(iso(at)) title=(exact(at)) data-show="short" { (text) } }
}

/// A moment with its exact time.
pub(crate) fn moment(at: Millis, now: Millis) -> Markup {
    html! { (exact_time(at)) " (" (when(at, now)) ")" }
}

fn timestamp(at: Millis) -> Timestamp {
    Timestamp::from_millisecond(at.0).unwrap_or(Timestamp::UNIX_EPOCH)
}

fn iso(at: Millis) -> String {
    timestamp(at).to_string()
}

fn exact(at: Millis) -> String {
    timestamp(at).strftime("%Y-%m-%d %H:%M:%S UTC").to_string()
}

fn ago(at: Millis, now: Millis) -> String {
    let seconds = now.since(at) / 1000;
    match seconds {
        0..10 => "just now".to_owned(),
        10..60 => format!("{seconds} s ago"),
        60..3600 => format!("{} min ago", seconds / 60),
        3600..172_800 => format!("{} h ago", seconds / 3600),
        _ => format!("{} days ago", seconds / 86_400),
    }
}

/// `48 ms`, `3.2 s`, `2 min 5 s`, `1 h 3 min`.
pub(crate) fn duration(ms: i64) -> String {
    let ms = ms.max(0);
    let seconds = ms / 1000;
    match ms {
        0..1000 => format!("{ms} ms"),
        1000..60_000 => format!("{seconds}.{} s", ms % 1000 / 100),
        60_000..3_600_000 => format!("{} min {} s", seconds / 60, seconds % 60),
        _ => format!("{} h {} min", seconds / 3600, seconds / 60 % 60),
    }
}

/// `812 B`, `1.4 MB`.
pub(crate) fn size(bytes: u64) -> String {
    const UNITS: [&str; 5] = ["kB", "MB", "GB", "TB", "PB"];
    if bytes < 1000 {
        return format!("{bytes} B");
    }
    // Tenths of the unit, in whole numbers.
    let mut tenths = bytes / 100;
    let mut unit = 0;
    while tenths >= 10_000 && unit + 1 < UNITS.len() {
        tenths /= 1000;
        unit += 1;
    }
    if tenths < 1000 {
        format!("{}.{} {}", tenths / 10, tenths % 10, UNITS[unit])
    } else {
        format!("{} {}", tenths / 10, UNITS[unit])
    }
}

/// The time from `from` to `to`, or to now for what goes on.
pub(crate) fn span(from: Option<Millis>, to: Option<Millis>, now: Millis) -> Option<String> {
    from.map(|from| duration(to.unwrap_or(now).since(from)))
}

/// The first line, at most `chars` of it.
pub(crate) fn first_line(text: &str, chars: usize) -> String {
    let line = text.lines().next().unwrap_or_default();
    match line.char_indices().nth(chars) {
        Some((end, _)) => format!("{}…", line.get(..end).unwrap_or_default()),
        None => line.to_owned(),
    }
}

/// A name that may break into lines where its words end, not anywhere.
pub(crate) fn breaking(name: &str) -> Markup {
    html! {
        @for word in name.split_inclusive(['_', '-', '/', '.']) { (word) wbr; }
    }
}

/// A path for an address, with its slashes.
pub(crate) fn address(path: &str) -> String {
    path.split('/')
        .map(|segment| {
            segment
                .bytes()
                .map(|byte| match byte {
                    b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'-' | b'_' | b'.' | b'~' | b'@' => {
                        char::from(byte).to_string()
                    }
                    _ => format!("%{byte:02X}"),
                })
                .collect::<String>()
        })
        .collect::<Vec<_>>()
        .join("/")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_read_well() {
        let durations = [48, 3_240, 125_000, 3_780_000].map(duration);
        assert_eq!(durations, ["48 ms", "3.2 s", "2 min 5 s", "1 h 3 min"]);
        let sizes = [812, 1_000, 1_440_000, 999_950, 104_857_600, u64::MAX].map(size);
        let expected = ["812 B", "1.0 kB", "1.4 MB", "999 kB", "104 MB", "18446 PB"];
        assert_eq!(sizes, expected);
    }

    #[test]
    fn addresses_keep_slashes_and_nothing_else() {
        assert_eq!(
            address("/Users/a@b.c/x y?#%"),
            "/Users/a@b.c/x%20y%3F%23%25"
        );
        assert_eq!(address("/é/<b>"), "/%C3%A9/%3Cb%3E");
    }

    #[test]
    fn long_lines_are_cut_between_characters() {
        assert_eq!(first_line("ééé\nb", 2), "éé…");
        assert_eq!(first_line("éé\nb", 2), "éé");
    }
}
