use std::path::Path;

use include_dir::{Dir, DirEntry, include_dir};

use crate::failure::{Exit, Failure};

static DEMAND: Dir<'_> = include_dir!("$CARGO_MANIFEST_DIR/../../examples/demand");

/// Writes the example project that is part of this program, and says of how many files it is.
pub(super) fn write(folder: &Path) -> Result<usize, Failure> {
    copy(&DEMAND, folder).map_err(|e| {
        let message = format!("cannot write the example to {}: {e}", folder.display());
        Failure::new(Exit::Failed, message)
    })
}

fn copy(from: &Dir<'_>, folder: &Path) -> std::io::Result<usize> {
    let mut files = 0;
    for entry in from.entries() {
        if left_behind(entry.path()) {
            continue;
        }
        match entry {
            DirEntry::Dir(dir) => files += copy(dir, folder)?,
            DirEntry::File(file) => {
                let path = folder.join(file.path());
                if let Some(parent) = path.parent() {
                    std::fs::create_dir_all(parent)?;
                }
                std::fs::write(path, file.contents())?;
                files += 1;
            }
        }
    }
    Ok(files)
}

/// What a test run in the source tree may have left there before the build.
fn left_behind(path: &Path) -> bool {
    let name = path.file_name().unwrap_or_default();
    name == "__pycache__" || name == ".pytest_cache"
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_example_is_complete() {
        let folder = tempfile::tempdir().unwrap();
        assert!(write(folder.path()).unwrap() >= 15);
        for path in [
            "tests/integration_test.py",
            "notebooks/config.py",
            "data/demand.csv",
        ] {
            assert!(folder.path().join(path).is_file(), "{path}");
        }
    }
}
