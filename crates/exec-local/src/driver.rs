//! The halves of a run inside Python and R, out of the binary and onto the disk.

use std::io;
use std::path::{Path, PathBuf};

use forebay_types::hex;
use sha2::{Digest, Sha256};

/// Paths below the driver's folder, and what is there. `in "x"` is where they are in this repository.
macro_rules! files {
    (in $folder:literal: $($name:literal),+ $(,)?) => {
        &[$(($name, include_str!(concat!("../../../", $folder, "/", $name)))),+]
    };
}

const PYTHON: &[(&str, &str)] = files!(in "python/forebay_driver":
    "__init__.py",
    "absent.py",
    "apache.py",
    "channel.py",
    "child.py",
    "confine.py",
    "context.py",
    "control.py",
    "dbutils.py",
    "first_use.py",
    "fs.py",
    "imports.py",
    "init.py",
    "jar.py",
    "java_end.py",
    "jvm.py",
    "libraries.py",
    "maven.py",
    "program.py",
    "pump.py",
    "r.py",
    "r_cells.py",
    "r_embedded.py",
    "r_libraries.py",
    "requirements.py",
    "reserved.py",
    "sail.py",
    "sail_server.py",
    "seed.py",
    "session.py",
    "shelf.py",
    "shell.py",
    "spark.py",
    "sql.py",
    "status.py",
    "submission.py",
    "tables.py",
    "walls.py",
    "warehouse.py",
    "warm_jvm.py",
    "worker.py",
    "zygote.py",
);

const R: &[(&str, &str)] = files!(in "r":
    "cell.R",
    "dbutils.R",
    "driver.R",
    "main.R",
    "show.R",
);

/// By their folders.
const PARTS: [(&str, &[(&str, &str)]); 2] = [("forebay_driver", PYTHON), ("r", R)];

/// Writes the driver below `folder` unless it is there, and returns the folder to put on `sys.path`.
/// Its name is a digest of the content, so different versions of the server may share a folder.
pub(crate) fn install(folder: &Path) -> io::Result<PathBuf> {
    let mut digest = Sha256::new();
    for (name, source) in PARTS.iter().flat_map(|(_, files)| *files) {
        digest.update(name);
        digest.update([0]);
        digest.update(source);
    }
    let name: String = half(&digest.finalize());
    let home = folder.join("driver").join(&name);
    if is_whole(&home) {
        return Ok(home);
    }
    let draft = folder
        .join("driver")
        .join(format!(".{name}.{}", std::process::id()));
    for (part, files) in PARTS {
        let part = draft.join(part);
        std::fs::create_dir_all(&part)?;
        for (name, source) in files {
            std::fs::write(part.join(name), source)?;
        }
    }
    if home.try_exists()? {
        // Names without their content, as a loss of power leaves them.
        std::fs::remove_dir_all(&home)?;
    }
    publish(&draft, &home)?;
    Ok(home)
}

fn is_whole(home: &Path) -> bool {
    let is_there = |part: &str, name: &str, source: &str| {
        std::fs::read(home.join(part).join(name)).is_ok_and(|found| found == source.as_bytes())
    };
    PARTS.iter().all(|(part, files)| {
        let mut files = files.iter();
        files.all(|(name, source)| is_there(part, name, source))
    })
}

/// Renames a finished folder into place; when another process was first, its folder stays.
pub(crate) fn publish(draft: &Path, home: &Path) -> io::Result<()> {
    match std::fs::rename(draft, home) {
        Err(_) if home.try_exists()? => std::fs::remove_dir_all(draft),
        other => other,
    }
}

/// The first half of a digest: enough to be unique, short enough for a path.
pub(crate) fn half(digest: &[u8]) -> String {
    hex(digest.get(..12).unwrap_or(digest))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_driver_that_lost_its_content_is_written_anew() {
        let folder = tempfile::tempdir().unwrap();
        let home = install(folder.path()).unwrap();
        let file = home.join("forebay_driver/zygote.py");
        std::fs::write(&file, "").unwrap();
        assert_eq!(install(folder.path()).unwrap(), home);
        assert_ne!(std::fs::read(&file).unwrap(), b"");
    }
}
