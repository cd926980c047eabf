use std::ffi::{OsStr, OsString};
use std::io::{self, Read, Write};
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::{Path, PathBuf};

use forebay_types::hex;
use sha2::{Digest, Sha256};

/// Gives exactly `left` bytes of a file that may be changing, and the digest of what it gave: tar
/// names the length before the content.
pub(super) struct Measured<R> {
    from: R,
    left: u64,
    hash: Sha256,
    /// The file became shorter meanwhile; the rest is zeros.
    pub(super) shrank: bool,
}

impl<R: Read> Measured<R> {
    pub(super) fn new(from: R, length: u64) -> Self {
        Self {
            from,
            left: length,
            hash: Sha256::new(),
            shrank: false,
        }
    }

    pub(super) fn digest(self) -> String {
        hex(self.hash.finalize())
    }
}

impl<R: Read> Read for Measured<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let wanted = usize::try_from(self.left).unwrap_or(usize::MAX);
        let wanted = buffer.len().min(wanted);
        let mut count = self.from.read(&mut buffer[..wanted])?;
        if count == 0 && wanted > 0 {
            self.shrank = true;
            buffer[..wanted].fill(0);
            count = wanted;
        }
        self.hash.update(&buffer[..count]);
        self.left -= count as u64;
        Ok(count)
    }
}

/// The digest of a file as it is now.
pub(super) fn of_file(path: &Path) -> io::Result<String> {
    let mut hash = Sha256::new();
    io::copy(&mut std::fs::File::open(path)?, &mut hash)?;
    Ok(hex(hash.finalize()))
}

/// One line of `sha256sum`: a name with a backslash or a line end is escaped, and says so.
pub(super) fn write_line(to: &mut impl Write, digest: &str, path: &Path) -> io::Result<()> {
    let name = path.as_os_str().as_bytes();
    if !name.iter().any(|byte| matches!(byte, b'\\' | b'\n')) {
        write!(to, "{digest}  ")?;
        to.write_all(name)?;
        return to.write_all(b"\n");
    }
    write!(to, "\\{digest}  ")?;
    for byte in name {
        match byte {
            b'\\' => to.write_all(b"\\\\")?,
            b'\n' => to.write_all(b"\\n")?,
            _ => to.write_all(&[*byte])?,
        }
    }
    to.write_all(b"\n")
}

/// Reads such a line back, without its line end.
pub(super) fn parse_line(line: &[u8]) -> Option<(String, PathBuf)> {
    let (escaped, line) = match line.strip_prefix(b"\\") {
        Some(rest) => (true, rest),
        None => (false, line),
    };
    let (digest, name) = line.split_at_checked(64)?;
    let digest = std::str::from_utf8(digest).ok()?.to_owned();
    let name = name.strip_prefix(b"  ")?;
    if !escaped {
        return Some((digest, PathBuf::from(OsStr::from_bytes(name))));
    }
    let mut plain = Vec::with_capacity(name.len());
    let mut bytes = name.iter();
    while let Some(byte) = bytes.next() {
        plain.push(match byte {
            b'\\' if *bytes.next()? == b'n' => b'\n',
            other => *other,
        });
    }
    Some((digest, PathBuf::from(OsString::from_vec(plain))))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_are_read_as_they_were_written() {
        let digest = "a".repeat(64);
        for name in ["dev/key", "a  b", "line\nend", "back\\slash\\n", "\\"] {
            let mut line = Vec::new();
            write_line(&mut line, &digest, Path::new(name)).unwrap();
            let (line, end) = line.split_at(line.len() - 1);
            assert_eq!(end, b"\n");
            assert!(!line.contains(&b'\n'));
            let expected = (digest.clone(), PathBuf::from(name));
            assert_eq!(parse_line(line), Some(expected), "{name:?}");
        }
        assert_eq!(parse_line(b"short"), None);
    }

    #[test]
    fn a_file_that_shrinks_is_filled_up_and_noticed() {
        let mut measured = Measured::new(&b"abc"[..], 5);
        let mut read = Vec::new();
        measured.read_to_end(&mut read).unwrap();
        assert_eq!(read, b"abc\0\0");
        assert!(measured.shrank);
        let mut grown = Measured::new(&b"abcdef"[..], 5);
        let mut read = Vec::new();
        grown.read_to_end(&mut read).unwrap();
        assert_eq!((read.as_slice(), grown.shrank), (&b"abcde"[..], false));
    }
}
