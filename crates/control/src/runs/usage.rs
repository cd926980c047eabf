//! What runs use while they go on.

use std::collections::{HashMap, HashSet};

use forebay_exec::Usage;
use forebay_store::{Attempt, Run};
use forebay_types::{JobId, RunId};

use super::Runs;
use crate::Ctx;

/// One attempt under way, and what was last heard of its use.
#[derive(Debug, Clone)]
pub struct Using {
    pub run: RunId,
    pub attempt: RunId,
    pub job_id: Option<JobId>,
    pub task_key: String,
    /// Whose run it is.
    pub user_name: String,
    pub usage: Usage,
}

impl Using {
    pub(super) fn nothing_yet(run: &Run, attempt: &Attempt) -> Self {
        Self {
            run: run.id,
            attempt: attempt.id,
            job_id: run.job_id,
            task_key: attempt.task_key.clone(),
            user_name: run.creator_name.clone(),
            usage: Usage::default(),
        }
    }
}

impl Runs {
    /// What the attempts of a run that are under way have used, by their ids.
    #[must_use]
    pub fn using_of(&self, run: RunId) -> HashMap<RunId, Usage> {
        self.0.live.using_of(run)
    }

    /// The attempts of a run that have ended, which their rows do not say yet.
    #[must_use]
    pub fn unrecorded_of(&self, run: RunId) -> HashSet<RunId> {
        self.0.live.unrecorded_of(run)
    }

    /// The attempts under way whose use is known, the most CPU time first. Who is no administrator
    /// sees the own ones.
    #[must_use]
    pub fn using(&self, ctx: &Ctx) -> Vec<Using> {
        let mut using = self.0.live.using();
        if !ctx.is_admin() {
            using.retain(|one| one.user_name == ctx.user.name);
        }
        using.sort_by_key(|one| std::cmp::Reverse(one.usage.cpu_ms));
        using
    }
}
