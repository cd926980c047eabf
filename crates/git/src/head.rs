use std::fs;
use std::path::Path;

use crate::error::GitError;

/// What a work tree stands at.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Head {
    /// `None` on a tag or a single commit.
    pub branch: Option<String>,
    /// `None` in a repository without commits.
    pub commit: Option<String>,
}

impl Head {
    /// Reads the files of a Git folder that only this server writes: no process is started, so
    /// lists of many repositories stay cheap.
    pub(crate) fn read(git_dir: &Path) -> Result<Self, GitError> {
        let read = |name: &str| fs::read_to_string(git_dir.join(name));
        let head = read("HEAD").map_err(|e| GitError::server("read HEAD", e))?;
        let Some(name) = head.trim().strip_prefix("ref: ") else {
            return Ok(Self {
                branch: None,
                commit: Some(head.trim().to_owned()),
            });
        };
        let commit = match read(name) {
            Ok(id) => Some(id.trim().to_owned()),
            Err(_) => packed(&read("packed-refs").unwrap_or_default(), name),
        };
        let branch = name.strip_prefix("refs/heads/").unwrap_or(name);
        Ok(Self {
            branch: Some(branch.to_owned()),
            commit,
        })
    }
}

fn packed(text: &str, name: &str) -> Option<String> {
    let mut lines = text.lines().filter_map(|line| line.split_once(' '));
    let (id, _) = lines.find(|(_, found)| *found == name)?;
    Some(id.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn head_is_read_from_loose_and_packed_references() {
        let dir = tempfile::tempdir().unwrap();
        let put = |name: &str, text: &str| {
            let path = dir.path().join(name);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, text).unwrap();
        };
        let read = || Head::read(dir.path()).map(|head| (head.branch, head.commit));
        assert!(read().is_err());
        put("HEAD", "ref: refs/heads/feature/two\n");
        let branch = Some("feature/two".to_owned());
        assert_eq!(read().unwrap(), (branch.clone(), None));
        put(
            "packed-refs",
            "# pack-refs\nab12 refs/heads/feature/two\n^cd\n",
        );
        assert_eq!(read().unwrap(), (branch.clone(), Some("ab12".to_owned())));
        put("refs/heads/feature/two", "ef34\n");
        assert_eq!(read().unwrap(), (branch, Some("ef34".to_owned())));
        put("HEAD", "aa00\n");
        assert_eq!(read().unwrap(), (None, Some("aa00".to_owned())));
    }
}
