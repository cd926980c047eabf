//! Notifications by e-mail, through the mail server of `[smtp]`.

use std::time::Duration;

use forebay_config::Smtp;
use forebay_types::{Error, Result};
use lettre::message::Mailbox;
use lettre::transport::smtp::authentication::Credentials;
use lettre::{Address, AsyncSmtpTransport, AsyncTransport, Message as Mail, Tokio1Executor};

use super::message::Message;

type Transport = AsyncSmtpTransport<Tokio1Executor>;

const TIMEOUT: Duration = Duration::from_secs(10);

pub(super) fn not_configured() -> Error {
    Error::not_implemented("E-mail notifications without a mail server ([smtp] in forebay.toml)")
}

/// # Errors
/// When `address` is none.
pub(super) fn check(address: &str) -> Result<()> {
    let parsed = address.parse::<Address>();
    parsed
        .map(drop)
        .map_err(|e| Error::invalid(format!("'{address}' is no e-mail address: {e}.")).because(e))
}

/// Sends a message to one address, and returns why it was not taken, if it was not.
pub(super) async fn send(smtp: &Smtp, to: &str, message: &Message<'_>) -> Option<String> {
    try_send(smtp, to, message).await.err()
}

async fn try_send(smtp: &Smtp, to: &str, message: &Message<'_>) -> std::result::Result<(), String> {
    let mailbox = |address: &str| {
        address
            .parse::<Mailbox>()
            .map_err(|e| format!("{address}: {e}"))
    };
    let domain = smtp.from.rsplit('@').next().unwrap_or_default();
    let mail = Mail::builder()
        .from(mailbox(&smtp.from)?)
        .to(mailbox(to)?)
        .subject(message.title())
        // The same at each try, so that a mailbox can tell a repetition.
        .message_id(Some(format!("<{}@{domain}>", message.notification.id)))
        .body(message.text())
        .map_err(|e| e.to_string())?;
    let builder = match smtp.security.as_str() {
        "tls" => Transport::relay(&smtp.host).map_err(|e| e.to_string())?,
        "starttls" => Transport::starttls_relay(&smtp.host).map_err(|e| e.to_string())?,
        _ => Transport::builder_dangerous(&smtp.host),
    };
    let mut builder = builder.port(smtp.port).timeout(Some(TIMEOUT));
    if let Some(username) = &smtp.username {
        let password = smtp.password.clone().unwrap_or_default();
        builder = builder.credentials(Credentials::new(username.clone(), password));
    }
    builder
        .build()
        .send(mail)
        .await
        .map(drop)
        .map_err(|e| e.to_string())
}
