//! Bodies to files and files to bodies, with flat memory.

use std::os::unix::fs::FileExt;
use std::pin::pin;
use std::sync::Arc;

use bytes::{Bytes, BytesMut};
use forebay_runtime::blocking;
use forebay_types::{Error, ErrorCode, Result};
use futures_util::{Stream, StreamExt, stream};
use tokio::sync::mpsc;

use crate::error::BlobError;
use crate::root::Blob;

/// How many pieces of a body wait for the disk; a piece is what came in one read of the socket.
const PIECES_WAITING: usize = 16;
/// How much of a file is read at once.
const READ_BYTES: usize = 1 << 20;

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

/// The bytes of a file from `start`, `length` of them, in pieces of 1 MiB. A file that became
/// shorter meanwhile ends the stream with an error.
pub fn chunks(
    blob: Blob,
    start: u64,
    length: u64,
) -> impl Stream<Item = std::io::Result<Bytes>> + Send + 'static {
    let file = Arc::new(blob.file);
    stream::try_unfold((file, start, length), |(file, at, left)| async move {
        if left == 0 {
            return Ok(None);
        }
        let want = usize::try_from(left).unwrap_or(usize::MAX).min(READ_BYTES);
        let reader = Arc::clone(&file);
        let piece = blocking(move || {
            let mut piece = BytesMut::zeroed(want);
            let count = reader
                .read_at(&mut piece, at)
                .map_err(|e| Error::internal("failed to read a file", e))?;
            piece.truncate(count);
            Ok(piece.freeze())
        })
        .await
        .map_err(std::io::Error::other)?;
        if piece.is_empty() {
            return Err(std::io::ErrorKind::UnexpectedEof.into());
        }
        let count = piece.len() as u64;
        Ok(Some((piece, (file, at + count, left - count))))
    })
}
