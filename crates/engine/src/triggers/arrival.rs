use forebay_types::Millis;

use super::Next;

/// How patient a file arrival trigger is; both in milliseconds, 0 for not at all.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct ArrivalPolicy {
    /// From one run to the next.
    pub between_ms: i64,
    /// From the last change of a new file to the run.
    pub quiet_ms: i64,
}

/// Whether files that wait for a run are due: `changed` is when the last of them came or changed,
/// `fired` when the trigger last fired. A time that is to come says that the clock was put back; there
/// is nothing to wait for then.
#[must_use]
pub fn arrival(
    policy: ArrivalPolicy,
    changed: Millis,
    fired: Option<Millis>,
    now: Millis,
) -> Next<()> {
    let quiet = (changed, policy.quiet_ms);
    let between = fired.map(|fired| (fired, policy.between_ms));
    let waits = [Some(quiet), between].into_iter().flatten();
    let due = waits
        .filter(|(since, _)| *since <= now)
        .map(|(since, ms)| since.plus_ms(ms))
        .max();
    let due = due.unwrap_or(now);
    if due <= now {
        Next::Fire(())
    } else {
        Next::Wait(due)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_waits_must_have_passed() {
        let policy = ArrivalPolicy {
            between_ms: 100,
            quiet_ms: 10,
        };
        let decide = |changed: i64, fired: Option<i64>, now: i64| {
            arrival(policy, Millis(changed), fired.map(Millis), Millis(now))
        };
        assert_eq!(decide(0, None, 9), Next::Wait(Millis(10)));
        assert_eq!(decide(0, None, 10), Next::Fire(()));
        assert_eq!(decide(50, Some(10), 70), Next::Wait(Millis(110)));
        assert_eq!(decide(105, Some(10), 110), Next::Wait(Millis(115)));
        assert_eq!(decide(105, Some(10), 115), Next::Fire(()));
    }

    #[test]
    fn a_clock_that_was_put_back_holds_up_nothing() {
        let policy = ArrivalPolicy {
            between_ms: 100,
            quiet_ms: 10,
        };
        let decide = |changed: i64, fired: Option<i64>, now: i64| {
            arrival(policy, Millis(changed), fired.map(Millis), Millis(now))
        };
        assert_eq!(decide(5_000, Some(4_000), 50), Next::Fire(()));
        assert_eq!(decide(45, Some(4_000), 50), Next::Wait(Millis(55)));
    }
}
