//! Libraries of the workspace: files with a name in the tree, which never change. Their rows are the
//! truth; the files in the tree and in `dbfs:/FileStore/jars` follow from them and are made anew when
//! they are gone.

use std::io::Read;

use forebay_blob::Staged;
use forebay_runtime::blocking;
use forebay_store::{ClusterLibrary, LibraryRow, NewLibrary, library_text};
use forebay_types::{ClusterId, DbfsPath, Error, ObjectId, ObjectKind, Result, WorkspacePath};
use serde_json::Value;
use tracing::warn;

use super::archive::{self, FileKind};
use super::users::{is_on, name_of, path_of, tasks_of};
use super::{Change, Inner, Libraries};
use crate::Ctx;
use crate::access::Access;

/// The longest name of a library or its file.
const NAME_CHARS_MAX: usize = 200;

/// A library that somebody hands in.
#[derive(Debug)]
pub struct Upload {
    /// `java-jar`, `python-egg` or `python-whl`.
    pub kind: String,
    pub path: WorkspacePath,
    /// What the caller calls the file; without one, it is called as the library.
    pub file_name: Option<String>,
    pub content: Staged,
}

impl Libraries {
    /// A new file for content that is on its way in.
    ///
    /// # Errors
    /// When the disk refuses.
    pub async fn stage(&self) -> Result<Staged> {
        self.0.dbfs.stage().await
    }

    /// Keeps a library under its name.
    ///
    /// # Errors
    /// `RESOURCE_ALREADY_EXISTS` when there is one of that name, whatever its content; what is wrong
    /// with the file; `PERMISSION_DENIED` without the right to write to the folder.
    pub async fn upload(&self, ctx: &Ctx, upload: Upload) -> Result<LibraryRow> {
        let inner = &self.0;
        let Upload {
            kind,
            path,
            file_name,
            content,
        } = upload;
        let (file_kind, extension) = file_kind(&kind)?;
        check_name("name", path.name())?;
        let file = match file_name.filter(|name| name.ends_with(extension)) {
            Some(name) => name,
            None => format!("{}{extension}", path.name()),
        };
        check_name("uri", &file)?;
        inner.workspace.library_folder(ctx, &path).await?;
        let blob = blocking(move || content.into_blob().map_err(|e| e.at("of the upload"))).await?;
        let size_bytes = blob.meta.size_bytes;
        let held = inner.kept.hold().await;
        let digest = inner.kept.keep(blob, &file).await?;
        let (kept, name) = (inner.kept.path(&digest), file.clone());
        blocking(move || {
            let opened = std::fs::File::open(kept);
            let content = opened.map_err(|e| Error::internal(format!("cannot read {name}"), e))?;
            archive::check(file_kind, content, &name, &name)
        })
        .await?;
        let place = DbfsPath::parse(&format!("/FileStore/jars/{file}"))?;
        let new = NewLibrary {
            is_taken: inner.dbfs.status(&place).await.is_ok(),
            path,
            kind,
            file,
            digest,
            size_bytes,
            creator: ctx.creator(),
        };
        let library = inner.store.library_create(new, inner.clock.now()).await?;
        drop(held);
        inner.restore(&library).await?;
        Ok(library)
    }

    /// The libraries that the caller may see, by path.
    ///
    /// # Errors
    /// When the database refuses.
    pub async fn list(&self, ctx: &Ctx) -> Result<Vec<LibraryRow>> {
        let rights = self.0.workspace.rights(ctx).await?;
        let mut all = self.0.store.library_list().await?;
        all.retain(|library| rights.may(&library.path, Access::Read));
        Ok(all)
    }

    /// A library, and where it is on the clusters that the caller may use.
    ///
    /// # Errors
    /// `RESOURCE_DOES_NOT_EXIST`; `PERMISSION_DENIED`.
    pub async fn get(&self, ctx: &Ctx, id: ObjectId) -> Result<(LibraryRow, Vec<ClusterLibrary>)> {
        let library = self.permitted(ctx, id, Access::Read).await?;
        let path = path_of(&library);
        let on = self.of_clusters(ctx).await?.into_values().flatten();
        Ok((library, on.filter(|row| is_on(row, &path)).collect()))
    }

    /// Removes a library that nothing points at.
    ///
    /// # Errors
    /// `INVALID_STATE` that says which job or cluster points at it; as [`Libraries::get`].
    pub async fn remove(&self, ctx: &Ctx, id: ObjectId) -> Result<()> {
        self.permitted(ctx, id, Access::Manage).await?;
        let inner = &self.0;
        let jobs = inner.permissions.visible(ctx, ObjectKind::Job).await?;
        let check = move |library: &LibraryRow, all: Vec<_>, on: Vec<ClusterLibrary>| {
            let path = path_of(library);
            let mut users = Vec::new();
            for job in all {
                if tasks_of(&job, &path).is_empty() {
                    continue;
                }
                let seen = jobs
                    .as_ref()
                    .is_none_or(|ids| ids.contains(&job.id.to_string()));
                users.push(match seen {
                    true => format!("job {} ({})", job.id, name_of(&job)),
                    false => "a job of others".to_owned(),
                });
            }
            let on = on.iter().filter(|row| is_on(row, &path));
            users.extend(on.map(|row| format!("cluster {}", row.cluster)));
            if users.is_empty() {
                return Ok(());
            }
            Err(Error::state(format!(
                "Library {} is still used by {}.",
                library.path,
                users.join(", ")
            )))
        };
        if let Some(library) = inner.store.library_delete(id, check).await? {
            inner.dbfs.delete_fixed(&place(&library)?).await?;
            inner.workspace.library_unmark(&library.path).await?;
        }
        Ok(())
    }

    /// Puts a library on a cluster, or on every one, also those to come; or takes it away.
    ///
    /// # Errors
    /// As [`Libraries::get`] and [`Libraries::change`]; for every cluster, administrators only.
    pub async fn attach(
        &self,
        ctx: &Ctx,
        id: ObjectId,
        cluster: Option<ClusterId>,
        change: Change,
    ) -> Result<()> {
        let library = self.permitted(ctx, id, Access::Read).await?;
        let text = library_text(&library.kind, &library.file);
        let entry: Value = serde_json::from_str(&text).unwrap_or_default();
        let Some(cluster) = cluster else {
            ctx.require_admin("attach a library to all clusters")?;
            super::canonical(vec![entry])?;
            let store = &self.0.store;
            let on = change == Change::Install;
            store.library_for_all(library, ctx.user.id, on).await?;
            self.0.nudge.notify_one();
            return Ok(());
        };
        self.change(ctx, &cluster, change, vec![entry]).await
    }

    async fn permitted(&self, ctx: &Ctx, id: ObjectId, access: Access) -> Result<LibraryRow> {
        let rights = self.0.workspace.rights(ctx).await?;
        let found = self.0.store.library_get(id).await?;
        let missing = || Error::missing(format!("Library {id} does not exist."));
        match found {
            Some(library) => {
                rights.require(&library.path, access)?;
                Ok(library)
            }
            None => Err(missing()),
        }
    }

    /// Brings the files of all libraries to where they belong. For the start.
    pub(crate) async fn restore(&self) {
        let restored = async {
            for library in self.0.store.library_list().await? {
                self.0.restore(&library).await?;
            }
            Ok::<_, Error>(())
        };
        if let Err(error) = restored.await {
            warn!(error = ?error, "files of libraries could not be made anew");
        }
    }
}

impl Inner {
    /// Makes the files of a library, where they are not there.
    async fn restore(&self, library: &LibraryRow) -> Result<()> {
        let path = place(library)?;
        let there = self.dbfs.status(&path).await;
        if there.is_ok_and(|file| !file.is_dir && file.size_bytes == library.size_bytes) {
            self.dbfs.fix(path);
        } else {
            let (content, staged) = (self.kept.path(&library.digest), self.dbfs.stage().await?);
            let shown = path.to_string();
            let staged = blocking(move || copied(&content, staged, &shown)).await?;
            self.dbfs.put_fixed(&path, staged).await?;
        }
        let text = format!("{} of {} bytes\n", path_of(library), library.size_bytes);
        self.workspace.library_mark(&library.path, text).await
    }
}

fn copied(content: &std::path::Path, mut staged: Staged, shown: &str) -> Result<Staged> {
    let cannot = |e| Error::internal(format!("cannot read the content of {shown}"), e);
    let mut file = std::fs::File::open(content).map_err(cannot)?;
    let mut buffer = vec![0; 1 << 20];
    loop {
        let count = file.read(&mut buffer).map_err(cannot)?;
        let piece = buffer.get(..count).unwrap_or_default();
        if piece.is_empty() {
            return Ok(staged);
        }
        staged.write(piece).map_err(|e| e.at(shown))?;
    }
}

fn place(library: &LibraryRow) -> Result<DbfsPath> {
    Ok(DbfsPath::parse(&format!(
        "/FileStore/jars/{}",
        library.file
    ))?)
}

/// What a kind of the wire is, and how the names of its files end.
fn file_kind(kind: &str) -> Result<(FileKind, &'static str)> {
    match kind {
        "java-jar" => Ok((FileKind::Jar, ".jar")),
        "python-egg" => Ok((FileKind::Egg, ".egg")),
        "python-whl" => Ok((FileKind::Wheel, ".whl")),
        "python-pypi" | "maven" => Err(Error::not_implemented(format!(
            "A library of the workspace with libType '{kind}'"
        ))),
        _ => Err(Error::invalid(format!(
            "Invalid value for field 'libType': '{kind}' is none of java-jar, python-egg, python-whl."
        ))),
    }
}

fn check_name(field: &str, name: &str) -> Result<()> {
    let plain = |c: char| c.is_alphanumeric() || "._+- ".contains(c);
    if name.is_empty()
        || name.chars().count() > NAME_CHARS_MAX
        || name.starts_with('.')
        || !name.chars().all(plain)
    {
        return Err(Error::invalid(format!(
            "Invalid value for field '{field}': '{name}' has to be at most {NAME_CHARS_MAX} letters, \
             digits, dots, dashes, '_' and '+', and begins with none of the dots."
        )));
    }
    Ok(())
}
