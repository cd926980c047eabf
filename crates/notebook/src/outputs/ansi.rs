//! Terminal text as HTML: colours become classes, overwritten lines show their last state, and
//! every other control sequence is dropped.

use super::html::push_escaped;

/// The style in force; colours are 0-15 as terminals number them.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
struct Style {
    bold: bool,
    dim: bool,
    italic: bool,
    underline: bool,
    inverse: bool,
    foreground: Option<u8>,
    background: Option<u8>,
}

/// Escaped text with `<span class="ansi-...">` around what has a style. Classes rather than style
/// attributes, so that a strict content policy may forbid the latter.
#[must_use]
pub fn ansi_to_html(text: &str) -> String {
    let text = settle_lines(text);
    let mut out = String::with_capacity(text.len() + text.len() / 8);
    let mut style = Style::default();
    let mut rest = text.as_str();
    while let Some(at) = rest.find('\u{1b}') {
        push_styled(&mut out, &rest[..at], style);
        let (sequence, after) = take_sequence(&rest[at + 1..]);
        if let Some(codes) = sequence {
            style = style.after(codes);
        }
        rest = after;
    }
    push_styled(&mut out, rest, style);
    out
}

/// A progress bar rewrites its line after `\r`; only what it wrote last is kept.
fn settle_lines(text: &str) -> String {
    if !text.contains('\r') {
        return text.to_owned();
    }
    let lines = text.split('\n').map(|line| {
        line.rsplit('\r')
            .find(|state| !state.is_empty())
            .unwrap_or_default()
    });
    lines.collect::<Vec<_>>().join("\n")
}

/// After ESC: the codes when it is a colour sequence, and the text behind the sequence.
fn take_sequence(text: &str) -> (Option<&str>, &str) {
    if let Some(body) = text.strip_prefix('[') {
        let end = body.find(|char: char| !matches!(char, '0'..='?' | ' '..='/'));
        return match end {
            Some(end) if body[end..].starts_with('m') => (Some(&body[..end]), &body[end + 1..]),
            Some(end) if body.as_bytes()[end].is_ascii_graphic() => (None, &body[end + 1..]),
            Some(end) => (None, &body[end..]),
            None => (None, ""),
        };
    }
    if let Some(body) = text.strip_prefix(']') {
        // An operating system command (a title, a link) ends with BEL or ESC \.
        return match body.find(['\u{7}', '\u{1b}']) {
            Some(end) if body[end..].starts_with("\u{1b}\\") => (None, &body[end + 2..]),
            Some(end) => (None, &body[end + 1..]),
            None => (None, ""),
        };
    }
    let mut chars = text.chars();
    match chars.next() {
        Some(char) if char.is_ascii_graphic() => (None, chars.as_str()),
        _ => (None, text),
    }
}

fn push_styled(out: &mut String, text: &str, style: Style) {
    if text.is_empty() {
        return;
    }
    let classes = style.classes();
    if !classes.is_empty() {
        out.push_str("<span class=\"");
        out.push_str(&classes);
        out.push_str("\">");
    }
    push_escaped(out, text);
    if !classes.is_empty() {
        out.push_str("</span>");
    }
}

impl Style {
    fn classes(self) -> String {
        let flags = [
            (self.bold, "ansi-bold"),
            (self.dim, "ansi-dim"),
            (self.italic, "ansi-italic"),
            (self.underline, "ansi-underline"),
            (self.inverse, "ansi-inverse"),
        ];
        let mut classes: Vec<String> = flags
            .iter()
            .filter(|(on, _)| *on)
            .map(|(_, class)| (*class).to_owned())
            .collect();
        classes.extend(self.foreground.map(|colour| format!("ansi-fg-{colour}")));
        classes.extend(self.background.map(|colour| format!("ansi-bg-{colour}")));
        classes.join(" ")
    }

    fn after(mut self, codes: &str) -> Self {
        let mut codes = codes.split([';', ':']).map(|code| {
            if code.is_empty() {
                Some(0)
            } else {
                code.parse::<u16>().ok()
            }
        });
        while let Some(code) = codes.next() {
            let Some(code) = code else { continue };
            match code {
                0 => self = Self::default(),
                1 => self.bold = true,
                2 => self.dim = true,
                3 => self.italic = true,
                4 => self.underline = true,
                7 => self.inverse = true,
                22 => (self.bold, self.dim) = (false, false),
                23 => self.italic = false,
                24 => self.underline = false,
                27 => self.inverse = false,
                30..=37 => self.foreground = colour(code - 30),
                38 => self.foreground = extended(&mut codes).or(self.foreground),
                39 => self.foreground = None,
                40..=47 => self.background = colour(code - 40),
                48 => self.background = extended(&mut codes).or(self.background),
                49 => self.background = None,
                90..=97 => self.foreground = colour(code - 90 + 8),
                100..=107 => self.background = colour(code - 100 + 8),
                _ => {}
            }
        }
        self
    }
}

fn colour(index: u16) -> Option<u8> {
    u8::try_from(index).ok()
}

/// `5;n` or `2;r;g;b`, brought to the nearest of the 16 colours.
fn extended(codes: &mut impl Iterator<Item = Option<u16>>) -> Option<u8> {
    match codes.next()?? {
        5 => match codes.next()?? {
            index @ 0..=15 => colour(index),
            index @ 16..=231 => {
                let cube = index - 16;
                let level = |step: u16| step * 51;
                Some(nearest([
                    level(cube / 36),
                    level(cube / 6 % 6),
                    level(cube % 6),
                ]))
            }
            index @ 232..=255 => Some(nearest([8 + (index - 232) * 10; 3])),
            _ => None,
        },
        2 => Some(nearest([codes.next()??, codes.next()??, codes.next()??])),
        _ => None,
    }
}

/// Colourful by which channels are strong; greys in four steps.
fn nearest(channels: [u16; 3]) -> u8 {
    let strongest = channels.into_iter().max().unwrap_or(0);
    let weakest = channels.into_iter().min().unwrap_or(0);
    if strongest.saturating_sub(weakest) < 40 {
        return match strongest {
            0..=60 => 0,
            61..=150 => 8,
            151..=220 => 7,
            _ => 15,
        };
    }
    let middle = weakest + (strongest - weakest) / 2;
    let [red, green, blue] = channels.map(|channel| u8::from(channel > middle));
    let hue = red + 2 * green + 4 * blue;
    if strongest > 200 { hue + 8 } else { hue }
}
