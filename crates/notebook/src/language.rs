//! The four notebook languages and how each one spells comments, files and itself.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};
use thiserror::Error;

/// Serialised as the API spells it: `PYTHON`, `R`, `SCALA`, `SQL`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "UPPERCASE")]
pub enum Language {
    Python,
    R,
    Scala,
    Sql,
}

#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[error("language {0:?} is not one of PYTHON, R, SCALA, SQL")]
pub struct UnknownLanguage(pub String);

impl Language {
    pub const ALL: [Self; 4] = [Self::Python, Self::R, Self::Scala, Self::Sql];

    /// `PYTHON`, as in the `language` field of the workspace API.
    #[must_use]
    pub fn api_name(self) -> &'static str {
        match self {
            Self::Python => "PYTHON",
            Self::R => "R",
            Self::Scala => "SCALA",
            Self::Sql => "SQL",
        }
    }

    /// `python`, as in a magic line, in ipynb metadata and in cell kinds.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Python => "python",
            Self::R => "r",
            Self::Scala => "scala",
            Self::Sql => "sql",
        }
    }

    /// With the dot: `.py`.
    #[must_use]
    pub fn extension(self) -> &'static str {
        match self {
            Self::Python => ".py",
            Self::R => ".r",
            Self::Scala => ".scala",
            Self::Sql => ".sql",
        }
    }

    /// What begins a line comment, without the blank after it.
    #[must_use]
    pub fn comment(self) -> &'static str {
        match self {
            Self::Python | Self::R => "#",
            Self::Scala => "//",
            Self::Sql => "--",
        }
    }

    /// By the name's extension, in any case: `x.R` is R. `None` for every other extension.
    #[must_use]
    pub fn of_file(name: &str) -> Option<Self> {
        let (_, extension) = name.rsplit_once('.')?;
        Self::ALL
            .into_iter()
            .find(|language| extension.eq_ignore_ascii_case(&language.extension()[1..]))
    }
}

impl fmt::Display for Language {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.api_name())
    }
}

impl FromStr for Language {
    type Err = UnknownLanguage;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        Self::ALL
            .into_iter()
            .find(|language| text.eq_ignore_ascii_case(language.name()))
            .ok_or_else(|| UnknownLanguage(text.to_owned()))
    }
}
