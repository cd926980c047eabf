//! Old runs and what they put out go, in small steps beside the work of the day.
//!
//! The decision is the engine's; rows go in a transaction of a few runs each, which notes the files
//! that have to follow, so that a crash in between leaves no half of a run.

use std::collections::HashSet;
use std::sync::Arc;
use std::time::Duration;

use forebay_config::Retention as RetentionConfig;
use forebay_engine::{Fate, KeepRules, fate};
use forebay_runtime::{Clock, TaskKind, Tasks};
use forebay_store::{Candidate, RetentionRules, Store};
use forebay_types::{Error, JobId, Millis, Result, RunId};
use serde::Serialize;

use crate::Ctx;
use crate::jobs;
use crate::runs::{PARTS_AT_ONCE, output_remove, output_size};
use crate::services::WorkspaceDirs;

const FIRST_AFTER: Duration = Duration::from_secs(60);
const EVERY: Duration = Duration::from_secs(600);
/// Runs that go in one transaction: a few milliseconds of the writer.
const RUNS_AT_ONCE: usize = 50;
const PAGE: usize = 500;
/// Runs that a preview lists.
const PREVIEW_MAX: usize = 1000;
const DAY_MS: i64 = 86_400_000;

/// The retention of one workspace. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Retention(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    store: Store,
    clock: Clock,
    tasks: Tasks,
    dirs: WorkspaceDirs,
    config: RetentionConfig,
    /// One sweep at a time: who asks for one finds everything done when it returns, also what
    /// another had begun.
    turn: tokio::sync::Mutex<()>,
}

/// What went.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize)]
pub struct Swept {
    pub runs: usize,
    /// Runs that stay without what they put out.
    pub outputs: usize,
    /// Idempotency tokens that are forgotten, and access tokens long expired.
    pub tokens: usize,
}

/// What would go now.
#[derive(Debug, Clone, Default, Serialize)]
pub struct Preview {
    pub runs: usize,
    pub outputs: usize,
    /// Of the files of all these runs.
    pub bytes: u64,
    /// The first 1000 of them.
    pub list: Vec<PreviewRun>,
}

#[derive(Debug, Clone, Serialize)]
pub struct PreviewRun {
    pub run_id: RunId,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub job_id: Option<JobId>,
    pub run_name: String,
    /// Milliseconds since the epoch.
    pub end_time: Option<Millis>,
    /// `age` or `count`; `output` when the run itself stays.
    pub why: &'static str,
    pub bytes: u64,
}

impl Retention {
    pub(crate) fn new(
        store: Store,
        clock: Clock,
        tasks: Tasks,
        dirs: WorkspaceDirs,
        config: RetentionConfig,
    ) -> Self {
        Self(Arc::new(Inner {
            store,
            clock,
            tasks,
            dirs,
            config,
            turn: tokio::sync::Mutex::default(),
        }))
    }

    pub(crate) fn spawn(&self) {
        let own = self.clone();
        let (clock, stop) = (self.0.clock.clone(), self.0.tasks.stopping());
        let work = async move {
            let mut wait = FIRST_AFTER;
            loop {
                tokio::select! {
                    () = stop.cancelled() => return Ok::<(), Error>(()),
                    () = clock.sleep(wait) => wait = EVERY,
                }
                // A full disk or a busy database is no reason to end the server.
                match own.sweep().await {
                    Ok(swept) if swept != Swept::default() => {
                        let Swept {
                            runs,
                            outputs,
                            tokens,
                        } = swept;
                        tracing::info!(runs, outputs, tokens, "retention removed {runs} runs");
                    }
                    Ok(_) => {}
                    Err(e) => tracing::error!(error = ?e, "retention did not come to its end"),
                }
            }
        };
        self.0.tasks.spawn(TaskKind::Reconciler, "retention", work);
    }

    /// Removes what is due, now.
    ///
    /// # Errors
    /// When the database refuses; what went before stays gone.
    pub async fn apply(&self, ctx: &Ctx) -> Result<Swept> {
        ctx.require_admin("apply retention")?;
        self.sweep().await
    }

    /// What [`Retention::apply`] would remove.
    ///
    /// # Errors
    /// `PERMISSION_DENIED` for everyone but administrators.
    pub async fn preview(&self, ctx: &Ctx) -> Result<Preview> {
        ctx.require_admin("see what retention removes")?;
        let mut preview = Preview::default();
        let mut due = Due::new(self).await?;
        while let Some(candidates) = due.next().await? {
            for candidate in candidates {
                let why = match fate(due.rules.of(candidate.job_id), &candidate.facts, due.now) {
                    Fate::Stays => continue,
                    Fate::OutputGoes => "output",
                    Fate::Goes(why) => why.as_str(),
                };
                if !due.seen.insert(candidate.id) {
                    continue;
                }
                let attempts = self.0.store.retention_attempts(candidate.id).await?;
                let bytes = output_size(&self.0.dirs, attempts).await?;
                preview.bytes += bytes;
                *(if why == "output" {
                    &mut preview.outputs
                } else {
                    &mut preview.runs
                }) += 1;
                if preview.list.len() < PREVIEW_MAX {
                    preview.list.push(PreviewRun {
                        run_id: candidate.id,
                        job_id: candidate.job_id,
                        run_name: candidate.name,
                        end_time: candidate.facts.ended_at,
                        why,
                        bytes,
                    });
                }
            }
        }
        Ok(preview)
    }

    async fn sweep(&self) -> Result<Swept> {
        let _turn = self.0.turn.lock().await;
        let store = &self.0.store;
        let mut swept = Swept::default();
        let mut due = Due::new(self).await?;
        while let Some(candidates) = due.next().await? {
            let (mut runs, mut outputs) = (Vec::new(), Vec::new());
            for candidate in candidates {
                match fate(due.rules.of(candidate.job_id), &candidate.facts, due.now) {
                    Fate::Stays => {}
                    Fate::OutputGoes => outputs.push(candidate.id),
                    Fate::Goes(_) => runs.push(candidate.id),
                }
            }
            for some in runs.chunks(RUNS_AT_ONCE) {
                swept.runs += store.retention_remove(some.to_vec()).await?;
            }
            for some in outputs.chunks(RUNS_AT_ONCE) {
                let removed = store.retention_remove_output(some.to_vec(), due.now);
                swept.outputs += removed.await?;
            }
            self.delete_files().await?;
        }
        // Also those that a stop of the server came before.
        self.delete_files().await?;
        self.0.dirs.empty_trash(&self.0.tasks);
        let days = self.0.config.token_days;
        if let Some(ms) = days_ms(days) {
            let before = due.now.plus_ms(-ms);
            loop {
                let gone = store.retention_tokens(before, PAGE).await?;
                swept.tokens += gone;
                if gone < PAGE {
                    break;
                }
            }
        }
        Ok(swept)
    }

    async fn delete_files(&self) -> Result<()> {
        while self.0.store.run_purge(PARTS_AT_ONCE).await?.is_some() {}
        let mut after = RunId(0);
        loop {
            // What cannot be deleted stays on the list.
            let attempts = self.0.store.trash_list(after, PAGE).await?;
            let Some(last) = attempts.last() else {
                return Ok(());
            };
            after = *last;
            output_remove(&self.0.store, &self.0.dirs, attempts).await?;
        }
    }

    async fn rules(&self) -> Result<RetentionRules> {
        let config = &self.0.config;
        let workspace = KeepRules {
            keep_ms: days_ms(config.days),
            runs_max: limit(config.runs_per_job),
            output_ms: days_ms(config.output_days),
        };
        let mut rules = RetentionRules {
            workspace,
            ..RetentionRules::default()
        };
        for (job, value) in self.0.store.job_own("retention").await? {
            // It was checked when the job was written.
            let Ok(own) = serde_json::from_value::<jobs::Retention>(value) else {
                continue;
            };
            let days = |own: Option<u32>, else_: Option<i64>| own.map_or(else_, days_ms);
            let own = KeepRules {
                keep_ms: days(own.days, workspace.keep_ms),
                runs_max: own.runs.map_or(workspace.runs_max, limit),
                output_ms: days(own.output_days, workspace.output_ms),
            };
            rules.jobs.insert(job, own);
        }
        Ok(rules)
    }
}

fn days_ms(days: u32) -> Option<i64> {
    (days > 0).then(|| i64::from(days) * DAY_MS)
}

fn limit(count: u32) -> Option<u64> {
    (count > 0).then(|| u64::from(count))
}

/// Walks over everything that might be due, page by page: old runs of the workspace, old runs of
/// the jobs with rules of their own, and jobs with too many.
struct Due<'a> {
    store: &'a Store,
    rules: RetentionRules,
    now: Millis,
    walks: Vec<Walk>,
    /// A run can be due for its age and for its place; a preview counts it once.
    seen: HashSet<RunId>,
}

enum Walk {
    Age {
        job: Option<JobId>,
        before: Millis,
        after: (Millis, RunId),
    },
    Count {
        job: JobId,
        kept: u64,
        before: RunId,
    },
}

impl<'a> Due<'a> {
    async fn new(retention: &'a Retention) -> Result<Self> {
        let store = &retention.0.store;
        let now = retention.0.clock.now();
        let rules = retention.rules().await?;
        let of_jobs = rules.jobs.iter().map(|(job, rules)| (Some(*job), rules));
        let ages = std::iter::once((None, &rules.workspace)).chain(of_jobs);
        let mut walks: Vec<Walk> = ages
            .filter_map(|(job, rules)| {
                let youngest = rules.keep_ms.into_iter().chain(rules.output_ms).min()?;
                Some(Walk::Age {
                    job,
                    before: now.plus_ms(-youngest),
                    after: (Millis(i64::MIN), RunId(0)),
                })
            })
            .collect();
        for job in store.retention_crowded(rules.clone()).await? {
            let kept = rules.of(Some(job)).runs_max.unwrap_or(u64::MAX);
            let before = RunId(i64::MAX);
            walks.push(Walk::Count { job, kept, before });
        }
        Ok(Self {
            store,
            rules,
            now,
            walks,
            seen: HashSet::new(),
        })
    }

    async fn next(&mut self) -> Result<Option<Vec<Candidate>>> {
        while let Some(walk) = self.walks.last_mut() {
            let found = match walk {
                Walk::Age { job, before, after } => {
                    let query = self.store.retention_by_age(*job, *after, *before, PAGE);
                    let found = query.await?;
                    if let Some(last) = found.last() {
                        *after = (last.facts.ended_at.unwrap_or(*before), last.id);
                    }
                    found
                }
                Walk::Count { job, kept, before } => {
                    let query = self.store.retention_by_count(*job, *kept, *before, PAGE);
                    let found = query.await?;
                    if let Some(last) = found.last() {
                        *before = last.id;
                    }
                    found
                }
            };
            if found.is_empty() {
                self.walks.pop();
                continue;
            }
            return Ok(Some(found));
        }
        Ok(None)
    }
}
