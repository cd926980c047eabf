use std::fmt;
use std::sync::Arc;

use crate::Usage;

/// Tells what an execution has used up to now; clones share one source. Reading it is cheap, needs
/// nobody to drive the execution, and gives `None` when it has ended or nobody counts.
#[derive(Clone)]
pub struct Meter(Arc<dyn Fn() -> Option<Usage> + Send + Sync>);

impl Meter {
    pub fn new(read: impl Fn() -> Option<Usage> + Send + Sync + 'static) -> Self {
        Self(Arc::new(read))
    }

    #[must_use]
    pub fn read(&self) -> Option<Usage> {
        (self.0)()
    }
}

/// Of an execution that nobody counts.
impl Default for Meter {
    fn default() -> Self {
        Self::new(|| None)
    }
}

impl fmt::Debug for Meter {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Meter").field(&self.read()).finish()
    }
}
