use forebay_runtime::Clock;
use forebay_store::{SealedSecret, SecretAcl, SecretEntry, SecretScope, Store};
use forebay_types::{Error, Result, SecretPermission};

use crate::Ctx;
use crate::vault::Vault;

/// Secret scopes, their values (encrypted at rest) and who may do what with them.
///
/// Runs read through the same methods as the API does, with the [`Ctx`] of the user they run as.
#[derive(Debug, Clone)]
pub struct Secrets {
    store: Store,
    clock: Clock,
    vault: Vault,
}

const NAME_CHARS_MAX: usize = 128;
const VALUE_BYTES_MAX: usize = 128 << 10;

impl Secrets {
    pub(crate) fn new(store: Store, clock: Clock, vault: Vault) -> Self {
        Self {
            store,
            clock,
            vault,
        }
    }

    /// Creates a scope, managed by the caller or, when `everyone`, by all users.
    ///
    /// # Errors
    /// When the name is not acceptable or taken, or there are too many scopes.
    pub async fn scope_create(&self, ctx: &Ctx, name: &str, everyone: bool) -> Result<()> {
        check_name("scope", name)?;
        let owner = if everyone { USERS } else { &ctx.user.name };
        self.store.secret_scope_create(name, owner).await
    }

    /// The scopes the caller may at least read.
    ///
    /// # Errors
    /// When the database refuses.
    pub async fn scope_list(&self, ctx: &Ctx) -> Result<Vec<SecretScope>> {
        let principals = (!ctx.is_admin()).then(|| principals(ctx));
        self.store.secret_scope_list(principals).await
    }

    /// Deletes a scope with all its secrets.
    ///
    /// # Errors
    /// When there is none, or the caller may not manage it.
    pub async fn scope_delete(&self, ctx: &Ctx, scope: &str) -> Result<()> {
        let (scope, _) = self.require(ctx, scope, SecretPermission::Manage).await?;
        self.store.secret_scope_delete(scope).await
    }

    /// Keeps a value, replacing the one of the same key.
    ///
    /// # Errors
    /// When the key or value is not acceptable, the scope is missing or full, or the caller may
    /// not write it.
    pub async fn put(&self, ctx: &Ctx, scope: &str, key: &str, value: &[u8]) -> Result<()> {
        check_name("key", key)?;
        if value.len() > VALUE_BYTES_MAX {
            return Err(Error::invalid(format!(
                "The secret's value has {} bytes, at most {VALUE_BYTES_MAX} are allowed.",
                value.len()
            )));
        }
        let (scope, _) = self.require(ctx, scope, SecretPermission::Write).await?;
        let secret = SealedSecret {
            key: key.to_owned(),
            sealed: self.vault.seal(&label(&scope, key), value)?,
        };
        self.store.secret_put(scope, secret, self.clock.now()).await
    }

    /// Reads a value; also returns the key as it is stored.
    ///
    /// # Errors
    /// When the scope or key is missing, or the caller may not read it.
    pub async fn get(&self, ctx: &Ctx, scope: &str, key: &str) -> Result<(String, Vec<u8>)> {
        let (scope, _) = self.require(ctx, scope, SecretPermission::Read).await?;
        let secret = self.store.secret_get(scope.clone(), key).await?;
        let value = self
            .vault
            .open_sealed(&label(&scope, &secret.key), &secret.sealed)?;
        Ok((secret.key, value))
    }

    /// # Errors
    /// When the scope is missing, or the caller may not read it.
    pub async fn list(&self, ctx: &Ctx, scope: &str) -> Result<Vec<SecretEntry>> {
        let (scope, _) = self.require(ctx, scope, SecretPermission::Read).await?;
        self.store.secret_list(scope).await
    }

    /// # Errors
    /// When the scope or key is missing, or the caller may not write it.
    pub async fn delete(&self, ctx: &Ctx, scope: &str, key: &str) -> Result<()> {
        let (scope, _) = self.require(ctx, scope, SecretPermission::Write).await?;
        self.store.secret_delete(scope, key).await
    }

    /// Sets what a user or group may do.
    ///
    /// # Errors
    /// When the scope is missing, the principal or permission is unknown, or the caller may not
    /// manage the scope.
    pub async fn acl_put(
        &self,
        ctx: &Ctx,
        scope: &str,
        principal: &str,
        permission: &str,
    ) -> Result<()> {
        let permission = SecretPermission::parse(permission).ok_or_else(|| {
            Error::invalid(format!(
                "Field 'permission' is '{permission}'; use READ, WRITE or MANAGE."
            ))
        })?;
        let (scope, _) = self.require(ctx, scope, SecretPermission::Manage).await?;
        let principal = self.principal(principal).await?;
        let acl = SecretAcl {
            principal,
            permission,
        };
        self.store.secret_acl_put(scope, acl).await
    }

    /// # Errors
    /// When the scope or entry is missing, or the caller may not manage the scope.
    pub async fn acl_delete(&self, ctx: &Ctx, scope: &str, principal: &str) -> Result<()> {
        let (scope, _) = self.require(ctx, scope, SecretPermission::Manage).await?;
        self.store.secret_acl_delete(scope, principal).await
    }

    /// # Errors
    /// When the scope is missing, or the caller may not manage it.
    pub async fn acl_list(&self, ctx: &Ctx, scope: &str) -> Result<Vec<SecretAcl>> {
        let (_, acls) = self.require(ctx, scope, SecretPermission::Manage).await?;
        Ok(acls)
    }

    /// # Errors
    /// When the scope or entry is missing, or the caller may not manage the scope.
    pub async fn acl_get(&self, ctx: &Ctx, scope: &str, principal: &str) -> Result<SecretAcl> {
        let (scope, acls) = self.require(ctx, scope, SecretPermission::Manage).await?;
        let found = acls
            .into_iter()
            .find(|acl| acl.principal.eq_ignore_ascii_case(principal));
        found.ok_or_else(|| {
            Error::missing(format!(
                "Principal {principal} has no permission on scope {}.",
                scope.name
            ))
        })
    }

    /// The scope, if the caller may use it to this extent.
    async fn require(
        &self,
        ctx: &Ctx,
        scope: &str,
        needed: SecretPermission,
    ) -> Result<(SecretScope, Vec<SecretAcl>)> {
        let (scope, acls) = self.store.secret_scope_get(scope).await?;
        let principals = principals(ctx);
        let held = acls.iter().filter(|acl| {
            let mut mine = principals.iter();
            mine.any(|name| name.eq_ignore_ascii_case(&acl.principal))
        });
        let best = held.map(|acl| acl.permission).max();
        if ctx.is_admin() || best.is_some_and(|best| best >= needed) {
            return Ok((scope, acls));
        }
        Err(Error::denied(format!(
            "User {} does not have {} permission on scope {}.",
            ctx.user.name,
            needed.as_str(),
            scope.name
        )))
    }

    /// The name of a group or an existing user, as it is stored.
    async fn principal(&self, name: &str) -> Result<String> {
        if [USERS, ADMINS].contains(&name) {
            return Ok(name.to_owned());
        }
        match self.store.user_get_by_name(name).await? {
            Some(user) => Ok(user.name),
            None => Err(Error::invalid(format!(
                "Field 'principal' names no user or group of this workspace: {name}"
            ))),
        }
    }
}

/// The groups that exist without being made: everyone, and the administrators.
const USERS: &str = "users";
const ADMINS: &str = "admins";

/// The names under which the caller may be given something.
fn principals(ctx: &Ctx) -> Vec<String> {
    let groups = [Some(USERS), ctx.is_admin().then_some(ADMINS)];
    let groups = groups.into_iter().flatten().map(str::to_owned);
    groups.chain([ctx.user.name.clone()]).collect()
}

/// Binds a value to its scope and key.
fn label<'a>(scope: &'a SecretScope, key: &'a str) -> [&'a str; 3] {
    ["secret", &scope.name, key]
}

fn check_name(field: &str, name: &str) -> Result<()> {
    let plain = |c: char| c.is_ascii_alphanumeric() || "_.@-".contains(c);
    if name.is_empty() || name.len() > NAME_CHARS_MAX || !name.chars().all(plain) {
        return Err(Error::invalid(format!(
            "Field '{field}' must have 1 to {NAME_CHARS_MAX} letters, digits, '-', '_', '@' or '.': \
             {}",
            name.chars().take(NAME_CHARS_MAX).collect::<String>()
        )));
    }
    Ok(())
}

#[cfg(test)]
mod tests;
