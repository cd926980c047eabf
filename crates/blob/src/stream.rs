//! Bodies to files and files to bodies, with flat memory.

use std::io;
use std::os::unix::fs::FileExt;
use std::pin::pin;
use std::sync::Arc;

use bytes::{Bytes, BytesMut};
use forebay_runtime::blocking;
use forebay_types::{Error, ErrorCode, Result};
use futures_util::{Stream, StreamExt, TryStreamExt, stream};
use tokio::sync::mpsc;

use crate::error::BlobError;
use crate::root::Blob;

/// How many pieces of a body wait for the disk; a piece is what came in one read of the socket.
const PIECES_WAITING: usize = 4;
/// How much of a file is read at once, and how many such pieces are under way.
const READ_BYTES: usize = 512 << 10;
const PIECES_AHEAD: usize = 2;

/// Hands a body to `write` piece by piece on a thread of its own, and returns its length.
///
/// When `write` fails the rest of the body is still read and thrown away, because most clients
/// look for an answer only when they have sent everything. Dropping the future ends it.
///
/// # Errors
/// What the body or `write` said; `PAYLOAD_TOO_LARGE` beyond `size_bytes_max`.
pub async fn receive(
    body: impl Stream<Item = Result<Bytes>>,
    size_bytes_max: u64,
    mut write: impl FnMut(&[u8]) -> Result<(), BlobError> + Send + 'static,
) -> Result<u64> {
    let (pieces, mut waiting) = mpsc::channel::<Bytes>(PIECES_WAITING);
    let writing = blocking(move || {
        let mut batch = Vec::with_capacity(PIECES_WAITING);
        while waiting.blocking_recv_many(&mut batch, PIECES_WAITING) > 0 {
            for piece in batch.drain(..) {
                write(&piece).map_err(|e| e.at("of the upload"))?;
            }
        }
        Ok(())
    });
    let reading = async move {
        let mut body = pin!(body);
        let mut size_bytes = 0_u64;
        let mut writer_ended = false;
        while let Some(piece) = body.next().await {
            let piece = piece?;
            size_bytes += piece.len() as u64;
            if size_bytes > size_bytes_max {
                return Err(Error::new(
                    ErrorCode::PayloadTooLarge,
                    format!("The upload has more than {size_bytes_max} bytes."),
                ));
            }
            writer_ended = writer_ended || pieces.send(piece).await.is_err();
        }
        Ok(size_bytes)
    };
    let (read, written) = tokio::join!(reading, writing);
    written?;
    read
}

/// The bytes of a file from `start`, `length` of them, in pieces of half a MiB; the next piece is
/// read while one is sent. A file that became shorter meanwhile ends the stream with an error.
pub fn chunks(
    blob: Blob,
    start: u64,
    length: u64,
) -> impl Stream<Item = io::Result<Bytes>> + Send + 'static {
    let file = Arc::new(blob.file);
    let end = start.saturating_add(length);
    let starts = (start..end).step_by(READ_BYTES);
    stream::iter(starts)
        .map(move |at| {
            let file = Arc::clone(&file);
            let want = usize::try_from(end - at)
                .unwrap_or(usize::MAX)
                .min(READ_BYTES);
            blocking(move || {
                let mut piece = BytesMut::zeroed(want);
                file.read_exact_at(&mut piece, at)
                    .map_err(|e| Error::internal("failed to read a file for a download", e))?;
                Ok(piece.freeze())
            })
        })
        .buffered(PIECES_AHEAD)
        .map_err(io::Error::other)
}
