use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use clap::{Args, Subcommand, ValueEnum};
use forebay_client::{Client, ExportFormat, Object, ObjectType};

use crate::args::Connection;
use crate::failure::{Exit, Failure, Outcome};
use crate::local::{LocalFile, files_below};

/// Subcommands of `forebay workspace`.
#[derive(Debug, Subcommand)]
pub enum WorkspaceCommand {
    /// List a folder
    #[command(visible_alias = "ls")]
    List(ListArgs),
    /// Import a notebook or file; a notebook loses its extension
    Import(ImportArgs),
    /// Import a folder with everything below it; hidden files are left out
    ImportDir(ImportDirArgs),
    /// Export a notebook or file to standard output, or to a file
    Export(ExportArgs),
}

/// Arguments of `forebay workspace list`.
#[derive(Debug, Args)]
pub struct ListArgs {
    /// Workspace folder
    #[arg(default_value = "/")]
    path: String,
    #[command(flatten)]
    connection: Connection,
}

/// Arguments of `forebay workspace import`.
#[derive(Debug, Args)]
pub struct ImportArgs {
    /// Local notebook (.py, .ipynb, ...) or file
    file: PathBuf,
    /// Where it goes; a folder when it ends with a slash [default: your own folder]
    path: Option<String>,
    /// Replace what is there
    #[arg(long)]
    overwrite: bool,
    #[command(flatten)]
    connection: Connection,
}

/// Arguments of `forebay workspace import-dir`.
#[derive(Debug, Args)]
pub struct ImportDirArgs {
    /// Local folder
    folder: PathBuf,
    /// Workspace folder that its content goes to
    path: String,
    /// Replace what is there
    #[arg(long)]
    overwrite: bool,
    #[command(flatten)]
    connection: Connection,
}

/// Arguments of `forebay workspace export`.
#[derive(Debug, Args)]
pub struct ExportArgs {
    /// Workspace path of a notebook or file
    path: String,
    /// Local file to write [default: standard output]
    file: Option<PathBuf>,
    /// Form of a notebook; files are given as they are
    #[arg(long, value_enum, default_value = "auto")]
    format: NotebookForm,
    #[command(flatten)]
    connection: Connection,
}

#[derive(Debug, Clone, Copy, ValueEnum)]
enum NotebookForm {
    Auto,
    Source,
    Jupyter,
    Html,
}

impl From<NotebookForm> for ExportFormat {
    fn from(form: NotebookForm) -> Self {
        match form {
            NotebookForm::Auto => Self::Auto,
            NotebookForm::Source => Self::Source,
            NotebookForm::Jupyter => Self::Jupyter,
            NotebookForm::Html => Self::Html,
        }
    }
}

pub(crate) async fn run(command: &WorkspaceCommand) -> Outcome {
    match command {
        WorkspaceCommand::List(args) => list(args).await?,
        WorkspaceCommand::Import(args) => import(args).await?,
        WorkspaceCommand::ImportDir(args) => import_dir(args).await?,
        WorkspaceCommand::Export(args) => export(args).await?,
    }
    Ok(Exit::Ok)
}

async fn list(args: &ListArgs) -> Result<(), Failure> {
    let out = args.connection.out();
    let objects = args.connection.client()?.workspace_list(&args.path).await?;
    if out.is_json() {
        return out.json(&objects);
    }
    if objects.is_empty() {
        out.note(format_args!("{} is empty", args.path));
        return Ok(());
    }
    let rows: Vec<_> = objects.iter().map(row).collect();
    out.table(["TYPE", "LANGUAGE", "PATH"], &rows)
}

fn row(object: &Object) -> [String; 3] {
    let kind = match object.object_type {
        ObjectType::Notebook => "notebook",
        ObjectType::Directory => "folder",
        ObjectType::File => "file",
        ObjectType::Library => "library",
        ObjectType::Repo => "repo",
        ObjectType::Dashboard => "dashboard",
        ObjectType::Other => "other",
    };
    let language = object.language.as_deref().unwrap_or("-");
    [
        kind.to_owned(),
        language.to_lowercase(),
        object.path.clone(),
    ]
}

async fn import(args: &ImportArgs) -> Result<(), Failure> {
    let out = args.connection.out();
    let file = LocalFile::read(&args.file)?;
    let client = args.connection.client()?;
    let path = match args.path.as_deref() {
        None => format!("/Users/{}/{}", client.me().await?.user_name, file.name),
        Some(path) if path.ends_with('/') => format!("{path}{}", file.name),
        Some(path) => path.to_owned(),
    };
    if let Some((folder, _)) = path
        .rsplit_once('/')
        .filter(|(folder, _)| !folder.is_empty())
    {
        client.workspace_mkdirs(folder).await?;
    }
    file.import(&client, &path, args.overwrite)
        .await
        .map_err(|failure| overwrite_hint(failure, args.overwrite))?;
    if out.is_json() {
        return out.json(&client.workspace_status(&path).await?);
    }
    out.note(format_args!("Imported {path}"));
    Ok(())
}

async fn import_dir(args: &ImportDirArgs) -> Result<(), Failure> {
    let out = args.connection.out();
    let files = files_below(&args.folder)?;
    let client = args.connection.client()?;
    let target = args.path.trim_end_matches('/');
    make_folders(&client, target, &files).await?;
    let mut imported = Vec::new();
    for relative in &files {
        let file = LocalFile::read(&args.folder.join(relative))?;
        let path = below(target, &relative.with_file_name(&file.name));
        file.import(&client, &path, args.overwrite)
            .await
            .map_err(|failure| overwrite_hint(failure, args.overwrite))?;
        imported.push(path);
    }
    if out.is_json() {
        return out.json(&imported);
    }
    out.note(format_args!(
        "Imported {} files to {target}",
        imported.len()
    ));
    Ok(())
}

async fn make_folders(client: &Client, target: &str, files: &[PathBuf]) -> Result<(), Failure> {
    let folders: BTreeSet<_> = files.iter().filter_map(|file| file.parent()).collect();
    for folder in folders {
        client.workspace_mkdirs(&below(target, folder)).await?;
    }
    Ok(())
}

fn below(target: &str, relative: &Path) -> String {
    let mut path = target.to_owned();
    for part in relative.components() {
        path.push('/');
        path.push_str(&part.as_os_str().to_string_lossy());
    }
    path
}

fn overwrite_hint(failure: Failure, overwrite: bool) -> Failure {
    if overwrite || !failure.message.contains("already exists") {
        return failure;
    }
    failure.hint("--overwrite replaces it")
}

async fn export(args: &ExportArgs) -> Result<(), Failure> {
    let out = args.connection.out();
    let client = args.connection.client()?;
    let bytes = client
        .workspace_export(&args.path, args.format.into())
        .await?;
    let Some(file) = &args.file else {
        return out.bytes(&bytes);
    };
    std::fs::write(file, &bytes)
        .map_err(|e| Failure::usage(format!("cannot write {}: {e}", file.display())))?;
    out.note(format_args!("Exported {} to {}", args.path, file.display()));
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_below_a_folder_use_slashes() {
        assert_eq!(below("/Shared/x", Path::new("a/b.py")), "/Shared/x/a/b.py");
        assert_eq!(below("/Shared/x", Path::new("")), "/Shared/x");
    }
}
