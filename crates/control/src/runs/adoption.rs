//! What an earlier process left: rows that nobody works on, and programs that nobody knows.

use std::collections::HashSet;
use std::path::Path;
use std::sync::Arc;

use async_trait::async_trait;
use forebay_engine::StopReason;
use forebay_exec::{Adoption, CallId, Host, HostError};
use forebay_store::Attempt;
use forebay_types::{Error, Result};
use serde_json::Value;
use tracing::{error, info};

use super::attempt::Begin;
use super::{Inner, dispatch, output};

/// Gives every live row that nobody works on a task again: its process died with an earlier server,
/// or its task here came to grief.
pub(crate) async fn take_up(inner: &Arc<Inner>) {
    let _nobody_claims = inner.claiming.write().await;
    match inner.store.attempt_list_live().await {
        Ok(live) => {
            let mut live = live;
            live.retain(|attempt| !inner.live.is_owned(attempt.id));
            dispatch::begin_as(inner, live, Begin::Again);
        }
        Err(e) => error!(error = ?e, "cannot look for orphaned attempts"),
    }
}

/// Ends what an earlier server of this workspace left running and no live row knows: its last word
/// on it, that it was not wanted, may not have arrived.
pub(crate) async fn end_strays(inner: &Arc<Inner>) -> Result<()> {
    let live = inner.store.attempt_list_live().await?.into_iter();
    let known: HashSet<_> = live
        .map(|attempt| output::spool_dir(&inner.dirs, attempt.id))
        .collect();
    let found = inner.executor.inherited().into_iter();
    let strays = found.filter(|dir| dir.starts_with(&inner.dirs.runs) && !known.contains(dir));
    for stray in strays {
        info!("ending what runs in {} and nobody knows", stray.display());
        end_execution(inner, &stray).await;
        inner.executor.forget(&stray);
    }
    Ok(())
}

pub(crate) async fn end_execution(inner: &Inner, spool_dir: &Path) {
    let adoption = inner.executor.adopt(spool_dir, 0, Arc::new(Refusing)).await;
    if let Adoption::Found(execution) = adoption {
        execution.finish().await;
    }
}

/// The host of a program that is only to be ended.
struct Refusing;

#[async_trait]
impl Host for Refusing {
    async fn call(&self, _: CallId, method: &str, _: Value) -> Result<Value, HostError> {
        Err(HostError::unknown_method(method))
    }
}

/// A nested run does not outlive the attempt that waits for it. Usually the call that waits sees to
/// that; here it may have gone with an earlier server.
pub(crate) async fn stop_children(inner: &Arc<Inner>, attempt: &Attempt) {
    let stop = async {
        for child in inner.store.run_list_nested(attempt.id).await? {
            inner.stop(&child, StopReason::Canceled).await?;
        }
        Ok::<(), Error>(())
    };
    if let Err(e) = stop.await {
        error!(attempt.id = %attempt.id, error = ?e, "nested runs cannot be stopped");
    }
}
