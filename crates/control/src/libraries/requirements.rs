//! Which files a requirements file takes in. Only those that it names by the way from itself: an
//! absolute path or an address stays what the installer finds there.

use forebay_types::{Error, Result};

const OPTIONS: [&str; 4] = ["--requirement", "--constraint", "-r", "-c"];

/// The paths of the files that the one at `path` takes in with `-r` or `-c`.
///
/// # Errors
/// `INVALID_PARAMETER_VALUE` for one that lies outside the folders that programs see.
pub(super) fn included(text: &str, path: &str) -> Result<Vec<String>> {
    let names = text.lines().filter_map(included_by);
    let relative = names.filter(|name| !name.starts_with('/') && !name.contains("://"));
    let folder = path.rsplit_once('/').map_or("", |(folder, _)| folder);
    let resolve = |name: &str| {
        let outside = || {
            Error::invalid(format!(
                "Requirements file {path} takes in {name}, which lies outside its file system."
            ))
        };
        let mut parts: Vec<&str> = folder.split('/').skip(1).collect();
        for part in name.split('/') {
            match part {
                "" | "." => {}
                // The first part says which file system it is.
                ".." if parts.len() <= 1 => return Err(outside()),
                ".." => drop(parts.pop()),
                part => parts.push(part),
            }
        }
        Ok(format!("/{}", parts.join("/")))
    };
    relative.map(resolve).collect()
}

fn included_by(line: &str) -> Option<&str> {
    let line = line.trim();
    let line = line.split(" #").next().unwrap_or(line).trim_end();
    let rest = OPTIONS
        .iter()
        .find_map(|option| line.strip_prefix(option))?;
    let name = rest.trim_start_matches(['=', ' ', '\t']);
    (!name.is_empty()).then_some(name)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn files_that_are_named_from_the_file_are_found() {
        let text = "demand==1.0\n-r base.txt\n  -c ./deep/limits.txt  # why\n--requirement=../up.txt\n\
                    --constraint more.txt\n-rshort.txt\n# -r no.txt\n-r /dbfs/absolute.txt\n\
                    -r https://example.com/r.txt\n--index-url x\n";
        let found = included(text, "/dbfs/a/b/req.txt").unwrap();
        assert_eq!(
            found,
            [
                "/dbfs/a/b/base.txt",
                "/dbfs/a/b/deep/limits.txt",
                "/dbfs/a/up.txt",
                "/dbfs/a/b/more.txt",
                "/dbfs/a/b/short.txt",
            ]
        );
        let outside = included("-r ../../x.txt", "/dbfs/a/req.txt").unwrap_err();
        assert!(
            outside.message.contains("../../x.txt"),
            "{}",
            outside.message
        );
    }
}
