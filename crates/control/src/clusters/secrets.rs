//! Secrets in the settings of clusters: a value such as `{{secrets/mail/password}}` stands for a
//! secret. It is looked up for each attempt anew, with the rights of whom the run acts for, and goes
//! nowhere but to the program.

use std::collections::BTreeMap;
use std::future::Future;

use forebay_types::{Error, Result};

use super::ResolvedCluster;

const OPEN: &str = "{{secrets/";
/// How a reference looks, for messages.
const SHAPE: &str = "{{secrets/SCOPE/KEY}}";

/// Which secret a value stands for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct SecretRef<'a> {
    pub(crate) scope: &'a str,
    pub(crate) key: &'a str,
}

/// The settings of a cluster as programs get them.
#[derive(Default)]
pub(crate) struct Revealed {
    pub(crate) env: BTreeMap<String, String>,
    pub(crate) spark_conf: BTreeMap<String, String>,
    /// What must not be seen in any output.
    pub(crate) secrets: Vec<String>,
}

/// The reference that a value is; `None` when it is a plain value.
///
/// # Errors
/// Why it is none, when it looks like one.
pub(super) fn reference(value: &str) -> std::result::Result<Option<SecretRef<'_>>, String> {
    if !value.contains(OPEN) {
        return Ok(None);
    }
    let inner = value.trim().strip_prefix(OPEN);
    let inner = inner.and_then(|rest| rest.strip_suffix("}}"));
    let inner = inner.ok_or_else(|| {
        format!("a reference to a secret has to be the whole value, such as {SHAPE}")
    })?;
    let plain = |c: char| c.is_ascii_alphanumeric() || "_.@-".contains(c);
    let is_name = |name: &str| !name.is_empty() && name.chars().all(plain);
    match inner.split_once('/') {
        Some((scope, key)) if is_name(scope) && is_name(key) => Ok(Some(SecretRef { scope, key })),
        _ => Err(format!(
            "'{}' is no reference to a secret, which looks like {SHAPE}",
            value.trim().chars().take(100).collect::<String>()
        )),
    }
}

impl ResolvedCluster {
    /// The settings with secrets in place of references, each from `look`.
    ///
    /// # Errors
    /// What `look` says, with the setting and the reference before it.
    pub(crate) async fn revealed<F>(&self, look: impl Fn(String, String) -> F) -> Result<Revealed>
    where
        F: Future<Output = Result<Vec<u8>>>,
    {
        let mut revealed = Revealed {
            env: self.env.clone(),
            spark_conf: self.spark_conf.clone(),
            secrets: Vec::new(),
        };
        for (field, values) in [
            ("spark_env_vars", &mut revealed.env),
            ("spark_conf", &mut revealed.spark_conf),
        ] {
            for (name, value) in values {
                // It was checked when the cluster was written.
                let Ok(Some(SecretRef { scope, key })) = reference(value) else {
                    continue;
                };
                let about = |e: Error| {
                    let message =
                        format!("'{field}.{name}' of the cluster is {value}: {}", e.message);
                    Error::new(e.code, message)
                };
                let secret = look(scope.to_owned(), key.to_owned())
                    .await
                    .map_err(about)?;
                let text = String::from_utf8(secret).ok();
                let text = text.filter(|text| !text.contains('\0')).ok_or_else(|| {
                    about(Error::invalid("The secret's value is not text.".to_owned()))
                })?;
                revealed.secrets.push(text.clone());
                *value = text;
            }
        }
        Ok(revealed)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_reference_is_the_whole_value() {
        let of = |text| reference(text);
        let found = SecretRef {
            scope: "mail.x",
            key: "pass-word",
        };
        assert_eq!(of("{{secrets/mail.x/pass-word}}"), Ok(Some(found)));
        assert_eq!(of(" {{secrets/mail.x/pass-word}} "), Ok(Some(found)));
        for plain in ["", "x", "{{job.id}}", "{{ secrets/a/b }}"] {
            assert_eq!(of(plain), Ok(None), "{plain}");
        }
        for (bad, why) in [
            ("{{secrets/a}}", "looks like {{secrets/SCOPE/KEY}}"),
            ("{{secrets/a/}}", "looks like"),
            ("{{secrets/a/b/c}}", "looks like"),
            ("{{secrets/a b/c}}", "looks like"),
            ("{{secrets/a/b}}{{secrets/a/b}}", "looks like"),
            ("x{{secrets/a/b}}", "the whole value"),
            ("{{secrets/a/b}}:x", "the whole value"),
            ("{{secrets/a/b", "the whole value"),
        ] {
            let message = of(bad).unwrap_err();
            assert!(message.contains(why), "{bad}: {message}");
        }
    }
}
