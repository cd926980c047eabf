use reqwest::Method;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use crate::client::Client;
use crate::error::Result;

/// What is known of a token after its creation; its value is not.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Token {
    pub token_id: String,
    /// Milliseconds since the epoch.
    pub creation_time: i64,
    /// Milliseconds since the epoch; -1 for never.
    pub expiry_time: i64,
    #[serde(default)]
    pub comment: String,
}

/// A token as it is shown once.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct NewToken {
    pub token_value: String,
    pub token_info: Token,
}

#[derive(Deserialize)]
struct List {
    #[serde(default)]
    token_infos: Vec<Token>,
}

impl Client {
    /// A token for the caller; without `lifetime_seconds` it never expires.
    pub async fn token_create(
        &self,
        comment: &str,
        lifetime_seconds: Option<u32>,
    ) -> Result<NewToken> {
        let mut body = json!({ "comment": comment });
        if let Some(seconds) = lifetime_seconds {
            body["lifetime_seconds"] = json!(seconds);
        }
        self.send(Method::POST, "/api/2.0/token/create", &body)
            .await
    }

    /// A token for another user, who is created when there is none of that name; for
    /// administrators, and not part of the public API.
    pub async fn token_create_for(
        &self,
        user: &str,
        comment: &str,
        lifetime_seconds: Option<u32>,
    ) -> Result<NewToken> {
        let mut body = json!({ "comment": comment, "create_user": true });
        if let Some(seconds) = lifetime_seconds {
            body["lifetime_seconds"] = json!(seconds);
        }
        let mut path = reqwest::Url::parse("http://host/api/forebay/v1/users/")
            .map_err(|e| self.protocol(e.to_string()))?;
        // Pushing segments encodes what a name may contain and an address may not.
        if let Ok(mut segments) = path.path_segments_mut() {
            segments.pop_if_empty().extend([user, "tokens"]);
        }
        self.send(Method::POST, path.path(), &body).await
    }

    pub async fn token_list(&self) -> Result<Vec<Token>> {
        let list: List = self.get("/api/2.0/token/list", &[]).await?;
        Ok(list.token_infos)
    }

    pub async fn token_delete(&self, token_id: &str) -> Result<()> {
        let body = json!({ "token_id": token_id });
        let _: Value = self
            .send(Method::POST, "/api/2.0/token/delete", &body)
            .await?;
        Ok(())
    }
}
