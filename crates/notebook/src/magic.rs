//! What a cell is, by its first line: code of a language, or one of the magics.

use serde::{Deserialize, Serialize};

use crate::Language;

/// How a cell is to be run.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum CellKind {
    Python,
    R,
    Scala,
    Sql,
    Md,
    Sh,
    Fs,
    Run,
    /// Nothing but `%pip` lines.
    Pip,
    Skip,
}

impl CellKind {
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Python => "python",
            Self::R => "r",
            Self::Scala => "scala",
            Self::Sql => "sql",
            Self::Md => "md",
            Self::Sh => "sh",
            Self::Fs => "fs",
            Self::Run => "run",
            Self::Pip => "pip",
            Self::Skip => "skip",
        }
    }

    /// The kind of a cell with this text in a notebook of this language.
    #[must_use]
    pub fn of(source: &str, language: Language) -> Self {
        Body::of(source, language).kind
    }

    /// The language of a code cell.
    #[must_use]
    pub fn language(self) -> Option<Language> {
        match self {
            Self::Python => Some(Language::Python),
            Self::R => Some(Language::R),
            Self::Scala => Some(Language::Scala),
            Self::Sql => Some(Language::Sql),
            Self::Md | Self::Sh | Self::Fs | Self::Run | Self::Pip | Self::Skip => None,
        }
    }

    fn of_magic(name: &str) -> Option<Self> {
        Some(match name {
            "python" => Self::Python,
            "r" => Self::R,
            "scala" => Self::Scala,
            "sql" => Self::Sql,
            "md" | "md-sandbox" => Self::Md,
            "sh" => Self::Sh,
            "fs" => Self::Fs,
            "run" => Self::Run,
            "pip" => Self::Pip,
            "skip" => Self::Skip,
            _ => return None,
        })
    }
}

impl From<Language> for CellKind {
    fn from(language: Language) -> Self {
        match language {
            Language::Python => Self::Python,
            Language::R => Self::R,
            Language::Scala => Self::Scala,
            Language::Sql => Self::Sql,
        }
    }
}

/// A cell's text taken apart.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Body {
    pub(crate) kind: CellKind,
    /// The text to run, without the magic that names the kind.
    pub(crate) source: String,
    /// How many lines of the cell are before the first line of `source`.
    pub(crate) lines_before: usize,
    /// The options on a `%sh` line, such as `-e`.
    pub(crate) flags: Vec<String>,
    /// The line, from 0, of a `%run` that has other code beside it.
    pub(crate) crowded_run: Option<usize>,
}

impl Body {
    pub(crate) fn of(source: &str, language: Language) -> Self {
        let lines: Vec<&str> = source.lines().collect();
        let first = lines.iter().position(|line| !line.trim().is_empty());
        // A comment above `%run` or `%pip` does not make it code.
        let first_code = lines
            .iter()
            .position(|line| !is_comment_or_blank(line, language));
        let magic_at = |at: Option<usize>| {
            let at = at?;
            let (name, rest) = split_magic(lines[at])?;
            Some((at, CellKind::of_magic(name)?, rest))
        };
        let whole =
            magic_at(first).or_else(|| magic_at(first_code).filter(|magic| is_line_magic(magic.1)));
        match whole {
            Some((at, CellKind::Run, rest)) => run_body(&lines, at, rest, language),
            Some((_, CellKind::Pip, _)) => pip_body(source, &lines, language),
            Some((at, kind, rest)) => {
                let mut body = after_magic(&lines, at, kind, rest);
                if kind == CellKind::Python {
                    body.crowded_run = run_line(&body.source).map(|line| line + body.lines_before);
                }
                body
            }
            None => Self {
                kind: language.into(),
                source: source.to_owned(),
                lines_before: 0,
                flags: Vec::new(),
                crowded_run: (language == Language::Python)
                    .then(|| run_line(source))
                    .flatten(),
            },
        }
    }
}

/// `%name rest`; cell magics (`%%name`) belong to IPython.
fn split_magic(line: &str) -> Option<(&str, &str)> {
    let text = line.trim().strip_prefix('%')?;
    let (name, rest) = text.split_once(char::is_whitespace).unwrap_or((text, ""));
    Some((name, rest.trim_start()))
}

/// Magics that are a statement of their own rather than the heading of a cell.
fn is_line_magic(kind: CellKind) -> bool {
    matches!(kind, CellKind::Run | CellKind::Pip)
}

fn is_comment_or_blank(line: &str, language: Language) -> bool {
    let line = line.trim();
    line.is_empty() || line.starts_with(language.comment()) || line.starts_with('#')
}

fn after_magic(lines: &[&str], at: usize, kind: CellKind, rest: &str) -> Body {
    let below = lines[at + 1..].iter().copied();
    let has_flags =
        kind == CellKind::Sh && rest.split_whitespace().all(|word| word.starts_with('-'));
    let flags = rest.split_whitespace().filter(|_| has_flags);
    let flags = flags.map(str::to_owned).collect();
    let (source, lines_before) = if rest.is_empty() || has_flags {
        (below.collect::<Vec<_>>().join("\n"), at + 1)
    } else {
        let all: Vec<&str> = std::iter::once(rest).chain(below).collect();
        (all.join("\n"), at)
    };
    Body {
        kind,
        source,
        lines_before,
        flags,
        crowded_run: None,
    }
}

fn run_body(lines: &[&str], at: usize, rest: &str, language: Language) -> Body {
    let is_alone = lines[at + 1..]
        .iter()
        .all(|line| is_comment_or_blank(line, language));
    Body {
        kind: CellKind::Run,
        source: rest.to_owned(),
        lines_before: at,
        flags: Vec::new(),
        crowded_run: (!is_alone).then_some(at),
    }
}

/// Nothing but `%pip` lines gives their arguments, one command a line with continuations joined.
/// Beside other code, they stay where they are in a Python cell.
fn pip_body(source: &str, lines: &[&str], language: Language) -> Body {
    let mut commands: Vec<String> = Vec::new();
    let mut continues = false;
    for line in lines {
        let text = if continues {
            line.trim()
        } else if is_comment_or_blank(line, language) {
            continue;
        } else if let Some(("pip", rest)) = split_magic(line) {
            commands.push(String::new());
            rest.trim_end()
        } else {
            return Body {
                kind: CellKind::Python,
                source: source.to_owned(),
                lines_before: 0,
                flags: Vec::new(),
                crowded_run: run_line(source),
            };
        };
        let (text, more) = match text.strip_suffix('\\') {
            Some(text) => (text.trim_end(), true),
            None => (text, false),
        };
        if let Some(command) = commands.last_mut() {
            if !command.is_empty() && !text.is_empty() {
                command.push(' ');
            }
            command.push_str(text);
        }
        continues = more;
    }
    Body {
        kind: CellKind::Pip,
        source: commands.join("\n"),
        lines_before: 0,
        flags: Vec::new(),
        crowded_run: None,
    }
}

/// The first line, from 0, that is a `%run` statement of Python code. Text inside triple quotes
/// and inside an IPython cell magic is not code.
fn run_line(source: &str) -> Option<usize> {
    let mut open: Option<&str> = None;
    for (index, line) in source.lines().enumerate() {
        if open.is_none() {
            if line.starts_with("%%") {
                return None;
            }
            if split_magic(line).is_some_and(|(name, _)| name == "run") {
                return Some(index);
            }
        }
        open = quote_after(line, open);
    }
    None
}

/// Which triple quote is open after this line, given which one was before it.
fn quote_after<'q>(line: &str, mut open: Option<&'q str>) -> Option<&'q str> {
    let mut at = 0;
    while let Some(rest) = line.get(at..) {
        let Some(next) = rest.chars().next() else {
            break;
        };
        if let Some(quote) = open {
            if rest.starts_with(quote) {
                open = None;
                at += 3;
            } else {
                at += skip_char(rest, next);
            }
        } else if rest.starts_with("\"\"\"") || rest.starts_with("'''") {
            open = Some(if next == '"' { "\"\"\"" } else { "'''" });
            at += 3;
        } else if next == '#' {
            break;
        } else if next == '"' || next == '\'' {
            at += 1 + plain_string_length(&rest[1..], next);
        } else {
            at += skip_char(rest, next);
        }
    }
    open
}

/// One character, or a backslash with the one after it.
fn skip_char(rest: &str, next: char) -> usize {
    let after = if next == '\\' {
        rest[1..].chars().next().map_or(0, char::len_utf8)
    } else {
        0
    };
    next.len_utf8() + after
}

/// The length of a one-line string's rest with its closing quote, or of the whole line.
fn plain_string_length(text: &str, quote: char) -> usize {
    let mut escaped = false;
    for (at, char) in text.char_indices() {
        match char {
            _ if escaped => escaped = false,
            '\\' => escaped = true,
            _ if char == quote => return at + 1,
            _ => {}
        }
    }
    text.len()
}
