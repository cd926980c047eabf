//! What keeps a run, what it used, and whether it may start on a day of budgets.

use forebay_engine::{DayBudget, Gate, OverBudget, gate};
use forebay_store::{NewRun, Used, day_of};
use forebay_types::{Result, RunId};
use serde_json::{Value, json};

use super::{Inner, RunView, Runs};
use crate::Ctx;
use crate::jobs::{Budget, OWN_FIELD};

impl RunView {
    /// What its attempts used so far; of one that goes on, what was last heard of it.
    #[must_use]
    pub fn used(&self) -> Used {
        let mut sum = Used::default();
        let ended = self
            .attempts
            .iter()
            .filter(|a| a.facts["usage"].is_object());
        for attempt in ended {
            sum.add(&Used::of_facts(&attempt.facts));
        }
        for usage in self.using.values() {
            sum.add(&Used::of_facts(&json!({"usage": usage})));
        }
        sum
    }
}

impl Runs {
    /// Keeps a run from retention (`true`), or gives it back to it. Returns the run's id, which
    /// differs from `id` when that was a task's.
    ///
    /// # Errors
    /// `Run N does not exist.`; `PERMISSION_DENIED`.
    pub async fn pin(&self, ctx: &Ctx, id: RunId, pinned: bool) -> Result<RunId> {
        let run = self.managed(ctx, id).await?.run;
        let by = pinned.then(|| ctx.user.name.clone());
        let now = self.0.clock.now();
        self.0.store.run_pin(run.id, by, now).await?;
        Ok(run.id)
    }

    /// Whether a run is pinned, and whether retention removed what it put out.
    ///
    /// # Errors
    /// When the database refuses.
    pub async fn kept(&self, view: &RunView) -> Result<(bool, bool)> {
        let (pinned, gone) = self.0.store.run_kept(view.run.id).await?;
        Ok((pinned, gone.is_some() && gone >= view.run.ended_at))
    }
}

impl Inner {
    /// Whether the budgets of the job and of the workspace let a new run start today.
    pub(super) async fn gate(&self, new: &NewRun) -> Result<Gate> {
        let own = new
            .settings
            .get(OWN_FIELD)
            .and_then(|own| own.get("budget"));
        // It was checked when the job was written.
        let own = own.and_then(|own: &Value| serde_json::from_value::<Budget>(own.clone()).ok());
        let own = own.and_then(|own| Some((own.cpu_seconds_per_day?, own.action)));
        let config = &self.setup.config.budget;
        if own.is_none() && config.cpu_seconds_per_day == 0 {
            return Ok(Gate::Open);
        }
        let now = self.clock.now();
        let used = self.store.cost_of_day(day_of(now), new.job_id).await?;
        let (mut used_by_job, mut used_by_all) = used;
        // What goes on counts on the day it ends, which is this one at the earliest.
        for using in self.live.using() {
            let ms = using.usage.cpu_ms.unwrap_or(0);
            let ms = i64::try_from(ms).unwrap_or(i64::MAX);
            used_by_all = used_by_all.saturating_add(ms);
            if new.job_id.is_some() && using.job_id == new.job_id {
                used_by_job = used_by_job.saturating_add(ms);
            }
        }
        let ms = |seconds: u64| i64::try_from(seconds.saturating_mul(1000)).unwrap_or(i64::MAX);
        let mut budgets = Vec::new();
        if let Some((seconds, action)) = own {
            budgets.push(DayBudget {
                whose: "the job",
                cpu_ms: ms(seconds.into()),
                used_cpu_ms: used_by_job,
                action: action.unwrap_or_default(),
            });
        }
        if config.cpu_seconds_per_day > 0 {
            let action = match config.action.as_str() {
                "stop" => OverBudget::Stop,
                _ => OverBudget::Queue,
            };
            budgets.push(DayBudget {
                whose: "the workspace",
                cpu_ms: ms(config.cpu_seconds_per_day),
                used_cpu_ms: used_by_all,
                action,
            });
        }
        Ok(gate(&budgets, now))
    }
}
