use forebay_runtime::Clock;
use forebay_store::{Store, User};
use forebay_types::Result;

/// The workspace's own identity and its users.
#[derive(Debug, Clone)]
pub struct Identity {
    store: Store,
    clock: Clock,
    /// Digits, below 2^53; clients put it into links and headers.
    pub workspace_id: i64,
}

/// The administrator every workspace starts with.
pub const FIRST_ADMIN: &str = "admin";

impl Identity {
    pub(crate) async fn open(store: Store, clock: Clock) -> Result<Self> {
        let fresh = rand::random_range(1_000_000_000_000_000_i64..9_000_000_000_000_000);
        let workspace_id = store.workspace_id_or(fresh).await?;
        Ok(Self {
            store,
            clock,
            workspace_id,
        })
    }

    /// The administrator that `forebay up` hands out the first token for; created when missing.
    ///
    /// # Errors
    /// When the database refuses.
    pub async fn first_admin(&self) -> Result<User> {
        match self.store.user_get_by_name(FIRST_ADMIN).await? {
            Some(user) => Ok(user),
            None => {
                self.store
                    .user_create(FIRST_ADMIN, true, self.clock.now())
                    .await
            }
        }
    }
}
