//! Uploads block by block. A handle lives in memory and its blocks in the staging folder: a
//! restart forgets both, and the file appears only when the handle is closed.

use std::sync::{Arc, Mutex, PoisonError};

use forebay_blob::{Mode, Staged};
use forebay_runtime::blocking;
use forebay_types::{DbfsPath, Error, ErrorCode, Result};

use super::{BLOCK_BYTES_MAX, Dbfs};
use crate::Ctx;

pub(super) const IDLE_MS: i64 = 10 * 60 * 1000;
/// Each holds an open file.
pub(super) const OPEN_MAX: usize = 256;

#[derive(Debug)]
pub(super) struct Handle {
    path: DbfsPath,
    mode: Mode,
    /// `None` once it is closed. The lock keeps blocks of one handle apart.
    staged: Mutex<Option<Staged>>,
}

impl Dbfs {
    /// Opens a handle for a new file.
    ///
    /// # Errors
    /// `RESOURCE_ALREADY_EXISTS` for a file without `overwrite`, and for a directory.
    pub async fn create(&self, ctx: &Ctx, path: &DbfsPath, overwrite: bool) -> Result<i64> {
        self.require_free(path, overwrite).await?;
        let staged = Mutex::new(Some(self.stage().await?));
        let handle = Handle {
            path: path.clone(),
            mode: Mode::overwrite(overwrite),
            staged,
        };
        let id = rand::random_range(100_000_000..1_i64 << 53);
        self.inner
            .handles
            .insert(id, ctx, handle, "uploads by handle")?;
        Ok(id)
    }

    /// Appends a block.
    ///
    /// # Errors
    /// `RESOURCE_DOES_NOT_EXIST`, or `MAX_BLOCK_SIZE_EXCEEDED`.
    pub async fn add_block(&self, ctx: &Ctx, id: i64, block: Vec<u8>) -> Result<()> {
        let handle = self
            .inner
            .handles
            .get(&id, ctx)
            .ok_or_else(|| no_handle(id))?;
        if block.len() > BLOCK_BYTES_MAX {
            return Err(block_too_large(block.len()));
        }
        blocking(move || {
            let mut staged = handle.staged.lock().unwrap_or_else(PoisonError::into_inner);
            let staged = staged.as_mut().ok_or_else(|| no_handle(id))?;
            staged.write(&block).map_err(|e| e.at(handle.path.as_str()))
        })
        .await
    }

    /// Closes a handle: the file is there, whole. Of two handles for one path the one closed last
    /// wins if it may overwrite.
    ///
    /// # Errors
    /// `RESOURCE_DOES_NOT_EXIST`; `RESOURCE_ALREADY_EXISTS` when the name was taken meanwhile.
    pub async fn close(&self, ctx: &Ctx, id: i64) -> Result<()> {
        let handle = self
            .inner
            .handles
            .get(&id, ctx)
            .ok_or_else(|| no_handle(id))?;
        let inner = Arc::clone(&self.inner);
        blocking(move || {
            let staged = handle
                .staged
                .lock()
                .unwrap_or_else(PoisonError::into_inner)
                .take();
            inner.handles.remove(&id);
            inner.publish(
                staged.ok_or_else(|| no_handle(id))?,
                &handle.path,
                handle.mode,
            )
        })
        .await
    }
}

fn no_handle(id: i64) -> Error {
    Error::missing(format!(
        "No open upload has the handle {id}; handles end after ten idle minutes."
    ))
}

pub(super) fn block_too_large(size_bytes: usize) -> Error {
    Error::new(
        ErrorCode::MaxBlockSizeExceeded,
        format!("The block has {size_bytes} bytes, at most {BLOCK_BYTES_MAX} are allowed."),
    )
}
