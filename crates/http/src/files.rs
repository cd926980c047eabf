use std::sync::Arc;

use axum::Json;
use axum::body::Body;
use axum::extract::{Path, State};
use axum::http::header::{CONTENT_LENGTH, CONTENT_TYPE, ETAG, HOST};
use axum::http::{HeaderMap, HeaderValue, StatusCode};
use axum::response::{IntoResponse, Response};
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use forebay_control::files::{FilesEntry, FilesPath};
use forebay_types::{Error, Result};
use forebay_wire::Method::{Delete, Get, Head, Post, Put};
use forebay_wire::files::{
    AbortUrl, AbortUrlRequest, ActionQuery, CompleteUpload, DirectoryContents, DirectoryEntry,
    InitiatedUpload, ListQuery, MultipartUpload, PartUrl, PartUrls, PartUrlsRequest, PutQuery,
    SignedUrl,
};
use forebay_wire::lenient;
use serde_json::json;

use crate::auth::Caller;
use crate::error::ApiResult;
use crate::extract::{Fields, Params, QueryParams, RestPath};
use crate::routes::Routes;
use crate::server::App;
use crate::transfer::{OCTETS, body_to_file, body_to_part, download_range, last_modified};

/// How many addresses for parts one call gives.
const PART_URLS_MAX: u32 = 1000;

pub(crate) fn routes(routes: &mut Routes) {
    routes.on(Get, &["2.0"], "/fs/files/{*path}", download);
    routes.on(Head, &["2.0"], "/fs/files/{*path}", metadata);
    routes.on(Put, &["2.0"], "/fs/files/{*path}", upload);
    routes.on(Delete, &["2.0"], "/fs/files/{*path}", delete);
    routes.on(Post, &["2.0"], "/fs/files/{*path}", action);
    routes.on(Get, &["2.0"], "/fs/directories/{*path}", directory_list);
    routes.on(Head, &["2.0"], "/fs/directories/{*path}", directory_check);
    routes.on(Put, &["2.0"], "/fs/directories/{*path}", directory_create);
    routes.on(
        Delete,
        &["2.0"],
        "/fs/directories/{*path}",
        directory_delete,
    );
    routes.on(Post, &["2.0"], "/fs/create-upload-part-urls", part_urls);
    routes.on(Post, &["2.0"], "/fs/create-abort-upload-url", abort_url);
    routes.on(Put, &["2.0"], "/fs/uploads/{token}/{part}", upload_part);
    routes.on(Delete, &["2.0"], "/fs/uploads/{token}", upload_abort);
}

async fn download(
    State(app): State<Arc<App>>,
    Caller(ctx): Caller,
    RestPath(path): RestPath,
    headers: HeaderMap,
) -> ApiResult<Response> {
    let path = FilesPath::parse(&path)?;
    download_range(app.services.files.get(&ctx, &path).await?, &headers)
}

async fn metadata(
    State(app): State<Arc<App>>,
    Caller(ctx): Caller,
    RestPath(path): RestPath,
) -> ApiResult<Response> {
    let path = FilesPath::parse(&path)?;
    let meta = app.services.files.get(&ctx, &path).await?.meta;
    let mut response = StatusCode::OK.into_response();
    let headers = response.headers_mut();
    headers.insert(CONTENT_TYPE, OCTETS);
    headers.insert(CONTENT_LENGTH, HeaderValue::from(meta.size_bytes));
    last_modified(headers, &meta);
    Ok(response)
}

async fn upload(
    State(app): State<Arc<App>>,
    Caller(ctx): Caller,
    RestPath(path): RestPath,
    QueryParams(query): QueryParams<PutQuery>,
    body: Body,
) -> ApiResult<StatusCode> {
    let path = FilesPath::parse(&path)?;
    let files = &app.services.files;
    let staged = files.stage().await?;
    body_to_file(body, &staged, path.size_bytes_max()).await?;
    files.put(&ctx, &path, query.overwrite, staged).await?;
    Ok(StatusCode::NO_CONTENT)
}

async fn delete(
    State(app): State<Arc<App>>,
    Caller(ctx): Caller,
    RestPath(path): RestPath,
) -> ApiResult<StatusCode> {
    app.services
        .files
        .delete(&ctx, &FilesPath::parse(&path)?)
        .await?;
    Ok(StatusCode::NO_CONTENT)
}

async fn action(
    State(app): State<Arc<App>>,
    Caller(ctx): Caller,
    RestPath(path): RestPath,
    QueryParams(query): QueryParams<ActionQuery>,
    Fields(fields): Fields,
) -> ApiResult<Response> {
    let path = FilesPath::parse(&path)?;
    let files = &app.services.files;
    match query.action.as_deref() {
        Some("initiate-upload") => {
            let session_token = files.upload_begin(&ctx, &path, query.overwrite).await?;
            let multipart_upload = MultipartUpload { session_token };
            Ok(Json(InitiatedUpload { multipart_upload }).into_response())
        }
        Some("complete-upload") => {
            let token = query
                .session_token
                .ok_or_else(|| Error::invalid("Field 'session_token' is missing."))?;
            let request: CompleteUpload = lenient::from_map(fields)?;
            let parts: Vec<_> = request
                .parts
                .into_iter()
                .map(|part| (part.part_number, part.etag))
                .collect();
            files.upload_complete(&ctx, &path, &token, &parts).await?;
            Ok(Json(json!({})).into_response())
        }
        other => {
            let action = other.unwrap_or("(none)");
            Err(Error::invalid(format!(
                "Invalid value for field 'action': {action} is neither initiate-upload nor complete-upload."
            ))
            .into())
        }
    }
}

async fn part_urls(
    State(app): State<Arc<App>>,
    Caller(ctx): Caller,
    headers: HeaderMap,
    Params(request): Params<PartUrlsRequest>,
) -> ApiResult<Json<PartUrls>> {
    let token = &request.session_token;
    app.services.files.upload_check(&ctx, token)?;
    let base = base_url(&app, &headers);
    let numbers = request.start_part_number
        ..request
            .start_part_number
            .saturating_add(request.count.min(PART_URLS_MAX));
    let urls = numbers.map(|part_number| PartUrl {
        part_number,
        url: format!("{base}/api/2.0/fs/uploads/{token}/{part_number}"),
        headers: Vec::new(),
    });
    Ok(Json(PartUrls {
        upload_part_urls: urls.collect(),
    }))
}

async fn abort_url(
    State(app): State<Arc<App>>,
    Caller(ctx): Caller,
    headers: HeaderMap,
    Params(request): Params<AbortUrlRequest>,
) -> ApiResult<Json<AbortUrl>> {
    let token = &request.session_token;
    app.services.files.upload_check(&ctx, token)?;
    let url = format!("{}/api/2.0/fs/uploads/{token}", base_url(&app, &headers));
    Ok(Json(AbortUrl {
        abort_upload_url: SignedUrl {
            url,
            headers: Vec::new(),
        },
    }))
}

/// The server as the client reached it, which its public address need not be.
fn base_url(app: &App, headers: &HeaderMap) -> String {
    let public = &app.services.setup.public_url;
    let host = headers.get(HOST).and_then(|host| host.to_str().ok());
    match (public.split_once("://"), host) {
        (Some((scheme, _)), Some(host)) => format!("{scheme}://{host}"),
        _ => public.clone(),
    }
}

async fn upload_part(
    State(app): State<Arc<App>>,
    Path((token, number)): Path<(String, String)>,
    body: Body,
) -> ApiResult<Response> {
    let number = number
        .parse()
        .map_err(|_| Error::invalid(format!("Part numbers are numbers: {number}.")))?;
    let files = &app.services.files;
    let part = files.upload_part(&token, number)?;
    let size_bytes = body_to_part(body, part).await?;
    let tag = files.upload_part_arrived(&token, number, size_bytes)?;
    Ok(([(ETAG, tag)], StatusCode::OK).into_response())
}

async fn upload_abort(State(app): State<Arc<App>>, Path(token): Path<String>) -> StatusCode {
    app.services.files.upload_abort(&token);
    StatusCode::OK
}

async fn directory_list(
    State(app): State<Arc<App>>,
    Caller(ctx): Caller,
    RestPath(path): RestPath,
    QueryParams(query): QueryParams<ListQuery>,
) -> ApiResult<Json<DirectoryContents>> {
    let path = FilesPath::parse(&path)?;
    let after = query
        .page_token
        .as_deref()
        .filter(|token| !token.is_empty())
        .map(from_page_token)
        .transpose()?;
    let page = app
        .services
        .files
        .directory_list(&ctx, &path, query.page_size, after)
        .await?;
    let folder = path.display();
    Ok(Json(DirectoryContents {
        contents: page
            .entries
            .into_iter()
            .map(|entry| directory_entry(&folder, entry))
            .collect(),
        next_page_token: page.next_after.map(|name| URL_SAFE_NO_PAD.encode(name)),
    }))
}

fn from_page_token(token: &str) -> Result<String> {
    let bytes = URL_SAFE_NO_PAD.decode(token).ok();
    bytes
        .and_then(|bytes| String::from_utf8(bytes).ok())
        .ok_or_else(|| Error::invalid("Field 'page_token' was not made by this call."))
}

async fn directory_check(
    State(app): State<Arc<App>>,
    Caller(ctx): Caller,
    RestPath(path): RestPath,
) -> ApiResult<StatusCode> {
    app.services
        .files
        .directory_check(&ctx, &FilesPath::parse(&path)?)
        .await?;
    Ok(StatusCode::OK)
}

async fn directory_create(
    State(app): State<Arc<App>>,
    Caller(ctx): Caller,
    RestPath(path): RestPath,
) -> ApiResult<StatusCode> {
    app.services
        .files
        .directory_create(&ctx, &FilesPath::parse(&path)?)
        .await?;
    Ok(StatusCode::NO_CONTENT)
}

async fn directory_delete(
    State(app): State<Arc<App>>,
    Caller(ctx): Caller,
    RestPath(path): RestPath,
) -> ApiResult<StatusCode> {
    app.services
        .files
        .directory_delete(&ctx, &FilesPath::parse(&path)?)
        .await?;
    Ok(StatusCode::NO_CONTENT)
}

fn directory_entry(folder: &str, entry: FilesEntry) -> DirectoryEntry {
    DirectoryEntry {
        path: format!("{}/{}", folder.trim_end_matches('/'), entry.name),
        name: entry.name,
        is_directory: entry.is_dir,
        file_size: (!entry.is_dir).then_some(entry.size_bytes),
        last_modified: entry.modified.0,
    }
}
