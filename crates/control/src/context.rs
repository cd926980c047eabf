use forebay_store::User;
use forebay_types::{Error, Result, UserId};

/// Who calls, for every service method. Background work has one too, so nothing runs without an
/// identity.
#[derive(Debug, Clone)]
pub struct Ctx {
    pub user: User,
}

impl Ctx {
    #[must_use]
    pub fn new(user: User) -> Self {
        Self { user }
    }

    #[must_use]
    pub fn is_admin(&self) -> bool {
        self.user.admin
    }

    /// Whom to write down as the maker of something: who asks.
    pub(crate) fn creator(&self) -> (UserId, String) {
        (self.user.id, self.user.name.clone())
    }

    /// # Errors
    /// `PERMISSION_DENIED` for everyone but administrators; `what` completes "only administrators
    /// may …".
    pub fn require_admin(&self, what: &str) -> Result<()> {
        if self.is_admin() {
            return Ok(());
        }
        Err(Error::denied(format!("Only administrators may {what}.")))
    }
}
