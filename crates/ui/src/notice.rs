//! What became of a form, in words, on the page that it leads back to. The address says which
//! words, never the words themselves: nobody can make a link that puts theirs on our pages.

use maud::{Markup, html};
use serde::{Deserialize, Serialize};

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Notice {
    Started,
    Canceled,
    TaskCanceled,
    Repaired,
    Paused,
    Unpaused,
    /// Anything else in an address says nothing.
    #[serde(other)]
    Unknown,
}

impl Notice {
    /// `address` with this notice, before any query or fragment of its own.
    pub(crate) fn at(self, address: &str) -> String {
        let word = match self {
            Self::Started => "started",
            Self::Canceled => "canceled",
            Self::TaskCanceled => "task_canceled",
            Self::Repaired => "repaired",
            Self::Paused => "paused",
            Self::Unpaused => "unpaused",
            Self::Unknown => "unknown",
        };
        format!("{address}?said={word}")
    }

    fn words(self) -> &'static str {
        match self {
            Self::Started => "The run was started.",
            Self::Canceled => "The run was asked to stop. It ends as soon as its tasks have.",
            Self::Repaired => "The tasks run again.",
            Self::TaskCanceled => "The task was asked to stop. It ends soon.",
            Self::Paused => "The job is paused: it starts no more by itself.",
            Self::Unpaused => "The job starts by itself again.",
            Self::Unknown => "",
        }
    }
}

pub(crate) fn show(notice: Option<Notice>) -> Markup {
    let words = notice.map(Notice::words).unwrap_or_default();
    html! {
        @if !words.is_empty() { p class="notice" role="status" { (words) } }
    }
}
