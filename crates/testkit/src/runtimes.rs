use std::sync::Mutex;

use async_trait::async_trait;
use forebay_control::clusters::{RuntimeInfo, Runtimes};
use forebay_types::{Error, Result};
use tokio::sync::Semaphore;

/// Runtimes that are ready as soon as the test lets them.
#[derive(Debug)]
pub struct TestRuntimes {
    gate: Semaphore,
    failure: Mutex<Option<String>>,
}

impl TestRuntimes {
    /// Ready at once.
    #[must_use]
    pub fn ready() -> Self {
        Self {
            gate: Semaphore::new(Semaphore::MAX_PERMITS),
            failure: Mutex::default(),
        }
    }

    /// Each preparation waits for one [`TestRuntimes::let_through`].
    #[must_use]
    pub fn gated() -> Self {
        Self {
            gate: Semaphore::new(0),
            failure: Mutex::default(),
        }
    }

    pub fn let_through(&self) {
        self.gate.add_permits(1);
    }

    /// Preparations fail with this from now on; `None` makes them work again.
    pub fn fail_with(&self, reason: Option<&str>) {
        *self.failure.lock().unwrap() = reason.map(str::to_owned);
    }
}

#[async_trait]
impl Runtimes for TestRuntimes {
    async fn prepare(&self, _runtime: &str) -> Result<()> {
        self.gate.acquire().await.unwrap().forget();
        match &*self.failure.lock().unwrap() {
            Some(reason) => Err(Error::state(reason.clone())),
            None => Ok(()),
        }
    }

    fn list(&self) -> Vec<RuntimeInfo> {
        vec![RuntimeInfo {
            name: "python-3.11".to_owned(),
            python: "3.11".to_owned(),
            description: "Python 3.11 for tests".to_owned(),
            ..RuntimeInfo::default()
        }]
    }
}
