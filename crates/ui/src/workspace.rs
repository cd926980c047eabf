//! The workspace tree: folders, rendered notebooks, and files.

use axum::body::Body;
use axum::extract::{Path, Query, State};
use axum::http::HeaderValue;
use axum::http::header::{
    CONTENT_DISPOSITION, CONTENT_LENGTH, CONTENT_SECURITY_POLICY, CONTENT_TYPE,
};
use axum::response::{IntoResponse, Response};
use forebay_blob::{Blob, chunks};
use forebay_control::workspace::{Form, GitFolder, Listing, Object, ObjectKind};
use forebay_notebook::outputs::{Frames, cell_to_html, markdown_to_html};
use forebay_notebook::{Format, Language, NOTEBOOK_BYTES_MAX, Notebook};
use forebay_runtime::blocking;
use forebay_types::{Error, Millis, WorkspacePath};
use maud::{Markup, PreEscaped, html};
use serde::Deserialize;

use crate::failure::PageResult;
use crate::layout::{Page, Section};
use crate::repos::{branch, commit};
use crate::session::Session;
use crate::show::{address, size, when};
use crate::site::Pages;

const PREVIEW_BYTES_MAX: usize = 256 << 10;
const ENTRIES_MAX: usize = 2000;

#[derive(Debug, Deserialize)]
pub(crate) struct Asked {
    /// Send the bytes: as a download, or as an image for the page itself.
    raw: Option<String>,
}

pub(crate) async fn root(pages: State<Pages>, session: Session) -> PageResult {
    show(
        pages,
        session,
        Path(String::new()),
        Query(Asked { raw: None }),
    )
    .await
}

pub(crate) async fn show(
    State(pages): State<Pages>,
    session: Session,
    Path(path): Path<String>,
    Query(asked): Query<Asked>,
) -> PageResult {
    let workspace = &pages.services().workspace;
    let ctx = &session.ctx;
    let path = WorkspacePath::parse(&format!("/{path}")).map_err(Error::from)?;
    if let Some(how) = &asked.raw {
        let (located, blob) = workspace.read(ctx, &path).await?;
        return Ok(raw(&located.disk, blob, how == "image"));
    }
    let repo = workspace.git_folder(ctx, &path).await?;
    let listing = workspace.list(ctx, &path, None).await?;
    let body = match listing {
        Listing::Folder(objects) => folder(&path, repo.as_ref(), objects, pages.now()),
        Listing::Single(object) => {
            let (located, blob) = workspace.read(ctx, &object.path).await?;
            let content = match located.form {
                Form::Notebook(format) => notebook(&object, format, blob).await?,
                _ => file(&object, blob).await?,
            };
            html! {
                (crumbs(&object.path, repo.as_ref()))
                (content)
            }
        }
    };
    let title = if path.is_root() {
        "Workspace"
    } else {
        path.name()
    };
    let page = Page::new(title, Section::Workspace, body);
    Ok(pages.page(Some(&session), page).into_response())
}

fn link(path: &WorkspacePath) -> String {
    format!("/workspace{}", address(path.as_str()))
}

fn crumbs(path: &WorkspacePath, repo: Option<&GitFolder>) -> Markup {
    let mut above = Vec::new();
    let mut next = path.parent();
    while let Some(folder) = next {
        next = folder.parent();
        above.push(folder);
    }
    html! {
        nav class="crumbs" aria-label="Folders above" {
            @for folder in above.iter().rev() {
                @if folder.is_root() { a href="/workspace" { "Workspace" } }
                @else { a href=(link(folder)) { (folder.name()) } }
                " / "
            }
        }
        @if let Some(repo) = repo {
            p class="soft repo" {
                "Git folder " a href=(crate::repos::link(repo)) { (repo.path.name()) }
                " · branch " b { (branch(repo)) } " · commit " (commit(repo))
                " · from " span class="path" { (repo.url) }
            }
        }
    }
}

fn folder(
    path: &WorkspacePath,
    repo: Option<&GitFolder>,
    mut objects: Vec<Object>,
    now: Millis,
) -> Markup {
    let is_folder =
        |object: &Object| matches!(object.kind, ObjectKind::Directory | ObjectKind::Repo);
    objects.sort_by_key(|object| (!is_folder(object), object.path.name().to_lowercase()));
    let total = objects.len();
    html! {
        (crumbs(path, repo))
        h1 { @if path.is_root() { "Workspace" } @else { (path.name()) } }
        @if objects.is_empty() {
            p class="nothing" {
                "This folder is empty. Put a notebook here: "
                code { "forebay workspace import notebook.py '" (path) "/notebook'" }
            }
        } @else {
            table class="cards" {
                thead { tr {
                    th scope="col" { "Name" } th scope="col" { "Kind" }
                    th scope="col" { "Size" } th scope="col" { "Changed" }
                } }
                tbody {
                    @for object in objects.iter().take(ENTRIES_MAX) {
                        tr {
                            td data-label="Name" class="wide" {
                                a class="name" href=(link(&object.path)) {
                                    (object.path.name()) @if is_folder(object) { "/" }
                                }
                            }
                            td data-label="Kind" { (kind(object.kind)) }
                            td data-label="Size" class="tight" {
                                @if !is_folder(object) { (size(object.size_bytes)) }
                            }
                            td data-label="Changed" class="tight" { (when(object.modified_at, now)) }
                        }
                    }
                }
            }
            @if total > ENTRIES_MAX {
                p class="note" { "The first " (ENTRIES_MAX) " of " (total) " entries." }
            }
        }
    }
}

fn kind(kind: ObjectKind) -> &'static str {
    match kind {
        ObjectKind::Directory => "Folder",
        ObjectKind::Repo => "Git folder",
        ObjectKind::File => "File",
        ObjectKind::Library => "Library",
        ObjectKind::Notebook { language, .. } => match language {
            Language::Python => "Python notebook",
            Language::R => "R notebook",
            Language::Scala => "Scala notebook",
            Language::Sql => "SQL notebook",
        },
    }
}

fn head(object: &Object) -> Markup {
    html! {
        div class="head" {
            h1 { (object.path.name()) }
            a class="quiet" href={ (link(&object.path)) "?raw=download" } download { "Download" }
        }
        p class="soft" { (kind(object.kind)) " · " (size(object.size_bytes)) }
    }
}

async fn notebook(object: &Object, format: Format, blob: Blob) -> PageResult<Markup> {
    let bytes = read(blob, NOTEBOOK_BYTES_MAX + 1).await?;
    let notebook = match Notebook::parse(&bytes, format) {
        Ok(notebook) => notebook,
        Err(e) => {
            return Ok(html! {
                (head(object))
                p class="problem" role="alert" { "It cannot be shown as a notebook: " (e) }
                (text_preview(&bytes))
            });
        }
    };
    let outputs = notebook.stored_outputs();
    Ok(html! {
        (head(object))
        div class="notebook" {
            @for (index, cell) in notebook.cells.iter().enumerate() {
                @let outputs = outputs.get(index).map_or(&[][..], Vec::as_slice);
                (PreEscaped(cell_to_html(index, cell, notebook.language, outputs, Frames::Inert)))
            }
        }
        @if notebook.cells.is_empty() { p class="nothing" { "This notebook has no cells." } }
    })
}

async fn file(object: &Object, blob: Blob) -> PageResult<Markup> {
    let name = object.path.name();
    if image_type(name).is_some() {
        return Ok(html! {
            (head(object))
            img class="preview" src={ (link(&object.path)) "?raw=image" } alt=(name);
        });
    }
    let bytes = read(blob, PREVIEW_BYTES_MAX).await?;
    let markdown = name
        .to_lowercase()
        .ends_with(".md")
        .then(|| String::from_utf8_lossy(&bytes));
    Ok(html! {
        (head(object))
        @if let Some(text) = markdown {
            div class="notebook md" { (PreEscaped(markdown_to_html(&text))) }
        } @else {
            (text_preview(&bytes))
        }
        @if object.size_bytes > bytes.len() as u64 {
            p class="note" {
                "The first " (size(bytes.len() as u64)) " of " (size(object.size_bytes))
                "; the download has the rest."
            }
        }
    })
}

fn text_preview(bytes: &[u8]) -> Markup {
    if bytes.contains(&0) {
        return html! { p class="nothing" { "This file is not text, so there is no preview." } };
    }
    let shown = bytes.get(..PREVIEW_BYTES_MAX).unwrap_or(bytes);
    let text = String::from_utf8_lossy(shown);
    html! {
        @if text.is_empty() { p class="nothing" { "This file is empty." } }
        @else { pre class="source file" tabindex="0" { (text) } }
    }
}

async fn read(blob: Blob, bytes_max: usize) -> PageResult<Vec<u8>> {
    let read = move || {
        blob.read(0, bytes_max)
            .map_err(|e| e.at("of the workspace"))
    };
    Ok(blocking(read).await?)
}

fn image_type(name: &str) -> Option<&'static str> {
    let (_, extension) = name.rsplit_once('.')?;
    Some(match extension.to_ascii_lowercase().as_str() {
        "png" => "image/png",
        "jpg" | "jpeg" => "image/jpeg",
        "gif" => "image/gif",
        "webp" => "image/webp",
        "svg" => "image/svg+xml",
        _ => return None,
    })
}

/// The bytes as they are. Whatever is in them, they act on nothing: images run no scripts, and
/// everything else is a download.
fn raw(disk: &str, blob: Blob, as_image: bool) -> Response {
    let name = disk.rsplit('/').next().unwrap_or_default();
    let length = blob.meta.size_bytes;
    let mut response = Body::from_stream(chunks(blob, 0, length)).into_response();
    let headers = response.headers_mut();
    let image = image_type(name).filter(|_| as_image);
    let kind = image.unwrap_or("application/octet-stream");
    headers.insert(CONTENT_TYPE, HeaderValue::from_static(kind));
    headers.insert(CONTENT_LENGTH, HeaderValue::from(length));
    if image.is_none() {
        let encoded = address(name);
        let named = format!("attachment; filename*=UTF-8''{encoded}");
        let named = HeaderValue::from_str(&named);
        headers.insert(
            CONTENT_DISPOSITION,
            named.unwrap_or(HeaderValue::from_static("attachment")),
        );
    }
    headers.insert(
        CONTENT_SECURITY_POLICY,
        HeaderValue::from_static("default-src 'none'; style-src 'unsafe-inline'; sandbox"),
    );
    response
}
