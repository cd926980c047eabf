//! Things that callers open and may never close: kept in memory, bounded, and dropped when idle.

use std::collections::HashMap;
use std::hash::Hash;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use forebay_runtime::Clock;
use forebay_types::{Error, ErrorCode, Millis, Result, UserId};

use crate::Ctx;

#[derive(Debug)]
pub(crate) struct Sessions<K, T> {
    clock: Clock,
    idle_ms: i64,
    open_max: usize,
    open: Mutex<HashMap<K, Session<T>>>,
}

#[derive(Debug)]
struct Session<T> {
    owner: UserId,
    touched: Millis,
    value: Arc<T>,
}

impl<K: Eq + Hash + Clone, T> Sessions<K, T> {
    pub(crate) fn new(clock: Clock, idle_ms: i64, open_max: usize) -> Self {
        Self {
            clock,
            idle_ms,
            open_max,
            open: Mutex::default(),
        }
    }

    /// # Errors
    /// `RESOURCE_LIMIT_EXCEEDED` when too many are open; `what` names them in the plural.
    pub(crate) fn insert(&self, key: K, ctx: &Ctx, value: T, what: &str) -> Result<()> {
        self.sweep();
        let mut open = self.lock();
        if open.len() >= self.open_max {
            return Err(Error::new(
                ErrorCode::ResourceLimitExceeded,
                format!(
                    "There are {} {what} already; finish some of them first.",
                    open.len()
                ),
            ));
        }
        let session = Session {
            owner: ctx.user.id,
            touched: self.clock.now(),
            value: Arc::new(value),
        };
        open.insert(key, session);
        Ok(())
    }

    /// The caller's own session, which counts as used now.
    pub(crate) fn get(&self, key: &K, ctx: &Ctx) -> Option<Arc<T>> {
        self.touch(key, |session| session.owner == ctx.user.id)
    }

    /// A session whose key is its password.
    pub(crate) fn get_by_secret(&self, key: &K) -> Option<Arc<T>> {
        self.touch(key, |_| true)
    }

    pub(crate) fn remove(&self, key: &K) -> Option<Arc<T>> {
        self.lock().remove(key).map(|session| session.value)
    }

    /// Drops what was not used for too long.
    pub(crate) fn sweep(&self) {
        let now = self.clock.now();
        self.lock()
            .retain(|_, session| now.since(session.touched) < self.idle_ms);
    }

    fn touch(&self, key: &K, may: impl Fn(&Session<T>) -> bool) -> Option<Arc<T>> {
        self.sweep();
        let mut open = self.lock();
        let session = open.get_mut(key).filter(|session| may(session))?;
        session.touched = self.clock.now();
        Some(Arc::clone(&session.value))
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<K, Session<T>>> {
        self.open.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
