use serde::{Deserialize, Serialize};

use crate::client::Client;
use crate::error::Result;

/// A user as SCIM shows it.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct User {
    pub id: String,
    pub user_name: String,
}

impl Client {
    /// The owner of the token.
    pub async fn me(&self) -> Result<User> {
        self.get("/api/2.0/preview/scim/v2/Me", &[]).await
    }
}
