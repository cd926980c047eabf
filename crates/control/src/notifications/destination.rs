//! What a destination is told to be, in the words of the API.

use forebay_types::{Error, Result, hex};
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value, json};

/// PagerDuty's address for events; only the key differs between its users.
const PAGERDUTY_URL: &str = "https://events.pagerduty.com/v2/enqueue";

/// Somewhere to send to.
#[derive(Debug, Clone)]
pub struct Destination {
    pub id: String,
    pub display_name: String,
    pub config: Config,
}

/// Exactly one of these stands in the `config` of a destination.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Config {
    GenericWebhook {
        url: String,
        #[serde(default)]
        username: Option<String>,
        #[serde(default)]
        password: Option<String>,
        /// Made by this server; signs each message.
        #[serde(default)]
        signing_key: String,
    },
    Slack {
        url: String,
    },
    MicrosoftTeams {
        url: String,
    },
    Pagerduty {
        integration_key: String,
    },
    Email {
        addresses: Vec<String>,
    },
}

// Addresses and keys of chat services are secrets.
impl std::fmt::Debug for Config {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.kind())
    }
}

impl Config {
    /// Reads the `config` of a request.
    ///
    /// # Errors
    /// What is wrong, by field; `NOT_IMPLEMENTED` for kinds and ways to sign in that are not there.
    pub(super) fn parse(config: Map<String, Value>) -> Result<Self> {
        let mut given = config.into_iter().filter(|(_, value)| !value.is_null());
        let only = given.next().zip(Some(given.next().is_none()));
        let Some(((kind, value), true)) = only else {
            return Err(Error::invalid(
                "Field 'config' must have exactly one of generic_webhook, slack, microsoft_teams, \
                 pagerduty, email.",
            ));
        };
        let fields = value.as_object().cloned().unwrap_or_default();
        for other_way in [
            "oauth_token",
            "channel_id",
            "app_id",
            "auth_secret",
            "tenant_id",
            "channel_url",
        ] {
            if fields.get(other_way).is_some_and(|value| !value.is_null()) {
                let what = format!("Field 'config.{kind}.{other_way}'");
                return Err(Error::not_implemented(what));
            }
        }
        let text = |field: &str| fields.get(field).and_then(Value::as_str).map(str::to_owned);
        let needed = |field: &str| {
            text(field)
                .filter(|text| !text.is_empty())
                .ok_or_else(|| Error::invalid(format!("Field 'config.{kind}.{field}' is needed.")))
        };
        Ok(match kind.as_str() {
            "generic_webhook" => Self::GenericWebhook {
                url: needed("url")?,
                username: text("username"),
                password: text("password"),
                signing_key: String::new(),
            },
            "slack" => Self::Slack {
                url: needed("url")?,
            },
            "microsoft_teams" => Self::MicrosoftTeams {
                url: needed("url")?,
            },
            "pagerduty" => Self::Pagerduty {
                integration_key: needed("integration_key")?,
            },
            "email" => Self::Email {
                addresses: addresses(&fields)?,
            },
            other => return Err(Error::not_implemented(format!("Field 'config.{other}'"))),
        })
    }

    pub(super) fn kind(&self) -> &'static str {
        match self {
            Self::GenericWebhook { .. } => "WEBHOOK",
            Self::Slack { .. } => "SLACK",
            Self::MicrosoftTeams { .. } => "MICROSOFT_TEAMS",
            Self::Pagerduty { .. } => "PAGERDUTY",
            Self::Email { .. } => "EMAIL",
        }
    }

    /// The API's `destination_type`.
    #[must_use]
    pub fn destination_type(&self) -> &'static str {
        self.kind()
    }

    /// As the API shows it: what is secret is only said to be set.
    #[must_use]
    pub fn shown(&self) -> Value {
        match self {
            Self::GenericWebhook {
                username, password, ..
            } => json!({"generic_webhook": {
                "url_set": true,
                "username_set": username.is_some(),
                "password_set": password.is_some(),
            }}),
            Self::Slack { .. } => json!({"slack": {"url_set": true}}),
            Self::MicrosoftTeams { .. } => json!({"microsoft_teams": {"url_set": true}}),
            Self::Pagerduty { .. } => json!({"pagerduty": {"integration_key_set": true}}),
            Self::Email { addresses } => json!({"email": {"addresses": addresses}}),
        }
    }

    /// Where it is posted to; empty for e-mail.
    pub(super) fn url(&self) -> &str {
        match self {
            Self::GenericWebhook { url, .. }
            | Self::Slack { url }
            | Self::MicrosoftTeams { url } => url,
            Self::Pagerduty { .. } => PAGERDUTY_URL,
            Self::Email { .. } => "",
        }
    }

    pub(super) fn signing_key(&self) -> Option<&str> {
        match self {
            Self::GenericWebhook { signing_key, .. } => Some(signing_key),
            _ => None,
        }
    }

    pub(super) fn make_signing_key(&mut self) {
        if let Self::GenericWebhook { signing_key, .. } = self {
            *signing_key = hex(rand::random::<[u8; 32]>());
        }
    }

    pub(super) fn with_key_of(mut self, old: &Self) -> Self {
        self.make_signing_key();
        if let (Self::GenericWebhook { signing_key, .. }, Some(key)) =
            (&mut self, old.signing_key())
        {
            key.clone_into(signing_key);
        }
        self
    }

    pub(super) fn to_bytes(&self) -> Result<Vec<u8>> {
        serde_json::to_vec(self).map_err(|e| Error::internal("cannot keep a destination", e))
    }

    pub(super) fn from_bytes(bytes: &[u8]) -> Result<Self> {
        serde_json::from_slice(bytes)
            .map_err(|e| Error::internal("a kept destination cannot be read", e))
    }
}

fn addresses(fields: &Map<String, Value>) -> Result<Vec<String>> {
    let list = fields.get("addresses").and_then(Value::as_array);
    let texts = list.into_iter().flatten().filter_map(Value::as_str);
    let addresses: Vec<_> = texts.map(str::to_owned).collect();
    if addresses.is_empty() {
        return Err(Error::invalid("Field 'config.email.addresses' is needed."));
    }
    Ok(addresses)
}
