//! The halves of a run inside Python and R, out of the binary and onto the disk.

use std::io;
use std::path::{Path, PathBuf};

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
    "channel.py",
    "child.py",
    "confine.py",
    "dbutils.py",
    "fs.py",
    "init.py",
    "libraries.py",
    "program.py",
    "r.py",
    "r_cells.py",
    "r_libraries.py",
    "sail.py",
    "sail_server.py",
    "seed.py",
    "session.py",
    "shell.py",
    "spark.py",
    "sql.py",
    "status.py",
    "tables.py",
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

/// Writes the driver below `data_dir` unless it is there, and returns the folder to put on
/// `sys.path`. Its name is a digest of the content, so two versions of the server may share a
/// data folder one after the other.
pub(crate) fn install(data_dir: &Path) -> io::Result<PathBuf> {
    let mut digest = Sha256::new();
    for (name, source) in PYTHON.iter().chain(R) {
        digest.update(name);
        digest.update([0]);
        digest.update(source);
    }
    let name: String = hex(&digest.finalize());
    let home = data_dir.join("driver").join(&name);
    if home.try_exists()? {
        return Ok(home);
    }
    let draft = data_dir
        .join("driver")
        .join(format!(".{name}.{}", std::process::id()));
    for (folder, files) in [("forebay_driver", PYTHON), ("r", R)] {
        let folder = draft.join(folder);
        std::fs::create_dir_all(&folder)?;
        for (name, source) in files {
            std::fs::write(folder.join(name), source)?;
        }
    }
    publish(&draft, &home)?;
    Ok(home)
}

/// Renames a finished folder into place; when another process was first, its folder stays.
pub(crate) fn publish(draft: &Path, home: &Path) -> io::Result<()> {
    match std::fs::rename(draft, home) {
        Err(_) if home.try_exists()? => std::fs::remove_dir_all(draft),
        other => other,
    }
}

/// The first half of a digest: enough to be unique, short enough for a path.
pub(crate) fn hex(digest: &[u8]) -> String {
    digest
        .iter()
        .take(12)
        .map(|byte| format!("{byte:02x}"))
        .collect()
}
