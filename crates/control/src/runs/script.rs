//! A script of a task: its content goes along with the attempt, so that nothing that is written meanwhile
//! reaches it, and is kept beside what the attempt puts out.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use forebay_runtime::blocking;
use forebay_types::{Result, RunId, hex};
use sha2::{Digest, Sha256};

use super::inputs::{InputFile, InputKind, is_in_commit};
use super::output;
use super::source::Code;
use crate::libraries::Libraries;
use crate::services::WorkspaceDirs;

/// The most of a script that is kept, in bytes; a larger one is read where it lies.
const SCRIPT_BYTES_MAX: usize = 10 << 20;

#[derive(Debug, Clone)]
pub(crate) struct Script {
    /// As the program sees it.
    pub(crate) path: String,
    content: Vec<u8>,
    sha256: String,
}

/// A script that is about to run.
#[derive(Debug)]
pub(crate) struct Taken {
    pub(crate) script: Script,
    /// Whether the file at its path is another one by now, or gone.
    pub(crate) is_past: bool,
}

impl Taken {
    /// The script at `path`, as it is now; for a repeat, as it was. `None` for one that lies in the commit,
    /// is too large, or cannot be read: that is for the program to find out.
    ///
    /// # Errors
    /// When reading does not come to its end.
    pub(crate) async fn of(code: &Code, libraries: &Libraries, path: &str) -> Result<Option<Self>> {
        if in_commit(path) {
            return Ok(None);
        }
        let now = match libraries.open(code, path).await {
            Ok(blob) if blob.meta.size_bytes <= SCRIPT_BYTES_MAX as u64 => {
                let path = path.to_owned();
                let read = move || {
                    let content = blob.read(0, SCRIPT_BYTES_MAX).ok();
                    Ok(content.map(|content| Script::new(path, content)))
                };
                blocking(read).await?
            }
            _ => None,
        };
        if let Some(before) = code.script_before(path).await {
            return Ok(Some(Self {
                script: before.clone(),
                is_past: now.is_none_or(|now| now.sha256 != before.sha256),
            }));
        }
        Ok(now.map(|script| Self {
            script,
            is_past: false,
        }))
    }
}

impl Script {
    /// Takes a while for a large one.
    fn new(path: String, content: Vec<u8>) -> Self {
        let sha256 = hex(Sha256::digest(&content));
        Self {
            path,
            content,
            sha256,
        }
    }

    /// As programs are given it.
    pub(crate) fn source(&self) -> String {
        STANDARD.encode(&self.content)
    }

    pub(crate) fn input(&self) -> InputFile {
        InputFile {
            kind: InputKind::Script,
            path: self.path.clone(),
            sha256: self.sha256.clone(),
        }
    }

    pub(crate) async fn keep(self, dirs: &WorkspaceDirs, attempt: RunId) -> Result<()> {
        let dirs = dirs.clone();
        blocking(move || output::keep(&dirs, attempt, (FILE, "script"), &self.content)).await
    }

    /// As an attempt kept it, among what it was made from.
    pub(crate) fn kept(dirs: &WorkspaceDirs, attempt: RunId, files: &[InputFile]) -> Option<Self> {
        let mut files = files.iter();
        let noted = files.find(|file| file.kind == InputKind::Script)?;
        let script = Self::new(noted.path.clone(), output::kept(dirs, attempt, FILE)?);
        // Half of it is what a crash may have left.
        (script.sha256 == noted.sha256).then_some(script)
    }
}

/// Beside what the attempt puts out.
const FILE: &str = "script";

pub(crate) fn in_commit(path: &str) -> bool {
    is_in_commit(path.trim_start_matches("/Workspace"))
}
