use std::sync::Arc;

use axum::Json;
use axum::body::Body;
use axum::extract::{Request, State};
use axum::http::HeaderMap;
use axum::response::Response;
use forebay_control::dbfs::{Dbfs, FileInfo};
use forebay_types::{DbfsPath, Error};
use forebay_wire::Method::{Get, Post};
use forebay_wire::dbfs::{
    AddBlockRequest, CloseRequest, CreateRequest, CreateResponse, DeleteRequest,
    FileInfo as WireInfo, FileList, MoveRequest, PathRequest, ReadRequest, ReadResponse,
};
use forebay_wire::lenient;
use serde_json::{Value, json};

use crate::auth::Caller;
use crate::error::ApiResult;
use crate::extract::{Params, RestPath};
use crate::routes::Routes;
use crate::server::App;
use crate::transfer::{
    body_to_file, bytes_to_file, download_range, from_base64, read_form, to_base64,
};

/// The largest file that comes in one call.
const PUT_BYTES_MAX: u64 = 5 << 30;

pub(crate) fn routes(routes: &mut Routes) {
    routes.on(Get, &["2.0"], "/dbfs/get-status", get_status);
    routes.on(Get, &["2.0"], "/dbfs/list", list);
    routes.on(Get, &["2.0"], "/dbfs/read", read);
    routes.on(Post, &["2.0"], "/dbfs/mkdirs", mkdirs);
    routes.on(Post, &["2.0"], "/dbfs/delete", delete);
    routes.on(Post, &["2.0"], "/dbfs/move", rename);
    routes.on(Post, &["2.0"], "/dbfs/put", put);
    routes.on(Post, &["2.0"], "/dbfs/create", create);
    routes.on(Post, &["2.0"], "/dbfs/add-block", add_block);
    routes.on(Post, &["2.0"], "/dbfs/close", close);
    routes.on(Get, &[], "/dbfs/{*path}", download_file);
    routes.on(Post, &[], "/dbfs/{*path}", upload_file);
}

async fn get_status(
    State(app): State<Arc<App>>,
    Caller(_): Caller,
    Params(request): Params<PathRequest>,
) -> ApiResult<Json<WireInfo>> {
    let path = DbfsPath::parse(&request.path)?;
    Ok(Json(info(app.services.dbfs.status(&path).await?)))
}

async fn list(
    State(app): State<Arc<App>>,
    Caller(_): Caller,
    Params(request): Params<PathRequest>,
) -> ApiResult<Json<FileList>> {
    let path = DbfsPath::parse(&request.path)?;
    let files = app.services.dbfs.list(&path).await?;
    Ok(Json(FileList {
        files: files.into_iter().map(info).collect(),
    }))
}

async fn read(
    State(app): State<Arc<App>>,
    Caller(_): Caller,
    Params(request): Params<ReadRequest>,
) -> ApiResult<Json<ReadResponse>> {
    let path = DbfsPath::parse(&request.path)?;
    let bytes = app
        .services
        .dbfs
        .read(&path, request.offset, request.length)
        .await?;
    Ok(Json(ReadResponse {
        bytes_read: bytes.len(),
        data: to_base64(&bytes),
    }))
}

async fn mkdirs(
    State(app): State<Arc<App>>,
    Caller(_): Caller,
    Params(request): Params<PathRequest>,
) -> ApiResult<Json<Value>> {
    let path = DbfsPath::parse(&request.path)?;
    app.services.dbfs.mkdirs(&path).await?;
    Ok(Json(json!({})))
}

async fn delete(
    State(app): State<Arc<App>>,
    Caller(_): Caller,
    Params(request): Params<DeleteRequest>,
) -> ApiResult<Json<Value>> {
    let path = DbfsPath::parse(&request.path)?;
    app.services.dbfs.delete(&path, request.recursive).await?;
    Ok(Json(json!({})))
}

async fn rename(
    State(app): State<Arc<App>>,
    Caller(_): Caller,
    Params(request): Params<MoveRequest>,
) -> ApiResult<Json<Value>> {
    let source = DbfsPath::parse(&request.source_path)?;
    let target = DbfsPath::parse(&request.destination_path)?;
    app.services.dbfs.rename(&source, &target).await?;
    Ok(Json(json!({})))
}

async fn put(
    State(app): State<Arc<App>>,
    Caller(_): Caller,
    request: Request,
) -> ApiResult<Json<Value>> {
    let dbfs = &app.services.dbfs;
    let mut staged = dbfs.stage().await?;
    let mut form = read_form(request, &staged, PUT_BYTES_MAX).await?;
    let contents = form.fields.remove("contents");
    let request: CreateRequest = lenient::from_map(form.fields)?;
    let path = DbfsPath::parse(&request.path)?;
    match contents {
        None => {}
        Some(Value::String(text)) if !form.has_file => {
            let bytes = from_base64("contents", &text)?;
            Dbfs::check_block(bytes.len())?;
            staged = bytes_to_file(bytes, staged).await?;
        }
        Some(_) => {
            return Err(Error::invalid(
                "Field 'contents' must be base64, and not come with a file.",
            )
            .into());
        }
    }
    dbfs.put(&path, request.overwrite, staged).await?;
    Ok(Json(json!({})))
}

async fn create(
    State(app): State<Arc<App>>,
    Caller(ctx): Caller,
    Params(request): Params<CreateRequest>,
) -> ApiResult<Json<CreateResponse>> {
    let path = DbfsPath::parse(&request.path)?;
    let handle = app
        .services
        .dbfs
        .create(&ctx, &path, request.overwrite)
        .await?;
    Ok(Json(CreateResponse { handle }))
}

async fn add_block(
    State(app): State<Arc<App>>,
    Caller(ctx): Caller,
    Params(request): Params<AddBlockRequest>,
) -> ApiResult<Json<Value>> {
    let block = from_base64("data", &request.data)?;
    app.services
        .dbfs
        .add_block(&ctx, request.handle, block)
        .await?;
    Ok(Json(json!({})))
}

async fn close(
    State(app): State<Arc<App>>,
    Caller(ctx): Caller,
    Params(request): Params<CloseRequest>,
) -> ApiResult<Json<Value>> {
    app.services.dbfs.close(&ctx, request.handle).await?;
    Ok(Json(json!({})))
}

async fn download_file(
    State(app): State<Arc<App>>,
    Caller(_): Caller,
    RestPath(path): RestPath,
    headers: HeaderMap,
) -> ApiResult<Response> {
    let path = DbfsPath::parse(&path)?;
    download_range(app.services.dbfs.open_file(&path).await?, &headers)
}

async fn upload_file(
    State(app): State<Arc<App>>,
    Caller(_): Caller,
    RestPath(path): RestPath,
    body: Body,
) -> ApiResult<Json<Value>> {
    let path = DbfsPath::parse(&path)?;
    let dbfs = &app.services.dbfs;
    let staged = dbfs.stage().await?;
    body_to_file(body, &staged, PUT_BYTES_MAX).await?;
    dbfs.put(&path, true, staged).await?;
    Ok(Json(json!({})))
}

fn info(file: FileInfo) -> WireInfo {
    WireInfo {
        path: file.path.to_string(),
        is_dir: file.is_dir,
        file_size: file.size_bytes,
        modification_time: file.modified.0,
    }
}
