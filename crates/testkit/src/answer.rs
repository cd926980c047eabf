use axum::body::Bytes;
use axum::http::{HeaderMap, StatusCode};
use serde_json::Value;

/// A response, read to its end.
#[derive(Debug)]
pub struct Answer {
    pub status: StatusCode,
    pub headers: HeaderMap,
    pub body: Bytes,
}

impl Answer {
    /// The body of a successful call; panics with the whole answer when it failed.
    pub fn ok(&self) -> Value {
        assert!(self.status.is_success(), "{} {}", self.status, self.text());
        self.json()
    }

    /// The message of a call that was refused with this status and error code.
    pub fn refused(&self, status: u16, error_code: &str) -> String {
        let body = self.json();
        let got = (self.status.as_u16(), body["error_code"].as_str());
        assert_eq!(got, (status, Some(error_code)), "{}", self.text());
        body["message"]
            .as_str()
            .expect("an error has a message")
            .to_owned()
    }

    #[must_use]
    pub fn json(&self) -> Value {
        serde_json::from_slice(&self.body)
            .unwrap_or_else(|e| panic!("{e}: {} {}", self.status, self.text()))
    }

    #[must_use]
    pub fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).into_owned()
    }
}
