//! Who looks at a page: a cookie with a token of its own, and proof that a form came from a page.

use axum::extract::{FromRequestParts, OptionalFromRequestParts};
use axum::http::header::{COOKIE, HOST, ORIGIN};
use axum::http::request::Parts;
use axum::http::{HeaderMap, Method};
use axum::response::{IntoResponse, Redirect, Response};
use forebay_control::{Ctx, Services};
use forebay_store::User;
use forebay_types::{Error, Result, hex};
use sha2::{Digest, Sha256};

use crate::site::Pages;

/// How long a browser stays signed in.
const SESSION_SECONDS: i64 = 7 * 24 * 3600;

/// Somebody who has signed in.
#[derive(Debug, Clone)]
pub(crate) struct Session {
    pub(crate) ctx: Ctx,
    secret: String,
}

impl Session {
    /// The session behind the workspace's cookie, if it is still good.
    pub(crate) async fn find(services: &Services, headers: &HeaderMap) -> Result<Option<Self>> {
        let Some(secret) = cookie(headers, &cookie_name(&services.setup.config.name)) else {
            return Ok(None);
        };
        match services.tokens.authenticate(&secret).await {
            Ok(user) => Ok(Some(Self {
                ctx: Ctx::new(user),
                secret,
            })),
            Err(e) if e.code == forebay_types::ErrorCode::Unauthenticated => Ok(None),
            Err(e) => Err(e),
        }
    }

    /// Signs a user in; the result is the cookie to set.
    pub(crate) async fn begin(services: &Services, user: User) -> Result<String> {
        let ctx = Ctx::new(user);
        let (secret, _) = services
            .tokens
            .create(&ctx, "browser session", Some(SESSION_SECONDS))
            .await?;
        Ok(set_cookie(services, &secret, SESSION_SECONDS))
    }

    /// Signs out; the result is the cookie that removes the old one.
    pub(crate) async fn end(self, services: &Services) -> Result<String> {
        services.tokens.end(&self.secret).await?;
        Ok(set_cookie(services, "", 0))
    }

    /// What a form of this session carries; another site cannot know it.
    pub(crate) fn form_token(&self) -> String {
        hex(Sha256::new()
            .chain_update(b"forebay form\0")
            .chain_update(&self.secret)
            .finalize())
    }

    pub(crate) fn check_form(&self, token: &str) -> Result<()> {
        // Digests of both, so that the time of the comparison tells nothing.
        let same = Sha256::digest(token) == Sha256::digest(self.form_token());
        if same {
            return Ok(());
        }
        Err(Error::denied(
            "This form is not from your session. Go back, reload the page and try again.",
        ))
    }
}

impl FromRequestParts<Pages> for Session {
    type Rejection = Response;

    async fn from_request_parts(parts: &mut Parts, pages: &Pages) -> Result<Self, Response> {
        let found = Self::find(pages.services(), &parts.headers).await;
        match found.map_err(|e| crate::failure::Failure(e).into_response())? {
            Some(session) => Ok(session),
            None => Err(Redirect::to(&login_for(parts)).into_response()),
        }
    }
}

impl OptionalFromRequestParts<Pages> for Session {
    type Rejection = Response;

    async fn from_request_parts(
        parts: &mut Parts,
        pages: &Pages,
    ) -> Result<Option<Self>, Response> {
        let found = Self::find(pages.services(), &parts.headers).await;
        found.map_err(|e| crate::failure::Failure(e).into_response())
    }
}

/// The sign-in page that leads back to where the reader wanted to go.
fn login_for(parts: &Parts) -> String {
    let wanted = parts.uri.path_and_query().map_or("/", |path| path.as_str());
    if parts.method != Method::GET || wanted == "/" {
        return "/login".to_owned();
    }
    let query = form_urlencoded::Serializer::new(String::new())
        .append_pair("next", wanted)
        .finish();
    format!("/login?{query}")
}

/// Whether a state-changing request comes from a page of ours. Browsers say so in one of two
/// headers; programs that send neither hold no cookie that they did not get on purpose.
pub(crate) fn is_same_origin(headers: &HeaderMap) -> bool {
    let text = |name: &str| headers.get(name).map(|value| value.to_str().unwrap_or("?"));
    let site = text("sec-fetch-site").is_none_or(|site| matches!(site, "same-origin" | "none"));
    let host = text(HOST.as_str()).unwrap_or_default();
    let origin = text(ORIGIN.as_str()).is_none_or(|origin| {
        let authority = origin.split_once("://").map(|(_, authority)| authority);
        authority == Some(host)
    });
    site && origin
}

/// Cookies ignore ports, and the workspaces of a server differ by port: so the name tells them apart.
fn cookie_name(workspace: &str) -> String {
    format!("forebay_{workspace}")
}

fn cookie(headers: &HeaderMap, name: &str) -> Option<String> {
    let all = headers.get_all(COOKIE).iter();
    all.filter_map(|value| value.to_str().ok())
        .flat_map(|text| text.split(';'))
        .filter_map(|pair| pair.trim().split_once('='))
        .find(|(key, value)| *key == name && !value.is_empty())
        .map(|(_, value)| value.to_owned())
}

fn set_cookie(services: &Services, value: &str, seconds: i64) -> String {
    let setup = &services.setup;
    let secure = if setup.public_url.starts_with("https:") {
        "; Secure"
    } else {
        ""
    };
    let name = cookie_name(&setup.config.name);
    format!("{name}={value}; Path=/; Max-Age={seconds}; HttpOnly; SameSite=Lax{secure}")
}
