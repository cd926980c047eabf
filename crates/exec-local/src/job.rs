//! What a run is told: its child before it is the worker, and the worker before its program begins.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use forebay_exec::{IsolationLevel, LOCAL_DIR, Place, Workload};
use serde_json::{Value, json};

use crate::cgroup::Cgroups;
use crate::environment::{Environment, Runtime};
use crate::executor::LocalExecutor;
use crate::sandbox::{HOME, SCRATCH};
use crate::seat::Wish;
use crate::tools;
use crate::zygote::{Parent, ParentSpec};

impl LocalExecutor {
    /// What the child of a parent needs to know before it is the worker.
    pub(crate) fn wish(&self, workload: &Workload, parent: &Parent) -> Wish {
        let limits = &workload.limits;
        let mounts = workload.place.mounts.0.iter();
        let private: Vec<&str> = mounts
            .filter(|mount| mount.private)
            .map(|mount| mount.at.as_str())
            .collect();
        let mut rlimits = json!({"CORE": 0});
        if *self.groups.cgroups == Cgroups::None
            && let Some(bytes) = limits.memory_bytes
        {
            rlimits["AS"] = json!(bytes);
        }
        if !self.groups.cgroups.count_cpu()
            && let Some(ms) = limits.cpu_ms
        {
            // Each process for itself, and whole seconds: better than no limit.
            let seconds = ms.div_ceil(1000).max(1);
            // A signal that says why, and a second later the end.
            rlimits["CPU"] = json!([seconds, seconds + 1]);
        }
        let tmp_bytes = limits.memory_bytes.unwrap_or(4 << 30) / 2;
        let request = [
            ("sandbox", json!(parent.sandboxed)),
            ("keep", json!(parent.shown)),
            ("scratch", json!(SCRATCH)),
            ("local_dir", json!(LOCAL_DIR)),
            ("private_mounts", json!(private)),
            ("home", json!(HOME)),
            ("tmp_bytes", json!(tmp_bytes)),
            ("rlimits", rlimits),
            ("seccomp", json!(self.seccomp)),
        ];
        Wish {
            request: request
                .map(|(name, value)| (name.to_owned(), value))
                .into_iter()
                .collect(),
            limits: limits.clone(),
        }
    }

    /// What the worker needs to know: the first frame on the channel.
    pub(crate) fn job(
        &self,
        workload: &Workload,
        runtime: &Runtime,
        environment: &Environment,
        uv: Option<&Path>,
        local_dir: &Path,
    ) -> Value {
        json!({
            "run_id": workload.run_id,
            "program": workload.program,
            "packages": runtime.preload,
            "libraries": workload.libraries,
            "init_scripts": workload.init_scripts,
            "env": self.variables(workload, environment),
            "working_dir": workload.working_dir,
            "python_path": workload.python_path,
            "context": workload.context,
            "output_cell_bytes": workload.limits.output_cell_bytes,
            "interpreter": environment.interpreter(),
            "uv": uv,
            "local_dir": local_dir,
            "spark": {
                "engine": runtime.engine,
                "conf": workload.spark_conf,
                "memory_bytes": workload.limits.memory_bytes,
            },
        })
    }

    fn variables(
        &self,
        workload: &Workload,
        environment: &Environment,
    ) -> BTreeMap<String, String> {
        let mut env = self.common_variables(&workload.place, environment);
        if self.isolation.level == IsolationLevel::None {
            let home = home(workload).to_string_lossy().into_owned();
            env.insert("HOME".to_owned(), home);
        }
        tools::past_the_proxy(&mut env, workload.context.api_url.as_deref());
        env.extend(workload.env.clone());
        env
    }

    /// Of all runs of one parent.
    pub(crate) fn common_variables(
        &self,
        place: &Place,
        environment: &Environment,
    ) -> BTreeMap<String, String> {
        let text = |path: &Path| path.to_string_lossy().into_owned();
        let bin = text(&environment.folder.join("bin"));
        let cache = ParentSpec::package_cache(&self.config.data_dir, place);
        let mut env: BTreeMap<String, String> = [
            (
                "PATH",
                format!("{bin}:/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"),
            ),
            ("HOME", HOME.to_owned()),
            ("USER", "root".to_owned()),
            ("SHELL", "/bin/bash".to_owned()),
            ("LANG", "C.UTF-8".to_owned()),
            ("PYTHONUNBUFFERED", "1".to_owned()),
            // As in the driver itself, see `zygote.rs`.
            ("PYTHONHASHSEED", "0".to_owned()),
            ("VIRTUAL_ENV", text(&environment.folder)),
            ("IPYTHONDIR", "/tmp/.ipython".to_owned()),
            ("MPLCONFIGDIR", "/tmp/.matplotlib".to_owned()),
            (
                "MPLBACKEND",
                "module://matplotlib_inline.backend_inline".to_owned(),
            ),
            ("UV_CACHE_DIR", text(&cache)),
            // The machine's own authorities, as pip and curl use them.
            ("UV_SYSTEM_CERTS", "true".to_owned()),
            ("UV_LINK_MODE", "copy".to_owned()),
            ("UV_PYTHON_DOWNLOADS", "never".to_owned()),
            ("DATABRICKS_RUNTIME_VERSION", place.runtime.clone()),
        ]
        .into_iter()
        .map(|(name, value)| (name.to_owned(), value))
        .collect();
        env.extend(tools::for_programs(&self.config.tool_env));
        env
    }
}

/// Of a program that sees the host's files: it must not take its own folder for the user's.
pub(crate) fn home(workload: &Workload) -> PathBuf {
    workload.spool_dir.join("home")
}
