use serde::{Deserialize, Serialize};

use crate::client::Client;
use crate::error::Result;

/// A firing of a schedule that is to come.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct ScheduleFiring {
    /// Milliseconds since the epoch.
    pub time: i64,
    /// On the clocks of the zone, such as `2027-03-28T03:00:00+02:00`.
    pub local: String,
}

#[derive(Deserialize)]
struct Preview {
    #[serde(default)]
    firings: Vec<ScheduleFiring>,
}

impl Client {
    /// The next firings of a Quartz expression in a time zone; not part of the public API.
    pub async fn schedule_preview(
        &self,
        expression: &str,
        timezone: &str,
    ) -> Result<Vec<ScheduleFiring>> {
        let query = [("expression", expression), ("timezone", timezone)];
        let preview: Preview = self.get("/api/forebay/v1/schedule/preview", &query).await?;
        Ok(preview.firings)
    }
}
