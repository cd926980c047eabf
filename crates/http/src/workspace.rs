use std::sync::Arc;

use axum::Json;
use axum::body::Body;
use axum::extract::{Request, State};
use axum::response::{IntoResponse, Response};
use forebay_blob::Blob;
use forebay_control::workspace::{
    Content, ExportFormat, Exported, FILE_BYTES_MAX, GitFolder, Import, ImportFormat, Listing,
    Object, ObjectKind,
};
use forebay_notebook::{Format, Language};
use forebay_runtime::blocking;
use forebay_types::{Error, ErrorCode, Millis, Result, WorkspacePath};
use forebay_wire::Method::{Get, Post};
use forebay_wire::lenient;
use forebay_wire::workspace::{
    DeleteRequest, ExportRequest, ExportResponse, GitInfo, ImportFileQuery, ImportRequest,
    ListRequest, ObjectInfo, ObjectList, PathRequest, StatusRequest,
};
use serde_json::{Value, json};

use crate::auth::Caller;
use crate::error::ApiResult;
use crate::extract::{Params, QueryParams, RestPath};
use crate::routes::Routes;
use crate::server::App;
use crate::transfer::{
    body_to_file, bytes_to_file, download, from_base64, octets, read_form, to_base64,
};

pub(crate) fn routes(routes: &mut Routes) {
    routes.on(Post, &["2.0"], "/workspace/mkdirs", mkdirs);
    routes.on(Get, &["2.0"], "/workspace/list", list);
    routes.on(Get, &["2.0"], "/workspace/get-status", get_status);
    routes.on(Post, &["2.0"], "/workspace/import", import);
    routes.on(Get, &["2.0"], "/workspace/export", export);
    routes.on(Post, &["2.0"], "/workspace/delete", delete);
    routes.on(
        Post,
        &["2.0"],
        "/workspace-files/import-file/{*path}",
        import_file,
    );
    routes.on(Get, &["2.0"], "/workspace-files/{*path}", read_file);
}

/// What a call may hold in memory to answer in base64, in bytes.
const EXPORT_BYTES_MAX: u64 = 10 << 20;

async fn mkdirs(
    State(app): State<Arc<App>>,
    Caller(ctx): Caller,
    Params(request): Params<PathRequest>,
) -> ApiResult<Json<Value>> {
    let path = WorkspacePath::parse(&request.path)?;
    app.services.workspace.mkdirs(&ctx, &path).await?;
    Ok(Json(json!({})))
}

async fn list(
    State(app): State<Arc<App>>,
    Caller(ctx): Caller,
    Params(request): Params<ListRequest>,
) -> ApiResult<Json<ObjectList>> {
    let path = WorkspacePath::parse(&request.path)?;
    let modified_after = request.notebooks_modified_after.map(Millis);
    let objects = match app
        .services
        .workspace
        .list(&ctx, &path, modified_after)
        .await?
    {
        Listing::Folder(objects) => objects
            .into_iter()
            .map(|object| info(shown(&request.path, &object.path), object))
            .collect(),
        // Clients know by the very path they sent that it is not a folder.
        Listing::Single(object) => vec![info(request.path, object)],
    };
    Ok(Json(ObjectList { objects }))
}

async fn get_status(
    State(app): State<Arc<App>>,
    Caller(ctx): Caller,
    Params(request): Params<StatusRequest>,
) -> ApiResult<Json<ObjectInfo>> {
    let path = WorkspacePath::parse(&request.path)?;
    let workspace = &app.services.workspace;
    let object = workspace.status(&ctx, &path).await?;
    let export_format = export_format_of(object.kind);
    let mut answer = info(shown(&request.path, &object.path), object);
    if request.return_export_info {
        answer.repos_export_format = export_format;
    }
    if request.return_git_info {
        answer.git_info = workspace.git_folder(&ctx, &path).await?.map(git_info);
    }
    Ok(Json(answer))
}

async fn import(
    State(app): State<Arc<App>>,
    Caller(ctx): Caller,
    request: Request,
) -> ApiResult<Json<Value>> {
    let workspace = &app.services.workspace;
    let mut staged = workspace.stage().await?;
    let mut form = read_form(request, &staged, FILE_BYTES_MAX).await?;
    let content = form.fields.remove("content");
    let request: ImportRequest = lenient::from_map(form.fields)?;
    let import = Import {
        path: WorkspacePath::parse(&request.path)?,
        format: import_format(request.format.as_deref(), request.language.as_deref())?,
        overwrite: request.overwrite,
    };
    match content {
        Some(Value::String(text)) if !form.has_file => {
            staged = bytes_to_file(from_base64("content", &text)?, staged).await?;
        }
        None if form.has_file => {}
        _ => {
            return Err(Error::invalid(
                "Field 'content' must be given once, as base64 or as a file.",
            )
            .into());
        }
    }
    workspace.import(&ctx, import, staged).await?;
    Ok(Json(json!({})))
}

async fn export(
    State(app): State<Arc<App>>,
    Caller(ctx): Caller,
    Params(request): Params<ExportRequest>,
) -> ApiResult<Response> {
    let path = WorkspacePath::parse(&request.path)?;
    let format = export_format(request.format.as_deref())?;
    let Exported { content, file_type } =
        app.services.workspace.export(&ctx, &path, format).await?;
    Ok(match content {
        Content::Blob(blob) if request.direct_download => download(blob),
        Content::Bytes(bytes) if request.direct_download => octets(bytes),
        Content::Blob(blob) => encoded(read_whole(blob).await?, file_type),
        Content::Bytes(bytes) => encoded(bytes, file_type),
    })
}

async fn delete(
    State(app): State<Arc<App>>,
    Caller(ctx): Caller,
    Params(request): Params<DeleteRequest>,
) -> ApiResult<Json<Value>> {
    let path = WorkspacePath::parse(&request.path)?;
    app.services
        .workspace
        .delete(&ctx, &path, request.recursive)
        .await?;
    Ok(Json(json!({})))
}

async fn import_file(
    State(app): State<Arc<App>>,
    Caller(ctx): Caller,
    RestPath(path): RestPath,
    QueryParams(query): QueryParams<ImportFileQuery>,
    body: Body,
) -> ApiResult<Json<Value>> {
    let path = WorkspacePath::parse(&path)?;
    let workspace = &app.services.workspace;
    let staged = workspace.stage().await?;
    body_to_file(body, &staged, FILE_BYTES_MAX).await?;
    workspace
        .import_file(&ctx, &path, query.overwrite, staged)
        .await?;
    Ok(Json(json!({})))
}

async fn read_file(
    State(app): State<Arc<App>>,
    Caller(ctx): Caller,
    RestPath(path): RestPath,
) -> ApiResult<Response> {
    let path = WorkspacePath::parse(&path)?;
    let (_, blob) = app.services.workspace.read(&ctx, &path).await?;
    Ok(download(blob))
}

async fn read_whole(blob: Blob) -> Result<Vec<u8>> {
    if blob.meta.size_bytes > EXPORT_BYTES_MAX {
        return Err(Error::new(
            ErrorCode::MaxReadSizeExceeded,
            format!(
                "The content has more than {EXPORT_BYTES_MAX} bytes; repeat the call with direct_download=true."
            ),
        ));
    }
    let length = usize::try_from(blob.meta.size_bytes).unwrap_or(usize::MAX);
    blocking(move || blob.read(0, length).map_err(|e| e.at("of the export"))).await
}

fn encoded(bytes: Vec<u8>, file_type: String) -> Response {
    Json(ExportResponse {
        content: to_base64(&bytes),
        file_type,
    })
    .into_response()
}

/// A path of an answer, with the `/Workspace` prefix if and only if the request had it.
fn shown(requested: &str, path: &WorkspacePath) -> String {
    let rest = requested.strip_prefix("/Workspace");
    if rest.is_some_and(|rest| rest.is_empty() || rest.starts_with('/')) {
        return format!("/Workspace/{}", path.relative())
            .trim_end_matches('/')
            .to_owned();
    }
    path.to_string()
}

fn info(path: String, object: Object) -> ObjectInfo {
    let (object_type, language) = match object.kind {
        ObjectKind::Directory => ("DIRECTORY", None),
        ObjectKind::Repo => ("REPO", None),
        ObjectKind::File => ("FILE", None),
        ObjectKind::Library => ("LIBRARY", None),
        ObjectKind::Notebook { language, .. } => ("NOTEBOOK", Some(language.api_name())),
    };
    ObjectInfo {
        object_type,
        path,
        object_id: object.id.0,
        resource_id: object.id.to_string(),
        language,
        created_at: object.created_at.0,
        modified_at: object.modified_at.0,
        size: (object.kind == ObjectKind::File).then_some(object.size_bytes),
        repos_export_format: None,
        git_info: None,
    }
}

fn export_format_of(kind: ObjectKind) -> Option<&'static str> {
    match kind {
        ObjectKind::Notebook {
            format: Format::Jupyter,
            ..
        } => Some("JUPYTER"),
        ObjectKind::Notebook { .. } => Some("SOURCE"),
        _ => None,
    }
}

fn git_info(folder: GitFolder) -> GitInfo {
    GitInfo {
        id: folder.id.0,
        path: folder.path.to_string(),
        url: folder.url,
        provider: folder.provider,
        branch: folder.branch,
        head_commit_id: folder.head_commit_id,
    }
}

fn import_format(format: Option<&str>, language: Option<&str>) -> Result<ImportFormat> {
    let language = language.filter(|text| !text.is_empty());
    let language: Option<Language> = language
        .map(str::parse)
        .transpose()
        .map_err(|e| Error::invalid(format!("Invalid value for field 'language': {e}.")))?;
    Ok(match format.unwrap_or("SOURCE") {
        "SOURCE" => ImportFormat::Source(language),
        "JUPYTER" => ImportFormat::Jupyter,
        "HTML" => ImportFormat::Html,
        "DBC" => ImportFormat::Dbc,
        "AUTO" | "RAW" => ImportFormat::Auto,
        other => return Err(no_format("workspace/import", other)),
    })
}

fn export_format(format: Option<&str>) -> Result<ExportFormat> {
    Ok(match format.unwrap_or("SOURCE") {
        "SOURCE" => ExportFormat::Source,
        "JUPYTER" => ExportFormat::Jupyter,
        "HTML" => ExportFormat::Html,
        "DBC" => ExportFormat::Dbc,
        "AUTO" | "RAW" => ExportFormat::Auto,
        other => return Err(no_format("workspace/export", other)),
    })
}

fn no_format(call: &str, format: &str) -> Error {
    match format {
        "R_MARKDOWN" => Error::not_implemented(format!("{call} with format {format}")),
        _ => Error::invalid(format!(
            "Invalid value for field 'format': '{format}' is none of SOURCE, JUPYTER, HTML, AUTO, RAW, DBC, R_MARKDOWN."
        )),
    }
}
