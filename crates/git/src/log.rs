use std::path::Path;

use forebay_types::Millis;

use crate::error::GitError;
use crate::program::Git;

/// One commit, as a list of commits shows it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Commit {
    pub id: String,
    pub author: String,
    pub at: Millis,
    /// The first line of its message.
    pub subject: String,
}

/// What a commit did to a file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Change {
    /// `A`, `M`, `D` or another letter of Git's.
    pub kind: char,
    pub path: String,
}

/// What a work tree stands at and how it came there.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct History {
    /// The newest first, which is the one that is checked out.
    pub commits: Vec<Commit>,
    /// The tags of that one.
    pub tags: Vec<String>,
    /// What that one changed; nothing for a merge.
    pub changes: Vec<Change>,
}

const SEPARATOR: char = '\u{1f}';

impl Git {
    /// The last `count` commits of a Git folder, which must have one.
    ///
    /// # Errors
    /// When the folder cannot be read.
    pub async fn history(&self, git_dir: &Path, count: usize) -> Result<History, GitError> {
        let read = async |args: &[&str]| {
            let call = self.call("read the history").env("GIT_DIR", git_dir);
            call.args(args).run().await
        };
        let count = count.to_string();
        let log = [
            "log",
            "-n",
            &count,
            "--format=%H%x1f%an%x1f%at%x1f%s",
            "HEAD",
        ];
        let tags = [
            "for-each-ref",
            "--points-at=HEAD",
            "--format=%(refname:strip=2)",
            "refs/tags",
        ];
        let changes = [
            "diff-tree",
            "--root",
            "--no-commit-id",
            "--name-status",
            "-r",
            "-z",
            "HEAD",
        ];
        let commits = read(&log).await?;
        let tags = read(&tags).await?;
        let changes = read(&changes).await?;
        Ok(History {
            commits: commits.lines().filter_map(commit).collect(),
            tags: tags.lines().map(str::to_owned).collect(),
            changes: changes_of(&changes),
        })
    }
}

fn commit(line: &str) -> Option<Commit> {
    let mut parts = line.splitn(4, SEPARATOR);
    let mut next = || parts.next().map(str::to_owned);
    Some(Commit {
        id: next()?,
        author: next()?,
        at: Millis(next()?.parse::<i64>().ok()?.saturating_mul(1000)),
        subject: next()?,
    })
}

/// A letter and a path in turns, each ended by NUL.
fn changes_of(text: &str) -> Vec<Change> {
    let mut parts = text.split('\0');
    let mut changes = Vec::new();
    while let (Some(kind), Some(path)) = (parts.next(), parts.next()) {
        let kind = kind.chars().next().unwrap_or('M');
        let path = path.to_owned();
        changes.push(Change { kind, path });
    }
    changes
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_of_git_are_read() {
        let read = commit("ab12\u{1f}Ada\u{1f}1700000000\u{1f}a \u{1f} subject").unwrap();
        assert_eq!(
            (read.author.as_str(), read.at.0),
            ("Ada", 1_700_000_000_000)
        );
        assert_eq!(read.subject, "a \u{1f} subject");
        assert_eq!(commit("ab12"), None);
        let changes = changes_of("A\0a b\0M\0c\nd\0");
        let changes: Vec<_> = changes
            .iter()
            .map(|one| (one.kind, one.path.as_str()))
            .collect();
        assert_eq!(changes, [('A', "a b"), ('M', "c\nd")]);
    }
}
