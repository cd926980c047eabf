//! What runs were made from, read once for all tasks of a run: of a thousand tasks each would
//! otherwise read what defines all of them.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

use forebay_store::Run;
use forebay_types::{Error, Result, RunId};

use super::Inner;
use crate::jobs::JobDocument;

/// Runs whose definitions are kept.
const KEPT_MAX: usize = 64;

/// A run as it was made, or repaired: its phase and other states are those of some moment.
#[derive(Debug)]
pub(crate) struct Definition {
    pub(crate) run: Run,
    pub(crate) document: JobDocument,
}

/// A run whose definition cannot be read any more.
#[derive(Debug)]
pub(crate) struct Unreadable {
    pub(crate) run: Run,
    pub(crate) error: Error,
}

/// By run, each with the repair that it is of. Losing them does no harm.
#[derive(Default)]
pub(crate) struct Definitions(Mutex<HashMap<RunId, Kept>>);

struct Kept {
    repair: Option<RunId>,
    definition: Arc<Definition>,
}

impl Definitions {
    fn kept(&self, run: RunId, repair: Option<RunId>) -> Option<Arc<Definition>> {
        let kept = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let kept = kept.get(&run).filter(|kept| kept.repair == repair)?;
        Some(Arc::clone(&kept.definition))
    }

    fn keep(&self, repair: Option<RunId>, definition: &Arc<Definition>) {
        let mut kept = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if kept.len() >= KEPT_MAX {
            // The ids of runs grow: the first are the least likely to be asked for.
            let first = kept.keys().min().copied();
            if let Some(first) = first {
                kept.remove(&first);
            }
        }
        let run = definition.run.id;
        let definition = Arc::clone(definition);
        kept.insert(run, Kept { repair, definition });
    }
}

impl Inner {
    /// What a run that is under way was made from; `repair` is the last one of it.
    ///
    /// # Errors
    /// `Run N does not exist.`
    pub(super) async fn definition(
        &self,
        run: RunId,
        repair: Option<RunId>,
    ) -> Result<Result<Arc<Definition>, Box<Unreadable>>> {
        if let Some(kept) = self.definitions.kept(run, repair) {
            return Ok(Ok(kept));
        }
        let run = self.store.run_look(run).await?;
        let document = match JobDocument::of_normal(run.settings.clone()) {
            Ok(document) => document,
            Err(error) => return Ok(Err(Box::new(Unreadable { run, error }))),
        };
        let tasks = &document.plan.tasks;
        let again = tasks.len() > 1 || tasks.iter().any(|task| !task.takes_slot);
        let definition = Arc::new(Definition { run, document });
        if again {
            self.definitions.keep(repair, &definition);
        }
        Ok(Ok(definition))
    }
}
