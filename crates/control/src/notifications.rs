//! Who is told what happens to runs: destinations that administrators define, and the outbox that
//! [`worker`] empties. What goes into the outbox is decided in the transaction of the change itself.

mod destination;
mod mail;
mod message;
mod send;
mod worker;

use std::sync::Arc;

use forebay_config::{Notifications as NotificationConfig, Smtp};
use forebay_engine::Recipient;
use forebay_runtime::{Clock, Tasks};
use forebay_store::{DestinationRow, Notification, Store};
use forebay_types::{Error, Result, RunId};
use serde_json::{Map, Value};

pub use destination::{Config, Destination};

use crate::Ctx;
use crate::runs::Runs;
use crate::vault::Vault;
use send::Sender;

const NAME_CHARS_MAX: usize = 256;

/// The notifications of one workspace. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Notifications(Arc<Inner>);

#[derive(Debug)]
pub(crate) struct Inner {
    pub(crate) store: Store,
    pub(crate) clock: Clock,
    pub(crate) tasks: Tasks,
    pub(crate) vault: Vault,
    pub(crate) runs: Runs,
    pub(crate) workspace_id: i64,
    /// Without a trailing slash, for links to runs.
    pub(crate) public_url: String,
    pub(crate) smtp: Option<Smtp>,
    sender: Sender,
}

/// What of [`Inner`] the configuration gives.
pub(crate) struct Parts {
    pub(crate) store: Store,
    pub(crate) clock: Clock,
    pub(crate) tasks: Tasks,
    pub(crate) vault: Vault,
    pub(crate) runs: Runs,
    pub(crate) workspace_id: i64,
    pub(crate) public_url: String,
    pub(crate) config: NotificationConfig,
    pub(crate) smtp: Option<Smtp>,
}

impl Notifications {
    pub(crate) fn new(parts: Parts) -> Result<Self> {
        Ok(Self(Arc::new(Inner {
            store: parts.store,
            clock: parts.clock,
            tasks: parts.tasks,
            vault: parts.vault,
            runs: parts.runs,
            workspace_id: parts.workspace_id,
            public_url: parts.public_url,
            smtp: parts.smtp,
            sender: Sender::new(&parts.config.allow_addresses)?,
        })))
    }

    pub(crate) fn spawn(&self) {
        worker::spawn(&self.0);
    }

    /// # Errors
    /// What is wrong with the configuration, by field; `PERMISSION_DENIED` for everyone but
    /// administrators.
    pub async fn create(
        &self,
        ctx: &Ctx,
        name: &str,
        config: Map<String, Value>,
    ) -> Result<Destination> {
        ctx.require_admin("create notification destinations")?;
        let mut config = Config::parse(config)?;
        self.check(&config)?;
        config.make_signing_key();
        let destination = Destination {
            id: uuid(),
            display_name: checked_name(name)?,
            config,
        };
        self.put(&destination).await?;
        Ok(destination)
    }

    /// # Errors
    /// `RESOURCE_DOES_NOT_EXIST`.
    pub async fn get(&self, id: &str) -> Result<Destination> {
        self.0.destination(id).await
    }

    /// The destinations after the id `after`, at most `limit`.
    ///
    /// # Errors
    /// When the database refuses.
    pub async fn list(&self, after: &str, limit: usize) -> Result<Vec<Destination>> {
        let rows = self.0.store.destination_list(after.to_owned(), limit);
        rows.await?
            .into_iter()
            .map(|row| self.0.open(row))
            .collect()
    }

    /// Changes what is given. Another configuration of the same kind keeps the signing key.
    ///
    /// # Errors
    /// As for [`Notifications::create`]; `RESOURCE_DOES_NOT_EXIST`.
    pub async fn update(
        &self,
        ctx: &Ctx,
        id: &str,
        name: Option<&str>,
        config: Option<Map<String, Value>>,
    ) -> Result<Destination> {
        ctx.require_admin("change notification destinations")?;
        let mut destination = self.0.destination(id).await?;
        if name.is_none() && config.is_none() {
            return Err(Error::invalid("Give 'display_name' or 'config'."));
        }
        if let Some(name) = name {
            destination.display_name = checked_name(name)?;
        }
        if let Some(config) = config {
            let config = Config::parse(config)?;
            self.check(&config)?;
            destination.config = config.with_key_of(&destination.config);
        }
        self.put(&destination).await?;
        Ok(destination)
    }

    /// # Errors
    /// `RESOURCE_DOES_NOT_EXIST`; `PERMISSION_DENIED`.
    pub async fn delete(&self, ctx: &Ctx, id: &str) -> Result<()> {
        ctx.require_admin("delete notification destinations")?;
        self.0.store.destination_delete(id.to_owned()).await
    }

    /// The key that signs what a generic webhook gets.
    ///
    /// # Errors
    /// `PERMISSION_DENIED`; `RESOURCE_DOES_NOT_EXIST`, also for a destination of another kind.
    pub async fn signing_key(&self, ctx: &Ctx, id: &str) -> Result<String> {
        ctx.require_admin("read signing keys")?;
        let destination = self.0.destination(id).await?;
        let key = destination.config.signing_key();
        key.map(str::to_owned).ok_or_else(|| {
            Error::missing(format!(
                "Notification destination '{id}' is not a generic webhook."
            ))
        })
    }

    /// What was told of a run, or is still to be told.
    ///
    /// # Errors
    /// `Run N does not exist.`; `PERMISSION_DENIED`.
    pub async fn of_run(&self, ctx: &Ctx, run: RunId) -> Result<Vec<Notification>> {
        let view = self.0.runs.get(ctx, run).await?;
        self.0.store.notification_list(view.run.id).await
    }

    /// Delivers a message once more, whatever became of it.
    ///
    /// # Errors
    /// `RESOURCE_DOES_NOT_EXIST`; `PERMISSION_DENIED` for those who may not manage its run.
    pub async fn redeliver(&self, ctx: &Ctx, id: &str) -> Result<()> {
        let missing = || Error::missing(format!("Notification '{id}' does not exist."));
        let found = self.0.store.notification_get(id.to_owned()).await?;
        let found = found.ok_or_else(missing)?;
        self.0.runs.managed(ctx, found.run_id).await?;
        let now = self.0.clock.now();
        self.0.store.notification_again(found.id, now).await
    }

    fn check(&self, config: &Config) -> Result<()> {
        match config {
            Config::Email { .. } if self.0.smtp.is_none() => Err(mail::not_configured()),
            Config::Email { addresses } => addresses.iter().try_for_each(|a| mail::check(a)),
            _ => self.0.sender.check(config.url()),
        }
    }

    async fn put(&self, destination: &Destination) -> Result<()> {
        let row = DestinationRow {
            id: destination.id.clone(),
            display_name: destination.display_name.clone(),
            kind: destination.config.kind().to_owned(),
            sealed: self
                .0
                .vault
                .seal(&label(&destination.id), &destination.config.to_bytes()?)?,
        };
        let now = self.0.clock.now();
        self.0.store.destination_put(row, now).await
    }
}

impl Inner {
    async fn destination(&self, id: &str) -> Result<Destination> {
        let row = self.store.destination_get(id.to_owned()).await?;
        let missing = || Error::missing(format!("Notification destination '{id}' does not exist."));
        self.open(row.ok_or_else(missing)?)
    }

    fn open(&self, row: DestinationRow) -> Result<Destination> {
        let bytes = self.vault.open_sealed(&label(&row.id), &row.sealed)?;
        Ok(Destination {
            config: Config::from_bytes(&bytes)?,
            id: row.id,
            display_name: row.display_name,
        })
    }
}

/// Refuses settings that name somebody who cannot be told.
///
/// # Errors
/// A destination that does not exist, an address that is none, or e-mail without a mail server; a
/// health rule that this server does not keep.
pub(crate) async fn check_settings(
    store: &Store,
    has_smtp: bool,
    settings: &Map<String, Value>,
) -> Result<()> {
    let tasks = settings.get("tasks").and_then(Value::as_array);
    let tasks = tasks.into_iter().flatten().filter_map(Value::as_object);
    let inner = tasks
        .clone()
        .filter_map(|task| task.get("for_each_task")?.get("task")?.as_object());
    for fields in std::iter::once(settings).chain(tasks).chain(inner) {
        let alerts = forebay_engine::Alerts::parse(fields).map_err(Error::invalid)?;
        alerts
            .check_health()
            .map_err(|(metric, words)| match metric {
                Some(_) => Error::not_implemented(words),
                None => Error::invalid(words),
            })?;
        for recipient in alerts.everybody() {
            match recipient {
                Recipient::Mail(_) if !has_smtp => return Err(mail::not_configured()),
                Recipient::Mail(address) => mail::check(&address)?,
                Recipient::Destination(id) => {
                    if store.destination_get(id.clone()).await?.is_none() {
                        return Err(Error::invalid(format!(
                            "Field 'webhook_notifications': there is no notification destination \
                             '{id}'."
                        )));
                    }
                }
            }
        }
    }
    Ok(())
}

fn label(id: &str) -> [&str; 2] {
    ["notification_destination", id]
}

fn checked_name(name: &str) -> Result<String> {
    let count = name.chars().count();
    if (1..=NAME_CHARS_MAX).contains(&count) {
        return Ok(name.to_owned());
    }
    Err(Error::invalid(format!(
        "Field 'display_name' has {count} characters; 1 to {NAME_CHARS_MAX} are allowed."
    )))
}

fn uuid() -> String {
    let n: u128 = rand::random();
    let hex = format!("{n:032x}");
    let parts = [
        &hex[..8],
        &hex[8..12],
        &hex[12..16],
        &hex[16..20],
        &hex[20..],
    ];
    parts.join("-")
}
