use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use forebay_config::Limits;
use forebay_runtime::Clock;
use forebay_store::{NewToken, Store, TokenRow, User};
use forebay_types::{Error, Result, RunId, TokenId, UserId, hex};
use sha2::{Digest, Sha256};

use crate::Ctx;
use crate::rate::RateLimit;

/// Personal access tokens: shown once, kept as a digest.
#[derive(Debug, Clone)]
pub struct Tokens {
    store: Store,
    clock: Clock,
    /// Tokens of runs under way; they end with their run and never touch the disk.
    of_runs: Arc<Mutex<HashMap<[u8; 32], UserId>>>,
    /// What they are made from.
    run_key: [u8; 32],
    rate: Arc<RateLimit>,
}

/// A token that a running program may call the API with, as the user of its run. Valid until this
/// is dropped.
#[derive(Debug)]
pub(crate) struct RunToken {
    pub(crate) value: String,
    of_runs: Arc<Mutex<HashMap<[u8; 32], UserId>>>,
}

impl Drop for RunToken {
    fn drop(&mut self) {
        let mut tokens = self.of_runs.lock().unwrap_or_else(PoisonError::into_inner);
        tokens.remove(&digest(&self.value));
    }
}

/// What a clients' tools recognise as an access token, which also lets secret scanners find it.
const PREFIX: &str = "dapi";
const COMMENT_BYTES_MAX: usize = 256;

impl Tokens {
    /// `run_key` is the workspace's secret that tokens of runs are made from.
    pub(crate) fn new(store: Store, clock: Clock, limits: &Limits, run_key: [u8; 32]) -> Self {
        let rate = RateLimit::new(limits.requests_per_second, limits.requests_burst);
        Self {
            store,
            clock,
            of_runs: Arc::default(),
            run_key,
            rate: Arc::new(rate),
        }
    }

    /// The token of one attempt's program: always the same one, because the program keeps it while
    /// servers come and go.
    pub(crate) fn issue_for_run(&self, user: &User, attempt: RunId) -> RunToken {
        let mut hash = Sha256::new();
        hash.update(self.run_key);
        hash.update(attempt.0.to_be_bytes());
        let value = format!("{PREFIX}{}", hex(&hash.finalize()[..16]));
        let of_runs = Arc::clone(&self.of_runs);
        let mut tokens = of_runs.lock().unwrap_or_else(PoisonError::into_inner);
        tokens.insert(digest(&value), user.id);
        drop(tokens);
        RunToken { value, of_runs }
    }

    /// Creates a token for the caller; returns its value, which is not kept.
    ///
    /// # Errors
    /// When the comment is too long.
    pub async fn create(
        &self,
        ctx: &Ctx,
        comment: &str,
        lifetime_seconds: Option<i64>,
    ) -> Result<(String, TokenRow)> {
        self.issue(&ctx.user, comment, lifetime_seconds).await
    }

    /// Creates a token for another user; administrators only.
    ///
    /// # Errors
    /// `PERMISSION_DENIED`; when the comment is too long.
    pub async fn create_for(
        &self,
        ctx: &Ctx,
        user: &User,
        comment: &str,
        lifetime_seconds: Option<i64>,
    ) -> Result<(String, TokenRow)> {
        ctx.require_admin("create tokens for others")?;
        self.issue(user, comment, lifetime_seconds).await
    }

    async fn issue(
        &self,
        user: &User,
        comment: &str,
        lifetime_seconds: Option<i64>,
    ) -> Result<(String, TokenRow)> {
        check_comment(comment)?;
        let now = self.clock.now();
        let lifetime_ms = lifetime_seconds
            .filter(|s| *s > 0)
            .map(|s| s.saturating_mul(1000));
        let row = TokenRow {
            id: TokenId(hex(rand::random::<[u8; 32]>())),
            user_id: user.id,
            comment: comment.to_owned(),
            created_at: now,
            expires_at: lifetime_ms.map(|ms| now.plus_ms(ms)),
        };
        let value = format!("{PREFIX}{}", hex(rand::random::<[u8; 16]>()));
        self.store
            .token_create(NewToken {
                row: row.clone(),
                digest: digest(&value),
            })
            .await?;
        Ok((value, row))
    }

    /// # Errors
    /// When the database refuses.
    pub async fn list(&self, ctx: &Ctx) -> Result<Vec<TokenRow>> {
        self.store.token_list(ctx.user.id).await
    }

    /// The tokens of all users with their owners; administrators only.
    ///
    /// # Errors
    /// `PERMISSION_DENIED`.
    pub async fn list_all(&self, ctx: &Ctx) -> Result<Vec<(TokenRow, User)>> {
        ctx.require_admin("see the tokens of others")?;
        self.store.token_list_all().await
    }

    /// Gives one of the caller's tokens another comment.
    ///
    /// # Errors
    /// `RESOURCE_DOES_NOT_EXIST`; when the comment is too long.
    pub async fn comment(&self, ctx: &Ctx, id: TokenId, comment: String) -> Result<()> {
        check_comment(&comment)?;
        self.store.token_comment(id, ctx.user.id, comment).await
    }

    /// Ends a token: one's own, or anybody's for an administrator.
    ///
    /// # Errors
    /// `RESOURCE_DOES_NOT_EXIST` when there is none of that id among those the caller may end.
    pub async fn delete(&self, ctx: &Ctx, id: TokenId) -> Result<()> {
        let owner = if ctx.is_admin() {
            None
        } else {
            Some(ctx.user.id)
        };
        self.store.token_delete(id, owner).await
    }

    /// As [`Tokens::authenticate`], for a request, which counts against the token's rate.
    ///
    /// # Errors
    /// `REQUEST_LIMIT_EXCEEDED` when the token makes too many.
    pub async fn admit(&self, value: &str) -> Result<User> {
        let user = self.authenticate(value).await?;
        // After the check, so that made-up tokens leave no trace here.
        if self.rate.take(digest(value), self.clock.now()) {
            return Ok(user);
        }
        Err(Error::new(
            forebay_types::ErrorCode::RequestLimitExceeded,
            "This token makes too many requests; wait for the seconds of the Retry-After header.",
        ))
    }

    /// Ends the token that has this value, as its holder may.
    ///
    /// # Errors
    /// When the database refuses.
    pub async fn end(&self, value: &str) -> Result<()> {
        self.store.token_forget(digest(value)).await
    }

    /// The user behind a token's value.
    ///
    /// # Errors
    /// `UNAUTHENTICATED` when it is unknown, expired, or its user is not active.
    pub async fn authenticate(&self, value: &str) -> Result<User> {
        let digest = digest(value);
        let of_run = self
            .of_runs
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .get(&digest)
            .copied();
        let user = match of_run {
            // The run goes on when its user is switched off, but may not call any more.
            Some(id) => {
                let user = self.store.user_get(id).await?;
                user.filter(|user| user.active)
            }
            None => {
                let now = self.clock.now();
                self.store.token_authenticate(digest, now).await?
            }
        };
        user.ok_or_else(|| {
            Error::new(
                forebay_types::ErrorCode::Unauthenticated,
                "Invalid access token. Tokens are valid in the workspace that issued them only.",
            )
        })
    }
}

fn check_comment(comment: &str) -> Result<()> {
    if comment.len() > COMMENT_BYTES_MAX {
        return Err(Error::invalid(format!(
            "Field 'comment' has {} bytes, at most {COMMENT_BYTES_MAX} are allowed.",
            comment.len()
        )));
    }
    Ok(())
}

fn digest(value: &str) -> [u8; 32] {
    Sha256::digest(value.as_bytes()).into()
}

/// The token inside an `Authorization` header: `Bearer <token>`, or `Basic` with the user `token`
/// (the way of curl and the clients of API 1.2).
#[must_use]
pub fn token_from_header(header: &str) -> Option<String> {
    let (scheme, value) = header.split_once(' ')?;
    if scheme.eq_ignore_ascii_case("bearer") {
        return Some(value.trim().to_owned());
    }
    if !scheme.eq_ignore_ascii_case("basic") {
        return None;
    }
    let standard = base64::engine::general_purpose::STANDARD;
    let decoded = standard
        .decode(value.trim())
        .or_else(|_| URL_SAFE_NO_PAD.decode(value.trim()))
        .ok()?;
    let (user, password) = std::str::from_utf8(&decoded).ok()?.split_once(':')?;
    (user == "token").then(|| password.to_owned())
}
