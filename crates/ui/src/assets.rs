use std::sync::LazyLock;

use axum::extract::Path;
use axum::http::StatusCode;
use axum::http::header::{CACHE_CONTROL, CONTENT_TYPE};
use axum::response::{IntoResponse, Response};
use forebay_notebook::outputs::PAGE_STYLE;
use forebay_types::hex;
use sha2::{Digest, Sha256};

const SCRIPT: &str = include_str!("../assets/pages.js");
const ICON: &str = include_str!("../assets/icon.svg");

static STYLE: LazyLock<String> =
    LazyLock::new(|| [PAGE_STYLE, include_str!("../assets/pages.css")].concat());

/// Part of the assets' addresses, so that browsers may keep them until they change.
pub(crate) static VERSION: LazyLock<String> = LazyLock::new(|| {
    let all = Sha256::new().chain_update(SCRIPT).chain_update(&*STYLE);
    hex(&all.chain_update(ICON).finalize()[..6])
});

pub(crate) async fn serve(Path(name): Path<String>) -> Response {
    let (content_type, text) = match name.as_str() {
        "pages.css" => ("text/css; charset=utf-8", STYLE.as_str()),
        "pages.js" => ("text/javascript; charset=utf-8", SCRIPT),
        "icon.svg" => ("image/svg+xml", ICON),
        _ => return StatusCode::NOT_FOUND.into_response(),
    };
    let headers = [
        (CONTENT_TYPE, content_type),
        (CACHE_CONTROL, "public, max-age=31536000, immutable"),
    ];
    (headers, text).into_response()
}
