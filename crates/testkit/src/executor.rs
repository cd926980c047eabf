use std::sync::Arc;

use async_trait::async_trait;
use forebay_exec::{
    Execution, Executor, Host, Isolation, IsolationLevel, Place, Prepared, RuntimeInfo, StartError,
    Workload,
};

/// Starts nothing and says so: for tests that are not about running.
#[derive(Debug)]
pub(crate) struct NoExecutor(Isolation);

impl Default for NoExecutor {
    fn default() -> Self {
        Self(Isolation {
            level: IsolationLevel::None,
            accounting: "none".to_owned(),
            reasons: vec!["this test has no executor".to_owned()],
        })
    }
}

#[async_trait]
impl Executor for NoExecutor {
    async fn start(&self, _: Workload, _: Arc<dyn Host>) -> Result<Box<dyn Execution>, StartError> {
        Err(StartError::Stopping)
    }

    async fn prepare(&self, _: &Place) -> Result<Prepared, StartError> {
        Err(StartError::Stopping)
    }

    fn runtimes(&self) -> Vec<RuntimeInfo> {
        Vec::new()
    }

    fn isolation(&self) -> &Isolation {
        &self.0
    }

    async fn stop(&self) {}
}
