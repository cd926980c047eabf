use forebay_types::Millis;

use super::Next;

/// How long events of one key are gathered.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct DebouncePolicy {
    /// A batch is closed when no event came for this long.
    pub delay_ms: i64,
    /// It is closed at the latest this long after its first event.
    pub max_delay_ms: Option<i64>,
    /// It is closed when it has this many events.
    pub max_events: usize,
}

/// Decides on the events of one key by their arrivals, oldest first: how many of them make a run
/// now, or when the first batch is due. No arrivals are never due.
#[must_use]
pub fn debounce(policy: DebouncePolicy, arrivals: &[Millis], now: Millis) -> Next<usize> {
    let Some(first) = arrivals.first() else {
        return Next::Wait(Millis(i64::MAX));
    };
    let latest = policy.max_delay_ms.map(|ms| first.plus_ms(ms));
    let due_after = |last: Millis| {
        let quiet = last.plus_ms(policy.delay_ms);
        latest.map_or(quiet, |latest| latest.min(quiet))
    };
    let mut due = due_after(*first);
    let mut count = 1;
    for arrival in &arrivals[1..] {
        if count >= policy.max_events || *arrival > due {
            break;
        }
        due = due_after(*arrival);
        count += 1;
    }
    // An event that is to come: the clock was put back, and the wait would be that much longer.
    if count >= policy.max_events || due <= now || *first > now {
        Next::Fire(count)
    } else {
        Next::Wait(due)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn decide(policy: DebouncePolicy, arrivals: &[i64], now: i64) -> Next<usize> {
        let arrivals: Vec<Millis> = arrivals.iter().copied().map(Millis).collect();
        debounce(policy, &arrivals, Millis(now))
    }

    #[test]
    fn a_batch_closes_by_quiet_by_age_or_by_size() {
        let policy = DebouncePolicy {
            delay_ms: 10,
            max_delay_ms: Some(25),
            max_events: 4,
        };
        assert_eq!(decide(policy, &[0], 9), Next::Wait(Millis(10)));
        assert_eq!(decide(policy, &[0], 10), Next::Fire(1));
        assert_eq!(decide(policy, &[0, 8], 12), Next::Wait(Millis(18)));
        assert_eq!(decide(policy, &[0, 8, 16], 20), Next::Wait(Millis(25)));
        assert_eq!(decide(policy, &[0, 8, 16], 25), Next::Fire(3));
        assert_eq!(decide(policy, &[0, 1, 2, 3, 4], 4), Next::Fire(4));
        assert_eq!(decide(policy, &[5_000, 5_001], 7), Next::Fire(2));
    }

    #[test]
    fn batches_are_the_same_whenever_somebody_looks() {
        let policy = DebouncePolicy {
            delay_ms: 10,
            max_delay_ms: None,
            max_events: 100,
        };
        // Looked at late: the pause between 5 and 50 still closed the first batch.
        assert_eq!(decide(policy, &[0, 5, 50, 55], 1000), Next::Fire(2));
        assert_eq!(decide(policy, &[50, 55], 60), Next::Wait(Millis(65)));
        assert_eq!(decide(policy, &[], 60), Next::Wait(Millis(i64::MAX)));
    }

    #[test]
    fn no_delay_fires_at_once() {
        let policy = DebouncePolicy {
            delay_ms: 0,
            max_delay_ms: None,
            max_events: 1,
        };
        assert_eq!(decide(policy, &[0, 0], 0), Next::Fire(1));
    }
}
