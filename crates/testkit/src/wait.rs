use std::fmt::Debug;
use std::future::Future;
use std::time::Duration;

const PATIENCE: Duration = Duration::from_secs(20);

/// Looks again and again until `done` accepts what `look` sees, and gives that; for work that the
/// server does in the background. Panics after 20 seconds with the last thing seen.
pub async fn wait_until<T, F>(
    what: &str,
    mut look: impl FnMut() -> F,
    done: impl Fn(&T) -> bool,
) -> T
where
    T: Debug,
    F: Future<Output = T>,
{
    let start = tokio::time::Instant::now();
    loop {
        let seen = look().await;
        if done(&seen) {
            return seen;
        }
        assert!(
            start.elapsed() < PATIENCE,
            "waited in vain for {what}; last seen: {seen:?}"
        );
        tokio::time::sleep(Duration::from_millis(2)).await;
    }
}
