//! Versions of a library, who uses which, and the move of all of them from one to another.

use std::collections::{BTreeMap, HashSet};

use forebay_engine::{Named, Version};
use forebay_store::{
    Cluster, ClusterEvent, Job, LibraryMove, LibraryRow, LibraryUse, library_text,
};
use forebay_types::{
    ClusterId, Error, JobId, Millis, ObjectId, ObjectKind, PermissionLevel, Result, WorkspacePath,
};
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use super::Libraries;
use super::users::{is_on, name_of, names, path_of, tasks_of};
use crate::Ctx;
use crate::access::Access;
use crate::clusters::{Clusters, lifecycle};

/// A library with its versions, oldest first.
#[derive(Debug, Clone, Serialize)]
pub struct Versions {
    pub name: String,
    /// `java-jar`, `python-egg` or `python-whl`.
    pub kind: String,
    pub versions: Vec<OneVersion>,
}

#[derive(Debug, Clone, Serialize)]
pub struct OneVersion {
    pub id: ObjectId,
    /// Empty when the name has none.
    pub version: String,
    /// In the workspace tree.
    pub path: WorkspacePath,
    /// As jobs name it.
    pub file: String,
    pub sha256: String,
    pub size_bytes: u64,
    pub creator: String,
    /// Milliseconds since the epoch.
    pub created_at: Millis,
    /// Of those that the caller may see.
    pub jobs: Vec<JobUser>,
    pub clusters: Vec<ClusterUser>,
    /// Jobs and clusters that the caller may not see.
    pub others: usize,
}

#[derive(Debug, Clone, Serialize)]
pub struct JobUser {
    pub job_id: JobId,
    pub name: String,
    pub tasks: Vec<String>,
}

#[derive(Debug, Clone, Serialize)]
pub struct ClusterUser {
    pub cluster_id: ClusterId,
    pub status: &'static str,
}

/// A move that somebody asks for.
#[derive(Debug, Clone, Deserialize)]
pub struct MoveRequest {
    pub name: String,
    /// Only users of this version; without it, of all that `to` may take the place of.
    pub from: Option<String>,
    /// Without it, the newest of the same major.
    pub to: Option<String>,
    /// Where the new version lies, when it is in more than one folder.
    pub folder: Option<String>,
    /// What the clusters of the moved tasks, and the moved clusters, run on from now on.
    pub spark_version: Option<String>,
    /// Also to another major.
    #[serde(default)]
    pub major: bool,
    #[serde(default)]
    pub dry_run: bool,
}

/// What a move did, or would do.
#[derive(Debug, Clone, Serialize)]
pub struct Moved {
    pub name: String,
    pub to: String,
    pub file: String,
    pub dry_run: bool,
    pub jobs: Vec<MovedJob>,
    pub clusters: Vec<MovedCluster>,
}

#[derive(Debug, Clone, Serialize)]
pub struct MovedJob {
    pub job_id: JobId,
    pub name: String,
    pub from: Vec<String>,
    pub tasks: Vec<String>,
    /// Where it changes: what its clusters were on.
    pub spark_version_was: Vec<String>,
}

#[derive(Debug, Clone, Serialize)]
pub struct MovedCluster {
    pub cluster_id: ClusterId,
    pub from: Vec<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub spark_version_was: Option<String>,
}

/// What a caller may do with jobs or clusters; `None` is everything.
type May = Option<HashSet<String>>;

fn may(allowed: &May, id: &impl ToString) -> bool {
    allowed
        .as_ref()
        .is_none_or(|ids| ids.contains(&id.to_string()))
}

impl Libraries {
    /// The libraries that the caller may see, by name.
    ///
    /// # Errors
    /// When the database refuses.
    pub async fn versions(&self, ctx: &Ctx) -> Result<Vec<Versions>> {
        let inner = &self.0;
        let rights = inner.workspace.rights(ctx).await?;
        let jobs = inner.permissions.visible(ctx, ObjectKind::Job).await?;
        let clusters = inner.permissions.visible(ctx, ObjectKind::Cluster).await?;
        let mut all = inner.store.library_use().await?;
        all.libraries
            .retain(|library| rights.may(&library.path, Access::Read));
        Ok(grouped(&all, &jobs, &clusters))
    }

    /// Moves every job and cluster that uses an older version to another one: all of them in one
    /// transaction, or none.
    ///
    /// # Errors
    /// `RESOURCE_DOES_NOT_EXIST` without such a library or version; `INVALID_PARAMETER_VALUE` for
    /// another major without `major`, or a Spark version that does not exist; `PERMISSION_DENIED` when
    /// the caller does not manage one of them.
    pub async fn move_all(&self, ctx: &Ctx, request: MoveRequest) -> Result<Moved> {
        let inner = &self.0;
        let rights = inner.workspace.rights(ctx).await?;
        let jobs = self.managed(ctx, ObjectKind::Job).await?;
        let on = self.managed(ctx, ObjectKind::Cluster).await?;
        let planner = Planner {
            clusters: inner.clusters.clone(),
            user: ctx.user.name.clone(),
            now: inner.clock.now(),
            jobs,
            on,
            request,
        };
        let dry_run = planner.request.dry_run;
        let plan = move |mut all: LibraryUse| {
            all.libraries
                .retain(|library| rights.may(&library.path, Access::Read));
            planner.plan(&all)
        };
        if dry_run {
            let all = inner.store.library_use().await?;
            return plan(all).map(|(_, moved)| moved);
        }
        let moved = inner.store.library_move(ctx.user.id, plan).await?;
        inner.clusters.look_again();
        inner.nudge.notify_one();
        Ok(moved)
    }

    /// The ids that the caller manages.
    async fn managed(&self, ctx: &Ctx, kind: ObjectKind) -> Result<May> {
        if ctx.is_admin() {
            return Ok(None);
        }
        let groups = &[crate::permissions::USERS];
        let levels = self.0.store.permission_levels(kind, &ctx.user.name, groups);
        let levels = levels.await?.into_iter();
        let managed = levels.filter(|(_, level)| kind.allows(*level, PermissionLevel::CanManage));
        Ok(Some(managed.map(|(id, _)| id).collect()))
    }
}

/// Which library a row is, and which version of it.
fn named(row: &LibraryRow) -> Named {
    let named = Named::parse(row.path.name());
    match named.version {
        Some(_) => named,
        // The article's names have it in the file only.
        None => Some(Named::parse(&row.file))
            .filter(|of_file| of_file.version.is_some())
            .unwrap_or(named),
    }
}

fn grouped(all: &LibraryUse, jobs: &May, clusters: &May) -> Vec<Versions> {
    let mut groups: BTreeMap<_, Vec<(Option<Version>, OneVersion)>> = BTreeMap::new();
    for row in &all.libraries {
        let Named { library, version } = named(row);
        let one = one_version(row, version.as_ref(), all, jobs, clusters);
        let group = groups.entry((library, row.kind.clone())).or_default();
        group.push((version, one));
    }
    let sorted = groups.into_iter().map(|((name, kind), mut versions)| {
        versions.sort_by(|(one, a), (other, b)| one.cmp(other).then(a.path.cmp(&b.path)));
        Versions {
            name,
            kind,
            versions: versions.into_iter().map(|(_, one)| one).collect(),
        }
    });
    sorted.collect()
}

fn one_version(
    row: &LibraryRow,
    version: Option<&Version>,
    all: &LibraryUse,
    jobs: &May,
    clusters: &May,
) -> OneVersion {
    let path = path_of(row);
    let mut others = 0;
    let mut of_jobs = Vec::new();
    for job in &all.jobs {
        let tasks = tasks_of(job, &path);
        if tasks.is_empty() {
            continue;
        }
        match may(jobs, &job.id) {
            true => of_jobs.push(JobUser {
                job_id: job.id,
                name: name_of(job),
                tasks,
            }),
            false => others += 1,
        }
    }
    let mut on = Vec::new();
    for there in all.on_clusters.iter().filter(|there| is_on(there, &path)) {
        match may(clusters, &there.cluster) {
            true => on.push(ClusterUser {
                cluster_id: there.cluster.clone(),
                status: there.state.as_str(),
            }),
            false => others += 1,
        }
    }
    OneVersion {
        id: row.id,
        version: version.map_or_else(String::new, |version| version.as_str().to_owned()),
        path: row.path.clone(),
        file: path,
        sha256: row.digest.clone(),
        size_bytes: row.size_bytes,
        creator: row.creator.clone(),
        created_at: row.created_at,
        jobs: of_jobs,
        clusters: on,
        others,
    }
}

/// Decides what a move changes, from everything as it is in one transaction.
struct Planner {
    clusters: Clusters,
    user: String,
    now: Millis,
    jobs: May,
    on: May,
    request: MoveRequest,
}

impl Planner {
    fn plan(&self, all: &LibraryUse) -> Result<(LibraryMove, Moved)> {
        let (to, from) = self.chosen(&all.libraries)?;
        let new_path = path_of(to);
        let mut change = LibraryMove::default();
        let mut moved = Moved {
            name: self.request.name.clone(),
            to: text_of(to),
            file: new_path.clone(),
            dry_run: self.request.dry_run,
            jobs: Vec::new(),
            clusters: Vec::new(),
        };
        for job in &all.jobs {
            self.job(job, &from, &new_path, &mut change, &mut moved)?;
        }
        for cluster in &all.clusters {
            self.cluster(cluster, all, &from, to, &mut change, &mut moved)?;
        }
        Ok((change, moved))
    }

    /// The version to move to, and those to move from.
    fn chosen<'a>(
        &self,
        libraries: &'a [LibraryRow],
    ) -> Result<(&'a LibraryRow, Vec<&'a LibraryRow>)> {
        let request = &self.request;
        let name = &request.name;
        let all: Vec<(&LibraryRow, Version)> = libraries
            .iter()
            .filter_map(|row| {
                let found = named(row);
                (found.library == *name).then_some((row, found.version?))
            })
            .collect();
        if all.is_empty() {
            return Err(Error::missing(format!(
                "There is no library '{name}' with versions; GET /api/forebay/v1/libraries lists them."
            )));
        }
        let of_version = |text: &str| -> Result<Vec<(&'a LibraryRow, Version)>> {
            let wanted = |(_, version): &&(&LibraryRow, Version)| version.as_str() == text;
            let found: Vec<_> = all.iter().filter(wanted).cloned().collect();
            match found.is_empty() {
                true => Err(Error::missing(format!(
                    "Library {name} has no version '{text}'."
                ))),
                false => Ok(found),
            }
        };
        let from = request.from.as_deref().map(of_version).transpose()?;
        let mut targets = match &request.to {
            Some(to) => of_version(to)?,
            // The newest of the major that is left.
            None => {
                let Some((_, old)) = from.as_ref().and_then(|from| from.first()) else {
                    return Err(Error::invalid(
                        "Missing required field: to, or from for the newest of its major",
                    ));
                };
                let newer = all.iter().filter(|(_, version)| version.updates(old));
                let newest = newer.clone().map(|(_, version)| version).max();
                newer.filter(|(_, v)| Some(v) == newest).cloned().collect()
            }
        };
        if let Some(folder) = &request.folder {
            let folder = WorkspacePath::parse(folder)?;
            targets.retain(|(row, _)| row.path.parent().as_ref() == Some(&folder));
        }
        let (to, version) = match &targets[..] {
            [] => {
                return Err(Error::missing(format!(
                    "Library {name} has no version to move to."
                )));
            }
            [one] => one,
            [one, rest @ ..] if rest.iter().all(|(row, _)| row.digest == one.0.digest) => one,
            several => {
                let places: Vec<_> = several.iter().map(|(row, _)| row.path.as_str()).collect();
                return Err(Error::invalid(format!(
                    "Version {} of {name} has other content in each of {}: choose with 'folder'.",
                    several.first().map_or("", |(_, version)| version.as_str()),
                    places.join(", ")
                )));
            }
        };
        let from = match from {
            Some(from) => {
                let other = from.iter().find(|(_, old)| old.major() != version.major());
                if let (Some((_, old)), false) = (other, request.major) {
                    return Err(Error::invalid(format!(
                        "{} to {} is a move to another major, which takes 'major': true.",
                        old.as_str(),
                        version.as_str()
                    )));
                }
                from
            }
            None => all
                .iter()
                .filter(|(_, old)| version.updates(old) || (request.major && version > old))
                .cloned()
                .collect(),
        };
        let from = from.into_iter().map(|(row, _)| row);
        // Users name a file in one way for each kind.
        Ok((
            to,
            from.filter(|row| row.id != to.id && row.kind == to.kind)
                .collect(),
        ))
    }

    fn job(
        &self,
        job: &Job,
        from: &[&LibraryRow],
        new_path: &str,
        change: &mut LibraryMove,
        moved: &mut Moved,
    ) -> Result<()> {
        let used = |row: &&&LibraryRow| !tasks_of(job, &path_of(row)).is_empty();
        let used: Vec<&LibraryRow> = from.iter().filter(used).copied().collect();
        if used.is_empty() {
            return Ok(());
        }
        if !may(&self.jobs, &job.id) {
            return Err(Error::denied(format!(
                "{} does not manage job {}, which uses {}: nothing was moved.",
                self.user, job.id, self.request.name
            )));
        }
        let mut tasks: Vec<String> = used
            .iter()
            .flat_map(|row| tasks_of(job, &path_of(row)))
            .collect();
        tasks.sort();
        tasks.dedup();
        let mut settings = job.settings.clone();
        let olds: Vec<String> = used.iter().map(|row| path_of(row)).collect();
        let mut keys = HashSet::new();
        let mut was = Vec::new();
        for task in tasks_mut(&mut settings) {
            if !replace(task, &olds, new_path) {
                continue;
            }
            if let Some(key) = task.get("job_cluster_key").and_then(Value::as_str) {
                keys.insert(key.to_owned());
            }
            self.change_version(task.get_mut("new_cluster"), job, &mut was)?;
        }
        let shared = settings
            .get_mut("job_clusters")
            .and_then(Value::as_array_mut);
        for cluster in shared.into_iter().flatten() {
            let key = cluster.get("job_cluster_key").and_then(Value::as_str);
            if key.is_some_and(|key| keys.contains(key)) {
                self.change_version(cluster.get_mut("new_cluster"), job, &mut was)?;
            }
        }
        was.sort();
        was.dedup();
        moved.jobs.push(MovedJob {
            job_id: job.id,
            name: name_of(job),
            from: used.iter().map(|row| text_of(row)).collect(),
            tasks,
            spark_version_was: was,
        });
        change.jobs.push((job.id, settings));
        Ok(())
    }

    /// Gives the definition of a cluster the wanted Spark version, and notes the one it had.
    fn change_version(
        &self,
        cluster: Option<&mut Value>,
        job: &Job,
        was: &mut Vec<String>,
    ) -> Result<()> {
        let (Some(wanted), Some(Value::Object(cluster))) = (&self.request.spark_version, cluster)
        else {
            return Ok(());
        };
        let old = cluster.insert("spark_version".to_owned(), wanted.as_str().into());
        let old = old.and_then(|old| old.as_str().map(str::to_owned));
        was.extend(old.filter(|old| old != wanted));
        let named = |e: Error| Error::new(e.code, format!("Job {}: {}", job.id, e.message));
        self.clusters.check(cluster).map_err(named)
    }

    fn cluster(
        &self,
        cluster: &Cluster,
        all: &LibraryUse,
        from: &[&LibraryRow],
        to: &LibraryRow,
        change: &mut LibraryMove,
        moved: &mut Moved,
    ) -> Result<()> {
        let id = &cluster.id;
        let mut left = Vec::new();
        for there in all.on_clusters.iter().filter(|there| there.cluster == *id) {
            let Some(old) = from.iter().find(|row| is_on(there, &path_of(row))) else {
                continue;
            };
            let new = library_text(&to.kind, &to.file);
            let row = (id.clone(), there.library.clone(), new);
            change.on_clusters.push(row);
            left.push(text_of(old));
        }
        if left.is_empty() {
            return Ok(());
        }
        if !may(&self.on, id) {
            return Err(Error::denied(format!(
                "{} does not manage cluster {id}, which has {}: nothing was moved.",
                self.user, self.request.name
            )));
        }
        let mut was = None;
        if let Some(wanted) = &self.request.spark_version {
            let old = cluster
                .settings
                .get("spark_version")
                .and_then(Value::as_str);
            was = old.filter(|old| old != wanted).map(str::to_owned);
            let mut settings = cluster.settings.clone();
            settings.insert("spark_version".to_owned(), wanted.as_str().into());
            let named = |e: Error| Error::new(e.code, format!("Cluster {id}: {}", e.message));
            self.clusters.check(&settings).map_err(named)?;
            if was.is_some() {
                let mut next = cluster.clone();
                let event: ClusterEvent =
                    lifecycle::edit(&mut next, settings, &self.user, self.now);
                change.clusters.push((next, event));
            }
        }
        moved.clusters.push(MovedCluster {
            cluster_id: id.clone(),
            from: left,
            spark_version_was: was,
        });
        Ok(())
    }
}

fn text_of(row: &LibraryRow) -> String {
    let version = named(row).version;
    version.map_or_else(String::new, |version| version.as_str().to_owned())
}

/// The tasks of a job, also those that a for-each has inside, which come as the task around them when
/// they are what names a library.
fn tasks_mut(settings: &mut Map<String, Value>) -> Vec<&mut Value> {
    let tasks = settings.get_mut("tasks").and_then(Value::as_array_mut);
    let mut found = Vec::new();
    for task in tasks.into_iter().flatten() {
        let is_for_each = task.pointer("/for_each_task/task").is_some();
        if !is_for_each {
            found.push(task);
        } else if let Some(inner) = task.pointer_mut("/for_each_task/task") {
            found.push(inner);
        }
    }
    found
}

/// Puts the new path in the place of the old ones, once. Whether there were any.
fn replace(task: &mut Value, olds: &[String], new_path: &str) -> bool {
    let Some(libraries) = task.get_mut("libraries").and_then(Value::as_array_mut) else {
        return false;
    };
    let has = |library: &Value| olds.iter().any(|old| names(library, old));
    let mut any = false;
    for library in libraries.iter_mut() {
        if has(library)
            && let Some(fields) = library.as_object_mut()
        {
            any = true;
            for value in fields.values_mut() {
                *value = new_path.into();
            }
        }
    }
    if any {
        let mut seen = false;
        libraries
            .retain(|library| !names(library, new_path) || !std::mem::replace(&mut seen, true));
    }
    any
}
