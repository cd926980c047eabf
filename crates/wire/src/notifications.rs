use serde::Deserialize;
use serde_json::{Map, Value};

use crate::endpoints::{
    Auth, Endpoint,
    Method::{Delete, Get, Patch, Post},
    works,
};

pub const ALL: &str = "/notification-destinations";
pub const ONE: &str = "/notification-destinations/{id}";
pub const SIGNING_KEY: &str = "/api/forebay/v1/notification-destinations/{id}/signing-key";
pub const OF_RUN: &str = "/api/forebay/v1/runs/{run_id}/notifications";
pub const REDELIVER: &str = "/api/forebay/v1/notifications/{id}/redeliver";
const TEST: &str = "acceptance/test_notifications.py";
const KINDS: &str = "signing in to Slack or Teams as an app answers 501, their webhook addresses \
                     work; email needs [smtp] in forebay.toml";

pub const ENDPOINTS: &[Endpoint] = &[
    works(Post, &["2.0"], ALL, TEST)
        .auth(Auth::Admin)
        .partial(KINDS),
    works(Get, &["2.0"], ALL, TEST),
    works(Get, &["2.0"], ONE, TEST),
    works(Patch, &["2.0"], ONE, TEST)
        .auth(Auth::Admin)
        .partial(KINDS),
    works(Delete, &["2.0"], ONE, TEST).auth(Auth::Admin),
    works(Get, &[], SIGNING_KEY, TEST).auth(Auth::Admin),
    works(Get, &[], OF_RUN, TEST),
    works(Post, &[], REDELIVER, TEST),
];

// The configuration is secret, so there is no debug form that shows it.
#[derive(Deserialize)]
pub struct PutDestination {
    pub display_name: Option<String>,
    pub config: Option<Map<String, Value>>,
}

impl std::fmt::Debug for PutDestination {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("PutDestination")
            .field("display_name", &self.display_name)
            .finish_non_exhaustive()
    }
}

#[derive(Debug, Deserialize)]
pub struct ListDestinations {
    pub page_size: Option<usize>,
    /// The id of the last destination of the page before.
    pub page_token: Option<String>,
}
