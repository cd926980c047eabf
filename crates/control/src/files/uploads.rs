//! Uploads in parts, which clients use for large files.
//!
//! Every part but the last has the size of the first, which comes first; so each part is written
//! where it belongs as it comes, in any order and several at once, and nothing is copied at the
//! end. The session's token is a secret: whoever has it may send parts, without an account.

use std::collections::BTreeMap;
use std::sync::{Mutex, MutexGuard, PoisonError};

use forebay_blob::{Staged, Writer};
use forebay_runtime::blocking;
use forebay_types::{Error, ErrorCode, Result};

use super::{Files, FilesPath, exists};
use crate::Ctx;

pub(super) const IDLE_MS: i64 = 60 * 60 * 1000;
/// Each holds an open file.
pub(super) const OPEN_MAX: usize = 256;
const PARTS_MAX: u32 = 10_000;
/// The largest part, in bytes.
pub const PART_BYTES_MAX: u64 = 5 << 30;

/// A file that comes in parts.
#[derive(Debug)]
pub struct Upload {
    path: FilesPath,
    overwrite: bool,
    state: Mutex<State>,
}

#[derive(Debug)]
struct State {
    /// `None` once it is complete or given up.
    staged: Option<Staged>,
    /// Length of each part that has arrived.
    parts: BTreeMap<u32, u64>,
}

/// Where the bytes of one part go.
#[derive(Debug)]
pub struct Part {
    pub writer: Writer,
    pub size_bytes_max: u64,
}

impl Files {
    /// Begins an upload; the result is its secret token.
    ///
    /// # Errors
    /// `ALREADY_EXISTS` without `overwrite`, or when too many are open.
    pub async fn upload_begin(
        &self,
        ctx: &Ctx,
        path: &FilesPath,
        overwrite: bool,
    ) -> Result<String> {
        if !overwrite && self.get(ctx, path).await.is_ok() {
            return Err(exists(&path.display()));
        }
        let state = State {
            staged: Some(self.stage().await?),
            parts: BTreeMap::new(),
        };
        let upload = Upload {
            path: path.clone(),
            overwrite,
            state: Mutex::new(state),
        };
        let token = format!(
            "{:032x}{:032x}",
            rand::random::<u128>(),
            rand::random::<u128>()
        );
        self.inner
            .uploads
            .insert(token.clone(), ctx, upload, "uploads in parts")?;
        Ok(token)
    }

    /// Checks that an upload is the caller's and open.
    ///
    /// # Errors
    /// `NOT_FOUND`.
    pub fn upload_check(&self, ctx: &Ctx, token: &str) -> Result<()> {
        self.inner
            .uploads
            .get(&token.to_owned(), ctx)
            .map(drop)
            .ok_or_else(no_upload)
    }

    /// Where to write a part.
    ///
    /// # Errors
    /// `NOT_FOUND`, or a part before the first.
    pub fn upload_part(&self, token: &str, number: u32) -> Result<Part> {
        let upload = self
            .inner
            .uploads
            .get_by_secret(&token.to_owned())
            .ok_or_else(no_upload)?;
        if number == 0 || number > PARTS_MAX {
            return Err(Error::invalid(format!(
                "Part numbers go from 1 to {PARTS_MAX}: {number}."
            )));
        }
        let state = upload.lock();
        let staged = state.staged.as_ref().ok_or_else(no_upload)?;
        let (offset, size_bytes_max) = match (number, state.parts.get(&1).copied()) {
            (1, _) => (0, PART_BYTES_MAX),
            (_, Some(size)) => (u64::from(number - 1) * size, size),
            (_, None) => {
                return Err(Error::invalid(
                    "Part 1 must be sent first: its size is that of the others.",
                ));
            }
        };
        let writer = staged.writer(offset).map_err(|e| e.at("of the upload"))?;
        Ok(Part {
            writer,
            size_bytes_max,
        })
    }

    /// Notes that a part has arrived; the result is its tag.
    ///
    /// # Errors
    /// `NOT_FOUND`, or a first part of another size than before.
    pub fn upload_part_arrived(&self, token: &str, number: u32, size_bytes: u64) -> Result<String> {
        let upload = self
            .inner
            .uploads
            .get_by_secret(&token.to_owned())
            .ok_or_else(no_upload)?;
        let mut state = upload.lock();
        if number == 1 && state.parts.len() > 1 && state.parts.get(&1) != Some(&size_bytes) {
            return Err(Error::invalid("Part 1 was sent again with another size."));
        }
        state.parts.insert(number, size_bytes);
        Ok(tag(number, size_bytes))
    }

    /// Ends an upload: the file is there, whole.
    ///
    /// # Errors
    /// `NOT_FOUND`; `INVALID_PARAMETER_VALUE` when a part is missing or has another tag;
    /// `ALREADY_EXISTS` when the name was taken meanwhile.
    pub async fn upload_complete(
        &self,
        ctx: &Ctx,
        path: &FilesPath,
        token: &str,
        parts: &[(u32, String)],
    ) -> Result<()> {
        let token = token.to_owned();
        let upload = self
            .inner
            .uploads
            .get(&token, ctx)
            .filter(|upload| upload.path == *path)
            .ok_or_else(no_upload)?;
        let (staged, size_bytes) = {
            let mut state = upload.lock();
            let size_bytes = whole_size(&state.parts, parts)?;
            (state.staged.take().ok_or_else(no_upload)?, size_bytes)
        };
        self.inner.uploads.remove(&token);
        let staged = blocking(move || {
            staged.cut(size_bytes).map_err(|e| e.at("of the upload"))?;
            Ok(staged)
        })
        .await?;
        self.put(ctx, path, upload.overwrite, staged).await
    }

    /// Gives an upload up.
    pub fn upload_abort(&self, token: &str) {
        if let Some(upload) = self.inner.uploads.remove(&token.to_owned()) {
            upload.lock().staged = None;
        }
    }
}

impl Upload {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The length of the file that these parts make.
fn whole_size(arrived: &BTreeMap<u32, u64>, parts: &[(u32, String)]) -> Result<u64> {
    let first = arrived.get(&1).copied().unwrap_or(0);
    let mut numbers = 1..;
    let mut size_bytes = 0;
    for (index, (number, sent_tag)) in parts.iter().enumerate() {
        let arrived = arrived.get(number).copied();
        let is_last = index + 1 == parts.len();
        let fits = arrived.is_some_and(|size| size == first || is_last);
        if numbers.next() != Some(*number)
            || !fits
            || arrived.map(|size| tag(*number, size)) != Some(sent_tag.clone())
        {
            return Err(Error::invalid(format!(
                "Part {number} is missing, out of order, of another size than part 1, or has another ETag."
            )));
        }
        size_bytes += arrived.unwrap_or(0);
    }
    if parts.is_empty() {
        return Err(Error::invalid("Field 'parts' must name at least one part."));
    }
    Ok(size_bytes)
}

fn tag(number: u32, size_bytes: u64) -> String {
    format!("\"{number}-{size_bytes}\"")
}

fn no_upload() -> Error {
    Error::new(
        ErrorCode::NotFound,
        "There is no such upload; uploads in parts end after an idle hour.",
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    fn size(arrived: &[(u32, u64)], parts: &[u32]) -> Result<u64> {
        let arrived: BTreeMap<u32, u64> = arrived.iter().copied().collect();
        let parts: Vec<_> = parts
            .iter()
            .map(|number| {
                (
                    *number,
                    tag(*number, arrived.get(number).copied().unwrap_or(0)),
                )
            })
            .collect();
        whole_size(&arrived, &parts)
    }

    #[test]
    fn parts_make_a_file_only_without_gaps_and_of_one_size() {
        assert_eq!(size(&[(1, 10), (2, 10), (3, 4)], &[1, 2, 3]).unwrap(), 24);
        assert_eq!(size(&[(1, 10), (2, 10), (3, 4)], &[1, 2]).unwrap(), 20);
        assert_eq!(size(&[(1, 7)], &[1]).unwrap(), 7);
        assert!(size(&[(1, 10), (2, 9), (3, 10)], &[1, 2, 3]).is_err());
        assert!(size(&[(1, 10), (3, 10)], &[1, 3]).is_err());
        assert!(size(&[(1, 10), (2, 10)], &[2, 1]).is_err());
        assert!(size(&[(1, 10)], &[1, 1]).is_err());
        assert!(size(&[(1, 10)], &[]).is_err());
        assert!(size(&[(1, 10)], &[1, 2]).is_err());
    }
}
