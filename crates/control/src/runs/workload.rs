//! From a task of a run to what an executor is given.

use std::collections::BTreeMap;
use std::path::PathBuf;

use forebay_config::WorkspaceConfig;
use forebay_exec::{Context, LOCAL_DIR, Library, Mount, Mounts, Place, Program, Workload};
use forebay_types::{AttemptNumber, Error, Result, WorkspacePath};
use serde_json::{Value, json};

use super::Inner;
use super::bounds::Bounds;
use super::origin::Origin;
use super::output::{self, Snapshot};
use super::scope::{Scoped, text, texts};
use super::script::Taken;
use super::source::{self, Code};
use crate::Ctx;
use crate::access::CHECKOUTS;
use crate::clusters::ResolvedCluster;
use crate::jobs::{LibrarySpec, Spec, TaskSpec};
use crate::libraries::{RunFile, RunLibraries};
use crate::services::WorkspaceDirs;
use crate::workspace::{RunFolder, Workspace};

/// What a program finds its seed by.
const SEED: &str = "FOREBAY_SEED";

/// Everything about one attempt, before it starts.
pub(crate) struct Prepared {
    pub(crate) workload: Workload,
    pub(crate) snapshot: Option<Snapshot>,
    pub(crate) script: Option<Taken>,
    /// The files among its libraries.
    pub(crate) files: Vec<RunFile>,
    /// What is looked for anew each time.
    pub(crate) unpinned: Vec<String>,
    /// The parameters, as clients ask for them; `None` when there are none.
    pub(crate) resolved: Option<Value>,
}

/// Builds the workload of a task.
///
/// # Errors
/// Whatever keeps the task from starting: a missing notebook, a path the run's user may not read,
/// a reference without a value.
pub(crate) async fn prepare(origin: &Origin<'_>, libraries: RunLibraries) -> Result<Prepared> {
    let Origin {
        inner,
        attempt,
        scoped,
        code,
        compute,
        ..
    } = *origin;
    let (ctx, spec) = (&code.ctx, &origin.document.spec);
    let Scoped {
        task,
        job_parameters,
        overriding,
        home: top,
    } = scoped;
    let python_params = overriding.get("python_params").and_then(Value::as_array);
    let args = |own: &[String]| match python_params {
        Some(given) => given.iter().cloned().map(text).collect(),
        None => own.to_vec(),
    };
    let given = |field: &str| {
        let list = overriding.get(field)?.as_array()?;
        Some(list.iter().cloned().map(text).collect::<Vec<_>>())
    };
    let (mut snapshot, mut own_script) = (None, None);
    let (program, home) = if let Some(notebook) = &task.notebook_task {
        let path = &notebook.notebook_path;
        let path = match in_checkout(code, spec, task, path)? {
            Some(path) => path,
            None => WorkspacePath::parse(path)?,
        };
        let mut parameters = notebook.base_parameters.clone();
        parameters.extend(texts(overriding.get("notebook_params")));
        parameters.extend(job_parameters.clone());
        let (found, document) = source::load(code, &path).await?;
        let cells = document.exec_cells()?;
        snapshot = Some(found);
        let folder = path
            .parent()
            .map(|parent| parent.to_string())
            .unwrap_or_default();
        let program = Program::Notebook {
            path: path.to_string(),
            cells,
            parameters,
            wants_data: false,
        };
        (
            program,
            format!("/Workspace{}", folder.trim_end_matches('/')),
        )
    } else if let Some(script) = &task.spark_python_task {
        let file = &script.python_file;
        let file = match in_checkout(code, spec, task, file)? {
            Some(path) => format!("/Workspace{path}"),
            None => in_sandbox(file)?,
        };
        let args = args(&script.parameters);
        own_script = Taken::of(code, &inner.libraries, &file).await?;
        let source = own_script.as_ref().map(|taken| taken.script.source());
        let folder = file
            .rsplit_once('/')
            .map_or("/", |(folder, _)| folder)
            .to_owned();
        (Program::Script { file, args, source }, folder)
    } else if let Some(wheel) = &task.python_wheel_task {
        let mut named = wheel.named_parameters.clone();
        named.extend(texts(overriding.get("python_named_params")));
        let args = args(&wheel.parameters);
        // A wheel that was not written for named arguments would trip over the job's.
        if !named.is_empty() {
            named.extend(job_parameters.clone());
        }
        let program = Program::Wheel {
            package: wheel.package_name.clone(),
            entry_point: wheel.entry_point.clone(),
            args,
            named,
        };
        // The one folder that every user has, and may write to.
        (program, LOCAL_DIR.to_owned())
    } else if let Some(jar) = &task.spark_jar_task {
        let program = Program::Jar {
            main_class: jar.main_class_name.clone(),
            args: given("jar_params").unwrap_or_else(|| jar.parameters.clone()),
        };
        (program, LOCAL_DIR.to_owned())
    } else if let Some(submit) = &task.spark_submit_task {
        let args = given("spark_submit_params").unwrap_or_else(|| submit.parameters.clone());
        (Program::Submit { args }, LOCAL_DIR.to_owned())
    } else if let Some(file) = task.sql_task.as_ref().and_then(|sql| sql.file.as_ref()) {
        let path = match in_checkout(code, spec, task, &file.path)? {
            Some(path) => path,
            None => WorkspacePath::parse(&file.path)?,
        };
        let (found, document) = source::load_sql(code, &path).await?;
        let cells = document.exec_cells()?;
        snapshot = Some(found);
        let mut parameters = task
            .sql_task
            .as_ref()
            .map_or_else(BTreeMap::new, |sql| sql.parameters.clone());
        parameters.extend(texts(overriding.get("sql_params")));
        parameters.extend(job_parameters.clone());
        let folder = path
            .parent()
            .map(|parent| parent.to_string())
            .unwrap_or_default();
        let program = Program::Notebook {
            path: path.to_string(),
            cells,
            parameters,
            wants_data: true,
        };
        (
            program,
            format!("/Workspace{}", folder.trim_end_matches('/')),
        )
    } else if let Some(context) = &task.context_task {
        let program = Program::Session {
            language: context.language,
            path: format!("/Users/{}/context", ctx.user.name),
        };
        (program, LOCAL_DIR.to_owned())
    } else {
        return Err(Error::not_implemented(format!(
            "The type of task '{}'",
            task.task_key
        )));
    };
    let resolved = resolved_values(&program);
    let bounds = Bounds::of(&inner.setup.config.budget, spec, task);
    let limits = bounds.limits(&inner.setup.server.limits, compute);
    // Java has one engine, whatever the cluster says.
    let runtime = match program {
        Program::Jar { .. } | Program::Submit { .. } => {
            inner.clusters.runtime_with(&compute.runtime, "apache")?
        }
        _ => compute.runtime.clone(),
    };
    let place = place(
        &inner.workspace,
        &inner.dirs,
        &inner.setup.config,
        ctx,
        &runtime,
    )
    .await?;
    // The folder of a notebook that was shared alone is not there.
    let working_dir = match place
        .mounts
        .0
        .iter()
        .any(|mount| is_below(&home, &mount.at))
    {
        true => home.clone(),
        false => LOCAL_DIR.to_owned(),
    };
    let look = async |scope: String, key: String| {
        let found = inner.secrets.get(ctx, &scope, &key).await?;
        Ok(found.1)
    };
    let revealed = compute.revealed(look).await?;
    let workload = Workload {
        run_id: attempt.id,
        attempt: AttemptNumber(attempt.attempt),
        place,
        private: libraries.folder,
        program,
        libraries: libraries.list,
        env: environment(origin, revealed.env),
        python_path: python_path(&home),
        working_dir,
        context: Context {
            api_url: Some(inner.setup.public_url.clone()),
            api_token: None,
            workspace_id: Some(inner.workspace_id.to_string()),
            user: Some(ctx.user.name.clone()),
            job_id: top.job_id.map(|id| id.to_string()),
            cluster_id: compute.cluster_id.as_ref().map(ToString::to_string),
            tags: BTreeMap::from([
                ("runId".to_owned(), top.run.to_string()),
                ("multitaskParentRunId".to_owned(), top.run.to_string()),
                ("taskKey".to_owned(), attempt.task_key.clone()),
            ]),
        },
        limits,
        spark_conf: spark_settings(&revealed.spark_conf),
        secrets: revealed.secrets,
        init_scripts: init_scripts(compute)?,
        preload: may_fork(&compute.spark_conf),
        spool_dir: output::spool_dir(&inner.dirs, attempt.id),
    };
    Ok(Prepared {
        workload,
        snapshot,
        script: own_script,
        files: libraries.files,
        unpinned: libraries.unpinned,
        resolved,
    })
}

fn resolved_values(program: &Program) -> Option<Value> {
    let shown = match program {
        Program::Notebook { parameters, .. } if !parameters.is_empty() => {
            json!({"notebook_task": {"base_parameters": parameters}})
        }
        Program::Script { args, .. } if !args.is_empty() => {
            json!({"spark_python_task": {"parameters": args}})
        }
        Program::Wheel { args, named, .. } if !(args.is_empty() && named.is_empty()) => {
            json!({"python_wheel_task": {"parameters": args, "named_parameters": named}})
        }
        Program::Jar { args, .. } if !args.is_empty() => {
            json!({"spark_jar_task": {"parameters": args}})
        }
        Program::Submit { args } if !args.is_empty() => {
            json!({"spark_submit_task": {"parameters": args}})
        }
        _ => return None,
    };
    Some(shown)
}

fn is_below(path: &str, folder: &str) -> bool {
    let rest = path.strip_prefix(folder);
    rest.is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
}

/// What the cluster sets, and which attempt this is. A program may be executed more than once; the
/// key is the same each time for the same attempt, and another for each other one.
fn environment(origin: &Origin<'_>, mut env: BTreeMap<String, String>) -> BTreeMap<String, String> {
    let attempt = origin.attempt;
    let key = format!(
        "{}-{}-{}-{}",
        origin.inner.workspace_id, origin.run.id, attempt.task_key, attempt.attempt
    );
    env.extend([
        ("FOREBAY_RUN_ID".to_owned(), origin.run.id.to_string()),
        ("FOREBAY_ATTEMPT_ID".to_owned(), attempt.id.to_string()),
        ("FOREBAY_IDEMPOTENCY_KEY".to_owned(), key),
        (SEED.to_owned(), origin.seed.to_string()),
    ]);
    env
}

/// Some libraries do not survive a fork from a warm parent: a cluster with `"forebay.warm": "false"`
/// in its `spark_conf` gives each run a process of its own.
fn may_fork(spark_conf: &BTreeMap<String, String>) -> bool {
    spark_conf
        .get("forebay.warm")
        .is_none_or(|value| !value.eq_ignore_ascii_case("false"))
}

/// What of a cluster's `spark_conf` is for Spark; our own keys are not.
fn spark_settings(spark_conf: &BTreeMap<String, String>) -> BTreeMap<String, String> {
    let settings = spark_conf
        .iter()
        .filter(|(key, _)| key.starts_with("spark."));
    settings
        .map(|(key, value)| (key.clone(), value.clone()))
        .collect()
}

fn init_scripts(compute: &ResolvedCluster) -> Result<Vec<String>> {
    let scripts = compute.init_scripts.iter();
    // Clients write the path of a workspace file with or without its mount point.
    scripts
        .map(|path| in_sandbox(path.strip_prefix("/Workspace").unwrap_or(path)))
        .collect()
}

/// Where the runs of a user live.
pub(crate) async fn place(
    workspace: &Workspace,
    dirs: &WorkspaceDirs,
    config: &WorkspaceConfig,
    ctx: &Ctx,
    runtime: &str,
) -> Result<Place> {
    let shown = if ctx.is_admin() {
        None
    } else {
        Some(workspace.folders_of(ctx).await?)
    };
    Ok(Place {
        workspace: config.name.clone(),
        runtime: runtime.to_owned(),
        mounts: mounts(dirs, config, shown.as_deref()),
    })
}

impl Inner {
    /// What the runs of a user see.
    pub(super) async fn mounts_for(&self, ctx: &Ctx) -> Result<Mounts> {
        let (dirs, config) = (&self.dirs, &self.setup.config);
        Ok(place(&self.workspace, dirs, config, ctx, "").await?.mounts)
    }
}

/// The folders of a workspace as its runs see them. Warm parents belong to exactly these.
///
/// `shown`: the only folders of the workspace tree that are there, because a program goes past
/// [`crate::access`]. Without it the whole tree is there, which is for administrators.
pub(crate) fn mounts(
    dirs: &WorkspaceDirs,
    config: &WorkspaceConfig,
    shown: Option<&[RunFolder]>,
) -> Mounts {
    let mount = |folder: &RunFolder| {
        let at = format!("/Workspace{}", folder.path);
        let at = at.trim_end_matches('/');
        let mount = match folder.writable {
            true => Mount::writable(&dirs.workspace, at),
            false => Mount::read_only(&dirs.workspace, at),
        };
        mount.only(folder.path.relative())
    };
    let mut mounts = match shown {
        None => vec![Mount::writable(&dirs.workspace, "/Workspace")],
        Some(shown) => shown.iter().map(mount).collect(),
    };
    let checkouts = format!("/Workspace{CHECKOUTS}");
    mounts.push(Mount::private(&dirs.checkouts, checkouts));
    mounts.push(Mount::writable(&dirs.dbfs, "/dbfs"));
    mounts.push(Mount::writable(&dirs.volumes, "/Volumes"));
    for mount in &config.mounts {
        let at = format!("/dbfs{}", mount.path);
        let host: PathBuf = mount.folder.clone();
        mounts.push(if mount.read_only {
            Mount::read_only(host, at)
        } else {
            Mount::writable(host, at)
        });
    }
    Mounts(mounts)
}

/// Where the run sees `path` of its Git source, when the task takes its code from there.
fn in_checkout(
    code: &Code,
    spec: &Spec,
    task: &TaskSpec,
    path: &str,
) -> Result<Option<WorkspacePath>> {
    match (&code.checkout, task.path_in_git(spec)) {
        (Some(checkout), Some(_)) => checkout.path(path).map(Some),
        _ => Ok(None),
    }
}

/// `dbfs:/x` is `/dbfs/x`; a workspace path is below `/Workspace`; `/Volumes` and `/dbfs` stand.
pub(super) fn in_sandbox(path: &str) -> Result<String> {
    if let Some(rest) = path.strip_prefix("dbfs:") {
        if rest.starts_with("/Volumes/") {
            return Ok(rest.to_owned());
        }
        return Ok(format!("/dbfs{}", forebay_types::DbfsPath::parse(rest)?));
    }
    if path.starts_with("/dbfs/") || path.starts_with("/Volumes/") {
        return Ok(forebay_types::DbfsPath::parse(path)?.to_string());
    }
    Ok(format!("/Workspace{}", WorkspacePath::parse(path)?))
}

pub(crate) fn library(spec: &LibrarySpec) -> Result<Library> {
    if let Some(pypi) = &spec.pypi {
        return Ok(Library::Pypi {
            package: pypi.package.clone(),
            repo: pypi.repo.clone(),
        });
    }
    if let Some(path) = &spec.whl {
        return Ok(Library::Whl {
            path: in_sandbox(path)?,
        });
    }
    if let Some(path) = &spec.jar {
        return Ok(Library::Jar {
            path: in_sandbox(path)?,
        });
    }
    if let Some(path) = &spec.egg {
        return Ok(Library::Egg {
            path: in_sandbox(path)?,
        });
    }
    if let Some(maven) = &spec.maven {
        return Ok(Library::Maven {
            coordinates: maven.coordinates.clone(),
            repo: maven.repo.as_deref().map(repository).transpose()?,
            exclusions: maven.exclusions.clone(),
        });
    }
    if let Some(path) = &spec.requirements {
        return Ok(Library::Requirements {
            path: in_sandbox(path)?,
        });
    }
    if let Some(cran) = &spec.cran {
        return Ok(Library::Cran {
            package: cran.package.clone(),
            repo: cran.repo.as_deref().map(repository).transpose()?,
        });
    }
    Err(Error::not_implemented("A library of this kind"))
}

/// An address as it is; a folder that programs see, such as `/dbfs/cran`, as one.
fn repository(place: &str) -> Result<String> {
    match place.contains("://") {
        true => Ok(place.to_owned()),
        false => Ok(format!("file://{}", in_sandbox(place)?)),
    }
}

/// One rule for imports: the folder of what runs, and the root of its repository, if it is in one.
fn python_path(home: &str) -> Vec<String> {
    let mut paths = vec![home.to_owned()];
    let repo: Vec<&str> = home.split('/').take(5).collect();
    if repo.len() == 5 && repo[2] == "Repos" {
        let root = repo.join("/");
        if root != home {
            paths.push(root);
        }
    }
    paths
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_plain_user_has_own_folders_and_an_administrator_the_tree() {
        let root = tempfile::tempdir().unwrap();
        let dirs = WorkspaceDirs::open(root.path()).unwrap();
        let config = WorkspaceConfig::default();
        let path = |text: &str| WorkspacePath::parse(text).unwrap();
        let own = ["/Shared", "/Users/bo@x"].map(|text| RunFolder {
            path: path(text),
            writable: true,
        });
        let shown = |mounts: Mounts| -> Vec<(String, PathBuf)> {
            let all = mounts.0.into_iter();
            all.map(|mount| (mount.at, mount.host.join(mount.inner)))
                .collect()
        };
        let plain = shown(mounts(&dirs, &config, Some(&own)));
        assert_eq!(
            plain[..2],
            [
                (
                    "/Workspace/Shared".to_owned(),
                    dirs.workspace.join("Shared")
                ),
                (
                    "/Workspace/Users/bo@x".to_owned(),
                    dirs.workspace.join("Users/bo@x")
                ),
            ]
        );
        let admin = shown(mounts(&dirs, &config, None));
        assert_eq!(admin[0].0, "/Workspace");
        assert_eq!(plain[2..], admin[1..]);
    }
}
