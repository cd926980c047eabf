use axum::Form;
use axum::extract::{Query, State};
use axum::http::header::SET_COOKIE;
use axum::http::{HeaderMap, Method, StatusCode};
use axum::response::{IntoResponse, Redirect, Response};
use forebay_types::ErrorCode;
use maud::{Markup, html};
use serde::Deserialize;

use crate::failure::PageResult;
use crate::layout::{Page, Section};
use crate::session::Session;
use crate::site::Pages;

#[derive(Deserialize)]
pub(crate) struct Asked {
    #[serde(default)]
    next: String,
    code: Option<String>,
}

/// The sign-in form; with a code, the sign-in itself.
pub(crate) async fn show(
    State(pages): State<Pages>,
    method: Method,
    headers: HeaderMap,
    Query(asked): Query<Asked>,
) -> PageResult {
    let next = inside(&asked.next);
    let Some(code) = asked.code.filter(|_| method == Method::GET) else {
        if Session::find(pages.services(), &headers).await?.is_some() {
            return Ok(Redirect::to(next).into_response());
        }
        return Ok(form(&pages, next, "").into_response());
    };
    match pages.services().sign_in.redeem(&code) {
        Some(user) => {
            let cookie = Session::begin(pages.services(), user).await?;
            Ok(([(SET_COOKIE, cookie)], Redirect::to(next)).into_response())
        }
        None => {
            let problem = "This sign-in link was used already or is older than 15 minutes.";
            Ok((StatusCode::FORBIDDEN, form(&pages, next, problem)).into_response())
        }
    }
}

#[derive(Deserialize)]
pub(crate) struct SignIn {
    #[serde(default)]
    token: String,
    #[serde(default)]
    next: String,
}

pub(crate) async fn sign_in(State(pages): State<Pages>, Form(sent): Form<SignIn>) -> PageResult {
    let next = inside(&sent.next);
    let services = pages.services();
    match services.tokens.authenticate(sent.token.trim()).await {
        Ok(user) => {
            let cookie = Session::begin(services, user).await?;
            Ok(([(SET_COOKIE, cookie)], Redirect::to(next)).into_response())
        }
        Err(e) if e.code == ErrorCode::Unauthenticated => {
            let problem = "This token is not known here. Each workspace has tokens of its own.";
            Ok((StatusCode::FORBIDDEN, form(&pages, next, problem)).into_response())
        }
        Err(e) => Err(e.into()),
    }
}

#[derive(Deserialize)]
pub(crate) struct SignOut {
    #[serde(default)]
    form_token: String,
}

pub(crate) async fn sign_out(
    State(pages): State<Pages>,
    session: Session,
    Form(sent): Form<SignOut>,
) -> PageResult<Response> {
    session.check_form(&sent.form_token)?;
    let cookie = session.end(pages.services()).await?;
    Ok(([(SET_COOKIE, cookie)], Redirect::to("/login")).into_response())
}

/// A path of this server, or home: a link must not be able to send people elsewhere after sign-in.
fn inside(next: &str) -> &str {
    let plain = next.bytes().all(|byte| byte.is_ascii_graphic());
    if next.starts_with('/') && !next.starts_with("//") && plain && !next.contains('\\') {
        next
    } else {
        "/"
    }
}

fn form(pages: &Pages, next: &str, problem: &str) -> Markup {
    let name = &pages.place().name;
    let body = html! {
        section class="login" {
            h1 { "Sign in to " span class="env" { (name) } }
            @if !problem.is_empty() { p class="problem" role="alert" { (problem) } }
            form method="post" action="/login" {
                input type="hidden" name="next" value=(next);
                label for="token" { "Access token" }
                input id="token" name="token" type="password" required autofocus
                    autocomplete="current-password" spellcheck="false" placeholder="dapi…";
                button type="submit" { "Sign in" }
            }
            h2 { "Where do I get a token?" }
            ul {
                li { "On the server's machine: " code { "forebay token create --workspace " (name) } "." }
                li { "Or the token of " code { "[" (name) "]" } " in " code { "databrickscfg" } " in its data folder." }
                li { "Or open the link that " code { "forebay up" } " prints at its start; it works once, for 15 minutes." }
            }
        }
    };
    pages.page(None, Page::new("Sign in", Section::None, body))
}

#[cfg(test)]
mod tests {
    use super::inside;

    #[test]
    fn nobody_is_sent_elsewhere_after_sign_in() {
        for good in ["/", "/runs?state=failed", "/jobs/1/runs/2"] {
            assert_eq!(inside(good), good);
        }
        for bad in [
            "",
            "//evil.test",
            "https://evil.test",
            "/\\evil.test",
            "/a b",
            "/a\r\nb",
        ] {
            assert_eq!(inside(bad), "/", "{bad}");
        }
    }
}
