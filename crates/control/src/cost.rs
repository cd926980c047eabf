//! What runs used, by day, job and user.

use forebay_runtime::Clock;
use forebay_store::{Cost, CostBy, Store, day_of};
use forebay_types::{Error, Result};

use crate::Ctx;

/// Days that are shown when nobody says from when: this one and the 29 before.
const DAYS_DEFAULT: i64 = 29;

/// The costs of one workspace. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Costs {
    store: Store,
    clock: Clock,
}

impl Costs {
    pub(crate) fn new(store: Store, clock: Clock) -> Self {
        Self { store, clock }
    }

    /// Sums of the days `from` to `to` (days since the epoch in UTC, both included), with those two
    /// days. Who is no administrator sees the own ones.
    ///
    /// # Errors
    /// When `from` is after `to`.
    pub async fn list(
        &self,
        ctx: &Ctx,
        by: CostBy,
        from: Option<i64>,
        to: Option<i64>,
    ) -> Result<((i64, i64), Vec<Cost>)> {
        let to = to.unwrap_or_else(|| day_of(self.clock.now()));
        let from = from.unwrap_or(to - DAYS_DEFAULT);
        if from > to {
            return Err(Error::invalid("Field 'from' is after 'to'."));
        }
        let user = (!ctx.is_admin()).then(|| ctx.user.name.clone());
        let costs = self.store.cost_list(by, (from, to), user).await?;
        Ok(((from, to), costs))
    }
}
