use forebay_runtime::Clock;
use forebay_store::{NewUser, Store, User, UserChange};
use forebay_types::{Error, Result, UserId};

use crate::Ctx;
use crate::identity::FIRST_ADMIN;

/// The users of one workspace. Everyone may read them; administrators change them.
#[derive(Debug, Clone)]
pub struct Users {
    store: Store,
    clock: Clock,
}

const NAME_BYTES_MAX: usize = 128;
const DISPLAY_NAME_BYTES_MAX: usize = 256;

impl Users {
    pub(crate) fn new(store: Store, clock: Clock) -> Self {
        Self { store, clock }
    }

    /// All users by name.
    ///
    /// # Errors
    /// When the database refuses.
    pub async fn list(&self, _ctx: &Ctx) -> Result<Vec<User>> {
        self.store.user_list().await
    }

    /// # Errors
    /// `RESOURCE_DOES_NOT_EXIST`.
    pub async fn get(&self, _ctx: &Ctx, id: UserId) -> Result<User> {
        let user = self.store.user_get(id).await?;
        user.ok_or_else(|| missing(id))
    }

    /// # Errors
    /// `RESOURCE_DOES_NOT_EXIST`.
    pub async fn get_by_name(&self, _ctx: &Ctx, name: &str) -> Result<User> {
        let user = self.store.user_get_by_name(name).await?;
        user.ok_or_else(|| Error::missing(format!("User {name} does not exist.")))
    }

    /// # Errors
    /// `PERMISSION_DENIED`; `RESOURCE_ALREADY_EXISTS`; `INVALID_PARAMETER_VALUE` for a name that
    /// cannot be a home folder.
    pub async fn create(&self, ctx: &Ctx, new: NewUser) -> Result<User> {
        ctx.require_admin("create users")?;
        check_name(&new.name)?;
        check_display_name(&new.display_name)?;
        self.store.user_add(new, self.clock.now()).await
    }

    /// # Errors
    /// `PERMISSION_DENIED`; `RESOURCE_DOES_NOT_EXIST`; `INVALID_PARAMETER_VALUE` for the first
    /// administrator, who stays one.
    pub async fn change(&self, ctx: &Ctx, id: UserId, change: UserChange) -> Result<User> {
        ctx.require_admin("change users")?;
        if let Some(name) = &change.display_name {
            check_display_name(name)?;
        }
        if change.admin == Some(false) || change.active == Some(false) {
            self.refuse_first_admin(ctx, id).await?;
        }
        let user = self.store.user_change(id, change).await?;
        user.ok_or_else(|| missing(id))
    }

    /// Ends a user and their tokens. What they made stays, and so do its permissions, should they
    /// come back.
    ///
    /// # Errors
    /// As [`Users::change`].
    pub async fn delete(&self, ctx: &Ctx, id: UserId) -> Result<()> {
        ctx.require_admin("delete users")?;
        self.refuse_first_admin(ctx, id).await?;
        if self.store.user_delete(id, self.clock.now()).await? {
            return Ok(());
        }
        Err(missing(id))
    }

    /// Its token is handed to whoever owns the data folder at every start, so it must work; and
    /// so no workspace is ever without an administrator.
    async fn refuse_first_admin(&self, ctx: &Ctx, id: UserId) -> Result<()> {
        if self.get(ctx, id).await?.name == FIRST_ADMIN {
            return Err(Error::invalid(format!(
                "The user '{FIRST_ADMIN}' belongs to whoever runs the server; it stays an active administrator."
            )));
        }
        Ok(())
    }
}

fn missing(id: UserId) -> Error {
    Error::missing(format!("User with id {id} does not exist."))
}

/// The name is a folder below `/Users` and stands in addresses.
fn check_name(name: &str) -> Result<()> {
    let plain = |c: char| c.is_alphanumeric() || "@._+-".contains(c);
    let dots = name.chars().all(|c| c == '.');
    if name.len() > NAME_BYTES_MAX || dots || !name.chars().all(plain) {
        return Err(Error::invalid(format!(
            "Invalid value for field 'userName': use 1 to {NAME_BYTES_MAX} letters, digits and '@._+-', such as an e-mail address."
        )));
    }
    Ok(())
}

fn check_display_name(name: &str) -> Result<()> {
    if name.len() > DISPLAY_NAME_BYTES_MAX || name.chars().any(char::is_control) {
        return Err(Error::invalid(format!(
            "Invalid value for field 'displayName': at most {DISPLAY_NAME_BYTES_MAX} bytes, no control characters."
        )));
    }
    Ok(())
}
