//! The loop that empties the outbox. It takes no input: each round it looks at what is due, tries
//! to deliver it, and writes down how that went.

use std::sync::Arc;
use std::time::Duration;

use forebay_engine::{Recipient, next_try};
use forebay_runtime::TaskKind;
use forebay_store::Notification;
use forebay_types::{Error, ErrorCode, Millis, Result};
use futures_util::StreamExt;
use futures_util::stream;

use super::destination::Config;
use super::message::Message;
use super::{Inner, mail};

const EVERY: Duration = Duration::from_secs(1);
/// Deliveries in one round, and how many of them at a time.
const BATCH: usize = 64;
const AT_ONCE: usize = 8;

pub(super) fn spawn(inner: &Arc<Inner>) {
    let inner = Arc::clone(inner);
    let work = {
        let inner = Arc::clone(&inner);
        async move {
            let stop = inner.tasks.stopping();
            // The first look also finds what waits for a time of the last process's clock.
            let (mut last, mut is_back) = (Millis(i64::MAX), false);
            loop {
                tokio::select! {
                    () = stop.cancelled() => return Ok::<(), Error>(()),
                    () = inner.clock.sleep(EVERY) => {}
                }
                let now = inner.clock.now();
                // Stays so until a round has come to its end.
                is_back |= now < last;
                last = now;
                match round(&inner, is_back).await {
                    Ok(()) => is_back = false,
                    Err(e) => tracing::error!(error = ?e, "notifications cannot be looked at"),
                }
            }
        }
    };
    inner
        .tasks
        .spawn(TaskKind::Reconciler, "notifications", work);
}

/// `is_back` when the clock has been put back since the last round.
async fn round(inner: &Inner, is_back: bool) -> Result<()> {
    let now = inner.clock.now();
    if is_back {
        inner.store.notification_overtaken(now).await?;
    }
    inner.store.notification_slow(now).await?;
    let due = inner.store.notification_due(now, BATCH).await?;
    let mut results =
        stream::iter(due.into_iter().map(|one| deliver(inner, one))).buffer_unordered(AT_ONCE);
    while let Some(result) = results.next().await {
        result?;
    }
    Ok(())
}

async fn deliver(inner: &Inner, notification: Notification) -> Result<()> {
    let error = attempt(inner, &notification).await?;
    let now = inner.clock.now();
    let again = error
        .as_ref()
        .and_then(|_| next_try(notification.tries + 1, now));
    if let Some(error) = &error {
        let Notification { id, run_id, .. } = &notification;
        tracing::warn!(run.id = %run_id, "notification {id} was not delivered: {error}");
    }
    let tried = inner
        .store
        .notification_tried(notification.id, error, again, now);
    tried.await
}

/// Why it was not delivered, if it was not.
async fn attempt(inner: &Inner, notification: &Notification) -> Result<Option<String>> {
    let run = notification.run_id;
    let job = notification.facts["job_id"].as_i64().unwrap_or(run.0);
    let message = Message {
        notification,
        workspace_id: inner.workspace_id,
        url: format!("{}/jobs/{job}/runs/{run}", inner.public_url),
    };
    let id = match &notification.to {
        Recipient::Mail(address) => {
            return Ok(by_mail(inner, std::slice::from_ref(address), &message).await);
        }
        Recipient::Destination(id) => id,
    };
    let destination = match inner.destination(id).await {
        Ok(destination) => destination,
        Err(e) if e.code == ErrorCode::ResourceDoesNotExist => return Ok(Some(e.message)),
        Err(e) => return Err(e),
    };
    if let Config::Email { addresses } = &destination.config {
        return Ok(by_mail(inner, addresses, &message).await);
    }
    let body = message.body(&destination.config);
    let now = inner.clock.now();
    let sender = &inner.sender;
    Ok(sender
        .post(&destination.config, &notification.id, &body, now)
        .await)
}

/// The first reason why an address did not get it.
async fn by_mail(inner: &Inner, addresses: &[String], message: &Message<'_>) -> Option<String> {
    let Some(smtp) = &inner.smtp else {
        return Some(mail::not_configured().message);
    };
    let mut error = None;
    for address in addresses {
        let one = mail::send(smtp, address, message).await;
        error = error.or(one);
    }
    error
}
