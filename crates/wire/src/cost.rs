use serde::Deserialize;

use crate::endpoints::{Endpoint, Method::Get, works};

pub const COST: &str = "/api/forebay/v1/cost";
/// What goes on at the moment.
pub const LIVE: &str = "/api/forebay/v1/cost/live";

pub const ENDPOINTS: &[Endpoint] = &[
    works(Get, &[], COST, "crates/http/tests/it/cost.rs"),
    works(Get, &[], LIVE, "crates/http/tests/it/budgets.rs"),
];

#[derive(Debug, Deserialize)]
pub struct ListCost {
    /// `day` (default), `job` or `user`.
    pub by: Option<String>,
    /// `YYYY-MM-DD`, in UTC; the last 30 days when absent.
    pub from: Option<String>,
    pub to: Option<String>,
}
