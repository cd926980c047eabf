use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

use forebay_runtime::Clock;
use forebay_store::User;
use forebay_types::{Millis, hex};
use sha2::{Digest, Sha256};

const LIFETIME_MS: i64 = 15 * 60 * 1000;
/// More open codes than this mean that somebody asks in a loop; the oldest go.
const CODES_MAX: usize = 100;

/// By the digest of a code: whom it signs in, and until when.
type Open = HashMap<[u8; 32], (User, Millis)>;

/// Codes of sign-in links: each works once, for a quarter of an hour, in this process only. Cheap to
/// clone.
#[derive(Debug, Clone)]
pub struct SignIn {
    clock: Clock,
    open: Arc<Mutex<Open>>,
}

impl SignIn {
    pub(crate) fn new(clock: Clock) -> Self {
        Self {
            clock,
            open: Arc::default(),
        }
    }

    /// A new code that signs `user` in, and until when.
    #[must_use]
    pub fn issue(&self, user: User) -> (String, Millis) {
        let code = hex(rand::random::<[u8; 16]>());
        let now = self.clock.now();
        let until = now.plus_ms(LIFETIME_MS);
        let mut open = self.open.lock().unwrap_or_else(PoisonError::into_inner);
        open.retain(|_, (_, until)| *until > now);
        if open.len() >= CODES_MAX
            && let Some(oldest) = open.iter().min_by_key(|(_, (_, until))| *until)
        {
            let oldest = *oldest.0;
            open.remove(&oldest);
        }
        open.insert(Sha256::digest(&code).into(), (user, until));
        (code, until)
    }

    /// The user of a code, which is used up by this.
    #[must_use]
    pub fn redeem(&self, code: &str) -> Option<User> {
        let digest: [u8; 32] = Sha256::digest(code).into();
        let mut open = self.open.lock().unwrap_or_else(PoisonError::into_inner);
        let (user, until) = open.remove(&digest)?;
        (until > self.clock.now()).then_some(user)
    }
}
