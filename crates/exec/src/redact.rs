//! Secret values out of program output.
//!
//! Output arrives in pieces that end anywhere, so a [`StreamRedactor`] holds back the tail of a
//! piece while it may still be the beginning of a secret. This protects against accidents (a secret
//! printed, or part of a traceback), not against a program that means to leak: it can always
//! reverse the text first.

use base64::Engine;
use base64::engine::general_purpose::{STANDARD, URL_SAFE};
use serde_json::Value;

/// Shorter values are not redacted: they occur in ordinary text, and hiding them would ruin it.
pub const SECRET_LENGTH_MIN: usize = 4;

/// What stands in a secret's place.
pub const REDACTED: &str = "[REDACTED]";

/// The known secrets in the forms in which they get into text: as they are, base64 (both
/// alphabets, with and without padding) and percent-encoded.
#[derive(Default, Clone)]
pub struct Redactor {
    /// Longest first, so that a form wins over another form inside it.
    needles: Vec<String>,
}

impl std::fmt::Debug for Redactor {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Redactor({} forms)", self.needles.len())
    }
}

impl Redactor {
    pub fn add(&mut self, secret: &[u8]) {
        if secret.len() < SECRET_LENGTH_MIN {
            return;
        }
        for form in forms(secret) {
            if form.len() >= SECRET_LENGTH_MIN && !self.needles.contains(&form) {
                self.needles.push(form);
            }
        }
        self.needles
            .sort_by_key(|needle| std::cmp::Reverse(needle.len()));
    }

    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.needles.is_empty()
    }

    #[must_use]
    pub fn text(&self, text: &str) -> String {
        self.scan(text, true).0
    }

    /// Every string inside `value`; keys of objects are left alone.
    pub fn value(&self, value: &mut Value) {
        match value {
            Value::String(text) => *text = self.text(text),
            Value::Array(items) => items.iter_mut().for_each(|item| self.value(item)),
            Value::Object(map) => {
                for item in map.values_mut() {
                    self.value(item);
                }
            }
            Value::Null | Value::Bool(_) | Value::Number(_) => {}
        }
    }

    /// The redacted text, and how many bytes of `text` it covers: all of them when `last`, else
    /// all up to a tail that may be the beginning of a secret.
    fn scan(&self, text: &str, last: bool) -> (String, usize) {
        let mut out = String::with_capacity(text.len());
        let mut rest = text;
        while !rest.is_empty() {
            if !last
                && self
                    .needles
                    .iter()
                    .any(|needle| proper_prefix(rest, needle))
            {
                break;
            }
            if let Some(needle) = self.needles.iter().find(|needle| rest.starts_with(*needle)) {
                out.push_str(REDACTED);
                rest = &rest[needle.len()..];
                continue;
            }
            let skip = self.plain_length(rest);
            out.push_str(&rest[..skip]);
            rest = &rest[skip..];
        }
        (out, text.len() - rest.len())
    }

    /// How far `text` goes before a character that begins some secret; at least one character.
    fn plain_length(&self, text: &str) -> usize {
        text.char_indices()
            .skip(1)
            .find(|(_, c)| self.needles.iter().any(|needle| needle.starts_with(*c)))
            .map_or(text.len(), |(at, _)| at)
    }
}

/// Whether `text` ends before `needle` does, and agrees with it as far as it goes.
fn proper_prefix(text: &str, needle: &str) -> bool {
    text.len() < needle.len() && needle.starts_with(text)
}

fn forms(secret: &[u8]) -> Vec<String> {
    let mut forms = Vec::new();
    if let Ok(text) = std::str::from_utf8(secret) {
        forms.push(text.to_owned());
        // A secret read from a file usually has a line end that a program strips.
        forms.push(text.trim_end().to_owned());
        // Tracebacks and `repr` show control characters and quotes escaped.
        forms.push(text.escape_default().to_string());
    }
    for encoded in [STANDARD.encode(secret), URL_SAFE.encode(secret)] {
        forms.push(encoded.trim_end_matches('=').to_owned());
        forms.push(encoded);
    }
    forms.push(percent_encoded(secret, "-_.~", "%20"));
    forms.push(percent_encoded(secret, "-_.~/", "%20"));
    forms.push(percent_encoded(secret, "-_.~", "+"));
    forms
}

/// Like Python's `urllib.parse.quote` with `safe` besides letters and digits.
fn percent_encoded(bytes: &[u8], safe: &str, space: &str) -> String {
    let mut out = String::with_capacity(bytes.len() * 3);
    for &byte in bytes {
        match byte {
            b' ' => out.push_str(space),
            _ if byte.is_ascii_alphanumeric() || safe.as_bytes().contains(&byte) => {
                out.push(char::from(byte));
            }
            _ => out.push_str(&format!("%{byte:02X}")),
        }
    }
    out
}

/// One stream of text, in pieces.
#[derive(Debug, Default)]
pub struct StreamRedactor {
    held: String,
}

impl StreamRedactor {
    /// The part that is safe to show now.
    pub fn push(&mut self, redactor: &Redactor, piece: &str) -> String {
        if redactor.is_empty() && self.held.is_empty() {
            return piece.to_owned();
        }
        self.held.push_str(piece);
        let (out, covered) = redactor.scan(&self.held, false);
        self.held.drain(..covered);
        out
    }

    /// What was held back, when nothing follows.
    pub fn flush(&mut self, redactor: &Redactor) -> String {
        redactor.text(&std::mem::take(&mut self.held))
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn redactor(secrets: &[&str]) -> Redactor {
        let mut redactor = Redactor::default();
        for secret in secrets {
            redactor.add(secret.as_bytes());
        }
        redactor
    }

    #[test]
    fn hides_every_usual_form() {
        let redactor = redactor(&["p@ss word/1"]);
        for shown in [
            "p@ss word/1",
            "cEBzcyB3b3JkLzE=",
            "cEBzcyB3b3JkLzE",
            "p%40ss%20word%2F1",
            "p%40ss%20word/1",
            "p%40ss+word%2F1",
        ] {
            assert_eq!(
                redactor.text(&format!("<{shown}>")),
                "<[REDACTED]>",
                "{shown}"
            );
        }
    }

    #[test]
    fn a_multi_line_secret_is_hidden_in_its_repr() {
        let redactor = redactor(&["line one\nline two\n"]);
        assert_eq!(redactor.text(r"'line one\nline two\n'"), "'[REDACTED]'");
        assert_eq!(redactor.text("line one\nline two"), "[REDACTED]");
    }

    #[test]
    fn the_longer_of_two_secrets_wins() {
        let redactor = redactor(&["token", "token-long"]);
        assert_eq!(redactor.text("token-long token"), "[REDACTED] [REDACTED]");
    }

    #[test]
    fn short_values_stay() {
        assert_eq!(redactor(&["abc"]).text("abc abc"), "abc abc");
    }

    #[test]
    fn a_tail_that_cannot_become_a_secret_is_shown_at_once() {
        let redactor = redactor(&["hunter2!"]);
        let mut stream = StreamRedactor::default();
        assert_eq!(stream.push(&redactor, "password: hun"), "password: ");
        assert_eq!(stream.push(&redactor, "gry"), "hungry");
        assert_eq!(stream.push(&redactor, " hunter2"), " ");
        assert_eq!(stream.flush(&redactor), "hunter2");
    }

    #[test]
    fn values_inside_json_are_hidden() {
        let redactor = redactor(&["hunter2!"]);
        let mut value = serde_json::json!({"text/html": ["<b>hunter2!</b>", 7]});
        redactor.value(&mut value);
        assert_eq!(
            value,
            serde_json::json!({"text/html": ["<b>[REDACTED]</b>", 7]})
        );
    }

    proptest! {
        /// Cutting the text anywhere changes nothing.
        #[test]
        fn pieces_give_the_same_as_the_whole(
            text in "[abé]{0,40}", cuts in prop::collection::vec(0usize..40, 0..6),
        ) {
            let redactor = redactor(&["abab", "éaba", "bbbaa"]);
            let mut stream = StreamRedactor::default();
            let chars: Vec<char> = text.chars().collect();
            let mut cuts: Vec<usize> = cuts.into_iter().map(|c| c.min(chars.len())).collect();
            cuts.extend([0, chars.len()]);
            cuts.sort_unstable();
            let mut out = String::new();
            for pair in cuts.windows(2) {
                let piece: String = chars[pair[0]..pair[1]].iter().collect();
                out.push_str(&stream.push(&redactor, &piece));
            }
            out.push_str(&stream.flush(&redactor));
            prop_assert_eq!(out, redactor.text(&text));
        }
    }
}
