//! Requests as clients really send them: JSON bodies also on GET and DELETE, forms, no content
//! type at all, and query strings, merged into one set of fields.

use axum::body::{Body, Bytes};
use axum::extract::{FromRequest, FromRequestParts, Path as UrlPath, Request};
use axum::http::HeaderMap;
use axum::http::header::CONTENT_TYPE;
use axum::http::request::Parts;
use forebay_types::{Error, ErrorCode};
use forebay_wire::lenient;
use http_body_util::{BodyExt, LengthLimitError, Limited};
use serde::de::DeserializeOwned;
use serde_json::{Map, Value};

use crate::error::ApiError;

/// The largest body that is read into memory. A notebook of 10 MiB in base64 fits; larger things
/// come through the streaming calls.
const BODY_BYTES_MAX: usize = 16 << 20;

/// The request's fields as a `T`.
pub(crate) struct Params<T>(pub(crate) T);

/// The request's fields as they came, for calls that keep what they do not know.
pub(crate) struct Fields(pub(crate) Map<String, Value>);

impl<S: Sync> FromRequest<S> for Fields {
    type Rejection = ApiError;

    async fn from_request(request: Request, _state: &S) -> Result<Self, ApiError> {
        let (parts, body) = request.into_parts();
        let mut fields = pairs(parts.uri.query().unwrap_or_default().as_bytes());
        let bytes = read_body(body).await?;
        // `curl -d '{…}'` says it sends a form, and means JSON.
        let looks_like_json = bytes.trim_ascii_start().starts_with(b"{");
        if is_form(&parts.headers) && !looks_like_json {
            fields.extend(pairs(&bytes));
        } else if !bytes.iter().all(u8::is_ascii_whitespace) {
            fields.extend(json_object(&bytes)?);
        }
        Ok(Self(fields))
    }
}

impl<T: DeserializeOwned, S: Sync> FromRequest<S> for Params<T> {
    type Rejection = ApiError;

    async fn from_request(request: Request, state: &S) -> Result<Self, ApiError> {
        let Fields(fields) = Fields::from_request(request, state).await?;
        Ok(Self(lenient::from_map(fields)?))
    }
}

/// The query's fields as a `T`, for calls whose body is content.
pub(crate) struct QueryParams<T>(pub(crate) T);

impl<T: DeserializeOwned, S: Sync> FromRequestParts<S> for QueryParams<T> {
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, _state: &S) -> Result<Self, ApiError> {
        let fields = pairs(parts.uri.query().unwrap_or_default().as_bytes());
        Ok(Self(lenient::from_map(fields)?))
    }
}

/// What a route's `{*path}` stands for, decoded, with a slash before it. Clients send the slashes
/// of a path as they are or as `%2F`.
pub(crate) struct RestPath(pub(crate) String);

impl<S: Send + Sync> FromRequestParts<S> for RestPath {
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, ApiError> {
        let rest = UrlPath::<String>::from_request_parts(parts, state).await;
        let UrlPath(rest) = rest.map_err(|e| Error::invalid(format!("Invalid path: {e}")))?;
        Ok(Self(format!("/{rest}")))
    }
}

/// The only number in a route's path.
pub(crate) struct NumberPath(pub(crate) i64);

impl<S: Send + Sync> FromRequestParts<S> for NumberPath {
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, ApiError> {
        let text = UrlPath::<String>::from_request_parts(parts, state).await;
        let UrlPath(text) = text.map_err(|e| Error::invalid(format!("Invalid path: {e}")))?;
        let number = text.parse();
        let number = number.map_err(|_| Error::invalid(format!("'{text}' is not an id.")))?;
        Ok(Self(number))
    }
}

fn is_form(headers: &HeaderMap) -> bool {
    let content_type = headers
        .get(CONTENT_TYPE)
        .and_then(|value| value.to_str().ok());
    content_type.is_some_and(|text| text.starts_with("application/x-www-form-urlencoded"))
}

/// A name that comes again makes a list.
fn pairs(encoded: &[u8]) -> Map<String, Value> {
    let mut fields = Map::new();
    for (key, value) in form_urlencoded::parse(encoded) {
        let value = Value::String(value.into_owned());
        match fields.get_mut(&*key) {
            None => drop(fields.insert(key.into_owned(), value)),
            Some(Value::Array(items)) => items.push(value),
            Some(first) => *first = Value::Array(vec![first.take(), value]),
        }
    }
    fields
}

fn json_object(bytes: &[u8]) -> Result<Map<String, Value>, Error> {
    let malformed = |reason: String| Error::new(ErrorCode::MalformedRequest, reason);
    match serde_json::from_slice(bytes) {
        Ok(Value::Object(map)) => Ok(map),
        Ok(_) => Err(malformed(
            "The request body must be a JSON object.".to_owned(),
        )),
        Err(e) => Err(malformed(format!(
            "The request body is not valid JSON: {e}."
        ))),
    }
}

pub(crate) async fn read_body(body: Body) -> Result<Bytes, Error> {
    match Limited::new(body, BODY_BYTES_MAX).collect().await {
        Ok(collected) => Ok(collected.to_bytes()),
        Err(e) if e.is::<LengthLimitError>() => Err(Error::new(
            ErrorCode::PayloadTooLarge,
            format!("The request body has more than {BODY_BYTES_MAX} bytes."),
        )),
        Err(e) => Err(Error::new(ErrorCode::BadRequest, "The request body broke off.").because(e)),
    }
}

/// A number that is a segment of the path.
pub(crate) struct IdInPath(pub(crate) i64);

impl<S: Send + Sync> FromRequestParts<S> for IdInPath {
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, ApiError> {
        let segment = UrlPath::<String>::from_request_parts(parts, state).await;
        let id = segment.ok().and_then(|UrlPath(text)| text.parse().ok());
        Ok(Self(id.ok_or_else(|| {
            Error::invalid(format!(
                "'{}' has no numeric id where one is needed.",
                parts.uri.path()
            ))
        })?))
    }
}

/// The API version a call came through; answers differ in form between them.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum ApiVersion {
    V1_2,
    V2_0,
    V2_1,
    V2_2,
}

impl<S: Sync> FromRequestParts<S> for ApiVersion {
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, _state: &S) -> Result<Self, ApiError> {
        Ok(match parts.uri.path().split('/').nth(2) {
            Some("1.2") => Self::V1_2,
            Some("2.1") => Self::V2_1,
            Some("2.2") => Self::V2_2,
            _ => Self::V2_0,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    async fn fields(request: axum::http::request::Builder, body: &str) -> Result<Value, Error> {
        let request = request.body(Body::from(body.to_owned())).unwrap();
        match Fields::from_request(request, &()).await {
            Ok(Fields(map)) => Ok(Value::Object(map)),
            Err(ApiError(error)) => Err(error),
        }
    }

    #[tokio::test]
    async fn query_and_body_are_merged_and_the_body_wins() {
        let request = Request::get("/x?a=1&b=two");
        let merged = fields(request, r#"{"b": 2}"#).await.unwrap();
        assert_eq!(merged, serde_json::json!({"a": "1", "b": 2}));
    }

    #[tokio::test]
    async fn forms_are_read_and_broken_json_names_its_place() {
        let form = Request::post("/x").header(CONTENT_TYPE, "application/x-www-form-urlencoded");
        assert_eq!(fields(form, "name=a%20b").await.unwrap()["name"], "a b");
        let error = fields(Request::post("/x"), "{\"a\": }").await.unwrap_err();
        assert_eq!(error.code, ErrorCode::MalformedRequest);
        assert!(error.message.contains("line 1 column 7"), "{error}");
    }
}
