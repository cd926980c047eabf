use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};

use forebay_types::Millis;

/// How many tokens are remembered before those that have been quiet are forgotten.
const REMEMBERED: usize = 4096;

/// A bucket per token: it holds `burst` requests and fills by `per_second`.
///
/// Kept as the moment at which each bucket is full again (the "generic cell rate algorithm"), so a
/// quiet token needs no memory and nothing has to tick.
#[derive(Debug)]
pub(crate) struct RateLimit {
    /// Microseconds that one request takes to come back; 0 means no limit.
    interval_us: i64,
    burst: i64,
    full_at_us: Mutex<HashMap<[u8; 32], i64>>,
}

impl RateLimit {
    pub(crate) fn new(per_second: u32, burst: u32) -> Self {
        let interval = 1_000_000_i64.checked_div(i64::from(per_second));
        Self {
            interval_us: interval.unwrap_or(0),
            burst: i64::from(burst.max(1)),
            full_at_us: Mutex::default(),
        }
    }

    /// A bucket that holds `count` and needs an hour to fill; 0 means no limit.
    pub(crate) fn per_hour(count: u32) -> Self {
        Self {
            interval_us: 3_600_000_000_i64.checked_div(i64::from(count)).unwrap_or(0),
            burst: i64::from(count.max(1)),
            full_at_us: Mutex::default(),
        }
    }

    /// Whole seconds until a token that was refused may take one more.
    pub(crate) fn wait_s(&self) -> u32 {
        u32::try_from(self.interval_us / 1_000_000)
            .unwrap_or(u32::MAX)
            .max(1)
    }

    /// Takes one request out of the token's bucket; `false` when it is empty.
    pub(crate) fn take(&self, token: [u8; 32], now: Millis) -> bool {
        if self.interval_us == 0 {
            return true;
        }
        let now_us = now.0.saturating_mul(1000);
        let mut buckets = self
            .full_at_us
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        if buckets.len() >= REMEMBERED {
            buckets.retain(|_, full_at| *full_at > now_us);
        }
        let full_at = buckets.entry(token).or_insert(now_us);
        let whole_us = self.burst.saturating_mul(self.interval_us);
        if full_at.saturating_sub(now_us) > whole_us {
            // More than empty it cannot be: the clock was put back.
            *full_at = now_us;
        }
        let next = (*full_at).max(now_us).saturating_add(self.interval_us);
        let allowed = next - now_us <= whole_us;
        if allowed {
            *full_at = next;
        }
        allowed
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn takes(limit: &RateLimit, token: u8, now: i64) -> usize {
        (0..100)
            .take_while(|_| limit.take([token; 32], Millis(now)))
            .count()
    }

    #[test]
    fn a_burst_is_allowed_and_then_the_rate_for_each_token_alone() {
        let limit = RateLimit::new(10, 5);
        assert_eq!(takes(&limit, 1, 1_000), 5);
        assert_eq!(takes(&limit, 2, 1_000), 5);
        assert_eq!(takes(&limit, 1, 1_050), 0);
        assert_eq!(takes(&limit, 1, 1_300), 3);
        assert_eq!(takes(&limit, 1, 60_000), 5);
    }

    #[test]
    fn zero_means_no_limit_and_a_clock_that_goes_back_does_no_harm() {
        assert_eq!(takes(&RateLimit::new(0, 1), 1, 0), 100);
        let limit = RateLimit::new(10, 2);
        assert_eq!(takes(&limit, 1, 100_000), 2);
        assert_eq!(takes(&limit, 1, 9_000), 2);
        assert_eq!(takes(&limit, 1, 9_000), 0);
        assert_eq!(takes(&limit, 1, 20_000), 2);
    }
}
