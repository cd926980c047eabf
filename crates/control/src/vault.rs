//! Encryption at rest: one key file per workspace, XChaCha20-Poly1305, and a label that binds each
//! sealed value to its place, so that rows cannot be swapped.

use std::fs::File;
use std::io::{ErrorKind, Read, Write};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::Path;
use std::sync::Arc;

use chacha20poly1305::aead::{Aead, Payload};
use chacha20poly1305::{KeyInit, XChaCha20Poly1305, XNonce};
use forebay_runtime::blocking;
use forebay_store::Store;
use forebay_types::{Error, Result, hex};
use sha2::{Digest, Sha256};

const KEY_BYTES: usize = 32;
const NONCE_BYTES: usize = 24;
/// What the database keeps sealed to know its own key again.
const CHECK_LABEL: &[&str] = &["key-check"];
const CHECK_TEXT: &[u8] = b"forebay";

/// Seals and opens values with the workspace's key.
#[derive(Clone)]
pub(crate) struct Vault {
    cipher: Arc<XChaCha20Poly1305>,
    /// What [`Vault::derive`] starts from.
    seed: [u8; 32],
}

impl std::fmt::Debug for Vault {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Vault")
    }
}

impl Vault {
    /// Reads `<root>/key`, or makes it at the first start, and checks that it is the database's.
    ///
    /// # Errors
    /// When the file is damaged, open to others, missing for a database that had one, or of
    /// another database: a new key would make every stored secret unreadable in silence.
    pub(crate) async fn open(root: &Path, store: &Store) -> Result<Self> {
        let path = root.join("key");
        let known = store.meta_get("key_check").await?;
        let may_create = known.is_none();
        let file = path.clone();
        let key = blocking(move || read_or_create(&file, may_create)).await?;
        let vault = Self {
            seed: Sha256::new()
                .chain_update(b"derive\0")
                .chain_update(key)
                .finalize()
                .into(),
            cipher: Arc::new(XChaCha20Poly1305::new(&key.into())),
        };
        match known {
            None => {
                let check = hex(&vault.seal(CHECK_LABEL, CHECK_TEXT)?);
                store.meta_set("key_check", check).await?;
            }
            Some(check) => {
                let opened =
                    unhex(&check).and_then(|sealed| vault.open_value(CHECK_LABEL, &sealed));
                if opened.as_deref() != Some(CHECK_TEXT) {
                    return Err(Error::state(format!(
                        "the key file {} does not belong to this workspace's database; put the \
                         right one back from a backup",
                        path.display()
                    )));
                }
            }
        }
        Ok(vault)
    }

    /// A key for one purpose, the same at every start.
    pub(crate) fn derive(&self, purpose: &str) -> [u8; 32] {
        let hash = Sha256::new().chain_update(self.seed);
        hash.chain_update(purpose).finalize().into()
    }

    /// Seals `value` for the place that `label` names.
    pub(crate) fn seal(&self, label: &[impl AsRef<str>], value: &[u8]) -> Result<Vec<u8>> {
        let nonce: [u8; NONCE_BYTES] = rand::random();
        let payload = Payload {
            msg: value,
            aad: &place(label),
        };
        let sealed = self
            .cipher
            .encrypt(&XNonce::from(nonce), payload)
            .map_err(|e| Error::internal("failed to seal a value", e.to_string()))?;
        Ok([&nonce[..], &sealed].concat())
    }

    /// Opens what [`Vault::seal`] made for the same place.
    ///
    /// # Errors
    /// When the stored value was changed or belongs elsewhere.
    pub(crate) fn open_sealed(&self, label: &[impl AsRef<str>], sealed: &[u8]) -> Result<Vec<u8>> {
        self.open_value(label, sealed).ok_or_else(|| {
            Error::internal(
                "a stored secret cannot be opened; put it again",
                "authentication failed",
            )
        })
    }

    fn open_value(&self, label: &[impl AsRef<str>], sealed: &[u8]) -> Option<Vec<u8>> {
        let (nonce, msg) = sealed.split_first_chunk::<NONCE_BYTES>()?;
        let aad = place(label);
        let payload = Payload { msg, aad: &aad };
        self.cipher.decrypt(&XNonce::from(*nonce), payload).ok()
    }
}

/// Names are lower-cased because they are compared without case; NUL stands in none of them.
fn place(label: &[impl AsRef<str>]) -> Vec<u8> {
    let parts: Vec<&str> = label.iter().map(AsRef::as_ref).collect();
    parts.join("\0").to_ascii_lowercase().into_bytes()
}

fn read_or_create(path: &Path, may_create: bool) -> Result<[u8; KEY_BYTES]> {
    let cannot = |e| Error::internal(format!("cannot use the key file {}", path.display()), e);
    match File::open(path) {
        Ok(file) => read_key(path, file),
        Err(e) if e.kind() == ErrorKind::NotFound && may_create => {
            create_key(path).map_err(cannot)?;
            read_key(path, File::open(path).map_err(cannot)?)
        }
        Err(e) if e.kind() == ErrorKind::NotFound => Err(Error::state(format!(
            "the key file {} is missing; without it the workspace's secrets cannot be read. Put it \
             back from a backup",
            path.display()
        ))),
        Err(e) => Err(cannot(e)),
    }
}

fn read_key(path: &Path, mut file: File) -> Result<[u8; KEY_BYTES]> {
    let cannot = |e| Error::internal(format!("cannot read the key file {}", path.display()), e);
    let mode = file.metadata().map_err(cannot)?.mode();
    if mode & 0o077 != 0 {
        return Err(Error::state(format!(
            "the key file {} can be read by others; run: chmod 600 on it",
            path.display()
        )));
    }
    let mut bytes = Vec::new();
    file.read_to_end(&mut bytes).map_err(cannot)?;
    bytes.try_into().map_err(|bytes: Vec<u8>| {
        Error::state(format!(
            "the key file {} has {} bytes instead of {KEY_BYTES}; put it back from a backup",
            path.display(),
            bytes.len()
        ))
    })
}

/// The key appears whole under its name or not at all, and never over another one.
fn create_key(path: &Path) -> std::io::Result<()> {
    let temporary = path.with_extension("new");
    match std::fs::remove_file(&temporary) {
        Err(e) if e.kind() != ErrorKind::NotFound => return Err(e),
        _ => {}
    }
    let mut file = File::options()
        .create_new(true)
        .write(true)
        .mode(0o600)
        .open(&temporary)?;
    file.write_all(&rand::random::<[u8; KEY_BYTES]>())?;
    file.sync_all()?;
    std::fs::hard_link(&temporary, path)?;
    std::fs::remove_file(&temporary)?;
    // Secrets sealed with the key must not outlive it in a power cut.
    let folder = path.parent().unwrap_or(Path::new("."));
    File::open(folder)?.sync_all()
}

fn unhex(text: &str) -> Option<Vec<u8>> {
    let digits = text.as_bytes().chunks_exact(2);
    digits
        .map(|pair| u8::from_str_radix(std::str::from_utf8(pair).ok()?, 16).ok())
        .collect()
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    async fn open(root: &Path) -> Result<Vault> {
        Vault::open(root, &Store::open(&root.join("forebay.db")).unwrap()).await
    }

    #[tokio::test]
    async fn a_sealed_value_opens_only_at_its_place_and_unchanged() {
        let dir = tempfile::tempdir().unwrap();
        let vault = open(dir.path()).await.unwrap();
        let sealed = vault.seal(&["secret", "Scope", "key"], b"value").unwrap();
        let again = open(dir.path()).await.unwrap();
        let opened = again.open_sealed(&["secret", "scope", "KEY"], &sealed);
        assert_eq!(opened.unwrap(), b"value");
        assert!(
            again
                .open_sealed(&["secret", "scope", "other"], &sealed)
                .is_err()
        );
        let mut changed = sealed.clone();
        *changed.last_mut().unwrap() ^= 1;
        assert!(
            again
                .open_sealed(&["secret", "scope", "key"], &changed)
                .is_err()
        );
        assert!(
            again
                .open_sealed(&["secret", "scope", "key"], b"short")
                .is_err()
        );
    }

    #[tokio::test]
    async fn the_key_is_private_and_is_never_replaced() {
        let dir = tempfile::tempdir().unwrap();
        open(dir.path()).await.unwrap();
        let key = dir.path().join("key");
        assert_eq!(key.metadata().unwrap().mode() & 0o777, 0o600);
        let bytes = std::fs::read(&key).unwrap();

        std::fs::set_permissions(&key, std::fs::Permissions::from_mode(0o644)).unwrap();
        assert!(
            open(dir.path())
                .await
                .unwrap_err()
                .message
                .contains("chmod")
        );
        std::fs::remove_file(&key).unwrap();
        assert!(
            open(dir.path())
                .await
                .unwrap_err()
                .message
                .contains("missing")
        );
        assert!(!key.exists());

        let put = |bytes: &[u8]| {
            let mut file = File::options()
                .create(true)
                .truncate(true)
                .write(true)
                .mode(0o600)
                .open(&key)
                .unwrap();
            file.write_all(bytes).unwrap();
        };
        put(&bytes[..31]);
        assert!(
            open(dir.path())
                .await
                .unwrap_err()
                .message
                .contains("31 bytes")
        );
        put(&[7; 32]);
        let wrong = open(dir.path()).await.unwrap_err();
        assert!(wrong.message.contains("does not belong"), "{wrong}");
        put(&bytes);
        assert!(open(dir.path()).await.is_ok());
    }
}
