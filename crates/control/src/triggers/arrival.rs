use std::collections::HashMap;

use forebay_store::{FileChanges, KnownFile};
use forebay_types::{DbfsPath, Millis, Result};

use crate::dbfs::Dbfs;

/// The files below a folder that have something in them.
///
/// # Errors
/// When there is no such folder, or it has more than `max` files.
pub(super) async fn scan(dbfs: &Dbfs, folder: &DbfsPath, max: usize) -> Result<Vec<KnownFile>> {
    let found = dbfs.walk(folder, max).await?;
    let below = folder.as_str().trim_end_matches('/').len() + 1;
    let files = found.into_iter().filter(|file| file.size_bytes > 0);
    let mut files: Vec<KnownFile> = files
        .map(|file| KnownFile {
            path: file
                .path
                .as_str()
                .get(below..)
                .unwrap_or_default()
                .to_owned(),
            size_bytes: i64::try_from(file.size_bytes).unwrap_or(i64::MAX),
            modified_at: file.modified,
            changed_at: Millis(0),
            waiting: false,
        })
        .collect();
    files.sort_by(|a, b| a.path.cmp(&b.path));
    Ok(files)
}

/// What changed from the files that are known to those that are there. A known file that was
/// written again is not new; one that waits for its run and still changes is worth another wait.
pub(super) fn changes(known: &[KnownFile], there: Vec<KnownFile>, baseline: bool) -> FileChanges {
    let mut before: HashMap<&str, &KnownFile> = known
        .iter()
        .map(|file| (file.path.as_str(), file))
        .collect();
    let mut changed = Vec::new();
    for file in there {
        match before.remove(file.path.as_str()) {
            None => changed.push(file),
            Some(old) => {
                let same = (old.size_bytes, old.modified_at) == (file.size_bytes, file.modified_at);
                if old.waiting && !same {
                    changed.push(file);
                }
            }
        }
    }
    FileChanges {
        changed,
        gone: before.into_keys().map(str::to_owned).collect(),
        baseline,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn file(path: &str, size_bytes: i64, waiting: bool) -> KnownFile {
        KnownFile {
            path: path.to_owned(),
            size_bytes,
            modified_at: Millis(size_bytes),
            changed_at: Millis(0),
            waiting,
        }
    }

    #[test]
    fn only_new_files_and_waiting_files_that_changed_count() {
        let known = [
            file("old", 1, false),
            file("wait", 1, true),
            file("gone", 1, false),
        ];
        let there = vec![
            file("new", 1, false),
            file("old", 2, false),
            file("wait", 2, false),
        ];
        let found = changes(&known, there, false);
        let names: Vec<&str> = found
            .changed
            .iter()
            .map(|file| file.path.as_str())
            .collect();
        assert_eq!(names, ["new", "wait"]);
        assert_eq!(found.gone, ["gone"]);
    }
}
