//! Reads what a handler left unread of a request body.
//!
//! A handler that answers before it has read the body (401, 404, 501) would leave bytes on the
//! connection. The listener then closes it without a word, and a client that sends its next request
//! on it sees a broken connection instead of an answer.

use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll};
use std::time::Duration;

use axum::Error;
use axum::body::{Body, Bytes, HttpBody};
use axum::extract::Request;
use axum::http::HeaderValue;
use axum::http::header::CONNECTION;
use axum::middleware::Next;
use axum::response::Response;
use http_body::{Frame, SizeHint};
use http_body_util::BodyExt as _;

/// With more than this to come, ending the connection is cheaper than reading on.
const BYTES_MAX: usize = 1 << 20;
const TIME_MAX: Duration = Duration::from_secs(2);

/// The middleware. The rest of a small body is read, of a large one the connection is ended and the
/// client is told so.
pub(crate) async fn read_leftover(request: Request, next: Next) -> Response {
    let (parts, body) = request.into_parts();
    if body.is_end_stream() {
        return next.run(Request::from_parts(parts, body)).await;
    }
    let shared = Arc::new(Mutex::new(body));
    let lent = Body::new(Lent(Arc::clone(&shared)));
    let mut response = next.run(Request::from_parts(parts, lent)).await;
    // Whoever still holds the body goes on reading it: it is not left over.
    let Some(body) = Arc::into_inner(shared) else {
        return response;
    };
    let body = body.into_inner().unwrap_or_else(PoisonError::into_inner);
    if !drained(body).await {
        let close = HeaderValue::from_static("close");
        response.headers_mut().insert(CONNECTION, close);
    }
    response
}

/// Whether the end was reached within the limits.
async fn drained(mut body: Body) -> bool {
    let reading = async {
        let mut left = BYTES_MAX;
        while let Some(frame) = body.frame().await {
            let Ok(frame) = frame else { return false };
            let size = frame.data_ref().map_or(0, Bytes::len);
            let Some(rest) = left.checked_sub(size) else {
                return false;
            };
            left = rest;
        }
        true
    };
    tokio::time::timeout(TIME_MAX, reading)
        .await
        .unwrap_or(false)
}

/// The body as the handler has it.
struct Lent(Arc<Mutex<Body>>);

impl HttpBody for Lent {
    type Data = Bytes;
    type Error = Error;

    fn poll_frame(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Error>>> {
        let mut body = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        Pin::new(&mut *body).poll_frame(context)
    }

    fn is_end_stream(&self) -> bool {
        let body = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        let body = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        body.size_hint()
    }
}

#[cfg(test)]
mod tests {
    use axum::Router;
    use axum::http::StatusCode;
    use axum::middleware::from_fn;
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
    use tokio::net::{TcpListener, TcpStream};

    use super::{BYTES_MAX, read_leftover};

    /// A listener whose every answer comes before the body was read.
    async fn connected() -> TcpStream {
        let router = Router::new()
            .fallback(|| async { StatusCode::NOT_FOUND })
            .layer(from_fn(read_leftover));
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        #[expect(clippy::disallowed_methods, reason = "a test's own listener")]
        tokio::spawn(async move { axum::serve(listener, router).await });
        TcpStream::connect(address).await.unwrap()
    }

    async fn head(stream: &mut TcpStream) -> String {
        let mut text = Vec::new();
        while !text.ends_with(b"\r\n\r\n") {
            text.push(stream.read_u8().await.unwrap());
        }
        String::from_utf8(text).unwrap()
    }

    #[tokio::test]
    async fn a_connection_is_good_for_a_second_request() {
        let mut stream = connected().await;
        for _ in 0..2 {
            let request = "POST /x HTTP/1.1\r\nhost: x\r\ncontent-length: 3\r\n\r\n";
            stream.write_all(request.as_bytes()).await.unwrap();
            stream.write_all(b"{ }").await.unwrap();
            assert!(head(&mut stream).await.starts_with("HTTP/1.1 404"));
        }
    }

    #[tokio::test]
    async fn a_large_body_is_not_read_and_the_client_is_told() {
        let mut stream = connected().await;
        let length = BYTES_MAX * 64;
        let request = format!("PUT /x HTTP/1.1\r\nhost: x\r\ncontent-length: {length}\r\n\r\n");
        stream.write_all(request.as_bytes()).await.unwrap();
        stream.write_all(&vec![0; BYTES_MAX + 1]).await.unwrap();
        assert!(head(&mut stream).await.contains("connection: close"));
    }
}
