//! Libraries of the workspace, in the words of API 1.2.

use std::sync::Arc;

use axum::Json;
use axum::extract::{Request, State};
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use forebay_control::Ctx;
use forebay_control::libraries::{Change, Upload};
use forebay_store::LibraryRow;
use forebay_types::{ClusterId, DbfsPath, Error, ErrorCode, ObjectId, Result, WorkspacePath};
use forebay_wire::Method::{Get, Post};
use forebay_wire::error::http_status;
use forebay_wire::lenient;
use forebay_wire::libraries::{LibraryCall, OLD, UploadLibrary};
use serde_json::{Value, json};

use crate::auth::Caller;
use crate::error::ApiError;
use crate::extract::Params;
use crate::routes::Routes;
use crate::server::App;
use crate::transfer::{copy_to, read_form};

/// The largest library.
const BYTES_MAX: u64 = 5 << 30;
const ALL_CLUSTERS: &str = "__ALL_CLUSTERS";

pub(super) fn routes(routes: &mut Routes) {
    routes.on(Post, OLD, "/libraries/upload", upload);
    routes.on(Post, OLD, "/libraries/create", upload);
    routes.on(Get, OLD, "/libraries/list", list);
    routes.on(Get, OLD, "/libraries/status", status);
    routes.on(Post, OLD, "/libraries/delete", delete);
    for (path, way) in [
        ("/libraries/attach", Change::Install),
        ("/libraries/detach", Change::Uninstall),
    ] {
        let handler = move |app, caller, request| change(app, caller, request, way);
        routes.on(Post, OLD, path, handler);
    }
}

/// An error as this version of the API has it. What exists already is a 500 whose text says so:
/// clients of the time ask for just that.
struct OldError(ApiError);

impl<E: Into<Error>> From<E> for OldError {
    fn from(error: E) -> Self {
        Self(ApiError(error.into()))
    }
}

impl IntoResponse for OldError {
    fn into_response(self) -> Response {
        let error = &self.0.0;
        let status = match error.code {
            ErrorCode::Internal => return self.0.into_response(),
            ErrorCode::ResourceAlreadyExists => StatusCode::INTERNAL_SERVER_ERROR,
            code => StatusCode::from_u16(http_status(code)).unwrap_or(StatusCode::BAD_REQUEST),
        };
        (status, Json(json!({"error": error.message}))).into_response()
    }
}

type Answer = std::result::Result<Json<Value>, OldError>;

async fn upload(State(app): State<Arc<App>>, Caller(ctx): Caller, request: Request) -> Answer {
    let libraries = &app.services.libraries;
    let content = libraries.stage().await?;
    let form = read_form(request, &content, BYTES_MAX).await;
    let form = form.map_err(OldError)?;
    let fields: UploadLibrary = lenient::from_map(form.fields)?;
    let uri = fields.jar.map(|jar| jar.uri).or(fields.jar_uri);
    if let (Some(path), Some(uri)) = (fields.path, uri) {
        let library = from_dbfs(&app, &ctx, &path, &uri).await?;
        return Ok(Json(json!({"id": library.id})));
    }
    let need = |field: &str, value: Option<String>| {
        value
            .filter(|text| !text.is_empty())
            .ok_or_else(|| Error::invalid(format!("Missing required field: {field}")))
    };
    let kind = need("libType", fields.lib_type)?;
    let name = need("name", fields.name)?;
    let folder = WorkspacePath::parse(&need("folder", fields.folder)?)?;
    if !form.has_file {
        return Err(Error::invalid("Missing required field: uri, the file itself").into());
    }
    if name.contains('/') {
        return Err(Error::invalid("Invalid value for field 'name': it has no slashes.").into());
    }
    let upload = Upload {
        kind,
        path: folder.join(&name)?,
        file_name: form.file_name,
        content,
    };
    let library = libraries.upload(&ctx, upload).await?;
    Ok(Json(json!({"id": library.id})))
}

/// The form of the call that names a file in DBFS.
async fn from_dbfs(app: &App, ctx: &Ctx, path: &str, uri: &str) -> Result<LibraryRow> {
    let Some(source) = uri.strip_prefix("dbfs:").or(uri.strip_prefix("/dbfs")) else {
        return Err(Error::invalid(format!(
            "Invalid value for field 'jar_specification.uri': '{uri}' is not in DBFS; copy it there and \
             give dbfs:/PATH."
        )));
    };
    let source = DbfsPath::parse(source)?;
    let blob = app.services.dbfs.open_file(&source).await?;
    let content = app.services.libraries.stage().await?;
    let upload = Upload {
        kind: "java-jar".to_owned(),
        path: WorkspacePath::parse(path)?,
        file_name: Some(source.name().to_owned()),
        content: copy_to(blob, content).await?,
    };
    app.services.libraries.upload(ctx, upload).await
}

async fn list(State(app): State<Arc<App>>, Caller(ctx): Caller) -> Answer {
    let all = app.services.libraries.list(&ctx).await?;
    let shown: Vec<Value> = all.iter().map(brief).collect();
    Ok(Json(Value::Array(shown)))
}

fn brief(library: &LibraryRow) -> Value {
    let folder = library.path.parent();
    json!({
        "id": library.id,
        "name": library.path.name(),
        "folder": folder.map_or_else(|| "/".to_owned(), |folder| folder.to_string()),
    })
}

async fn status(
    State(app): State<Arc<App>>,
    Caller(ctx): Caller,
    Params(request): Params<LibraryCall>,
) -> Answer {
    let libraries = &app.services.libraries;
    let (library, on) = libraries.get(&ctx, ObjectId(request.library_id)).await?;
    let statuses = on.iter().map(|row| {
        json!({
            "clusterId": row.cluster,
            "status": row.state.as_str(),
            "messages": row.messages,
        })
    });
    let mut shown = brief(&library);
    shown["libType"] = json!(library.kind);
    shown["files"] = json!([library.file]);
    shown["attachAllClusters"] = json!(library.for_all);
    shown["statuses"] = statuses.collect();
    // Beside what the API had: what the file is.
    shown["sha256"] = json!(library.digest);
    shown["size"] = json!(library.size_bytes);
    Ok(Json(shown))
}

async fn delete(
    State(app): State<Arc<App>>,
    Caller(ctx): Caller,
    Params(request): Params<LibraryCall>,
) -> Answer {
    let id = ObjectId(request.library_id);
    app.services.libraries.remove(&ctx, id).await?;
    Ok(Json(json!({"id": id})))
}

/// Puts a library on a cluster or on all, or takes it from there.
async fn change(
    State(app): State<Arc<App>>,
    Caller(ctx): Caller,
    Params(request): Params<LibraryCall>,
    change: Change,
) -> Answer {
    let missing = || Error::invalid("Missing required field: clusterId");
    let cluster = request.cluster_id.ok_or_else(missing)?;
    let cluster = (cluster != ALL_CLUSTERS).then_some(ClusterId(cluster));
    let id = ObjectId(request.library_id);
    let libraries = &app.services.libraries;
    libraries.attach(&ctx, id, cluster, change).await?;
    Ok(Json(json!({})))
}
