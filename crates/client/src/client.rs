use std::time::Duration;

use reqwest::{Method, RequestBuilder, Response};
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::Value;

use crate::error::{Error, Result, refusal};
use crate::profile::Profile;

const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);

/// A caller of one workspace, with one token. Cheap to clone.
#[derive(Clone)]
pub struct Client {
    http: reqwest::Client,
    host: String,
    token: String,
}

impl std::fmt::Debug for Client {
    /// Leaves the token out.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Client").field("host", &self.host).finish()
    }
}

impl Client {
    /// # Errors
    /// When the profile's host is no address this build can call; `https` is not built in.
    pub fn new(profile: &Profile) -> Result<Self> {
        let host = profile.host.trim_end_matches('/').to_owned();
        let protocol = |reason: &str| Error::Protocol {
            host: host.clone(),
            reason: reason.to_owned(),
        };
        let url = reqwest::Url::parse(&host).map_err(|e| protocol(&e.to_string()))?;
        if url.scheme() != "http" {
            return Err(protocol("only http:// addresses can be called"));
        }
        let mut builder = reqwest::Client::builder().connect_timeout(CONNECT_TIMEOUT);
        if is_loopback(url.host_str().unwrap_or_default()) {
            // A proxy of the environment would look for our loopback address on its own machine.
            builder = builder.no_proxy();
        }
        let http = builder.build().map_err(|e| protocol(&e.to_string()))?;
        Ok(Self {
            http,
            host,
            token: profile.token.clone(),
        })
    }

    /// Scheme, name and port, without a slash at the end.
    #[must_use]
    pub fn host(&self) -> &str {
        &self.host
    }

    /// Whether the server answers at all.
    pub async fn is_ready(&self) -> bool {
        let asked = self.http.get(format!("{}/healthz", self.host)).send().await;
        asked.is_ok_and(|answer| answer.status().is_success())
    }

    /// Any call that reads, with the whole answer as the server gave it.
    pub async fn read(&self, path: &str, query: &[(&str, &str)]) -> Result<Value> {
        self.get(path, query).await
    }

    /// Any call that changes something, with the whole answer as the server gave it.
    pub async fn write(&self, method: Method, path: &str, body: &Value) -> Result<Value> {
        self.send(method, path, body).await
    }

    pub(crate) async fn get<T: DeserializeOwned>(
        &self,
        path: &str,
        query: &[(&str, &str)],
    ) -> Result<T> {
        let request = self.request(Method::GET, path).query(query);
        self.json(request).await
    }

    pub(crate) async fn send<T: DeserializeOwned>(
        &self,
        method: Method,
        path: &str,
        body: &(impl Serialize + Sync),
    ) -> Result<T> {
        self.json(self.request(method, path).json(body)).await
    }

    pub(crate) fn request(&self, method: Method, path: &str) -> RequestBuilder {
        self.http
            .request(method, format!("{}{path}", self.host))
            .bearer_auth(&self.token)
    }

    /// The response of a call that succeeded.
    pub(crate) async fn open(&self, request: RequestBuilder) -> Result<Response> {
        let response = request.send().await.map_err(|e| self.unreachable(e))?;
        let status = response.status();
        if status.is_success() {
            return Ok(response);
        }
        let body = response.bytes().await.map_err(|e| self.unreachable(e))?;
        Err(refusal(&self.host, status.as_u16(), &body))
    }

    pub(crate) async fn json<T: DeserializeOwned>(&self, request: RequestBuilder) -> Result<T> {
        let response = self.open(request).await?;
        let body = response.bytes().await.map_err(|e| self.unreachable(e))?;
        serde_json::from_slice(&body).map_err(|e| self.protocol(e.to_string()))
    }

    pub(crate) fn unreachable(&self, source: reqwest::Error) -> Error {
        Error::Unreachable {
            host: self.host.clone(),
            source,
        }
    }

    pub(crate) fn protocol(&self, reason: impl Into<String>) -> Error {
        Error::Protocol {
            host: self.host.clone(),
            reason: reason.into(),
        }
    }
}

fn is_loopback(host: &str) -> bool {
    let host = host.trim_matches(['[', ']']);
    host == "localhost"
        || host
            .parse()
            .is_ok_and(|ip: std::net::IpAddr| ip.is_loopback())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn profile(host: &str) -> Profile {
        Profile {
            host: host.to_owned(),
            token: "secret-token".to_owned(),
        }
    }

    #[test]
    fn a_host_is_taken_with_or_without_a_slash() {
        let client = Client::new(&profile("http://127.0.0.1:7071/")).unwrap();
        assert_eq!(client.host(), "http://127.0.0.1:7071");
    }

    #[test]
    fn what_cannot_be_called_is_refused_before_the_call() {
        for host in ["https://workspace.example", "7071", ""] {
            let error = Client::new(&profile(host)).unwrap_err();
            assert!(matches!(error, Error::Protocol { .. }), "{host}: {error}");
        }
    }

    #[test]
    fn debug_shows_no_token() {
        let client = Client::new(&profile("http://localhost")).unwrap();
        assert!(!format!("{client:?}").contains("secret"));
    }

    #[test]
    fn loopback_is_known_in_all_its_spellings() {
        for host in ["localhost", "127.27.159.1", "[::1]"] {
            assert!(is_loopback(host), "{host}");
        }
        assert!(!is_loopback("10.0.0.1"));
    }

    #[tokio::test]
    async fn nobody_there_is_told_apart_from_a_refusal() {
        // Port 1 of loopback: reserved, and nothing listens there.
        let client = Client::new(&profile("http://127.0.0.1:1")).unwrap();
        assert!(!client.is_ready().await);
        let error = client.me().await.unwrap_err();
        assert!(matches!(error, Error::Unreachable { .. }), "{error}");
    }
}
