//! The arguments of `%run` and `%fs`, and shell-like splitting for them and `%pip`.

use std::iter::Peekable;
use std::str::CharIndices;

use thiserror::Error;

/// Columns count characters of the arguments from 1.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum CommandError {
    #[error("%run has no notebook path; write it as %run ./folder/notebook")]
    NoPath,
    #[error("%run has {found:?} where a parameter like $name=\"value\" is expected")]
    NotAParameter { found: String },
    #[error("the quote at column {column} is not closed")]
    OpenQuote { column: usize },
    #[error("%fs has no command; write it as %fs ls /path")]
    NoCommand,
    #[error("%fs takes one line, but its cell has more; use a cell per command")]
    ManyLines,
}

/// `%run ./path $name="value"`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RunCommand {
    /// As written: absolute, or relative to the folder of the notebook.
    pub path: String,
    pub params: Vec<(String, String)>,
}

impl RunCommand {
    /// Reads the arguments, with or without `%run` before them. The path may be quoted; unquoted
    /// it reaches to the first ` $` or ` #` and so may contain blanks.
    ///
    /// # Errors
    /// When the path is missing, a quote is open, or something else than parameters follows.
    pub fn parse(source: &str) -> Result<Self, CommandError> {
        let text = source.trim();
        let text = match text.strip_prefix("%run") {
            Some(rest) if rest.is_empty() || rest.starts_with(char::is_whitespace) => rest,
            _ => text,
        };
        let mut scanner = Scanner::new(text);
        scanner.blanks();
        let path = match scanner.quoted()? {
            Some(path) => path,
            None => scanner.until_parameter(),
        };
        if path.is_empty() {
            return Err(CommandError::NoPath);
        }
        let mut params = Vec::new();
        while let Some(param) = scanner.parameter()? {
            params.push(param);
        }
        Ok(Self { path, params })
    }
}

/// `%fs ls /path`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FsCommand {
    /// `ls`, `cp`, `rm`, ...: which ones there are is the driver's business.
    pub name: String,
    pub args: Vec<String>,
}

impl FsCommand {
    /// Reads the one line of a `%fs` cell, with or without `%fs` before it.
    ///
    /// # Errors
    /// When there is no command, a second line, or an open quote.
    pub fn parse(source: &str) -> Result<Self, CommandError> {
        let text = source.trim();
        let text = match text.strip_prefix("%fs") {
            Some(rest) if rest.is_empty() || rest.starts_with(char::is_whitespace) => rest.trim(),
            _ => text,
        };
        if text.contains('\n') {
            return Err(CommandError::ManyLines);
        }
        let mut words = split_words(text)?.into_iter();
        Ok(Self {
            name: words.next().ok_or(CommandError::NoCommand)?,
            args: words.collect(),
        })
    }
}

/// Splits at blanks as a shell does: quotes join, a backslash outside of single quotes takes the
/// next character as it is. Nothing is expanded.
///
/// # Errors
/// When a quote is open.
pub fn split_words(text: &str) -> Result<Vec<String>, CommandError> {
    let mut scanner = Scanner::new(text);
    let mut words = Vec::new();
    loop {
        scanner.blanks();
        if scanner.chars.peek().is_none() {
            return Ok(words);
        }
        words.push(scanner.word()?);
    }
}

struct Scanner<'a> {
    text: &'a str,
    chars: Peekable<CharIndices<'a>>,
}

impl<'a> Scanner<'a> {
    fn new(text: &'a str) -> Self {
        Self {
            text,
            chars: text.char_indices().peekable(),
        }
    }

    fn rest(&mut self) -> &'a str {
        match self.chars.peek() {
            Some((at, _)) => &self.text[*at..],
            None => "",
        }
    }

    fn blanks(&mut self) {
        while self
            .chars
            .next_if(|(_, char)| char.is_whitespace())
            .is_some()
        {}
    }

    /// A quoted string in which a backslash keeps its meaning only before a quote or a backslash.
    fn quoted(&mut self) -> Result<Option<String>, CommandError> {
        let Some((start, quote)) = self.chars.next_if(|(_, char)| matches!(char, '"' | '\''))
        else {
            return Ok(None);
        };
        let mut value = String::new();
        while let Some((_, char)) = self.chars.next() {
            if char == quote {
                return Ok(Some(value));
            }
            let escaped = (char == '\\')
                .then(|| {
                    self.chars
                        .next_if(|(_, next)| *next == quote || *next == '\\')
                })
                .flatten();
            value.push(escaped.map_or(char, |(_, next)| next));
        }
        Err(CommandError::OpenQuote {
            column: self.text[..start].chars().count() + 1,
        })
    }

    fn until_parameter(&mut self) -> String {
        let rest = self.rest();
        let mut end = rest.len();
        let mut after_blank = true;
        for (at, char) in rest.char_indices() {
            if after_blank && matches!(char, '$' | '#') {
                end = at;
                break;
            }
            after_blank = char.is_whitespace();
        }
        let stop = self.text.len() - rest.len() + end;
        while self.chars.next_if(|(at, _)| *at < stop).is_some() {}
        rest[..end].trim_end().to_owned()
    }

    /// `$name="value"`, blanks around `=` allowed; `None` at the end or at a comment.
    fn parameter(&mut self) -> Result<Option<(String, String)>, CommandError> {
        self.blanks();
        let found = self.rest();
        if found.is_empty() || found.starts_with('#') {
            return Ok(None);
        }
        let wrong = || CommandError::NotAParameter {
            found: found.chars().take(40).collect(),
        };
        self.chars
            .next_if(|(_, char)| *char == '$')
            .ok_or_else(wrong)?;
        let mut name = String::new();
        while let Some((_, char)) = self
            .chars
            .next_if(|(_, char)| *char != '=' && !char.is_whitespace())
        {
            name.push(char);
        }
        self.blanks();
        let has_equals = self.chars.next_if(|(_, char)| *char == '=').is_some();
        if name.is_empty() || !has_equals {
            return Err(wrong());
        }
        self.blanks();
        let value = match self.quoted()? {
            Some(value) => value,
            None => {
                let mut value = String::new();
                while let Some((_, char)) = self.chars.next_if(|(_, char)| !char.is_whitespace()) {
                    value.push(char);
                }
                value
            }
        };
        Ok(Some((name, value)))
    }

    fn word(&mut self) -> Result<String, CommandError> {
        let mut word = String::new();
        while let Some((start, char)) = self.chars.next_if(|(_, char)| !char.is_whitespace()) {
            match char {
                '\\' => word.extend(self.chars.next().map(|(_, next)| next)),
                '\'' | '"' => {
                    word.push_str(&self.shell_quoted(start, char)?);
                }
                _ => word.push(char),
            }
        }
        Ok(word)
    }

    fn shell_quoted(&mut self, start: usize, quote: char) -> Result<String, CommandError> {
        let mut value = String::new();
        while let Some((_, char)) = self.chars.next() {
            if char == quote {
                return Ok(value);
            }
            let escaped = (char == '\\' && quote == '"')
                .then(|| self.chars.next_if(|(_, next)| matches!(next, '"' | '\\')))
                .flatten();
            value.push(escaped.map_or(char, |(_, next)| next));
        }
        Err(CommandError::OpenQuote {
            column: self.text[..start].chars().count() + 1,
        })
    }
}
