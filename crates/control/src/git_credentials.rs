use forebay_git::{Credential, Remote};
use forebay_store::{GitCredentialRow, Store};
use forebay_types::{CredentialId, Error, Result};

use crate::Ctx;
use crate::vault::Vault;

/// Users' keys to Git providers: one per user and provider, encrypted at rest, never returned.
#[derive(Debug, Clone)]
pub struct GitCredentials {
    store: Store,
    vault: Vault,
}

/// A kind of Git host, by the name clients give it, with the hosts that are the provider's own.
struct Provider {
    name: &'static str,
    hosts: &'static [&'static str],
}

const PROVIDERS: &[Provider] = &[
    Provider {
        name: "gitHub",
        hosts: &["github.com"],
    },
    Provider {
        name: "bitbucketCloud",
        hosts: &["bitbucket.org"],
    },
    Provider {
        name: "gitLab",
        hosts: &["gitlab.com"],
    },
    Provider {
        name: "azureDevOpsServices",
        hosts: &["dev.azure.com", ".visualstudio.com"],
    },
    Provider {
        name: "awsCodeCommit",
        hosts: &[".amazonaws.com"],
    },
    Provider {
        name: "gitHubEnterprise",
        hosts: &[],
    },
    Provider {
        name: "bitbucketServer",
        hosts: &[],
    },
    Provider {
        name: "gitLabEnterpriseEdition",
        hosts: &[],
    },
];

impl Provider {
    fn owns(&self, host: &str) -> bool {
        let mut hosts = self.hosts.iter();
        hosts.any(|own| host == *own || (own.starts_with('.') && host.ends_with(own)))
    }
}

/// A provider's name as it is stored; clients write it in any case.
///
/// # Errors
/// `INVALID_PARAMETER_VALUE` that lists the known ones.
pub fn provider_name(field: &str, text: &str) -> Result<&'static str> {
    let mut known = PROVIDERS.iter().map(|provider| provider.name);
    let found = known.find(|name| name.eq_ignore_ascii_case(text));
    found.ok_or_else(|| {
        let names: Vec<_> = PROVIDERS.iter().map(|provider| provider.name).collect();
        Error::invalid(format!(
            "Field '{field}' is '{text}'; use one of {}.",
            names.join(", ")
        ))
    })
}

/// The provider whose own host an address names.
#[must_use]
pub fn provider_of(remote: &Remote) -> Option<&'static str> {
    let host = remote.http_host()?;
    let mut known = PROVIDERS.iter();
    known
        .find(|provider| provider.owns(host))
        .map(|provider| provider.name)
}

/// The parts of a credential; `None` where a change leaves one as it is.
#[derive(Clone, Default)]
pub struct GitCredentialParts {
    pub provider: Option<String>,
    pub name: Option<String>,
    pub username: Option<String>,
    pub email: Option<String>,
    pub token: Option<String>,
}

impl std::fmt::Debug for GitCredentialParts {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("GitCredentialParts")
            .field("provider", &self.provider)
            .finish_non_exhaustive()
    }
}

/// Whether an address was chosen by the caller, who may then send a key where they like.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum ChosenBy {
    Caller,
    SomebodyElse,
}

/// What a caller has for an address.
#[derive(Debug)]
pub(crate) enum Found {
    Nothing,
    Key(Credential),
    /// There is one, which must not be sent to a host that somebody else chose.
    Withheld,
}

impl Found {
    pub(crate) fn key(&self) -> Option<&Credential> {
        match self {
            Self::Key(key) => Some(key),
            Self::Nothing | Self::Withheld => None,
        }
    }
}

const TEXT_BYTES_MAX: usize = 4096;

impl GitCredentials {
    pub(crate) fn new(store: Store, vault: Vault) -> Self {
        Self { store, vault }
    }

    /// Keeps a credential of the caller.
    ///
    /// # Errors
    /// `INVALID_PARAMETER_VALUE`; `RESOURCE_ALREADY_EXISTS` when there is one for the provider.
    pub async fn create(&self, ctx: &Ctx, parts: GitCredentialParts) -> Result<GitCredentialRow> {
        check(&parts)?;
        let need = |field: &str| Error::invalid(format!("Field '{field}' is missing."));
        let provider = parts.provider.ok_or_else(|| need("git_provider"))?;
        let provider = provider_name("git_provider", &provider)?;
        let token = parts.token.filter(|token| !token.is_empty());
        let token = token.ok_or_else(|| need("personal_access_token"))?;
        let id = self.store.git_credential_id().await?;
        let row = GitCredentialRow {
            id,
            user_id: ctx.user.id,
            provider: provider.to_owned(),
            name: parts.name,
            username: parts.username,
            email: parts.email,
            sealed: self.seal(id, &token)?,
        };
        self.store.git_credential_create(row.clone()).await?;
        Ok(row)
    }

    /// # Errors
    /// When the database refuses.
    pub async fn list(&self, ctx: &Ctx) -> Result<Vec<GitCredentialRow>> {
        self.store.git_credential_list(ctx.user.id).await
    }

    /// # Errors
    /// `RESOURCE_DOES_NOT_EXIST` also for other users' credentials.
    pub async fn get(&self, ctx: &Ctx, id: CredentialId) -> Result<GitCredentialRow> {
        self.store.git_credential_get(ctx.user.id, id).await
    }

    /// Changes the parts that are given.
    ///
    /// # Errors
    /// As [`GitCredentials::create`] and [`GitCredentials::get`].
    pub async fn update(
        &self,
        ctx: &Ctx,
        id: CredentialId,
        parts: GitCredentialParts,
    ) -> Result<GitCredentialRow> {
        check(&parts)?;
        let mut row = self.get(ctx, id).await?;
        if let Some(provider) = parts.provider {
            row.provider = provider_name("git_provider", &provider)?.to_owned();
        }
        row.name = parts.name.or(row.name);
        row.username = parts.username.or(row.username);
        row.email = parts.email.or(row.email);
        if let Some(token) = parts.token.filter(|token| !token.is_empty()) {
            row.sealed = self.seal(id, &token)?;
        }
        self.store.git_credential_update(row.clone()).await?;
        Ok(row)
    }

    /// # Errors
    /// `RESOURCE_DOES_NOT_EXIST` also for other users' credentials.
    pub async fn delete(&self, ctx: &Ctx, id: CredentialId) -> Result<()> {
        self.store.git_credential_delete(ctx.user.id, id).await
    }

    /// What the caller has for a repository at an http or https address.
    ///
    /// A key goes to its provider's own hosts, and to hosts the caller chose. Without this rule
    /// somebody could make a Git folder of an address of theirs, and wait until a colleague's
    /// update brings them the colleague's key.
    pub(crate) async fn find(
        &self,
        ctx: &Ctx,
        provider: &str,
        remote: &Remote,
        chosen_by: ChosenBy,
    ) -> Result<Found> {
        let Some(host) = remote.http_host() else {
            return Ok(Found::Nothing);
        };
        let Some(row) = self.store.git_credential_for(ctx.user.id, provider).await? else {
            return Ok(Found::Nothing);
        };
        let mut known = PROVIDERS.iter();
        let own_host = known.any(|known| known.name == provider && known.owns(host));
        if !own_host && chosen_by == ChosenBy::SomebodyElse {
            return Ok(Found::Withheld);
        }
        let token = self.vault.open_sealed(&label(row.id), &row.sealed)?;
        let token = String::from_utf8(token)
            .map_err(|e| Error::internal("a stored Git credential is not text", e))?;
        // Most providers look at the token alone, but want a name that is not empty.
        let username = row.username.or(row.email).filter(|name| !name.is_empty());
        Ok(Found::Key(Credential {
            username: username.unwrap_or_else(|| "token".to_owned()),
            password: token,
            owner: ctx.user.id.0,
        }))
    }

    fn seal(&self, id: CredentialId, token: &str) -> Result<Vec<u8>> {
        self.vault.seal(&label(id), token.as_bytes())
    }
}

fn label(id: CredentialId) -> [String; 2] {
    ["git-credential".to_owned(), id.to_string()]
}

/// Line breaks would end the value early on its way to `git`.
fn check(parts: &GitCredentialParts) -> Result<()> {
    let fields = [
        ("name", &parts.name),
        ("git_username", &parts.username),
        ("git_email", &parts.email),
        ("personal_access_token", &parts.token),
    ];
    for (field, value) in fields {
        let value = value.as_deref().unwrap_or_default();
        if value.len() > TEXT_BYTES_MAX {
            return Err(Error::invalid(format!(
                "Field '{field}' has {} bytes, at most {TEXT_BYTES_MAX} are allowed.",
                value.len()
            )));
        }
        if value.contains(char::is_control) {
            return Err(Error::invalid(format!(
                "Field '{field}' must not contain line breaks or other control characters."
            )));
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use forebay_git::{Git, GitSetup};
    use forebay_types::Millis;

    use super::*;

    fn git(home: &Path) -> Git {
        let setup = GitSetup {
            home: home.join("git"),
            roots: Vec::new(),
            environment: Vec::new(),
        };
        Git::open(setup).unwrap()
    }

    #[tokio::test]
    async fn a_key_goes_to_its_providers_hosts_and_to_those_its_owner_chose() {
        let dir = tempfile::tempdir().unwrap();
        let store = Store::open(&dir.path().join("forebay.db")).unwrap();
        let vault = Vault::open(dir.path(), &store).await.unwrap();
        let ann = Ctx::new(store.user_create("ann", false, Millis(0)).await.unwrap());
        let bob = Ctx::new(store.user_create("bob", false, Millis(0)).await.unwrap());
        let credentials = GitCredentials::new(store, vault);
        let parts = GitCredentialParts {
            provider: Some("azureDevOpsServices".to_owned()),
            token: Some("hunter2".to_owned()),
            ..GitCredentialParts::default()
        };
        let row = credentials.create(&ann, parts).await.unwrap();
        assert!(!row.sealed.windows(7).any(|part| part == b"hunter2"));
        let git = git(dir.path());
        let find = async |ctx, address, chosen_by| {
            let remote = git.remote(address).unwrap();
            let found = credentials.find(ctx, "azureDevOpsServices", &remote, chosen_by);
            found.await.unwrap()
        };
        let (own, foreign) = ("https://acme.visualstudio.com/x", "https://evil.example/x");
        let key = find(&ann, own, ChosenBy::SomebodyElse).await;
        assert_eq!(key.key().unwrap().password, "hunter2");
        assert!(find(&ann, foreign, ChosenBy::Caller).await.key().is_some());
        let withheld = find(&ann, foreign, ChosenBy::SomebodyElse).await;
        assert!(matches!(withheld, Found::Withheld));
        let lookalike = "https://evilvisualstudio.com/x";
        let withheld = find(&ann, lookalike, ChosenBy::SomebodyElse).await;
        assert!(matches!(withheld, Found::Withheld));
        assert!(matches!(
            find(&bob, own, ChosenBy::Caller).await,
            Found::Nothing
        ));
        let ssh = find(&ann, "git@github.com:a/b", ChosenBy::Caller).await;
        assert!(matches!(ssh, Found::Nothing));
    }
}
