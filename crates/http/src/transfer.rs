//! Bytes in and out: bodies and form parts to staged files, files to bodies.

use axum::body::Body;
use axum::extract::multipart::{Field, Multipart, MultipartError};
use axum::extract::{FromRequest, Request};
use axum::http::header::{CONTENT_LENGTH, CONTENT_TYPE};
use axum::http::{HeaderMap, HeaderValue};
use axum::response::{IntoResponse, Response};
use base64::Engine as _;
use base64::alphabet::STANDARD;
use base64::engine::{DecodePaddingMode, GeneralPurpose, GeneralPurposeConfig};
use bytes::Bytes;
use forebay_blob::{Blob, Staged, chunks, receive};
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
    let mut file = staged.writer().map_err(|e| e.at("of the upload"))?;
    let write = move |piece: &[u8]| Ok(std::io::Write::write_all(&mut file, piece)?);
    receive(pieces, size_bytes_max, write).await
}

/// Appends bytes that are in memory.
pub(crate) async fn bytes_to_file(bytes: Vec<u8>, mut staged: Staged) -> Result<Staged> {
    blocking(move || {
        staged.write(&bytes).map_err(|e| e.at("of the upload"))?;
        Ok(staged)
    })
    .await
}

/// A request with a file: a form with a file part, or JSON.
pub(crate) struct Form {
    pub(crate) fields: Map<String, Value>,
    /// Whether a file part came, whose content is in the staged file.
    pub(crate) has_file: bool,
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
    let mut response = Body::from_stream(chunks(blob, 0, length)).into_response();
    let headers = response.headers_mut();
    headers.insert(CONTENT_TYPE, OCTETS);
    headers.insert(CONTENT_LENGTH, HeaderValue::from(length));
    response
}

pub(crate) const OCTETS: HeaderValue = HeaderValue::from_static("application/octet-stream");

/// Bytes in memory as the answer.
pub(crate) fn octets(bytes: Vec<u8>) -> Response {
    ([(CONTENT_TYPE, OCTETS)], bytes).into_response()
}
