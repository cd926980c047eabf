use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, UNIX_EPOCH};

use forebay_types::Millis;
use tokio::sync::Notify;
use tokio::time::Instant;

/// The source of every time in the server. Tests hold a manual one and move it.
#[derive(Debug, Clone)]
pub struct Clock(Kind);

#[derive(Debug, Clone)]
enum Kind {
    /// Since when there is this one.
    System(Instant),
    Manual(Arc<Manual>),
}

/// What a clock says at one moment.
#[derive(Debug, Clone, Copy)]
pub struct Reading {
    pub now: Millis,
    /// Since there is this clock, as sleepers count it, whoever turns it.
    pub elapsed: Duration,
}

#[derive(Debug)]
struct Manual {
    hands: Mutex<Hands>,
    moved: Notify,
}

#[derive(Debug, Clone, Copy)]
struct Hands {
    now: i64,
    /// How far it was moved forward in all: what sleepers go by, as those of the system do.
    elapsed: i64,
}

impl Manual {
    fn hands(&self) -> MutexGuard<'_, Hands> {
        self.hands.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Clock {
    #[must_use]
    pub fn system() -> Self {
        Self(Kind::System(Instant::now()))
    }

    /// A clock that stands still until [`Clock::advance`].
    #[must_use]
    pub fn manual(start: Millis) -> Self {
        Self(Kind::Manual(Arc::new(Manual {
            hands: Mutex::new(Hands {
                now: start.0,
                elapsed: 0,
            }),
            moved: Notify::new(),
        })))
    }

    #[must_use]
    #[expect(
        clippy::disallowed_methods,
        reason = "this is the clock that the rule points to"
    )]
    pub fn now(&self) -> Millis {
        match &self.0 {
            Kind::Manual(manual) => Millis(manual.hands().now),
            Kind::System(_) => {
                let since_epoch = std::time::SystemTime::now().duration_since(UNIX_EPOCH);
                Millis(since_epoch.map_or(0, |d| i64::try_from(d.as_millis()).unwrap_or(i64::MAX)))
            }
        }
    }

    /// The time, and beside it what nobody turns.
    #[must_use]
    pub fn reading(&self) -> Reading {
        match &self.0 {
            Kind::Manual(manual) => {
                let Hands { now, elapsed } = *manual.hands();
                Reading {
                    now: Millis(now),
                    elapsed: Duration::from_millis(elapsed.try_into().unwrap_or(0)),
                }
            }
            Kind::System(since) => Reading {
                now: self.now(),
                elapsed: since.elapsed(),
            },
        }
    }

    /// Completes after the time that there is from now to `when`. Who turns the clock meanwhile makes
    /// nobody sleep longer.
    pub async fn sleep_until(&self, when: Millis) {
        match &self.0 {
            Kind::System(_) => {
                let wait = when.since(self.now());
                tokio::time::sleep(Duration::from_millis(wait.unsigned_abs())).await;
            }
            Kind::Manual(manual) => {
                let Hands { now, elapsed } = *manual.hands();
                let until = elapsed.saturating_add(when.since(Millis(now)));
                loop {
                    let moved = manual.moved.notified();
                    if manual.hands().elapsed >= until {
                        return;
                    }
                    moved.await;
                }
            }
        }
    }

    pub async fn sleep(&self, duration: Duration) {
        let ms = i64::try_from(duration.as_millis()).unwrap_or(i64::MAX);
        self.sleep_until(self.now().plus_ms(ms)).await;
    }

    /// Moves a manual clock forward and wakes its sleepers; a system clock cannot be moved.
    pub fn advance(&self, duration: Duration) {
        if let Kind::Manual(manual) = &self.0 {
            let ms = i64::try_from(duration.as_millis()).unwrap_or(i64::MAX);
            let mut hands = manual.hands();
            hands.now = hands.now.saturating_add(ms);
            hands.elapsed = hands.elapsed.saturating_add(ms);
            drop(hands);
            manual.moved.notify_waiters();
        }
    }

    /// Puts a manual clock back, as somebody does who corrects one that was wrong.
    pub fn put_back(&self, duration: Duration) {
        self.turn(duration, -1);
    }

    /// Puts a manual clock ahead: that time does not pass.
    pub fn put_ahead(&self, duration: Duration) {
        self.turn(duration, 1);
    }

    fn turn(&self, duration: Duration, sign: i64) {
        if let Kind::Manual(manual) = &self.0 {
            let ms = i64::try_from(duration.as_millis()).unwrap_or(i64::MAX);
            manual.hands().now += sign * ms;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn manual_clock_wakes_sleepers_only_when_it_passes_their_time() {
        let clock = Clock::manual(Millis(1_000));
        let sleeper = clock.sleep(Duration::from_secs(5));
        tokio::pin!(sleeper);
        assert!(futures_poll(sleeper.as_mut()).await.is_none());
        clock.advance(Duration::from_secs(4));
        assert!(futures_poll(sleeper.as_mut()).await.is_none());
        clock.advance(Duration::from_secs(1));
        sleeper.await;
        assert_eq!(clock.now(), Millis(6_000));
    }

    #[tokio::test]
    async fn nobody_sleeps_longer_because_a_clock_was_put_back() {
        let clock = Clock::manual(Millis(10_000));
        let sleeper = clock.sleep(Duration::from_secs(5));
        tokio::pin!(sleeper);
        assert!(futures_poll(sleeper.as_mut()).await.is_none());
        clock.put_back(Duration::from_secs(8));
        clock.advance(Duration::from_secs(4));
        assert!(futures_poll(sleeper.as_mut()).await.is_none());
        clock.advance(Duration::from_secs(1));
        sleeper.await;
        assert_eq!(clock.now(), Millis(7_000));
    }

    async fn futures_poll<F: Future<Output = ()>>(future: std::pin::Pin<&mut F>) -> Option<()> {
        let mut future = Some(future);
        std::future::poll_fn(|cx| {
            let polled = future.take().map(|future| future.poll(cx).is_ready());
            std::task::Poll::Ready(polled.filter(|ready| *ready).map(|_| ()))
        })
        .await
    }
}
