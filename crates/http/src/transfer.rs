//! Bytes in and out: bodies and form parts to staged files, files to bodies.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use axum::body::Body;
use axum::extract::multipart::{Field, Multipart, MultipartError};
use axum::extract::{FromRequest, Request};
use axum::http::header::{
    ACCEPT_RANGES, CONTENT_LENGTH, CONTENT_RANGE, CONTENT_TYPE, IF_UNMODIFIED_SINCE, LAST_MODIFIED,
    RANGE,
};
use axum::http::{HeaderMap, HeaderValue, StatusCode};
use axum::response::{IntoResponse, Response};
use base64::Engine as _;
use base64::alphabet::STANDARD;
use base64::engine::{DecodePaddingMode, GeneralPurpose, GeneralPurposeConfig};
use bytes::Bytes;
use forebay_blob::{Blob, Meta, Staged, chunks, receive};
use forebay_control::files::Part;
use forebay_runtime::blocking;
use forebay_types::{Error, ErrorCode, Result};
use futures_util::TryStreamExt;
use serde_json::{Map, Value};

use crate::error::{ApiError, ApiResult};
use crate::extract::Fields;

/// The largest text field of a form.
const TEXT_BYTES_MAX: usize = 64 << 10;

const BASE64: GeneralPurpose = GeneralPurpose::new(
    &STANDARD,
    GeneralPurposeConfig::new().with_decode_padding_mode(DecodePaddingMode::Indifferent),
);

#[must_use]
pub(crate) fn to_base64(bytes: &[u8]) -> String {
    BASE64.encode(bytes)
}

/// Decodes a field of a request.
pub(crate) fn from_base64(field: &str, text: &str) -> Result<Vec<u8>> {
    BASE64
        .decode(text.trim())
        .map_err(|e| Error::invalid(format!("Field '{field}' is not valid base64: {e}.")))
}

fn broke_off(error: impl Into<Box<dyn std::error::Error + Send + Sync>>) -> Error {
    Error::new(ErrorCode::BadRequest, "The request body broke off.").because(error)
}

/// Writes a whole body to the end of `staged`; memory stays flat however long it is.
pub(crate) async fn body_to_file(body: Body, staged: &Staged, size_bytes_max: u64) -> Result<u64> {
    let pieces = body.into_data_stream().map_err(broke_off);
    pieces_to_file(pieces, staged, size_bytes_max).await
}

async fn pieces_to_file(
    pieces: impl futures_util::Stream<Item = Result<Bytes>>,
    staged: &Staged,
    size_bytes_max: u64,
) -> Result<u64> {
    let mut writer = staged.writer(0).map_err(|e| e.at("of the upload"))?;
    receive(pieces, size_bytes_max, move |piece| writer.write(piece)).await
}

/// Writes a whole body to its place in a file; the result is its length.
pub(crate) async fn body_to_part(body: Body, part: Part) -> Result<u64> {
    let Part {
        mut writer,
        size_bytes_max,
    } = part;
    let pieces = body.into_data_stream().map_err(broke_off);
    receive(pieces, size_bytes_max, move |piece| writer.write(piece)).await
}

/// Appends bytes that are in memory.
pub(crate) async fn bytes_to_file(bytes: Vec<u8>, mut staged: Staged) -> Result<Staged> {
    blocking(move || {
        staged.write(&bytes).map_err(|e| e.at("of the upload"))?;
        Ok(staged)
    })
    .await
}

/// Appends what is in a file.
pub(crate) async fn copy_to(blob: Blob, mut staged: Staged) -> Result<Staged> {
    const PIECE: usize = 1 << 20;
    blocking(move || {
        let mut offset = 0;
        loop {
            let piece = blob.read(offset, PIECE).map_err(|e| e.at("of the file"))?;
            if piece.is_empty() {
                return Ok(staged);
            }
            offset += piece.len() as u64;
            staged.write(&piece).map_err(|e| e.at("of the upload"))?;
        }
    })
    .await
}

/// A request with a file: a form with a file part, or JSON.
pub(crate) struct Form {
    pub(crate) fields: Map<String, Value>,
    /// Whether a file part came, whose content is in the staged file.
    pub(crate) has_file: bool,
    /// What the caller calls the file.
    pub(crate) file_name: Option<String>,
}

/// Reads the fields of a request, and the content of its file part, if any, into `staged`. Parts
/// may come in any order.
pub(crate) async fn read_form(
    request: Request,
    staged: &Staged,
    size_bytes_max: u64,
) -> ApiResult<Form> {
    if !is_multipart(request.headers()) {
        let Fields(fields) = Fields::from_request(request, &()).await?;
        return Ok(Form {
            fields,
            has_file: false,
            file_name: None,
        });
    }
    let malformed = |e: MultipartError| {
        Error::new(
            ErrorCode::MalformedRequest,
            format!("The form cannot be read: {e}"),
        )
    };
    let mut parts = Multipart::from_request(request, &())
        .await
        .map_err(|e| Error::new(ErrorCode::MalformedRequest, e.to_string()))?;
    let mut form = Form {
        fields: Map::new(),
        has_file: false,
        file_name: None,
    };
    while let Some(part) = parts.next_field().await.map_err(malformed)? {
        if !is_file(&part) {
            let name = part.name().unwrap_or_default().to_owned();
            let text = text_of(part, &name).await?;
            form.fields.insert(name, Value::String(text));
            continue;
        }
        if std::mem::replace(&mut form.has_file, true) {
            return Err(ApiError(Error::invalid("The form has more than one file.")));
        }
        form.file_name = part.file_name().map(str::to_owned);
        pieces_to_file(part.map_err(broke_off), staged, size_bytes_max).await?;
    }
    Ok(form)
}

fn is_multipart(headers: &HeaderMap) -> bool {
    let content_type = headers
        .get(CONTENT_TYPE)
        .and_then(|value| value.to_str().ok());
    content_type.is_some_and(|text| {
        text.trim_start()
            .to_ascii_lowercase()
            .starts_with("multipart/form-data")
    })
}

/// Clients name the file part `file` or `content`, with or without a file name.
fn is_file(part: &Field<'_>) -> bool {
    part.file_name().is_some() || matches!(part.name(), Some("file" | "content" | "contents"))
}

async fn text_of(mut part: Field<'_>, name: &str) -> Result<String> {
    let mut bytes = Vec::new();
    while let Some(piece) = part.chunk().await.map_err(broke_off)? {
        bytes.extend_from_slice(&piece);
        if bytes.len() > TEXT_BYTES_MAX {
            return Err(Error::invalid(format!(
                "Field '{name}' has more than {TEXT_BYTES_MAX} bytes."
            )));
        }
    }
    String::from_utf8(bytes)
        .map_err(|_| Error::invalid(format!("Field '{name}' is not valid UTF-8.")))
}

/// A whole file as the answer.
pub(crate) fn download(blob: Blob) -> Response {
    let length = blob.meta.size_bytes;
    part_of(blob, 0, length)
}

/// A file, or the part of it that the request's headers ask for, if it did not change since.
///
/// # Errors
/// 412 when it did; 416 for a range beyond its end.
pub(crate) fn download_range(blob: Blob, headers: &HeaderMap) -> ApiResult<Response> {
    let text = |name| {
        headers
            .get(name)
            .and_then(|value: &HeaderValue| value.to_str().ok())
    };
    let meta = blob.meta;
    let unmodified_since =
        text(IF_UNMODIFIED_SINCE).and_then(|date| httpdate::parse_http_date(date).ok());
    if unmodified_since.is_some_and(|date| whole_second(&meta) > date) {
        return Err(ApiError(Error::new(
            ErrorCode::PreconditionFailed,
            "The file was modified after the time in If-Unmodified-Since.",
        )));
    }
    let size = meta.size_bytes;
    let mut response = match text(RANGE).and_then(|range| ByteRange::parse(range, size)) {
        None => download(blob),
        Some(ByteRange::Beyond) => {
            let message =
                format!("The file has {size} bytes; the range asked for begins after them.");
            let error = ApiError(Error::new(ErrorCode::RangeNotSatisfiable, message));
            let mut response = error.into_response();
            response
                .headers_mut()
                .insert(CONTENT_RANGE, header_text(&format!("bytes */{size}")));
            return Ok(response);
        }
        Some(ByteRange::Within { start, end }) => {
            let mut response = part_of(blob, start, end - start + 1);
            *response.status_mut() = StatusCode::PARTIAL_CONTENT;
            response.headers_mut().insert(
                CONTENT_RANGE,
                header_text(&format!("bytes {start}-{end}/{size}")),
            );
            response
        }
    };
    response
        .headers_mut()
        .insert(ACCEPT_RANGES, HeaderValue::from_static("bytes"));
    last_modified(response.headers_mut(), &meta);
    Ok(response)
}

fn part_of(blob: Blob, start: u64, length: u64) -> Response {
    let mut response = Body::from_stream(chunks(blob, start, length)).into_response();
    let headers = response.headers_mut();
    headers.insert(CONTENT_TYPE, OCTETS);
    headers.insert(CONTENT_LENGTH, HeaderValue::from(length));
    response
}

pub(crate) fn last_modified(headers: &mut HeaderMap, meta: &Meta) {
    headers.insert(
        LAST_MODIFIED,
        header_text(&httpdate::fmt_http_date(whole_second(meta))),
    );
}

/// When a file was modified, in the resolution of HTTP.
fn whole_second(meta: &Meta) -> SystemTime {
    let seconds = u64::try_from(meta.modified.0 / 1000).unwrap_or(0);
    UNIX_EPOCH + Duration::from_secs(seconds)
}

fn header_text(text: &str) -> HeaderValue {
    HeaderValue::from_str(text).unwrap_or_else(|_| HeaderValue::from_static(""))
}

/// One range of a file's bytes; `end` is the last byte.
#[derive(Debug, PartialEq, Eq)]
enum ByteRange {
    Within { start: u64, end: u64 },
    Beyond,
}

impl ByteRange {
    /// `bytes=2-4`, `bytes=2-` and `bytes=-3`. `None` for what is not one range, which means the
    /// whole file.
    fn parse(text: &str, size: u64) -> Option<Self> {
        let (first, last) = text.trim().strip_prefix("bytes=")?.split_once('-')?;
        let (start, end) = match (first.trim(), last.trim()) {
            ("", suffix) => {
                let length: u64 = suffix.parse().ok()?;
                (
                    if length == 0 {
                        size
                    } else {
                        size.saturating_sub(length)
                    },
                    u64::MAX,
                )
            }
            (first, "") => (first.parse().ok()?, u64::MAX),
            (first, last) => (first.parse().ok()?, last.parse().ok()?),
        };
        if end < start {
            return None;
        }
        if start >= size {
            return Some(Self::Beyond);
        }
        Some(Self::Within {
            start,
            end: end.min(size - 1),
        })
    }
}

pub(crate) const OCTETS: HeaderValue = HeaderValue::from_static("application/octet-stream");

/// Bytes in memory as the answer.
pub(crate) fn octets(bytes: Vec<u8>) -> Response {
    ([(CONTENT_TYPE, OCTETS)], bytes).into_response()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ranges_by_their_text() {
        let within = |start, end| Some(ByteRange::Within { start, end });
        let table = [
            ("bytes=2-4", within(2, 4)),
            ("bytes=7-", within(7, 9)),
            ("bytes=7-99", within(7, 9)),
            ("bytes=-3", within(7, 9)),
            ("bytes=-99", within(0, 9)),
            ("bytes=10-", Some(ByteRange::Beyond)),
            ("bytes=-0", Some(ByteRange::Beyond)),
            ("bytes=4-2", None),
            ("bytes=0-1,4-5", None),
            ("items=0-1", None),
            ("bytes=a-b", None),
        ];
        for (text, expected) in table {
            assert_eq!(ByteRange::parse(text, 10), expected, "{text}");
        }
        assert_eq!(ByteRange::parse("bytes=0-", 0), Some(ByteRange::Beyond));
    }
}
