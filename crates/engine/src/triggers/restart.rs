/// From one start of a continuous job to the next, so that a run without work is no busy loop.
const PACE_MS: i64 = 5_000;
/// The wait after a failure; it doubles with each further one.
const FAILED_MS: i64 = 10_000;
const FAILED_MS_MAX: i64 = 10 * 60_000;

/// How long after the end of its last run a continuous job starts the next one: `failures` in a
/// row came before, and the last run took `ran_ms`.
#[must_use]
pub fn restart_delay_ms(failures: u32, ran_ms: i64) -> i64 {
    match failures {
        0 => (PACE_MS - ran_ms).max(0),
        _ => FAILED_MS
            .saturating_mul(1 << (failures - 1).min(16))
            .min(FAILED_MS_MAX),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn failures_in_a_row_make_the_wait_longer_up_to_a_bound() {
        let waits = [0, 1, 2, 3, 7, 60].map(|failures| restart_delay_ms(failures, 1_000));
        assert_eq!(waits, [4_000, 10_000, 20_000, 40_000, 600_000, 600_000]);
        assert_eq!(restart_delay_ms(0, 60_000), 0);
    }
}
