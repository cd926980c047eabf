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
/// `fired` when the trigger last fired.
#[must_use]
pub fn arrival(
    policy: ArrivalPolicy,
    changed: Millis,
    fired: Option<Millis>,
    now: Millis,
) -> Next<()> {
    let quiet = changed.plus_ms(policy.quiet_ms);
    let due = fired.map_or(quiet, |fired| quiet.max(fired.plus_ms(policy.between_ms)));
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
}
