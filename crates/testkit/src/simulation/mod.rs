//! Whole servers under faults: two workspaces on one set of slots, with real databases and the
//! real dispatcher, an executor that fails in every way it may, a clock that jumps, and crashes
//! that leave everything where it stands. One seed, one history.

mod executor;
mod random;

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use forebay_config::{Config, WorkspaceConfig};
use forebay_control::runs::RunNow;
use forebay_control::{Ctx, ExecutorHandle, Services, WorkspaceSetup, server_slots};
use forebay_runtime::{Clock, Tasks};
use forebay_store::history_check;
use forebay_types::{JobId, Millis, RunId};
use serde_json::{Map, Value, json};
use tempfile::TempDir;

use self::executor::FaultyExecutor;
use self::random::Random;
use crate::TestRuntimes;

const START: Millis = Millis(1_700_000_000_000);
const STEPS: usize = 40;
/// Rounds of the end, in which time passes and nothing fails, that must be enough.
const PATIENCE: usize = 2_000;

/// What one history came to.
#[derive(Debug, Clone, Copy, Default)]
pub struct Simulated {
    pub runs: usize,
    pub crashes: usize,
    pub starts: usize,
    /// The most processes at once, and how many there may have been.
    pub peak: (usize, usize),
}

/// Plays one history and checks it. Panics with what is wrong; the seed repeats the script, though
/// not each interleaving of threads.
#[must_use]
pub fn simulate(seed: u64) -> Simulated {
    let mut random = Random::new(seed);
    let clock = Clock::manual(START);
    let mut world = World {
        data: folder(),
        config: config(&mut random),
        executor: Arc::new(FaultyExecutor::new(clock.clone(), seed)),
        clock,
        runs: Vec::new(),
        jobs: vec![None; 2],
    };
    let crashes = random.below(3);
    for _ in 0..crashes {
        world.live_and_die(&mut random);
    }
    world.executor.seen().calm = true;
    world.live_to_the_end();
    world.check();
    let seen = world.executor.seen();
    Simulated {
        runs: world.runs.len(),
        crashes,
        starts: seen.starts.values().sum(),
        peak: (seen.peak, world.config.limits.running_attempts_max),
    }
}

/// In memory where there is such a place: thousands of histories would wear out a disk.
fn folder() -> TempDir {
    let memory = Path::new("/dev/shm");
    if memory.is_dir() {
        return tempfile::tempdir_in(memory).unwrap();
    }
    tempfile::tempdir().unwrap()
}

fn config(random: &mut Random) -> Config {
    let workspaces = ["dev", "prod"].map(|name| WorkspaceConfig {
        name: name.to_owned(),
        running_attempts_max: random.chance(50).then(|| 1 + random.below(3)),
        weight: 1 + u32::try_from(random.below(3)).unwrap(),
        ..WorkspaceConfig::default()
    });
    let mut config = Config {
        workspaces: workspaces.to_vec(),
        ..Config::default()
    };
    config.limits.running_attempts_max = 1 + random.below(5);
    config
}

struct World {
    data: TempDir,
    config: Config,
    executor: Arc<FaultyExecutor>,
    clock: Clock,
    /// Every run that a caller was told of, with its workspace.
    runs: Vec<(usize, RunId)>,
    /// The one job of each workspace.
    jobs: Vec<Option<JobId>>,
}

/// A server until its crash.
struct Life {
    services: Vec<Services>,
    users: Vec<Ctx>,
}

impl World {
    /// Some work under faults, and then a crash: every task of the server is gone where it stands.
    fn live_and_die(&mut self, random: &mut Random) {
        let runtime = runtime();
        runtime.block_on(async {
            let life = self.open().await;
            for _ in 0..STEPS {
                self.step(&life, random).await;
                for _ in 0..random.below(8) {
                    tokio::task::yield_now().await;
                }
            }
        });
        drop(runtime);
    }

    fn live_to_the_end(&mut self) {
        let runtime = runtime();
        runtime.block_on(async {
            let life = self.open().await;
            let mut open = self.runs.clone();
            for _ in 0..PATIENCE {
                while let Some((workspace, id)) = open.last() {
                    let (run, _) = life.services[*workspace].store.run_get(*id).await.unwrap();
                    if !run.phase.is_ended() {
                        break;
                    }
                    open.pop();
                }
                if open.is_empty() {
                    return;
                }
                self.clock.advance(Duration::from_secs(5));
                tokio::time::sleep(Duration::from_micros(200)).await;
            }
            panic!("{} of {} runs did not end", open.len(), self.runs.len());
        });
        drop(runtime);
    }

    async fn open(&mut self) -> Life {
        let tasks = Tasks::default();
        let slots = server_slots(&self.config);
        let mut life = Life {
            services: Vec::new(),
            users: Vec::new(),
        };
        for (index, workspace) in self.config.workspaces.iter().enumerate() {
            let setup = WorkspaceSetup {
                config: workspace.clone(),
                server: self.config.clone(),
                root: self.data.path().join(&workspace.name),
                public_url: "http://forebay.test".to_owned(),
                clock: self.clock.clone(),
                tasks: tasks.clone(),
                runtimes: Some(Arc::new(TestRuntimes::ready())),
                executor: ExecutorHandle(Arc::clone(&self.executor) as _),
                slots: slots.clone(),
            };
            let services = Services::open(setup).await.unwrap();
            let user = Ctx::new(services.identity.first_admin().await.unwrap());
            if self.jobs[index].is_none() {
                let job = services.jobs.create(&user, job()).await;
                self.jobs[index] = Some(job.unwrap());
            }
            life.services.push(services);
            life.users.push(user);
        }
        life
    }

    async fn step(&mut self, life: &Life, random: &mut Random) {
        let workspace = random.below(life.services.len());
        let (runs, user) = (&life.services[workspace].runs, &life.users[workspace]);
        match random.below(10) {
            0..=2 => {
                let id = runs.submit(user, submission(random)).await.unwrap();
                self.runs.push((workspace, id));
            }
            3..=4 => {
                let job = self.jobs[workspace].unwrap();
                let key = format!("k{}", random.below(3));
                let mut request = RunNow::default();
                request
                    .job_parameters
                    .insert("customer".to_owned(), json!(key));
                let id = runs.run_now(user, job, request).await.unwrap();
                self.runs.push((workspace, id));
            }
            5 if !self.runs.is_empty() => {
                let (of, id) = self.runs[random.below(self.runs.len())];
                let user = &life.users[of];
                life.services[of].runs.cancel(user, id).await.unwrap();
            }
            6..=8 => self
                .clock
                .advance(Duration::from_millis(random.below(8_000) as u64)),
            _ => tokio::time::sleep(Duration::from_micros(random.below(1000) as u64)).await,
        }
        for (services, workspace) in life.services.iter().zip(&self.config.workspaces) {
            let live = services.store.attempt_list_live().await.unwrap().len();
            let max = workspace.running_attempts_max.unwrap_or(usize::MAX);
            assert!(
                live <= max,
                "{live} live rows of {max} in {}",
                workspace.name
            );
        }
    }

    /// What must hold of every history, whatever happened in it.
    fn check(&self) {
        for workspace in &self.config.workspaces {
            let database: PathBuf = self.data.path().join(&workspace.name).join("forebay.db");
            let report = history_check(&database).unwrap();
            assert_eq!(report.problems, Vec::<String>::new());
        }
        let seen = self.executor.seen();
        let max = self.config.limits.running_attempts_max;
        assert!(
            seen.peak <= max,
            "{} processes at once, {max} allowed",
            seen.peak
        );
        for workspace in &self.config.workspaces {
            let peak = seen.peaks.get(&workspace.name).copied().unwrap_or(0);
            let max = workspace.running_attempts_max.unwrap_or(max);
            assert!(
                peak <= max,
                "{peak} processes of {} at once, {max} allowed",
                workspace.name
            );
        }
        for (attempt, starts) in &seen.starts {
            assert_eq!(*starts, 1, "{attempt:?} was started {starts} times");
        }
    }
}

fn runtime() -> tokio::runtime::Runtime {
    tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .unwrap()
}

fn task(key: &str, after: &[&str]) -> Value {
    let after: Vec<Value> = after.iter().map(|key| json!({"task_key": key})).collect();
    json!({"task_key": key, "depends_on": after, "max_retries": 2, "timeout_seconds": 60,
        "min_retry_interval_millis": 2000,
        "spark_python_task": {"python_file": "dbfs:/FileStore/work.py"}})
}

fn job() -> Map<String, Value> {
    map(
        json!({"name": "job", "max_concurrent_runs": 2, "queue": {"enabled": true},
        "parameters": [{"name": "customer", "default": "none"}],
        "forebay": {"key": "{{job.parameters.customer}}", "key_max": 1, "weight": 2},
        "tasks": [task("a", &[]), task("b", &["a"])]}),
    )
}

fn submission(random: &mut Random) -> Map<String, Value> {
    let tasks = match random.below(3) {
        0 => json!([task("a", &[])]),
        1 => json!([task("a", &[]), task("b", &["a"]), task("c", &["a"])]),
        _ => json!([task("a", &[]), task("b", &[]), task("c", &["a", "b"])]),
    };
    let mut settings = map(json!({"run_name": "one-time", "tasks": tasks}));
    if random.chance(30) {
        settings.insert("timeout_seconds".to_owned(), json!(10 + random.below(60)));
    }
    settings
}

fn map(value: Value) -> Map<String, Value> {
    match value {
        Value::Object(map) => map,
        _ => Map::new(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_is_lost_doubled_or_over_its_cap_in_many_histories() {
        let one = |seed| {
            std::panic::catch_unwind(|| simulate(seed)).unwrap_or_else(|_| panic!("seed {seed}"))
        };
        // A history waits for its own threads more than it works.
        let lanes = 4;
        let all: Vec<Simulated> = std::thread::scope(|scope| {
            let lane =
                |first: u64| move || (first..200).step_by(lanes).map(one).collect::<Vec<_>>();
            let lanes: Vec<_> = (0..lanes as u64)
                .map(|first| scope.spawn(lane(first)))
                .collect();
            let ended = lanes.into_iter().map(|lane| lane.join().unwrap());
            ended.flatten().collect()
        });
        assert!(all.iter().map(|one| one.crashes).sum::<usize>() > 10);
        // The caps were put to the test, not only kept.
        assert!(all.iter().filter(|one| one.peak.0 == one.peak.1).count() > 10);
    }
}
