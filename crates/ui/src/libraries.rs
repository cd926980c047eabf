//! Libraries with their versions and users, and the move of all users to another version.

use axum::Form;
use axum::extract::{Path, State};
use axum::response::{IntoResponse, Redirect};
use forebay_control::libraries::{MoveRequest, Moved, OneVersion, Versions};
use forebay_types::Error;
use maud::{Markup, html};
use serde::Deserialize;

use crate::failure::{Failure, PageResult};
use crate::layout::{Page, Section};
use crate::session::Session;
use crate::show::{address, size, when};
use crate::site::Pages;

pub(crate) async fn list(State(pages): State<Pages>, session: Session) -> PageResult<Markup> {
    let libraries = pages.services().libraries.versions(&session.ctx).await?;
    let body = html! {
        h1 { "Libraries" }
        @if libraries.is_empty() {
            p class="nothing" {
                "There are no libraries in this workspace. Upload one, with its version in its name: "
                code { "POST /api/1.2/libraries/upload" } "."
            }
        } @else {
            table class="cards" {
                thead { tr {
                    th scope="col" { "Library" } th scope="col" { "Newest" }
                    th scope="col" { "Versions" } th scope="col" { "Used by" } th scope="col" { "Kind" }
                } }
                tbody {
                    @for library in &libraries {
                        tr {
                            td data-label="Library" class="wide" {
                                a class="name" href=(link(&library.name)) { (library.name) }
                            }
                            td data-label="Newest" { (newest(library)) }
                            td data-label="Versions" { (library.versions.len()) }
                            td data-label="Used by" { (users(library)) }
                            td data-label="Kind" { (library.kind) }
                        }
                    }
                }
            }
        }
    };
    let page = Page::new("Libraries", Section::Libraries, body);
    Ok(pages.page(Some(&session), page))
}

fn link(name: &str) -> String {
    format!("/libraries/{}", address(name).trim_start_matches('/'))
}

fn newest(library: &Versions) -> &str {
    let newest = library.versions.last();
    newest.map_or("", |one| one.version.as_str())
}

fn users(library: &Versions) -> String {
    let all = &library.versions;
    let jobs: usize = all.iter().map(|one| one.jobs.len()).sum();
    let clusters: usize = all.iter().map(|one| one.clusters.len()).sum();
    let others: usize = all.iter().map(|one| one.others).sum();
    let plural = |count: usize, word: &str| match count {
        0 => None,
        1 => Some(format!("1 {word}")),
        _ => Some(format!("{count} {word}s")),
    };
    let others = (others > 0).then(|| format!("{others} of others"));
    let parts = [plural(jobs, "job"), plural(clusters, "cluster"), others];
    let parts: Vec<_> = parts.into_iter().flatten().collect();
    match parts.is_empty() {
        true => "nobody".to_owned(),
        false => parts.join(", "),
    }
}

pub(crate) async fn show(
    State(pages): State<Pages>,
    session: Session,
    Path(name): Path<String>,
) -> PageResult<Markup> {
    let all = pages.services().libraries.versions(&session.ctx).await?;
    let found: Vec<_> = all.into_iter().filter(|one| one.name == name).collect();
    if found.is_empty() {
        return Err(Failure(Error::missing(format!(
            "There is no library '{name}'."
        ))));
    }
    let body = html! {
        p class="soft" { a href="/libraries" { "Libraries" } }
        h1 { (name) }
        @for library in &found {
            @if found.len() > 1 { h2 { (library.kind) } }
            (versions(&pages, library))
        }
        @if let Some(library) = found.first().filter(|library| library.versions.len() > 1) {
            (move_form(&session, library))
        }
    };
    let page = Page::new(&name, Section::Libraries, body);
    Ok(pages.page(Some(&session), page))
}

fn versions(pages: &Pages, library: &Versions) -> Markup {
    let now = pages.now();
    html! {
        table class="cards" {
            thead { tr {
                th scope="col" { "Version" } th scope="col" { "Used by" } th scope="col" { "File" }
                th scope="col" { "Size" } th scope="col" { "Since" }
            } }
            tbody {
                // The newest is what people look for.
                @for one in library.versions.iter().rev() {
                    tr {
                        td data-label="Version" class="tight" {
                            span class="name" { @if one.version.is_empty() { "none" } @else { (one.version) } }
                        }
                        td data-label="Used by" class="wide" { (who(one)) }
                        td data-label="File" class="wide" {
                            code { (one.file) }
                            div class="soft" { (one.path) }
                            div class="soft" title=(one.sha256) {
                                "SHA-256 " (one.sha256.get(..12).unwrap_or_default())
                            }
                        }
                        td data-label="Size" class="tight" { (size(one.size_bytes)) }
                        td data-label="Since" class="tight" { (when(one.created_at, now)) }
                    }
                }
            }
        }
    }
}

fn who(one: &OneVersion) -> Markup {
    html! {
        @if one.jobs.is_empty() && one.clusters.is_empty() && one.others == 0 {
            span class="soft" { "not used" }
        }
        @for job in &one.jobs {
            div { a href={ "/jobs/" (job.job_id) } { (job.name) } }
        }
        @for on in &one.clusters {
            div { "cluster " (on.cluster_id) " " span class="soft" { (on.status) } }
        }
        @if one.others > 0 { div class="soft" { (one.others) " of others" } }
    }
}

fn move_form(session: &Session, library: &Versions) -> Markup {
    let newest_first = || library.versions.iter().rev();
    html! {
        h2 { "Move all users" }
        p class="soft" {
            "Every job and cluster on the old version gets the new one, all of them or none. Runs under way keep theirs."
        }
        form class="line" method="post" action={ (link(&library.name)) "/move" } {
            input type="hidden" name="form_token" value=(session.form_token());
            label { "From " select name="from" {
                option value="" { "all older ones of its major" }
                @for one in newest_first() { option value=(one.version) { (one.version) } }
            } }
            label { "to " select name="to" {
                @for one in newest_first() { option value=(one.version) { (one.version) } }
            } }
            label { "with Spark version " }
            input type="text" name="spark_version" aria-label="Spark version" placeholder="as it is"
                autocomplete="off" spellcheck="false";
            label { input type="checkbox" name="major" value="yes"; " also to another major" }
            button type="submit" class="quiet" { "See what would move" }
        }
    }
}

#[derive(Debug, Deserialize)]
pub(crate) struct Sent {
    form_token: String,
    #[serde(default)]
    from: String,
    to: String,
    #[serde(default)]
    spark_version: String,
    #[serde(default)]
    major: String,
    /// Said after a look at what moves.
    #[serde(default)]
    sure: String,
}

/// First what would move, then the move.
pub(crate) async fn move_all(
    State(pages): State<Pages>,
    session: Session,
    Path(name): Path<String>,
    Form(sent): Form<Sent>,
) -> PageResult {
    session.check_form(&sent.form_token)?;
    let some = |text: &str| Some(text.trim().to_owned()).filter(|text| !text.is_empty());
    let is_sure = sent.sure == "yes";
    let request = MoveRequest {
        name: name.clone(),
        from: some(&sent.from),
        to: some(&sent.to),
        folder: None,
        spark_version: some(&sent.spark_version),
        major: sent.major == "yes",
        dry_run: !is_sure,
    };
    let libraries = &pages.services().libraries;
    let moved = libraries.move_all(&session.ctx, request).await;
    let moved = moved.map_err(Failure::of_form)?;
    if is_sure {
        return Ok(Redirect::to(&link(&name)).into_response());
    }
    let body = html! {
        p class="soft" { a href=(link(&name)) { (name) } }
        h1 { "Move to " (moved.to) }
        @if moved.jobs.is_empty() && moved.clusters.is_empty() {
            p class="nothing" { "Nothing uses a version that would move." }
        } @else {
            (preview(&moved, &sent.spark_version))
            form class="line" method="post" action={ (link(&name)) "/move" } {
                @for (field, value) in [
                    ("form_token", &session.form_token()), ("from", &sent.from), ("to", &sent.to),
                    ("spark_version", &sent.spark_version), ("major", &sent.major), ("sure", &"yes".to_owned()),
                ] { input type="hidden" name=(field) value=(value); }
                button type="submit" class="main" { "Move them all" }
            }
        }
    };
    let page = Page::new("Move", Section::Libraries, body);
    Ok(pages.page(Some(&session), page).into_response())
}

fn preview(moved: &Moved, spark: &str) -> Markup {
    let spark = |was: &[String]| match (spark.trim(), was) {
        ("", _) | (_, []) => "stays".to_owned(),
        (now, was) => format!("{} to {now}", was.join(", ")),
    };
    html! {
        table class="cards" {
            thead { tr {
                th scope="col" { "What" } th scope="col" { "From" } th scope="col" { "Spark version" }
            } }
            tbody {
                @for job in &moved.jobs {
                    tr {
                        td data-label="What" class="wide" { "Job " a href={ "/jobs/" (job.job_id) } { (job.name) } }
                        td data-label="From" { (job.from.join(", ")) }
                        td data-label="Spark version" { (spark(&job.spark_version_was)) }
                    }
                }
                @for cluster in &moved.clusters {
                    tr {
                        td data-label="What" class="wide" { "Cluster " (cluster.cluster_id) }
                        td data-label="From" { (cluster.from.join(", ")) }
                        td data-label="Spark version" {
                            (spark(cluster.spark_version_was.as_slice()))
                        }
                    }
                }
            }
        }
    }
}
