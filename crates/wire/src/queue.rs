use serde::Deserialize;

use crate::endpoints::{Endpoint, Method::Get, works};

const TEST: &str = "acceptance/test_queue.py";

pub const ENDPOINTS: &[Endpoint] = &[works(Get, &[], "/api/forebay/v1/queue", TEST)];

#[derive(Debug, Deserialize)]
pub struct ShowQueue {
    pub limit: Option<usize>,
    pub page_token: Option<String>,
}
