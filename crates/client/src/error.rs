use serde::Deserialize;
use thiserror::Error;

use crate::profile::ProfileError;

pub type Result<T, E = Error> = std::result::Result<T, E>;

/// Why a call did not give its answer.
#[derive(Debug, Error)]
pub enum Error {
    /// The server understood the call and refused it; the words are the server's own.
    #[error("{message}")]
    Api {
        status: u16,
        code: String,
        message: String,
    },
    #[error("cannot reach {host}")]
    Unreachable {
        host: String,
        source: reqwest::Error,
    },
    /// Something answered, but not with this API.
    #[error("{host} does not answer as a workspace does: {reason}")]
    Protocol { host: String, reason: String },
    #[error(transparent)]
    Profile(#[from] ProfileError),
}

impl Error {
    /// The API's error code, such as `RESOURCE_DOES_NOT_EXIST`; empty for other failures.
    #[must_use]
    pub fn code(&self) -> &str {
        match self {
            Self::Api { code, .. } => code,
            _ => "",
        }
    }
}

/// The two forms of an error body: 2.0 and later, and the older one with `error` alone.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct Body {
    error_code: String,
    message: String,
    error: String,
}

/// Reads the body of an answer that is not a success.
pub(crate) fn refusal(host: &str, status: u16, bytes: &[u8]) -> Error {
    let Ok(body) = serde_json::from_slice::<Body>(bytes) else {
        let reason = format!("HTTP {status} without an error in JSON");
        return Error::Protocol {
            host: host.to_owned(),
            reason,
        };
    };
    let message = [body.message, body.error, format!("HTTP {status}")]
        .into_iter()
        .find(|text| !text.is_empty())
        .unwrap_or_default();
    Error::Api {
        status,
        code: body.error_code,
        message,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_refusal_keeps_status_code_and_message() {
        let body = br#"{"error_code":"RESOURCE_DOES_NOT_EXIST","message":"Run 7 does not exist."}"#;
        let error = refusal("http://h", 400, body);
        assert_eq!(error.code(), "RESOURCE_DOES_NOT_EXIST");
        assert_eq!(error.to_string(), "Run 7 does not exist.");
        assert!(matches!(error, Error::Api { status: 400, .. }));
    }

    #[test]
    fn a_page_instead_of_an_error_is_not_taken_for_one() {
        let error = refusal("http://h", 502, b"<html>Bad gateway</html>");
        let text = error.to_string();
        assert!(
            text.starts_with("http://h") && text.contains("502"),
            "{text}"
        );
        assert_eq!(error.code(), "");
    }

    #[test]
    fn a_body_without_words_still_says_something() {
        assert_eq!(refusal("http://h", 500, b"{}").to_string(), "HTTP 500");
    }
}
