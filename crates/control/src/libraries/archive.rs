//! Whether a file is what a library of its kind has to be.

use std::fs::File;
use std::io::Read as _;

use forebay_types::{Error, Result};
use zip::ZipArchive;

/// The kinds of libraries that are files.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum FileKind {
    Jar,
    Egg,
    Wheel,
    Requirements,
}

/// The largest requirements file.
const REQUIREMENTS_BYTES_MAX: u64 = 1 << 20;

/// Looks into a file whose name is `name`; `shown` is its path in errors.
///
/// # Errors
/// `INVALID_PARAMETER_VALUE` that says what it lacks.
pub(crate) fn check(kind: FileKind, file: File, name: &str, shown: &str) -> Result<()> {
    if kind == FileKind::Requirements {
        return check_text(file, shown);
    }
    let archive = ZipArchive::new(file);
    match kind {
        FileKind::Jar => {
            archive.map_err(|_| {
                Error::invalid(format!("{shown} is not a JAR: it is no zip archive."))
            })?;
        }
        FileKind::Egg => {
            archive.map_err(|_| {
                Error::invalid(format!("{shown} is not an egg: it is no zip archive."))
            })?;
        }
        FileKind::Wheel => {
            let not = |why: &str| Err(Error::invalid(format!("{shown} is not a wheel: {why}.")));
            let stem = name.strip_suffix(".whl").unwrap_or_default();
            if !matches!(stem.split('-').count(), 5 | 6) {
                return not(
                    "the name of its file has to be NAME-VERSION-PYTHON-ABI-PLATFORM.whl, such as \
                     demand-1.2.0-py3-none-any.whl",
                );
            }
            let Ok(archive) = archive else {
                return not("it is no zip archive");
            };
            let mut names = archive.file_names();
            if !names.any(|name| name.ends_with(".dist-info/METADATA")) {
                return not("there is no *.dist-info/METADATA in it");
            }
        }
        FileKind::Requirements => {}
    }
    Ok(())
}

fn check_text(file: File, shown: &str) -> Result<()> {
    let not = |why: &str| {
        Err(Error::invalid(format!(
            "{shown} is not a requirements file: {why}."
        )))
    };
    let mut text = Vec::new();
    let read = file.take(REQUIREMENTS_BYTES_MAX + 1).read_to_end(&mut text);
    let length = read.map_err(|e| Error::internal(format!("cannot read {shown}"), e))?;
    if length as u64 > REQUIREMENTS_BYTES_MAX {
        return not("it has more than 1 MiB");
    }
    match std::str::from_utf8(&text) {
        Ok(_) => Ok(()),
        Err(_) => not("it is not UTF-8 text"),
    }
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use zip::write::SimpleFileOptions;

    use super::*;

    fn file(entries: Option<&[&str]>) -> File {
        let mut file = tempfile::tempfile().unwrap();
        match entries {
            None => file.write_all(b"not an archive").unwrap(),
            Some(entries) => {
                let mut zip = zip::ZipWriter::new(&mut file);
                for entry in entries {
                    zip.start_file(*entry, SimpleFileOptions::default())
                        .unwrap();
                }
                zip.finish().unwrap();
            }
        }
        file
    }

    #[test]
    fn each_kind_has_to_be_what_it_says() {
        use FileKind::{Jar, Wheel};
        let said = |kind, entries, name: &str| {
            check(kind, file(entries), name, name).map_err(|e| e.message)
        };
        assert_eq!(said(Jar, Some(&["A.class"][..]), "a.jar"), Ok(()));
        assert!(said(Jar, None, "a.jar").unwrap_err().contains("not a JAR"));
        let metadata = Some(&["a-1.dist-info/METADATA"][..]);
        assert_eq!(said(Wheel, metadata, "a-1-py3-none-any.whl"), Ok(()));
        let no_metadata = said(Wheel, Some(&["x"][..]), "a-1-py3-none-any.whl").unwrap_err();
        assert!(no_metadata.contains("METADATA"), "{no_metadata}");
        assert!(said(Wheel, metadata, "a.whl").unwrap_err().contains("NAME"));
        let text = said(Wheel, None, "a-1-py3-none-any.whl").unwrap_err();
        assert!(text.contains("no zip"), "{text}");
    }
}
