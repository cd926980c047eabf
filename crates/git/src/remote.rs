use std::net::IpAddr;
use std::path::{Path, PathBuf};

use crate::error::GitError;

const ADDRESS_BYTES_MAX: usize = 2048;

/// The address of a repository, checked: `http(s)://`, `ssh://`, `user@host:path`, `file://` or
/// an absolute path below an allowed folder.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Remote {
    /// As the caller wrote it; holds no password.
    address: String,
    /// As `git` is given it.
    target: String,
    kind: Kind,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Kind {
    Http(HttpHost),
    Ssh,
    Local,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct HttpHost {
    /// `http` or `https`.
    pub(crate) scheme: String,
    /// Host and port as written, which is how `git` asks for credentials.
    pub(crate) authority: String,
    pub(crate) host: String,
    pub(crate) port: u16,
}

impl Remote {
    /// Checks an address; local ones must lie below one of `roots` (which are canonical).
    ///
    /// # Errors
    /// `BadAddress` that says what is wrong with it.
    pub(crate) fn parse(address: &str, roots: &[PathBuf]) -> Result<Self, GitError> {
        let refuse = |reason: &str| GitError::BadAddress {
            address: shown(address),
            reason: reason.to_owned(),
        };
        if address.len() > ADDRESS_BYTES_MAX {
            return Err(refuse("it is too long"));
        }
        if address.starts_with('-')
            || address.contains(|c: char| c.is_whitespace() || c.is_control() || c == '\\')
        {
            return Err(refuse("it has characters that no address has"));
        }
        let (target, kind) = if let Some((scheme, rest)) = address.split_once("://") {
            match scheme.to_ascii_lowercase().as_str() {
                scheme @ ("http" | "https") => http(scheme, rest),
                "ssh" | "git+ssh" | "ssh+git" => ssh(rest),
                "file" => file(rest, roots),
                other => Err(format!(
                    "'{other}' is not supported; use https, http, ssh or a local path"
                )),
            }
        } else if address.starts_with('/') {
            local(Path::new(address), roots)
        } else {
            scp_like(address)
        }
        .map_err(|reason| refuse(&reason))?;
        Ok(Self {
            address: address.to_owned(),
            target,
            kind,
        })
    }

    /// The address as the caller wrote it.
    #[must_use]
    pub fn address(&self) -> &str {
        &self.address
    }

    /// Host of an `http` or `https` address, in lower case.
    #[must_use]
    pub fn http_host(&self) -> Option<&str> {
        match &self.kind {
            Kind::Http(http) => Some(&http.host),
            _ => None,
        }
    }

    /// The name a folder of this repository gets by default; empty when the address has none.
    #[must_use]
    pub fn name(&self) -> &str {
        let path = self.address.trim_end_matches('/');
        let last = path.rsplit(['/', ':']).next().unwrap_or_default();
        last.strip_suffix(".git").unwrap_or(last)
    }

    pub(crate) fn target(&self) -> &str {
        &self.target
    }

    pub(crate) fn kind(&self) -> &Kind {
        &self.kind
    }

    /// For local addresses: `git` is not to guess names, which could lead elsewhere, and reads
    /// folders of other owners, because the operator allowed them with `--repo-root`.
    pub(crate) fn upload_pack(&self) -> Option<&'static str> {
        (self.kind == Kind::Local)
            .then_some("--upload-pack=git -c 'safe.directory=*' upload-pack --strict")
    }

    /// The protocols `git` may use for it, redirects included.
    pub(crate) fn protocols(&self) -> &'static str {
        match self.kind {
            Kind::Http(_) => "http:https",
            Kind::Ssh => "ssh",
            Kind::Local => "file",
        }
    }
}

/// An address for an error text: shortened, and without what might be a password.
fn shown(address: &str) -> String {
    let mut text: String = address.chars().take(200).collect();
    if let Some(scheme) = text.find("://").map(|at| at + 3)
        && let Some(at) = text[scheme..].find('@')
        && text[scheme..scheme + at].contains(':')
    {
        text.replace_range(scheme..scheme + at, "…");
    }
    text
}

type Parsed = Result<(String, Kind), String>;

fn http(scheme: &str, rest: &str) -> Parsed {
    let (authority, path) = rest.split_once('/').unwrap_or((rest, ""));
    if path.trim_matches('/').is_empty() {
        return Err("it names no repository".to_owned());
    }
    if rest.contains(['?', '#']) {
        return Err("it has a query or fragment".to_owned());
    }
    // Some providers' pages offer addresses with a user name in them; it is not needed.
    let authority = match authority.rsplit_once('@') {
        Some((user, _)) if user.contains(':') => {
            return Err(
                "it contains a password; store that as a Git credential instead".to_owned(),
            );
        }
        Some((_, authority)) => authority,
        None => authority,
    };
    let default_port = if scheme == "https" { 443 } else { 80 };
    let (host, port) = host_and_port(authority)?;
    let kind = Kind::Http(HttpHost {
        scheme: scheme.to_owned(),
        authority: authority.to_owned(),
        host: host.to_ascii_lowercase(),
        port: port.unwrap_or(default_port),
    });
    Ok((format!("{scheme}://{authority}/{path}"), kind))
}

fn ssh(rest: &str) -> Parsed {
    let (authority, path) = rest.split_once('/').unwrap_or((rest, ""));
    if path.is_empty() {
        return Err("it names no repository".to_owned());
    }
    let host = match authority.rsplit_once('@') {
        Some((user, host)) => {
            check_user(user)?;
            host
        }
        None => authority,
    };
    host_and_port(host)?;
    Ok((format!("ssh://{authority}/{path}"), Kind::Ssh))
}

/// `user@host:path`, as providers print it.
fn scp_like(address: &str) -> Parsed {
    let parts = address
        .split_once('@')
        .and_then(|(user, rest)| Some((user, rest.split_once(':')?)));
    let Some((user, (host, path))) = parts else {
        return Err("use https://…, ssh://…, user@host:path or an absolute path".to_owned());
    };
    check_user(user)?;
    if host_and_port(host)?.1.is_some() || path.is_empty() || path.starts_with('-') {
        return Err("it names no repository".to_owned());
    }
    Ok((address.to_owned(), Kind::Ssh))
}

fn check_user(user: &str) -> Result<(), String> {
    let plain = |c: char| c.is_ascii_alphanumeric() || "._-+".contains(c);
    if user.is_empty() || user.starts_with('-') || !user.chars().all(plain) {
        return Err("its user name has characters that are not allowed".to_owned());
    }
    Ok(())
}

fn host_and_port(authority: &str) -> Result<(&str, Option<u16>), String> {
    let bad = || format!("'{authority}' is not a host");
    let (host, port) = if let Some(rest) = authority.strip_prefix('[') {
        let (host, after) = rest.split_once(']').ok_or_else(bad)?;
        host.parse::<IpAddr>().map_err(|_| bad())?;
        match after {
            "" => (host, None),
            after => (host, Some(after.strip_prefix(':').ok_or_else(bad)?)),
        }
    } else {
        let (host, port) = match authority.split_once(':') {
            Some((host, port)) => (host, Some(port)),
            None => (authority, None),
        };
        let plain = |c: char| c.is_ascii_alphanumeric() || ".-_".contains(c);
        if host.is_empty() || host.starts_with(['-', '.']) || !host.chars().all(plain) {
            return Err(bad());
        }
        (host, port)
    };
    let port = port.map(str::parse).transpose().map_err(|_| bad())?;
    Ok((host, port))
}

fn file(rest: &str, roots: &[PathBuf]) -> Parsed {
    let path = rest.strip_prefix("localhost").unwrap_or(rest);
    if !path.starts_with('/') {
        return Err("a file address must be file:///path".to_owned());
    }
    local(Path::new(path), roots)
}

/// One text for every refusal, so that callers cannot probe which files exist elsewhere.
fn local(path: &Path, roots: &[PathBuf]) -> Parsed {
    let refused = || {
        Err(
            "local addresses are allowed below the folders given with --repo-root only, and must \
             be Git repositories"
                .to_owned(),
        )
    };
    let Ok(real) = path.canonicalize() else {
        return refused();
    };
    // The Git folder of a work tree; resolved here because `git` is told not to guess.
    let inner = real.join(".git").canonicalize();
    let real = inner.ok().filter(|git| git.is_dir()).unwrap_or(real);
    let allowed = roots.iter().any(|root| real.starts_with(root));
    match real.to_str() {
        Some(text) if allowed && real.join("HEAD").is_file() => Ok((text.to_owned(), Kind::Local)),
        _ => refused(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(address: &str) -> Result<Remote, GitError> {
        Remote::parse(address, &[])
    }

    #[test]
    fn addresses_of_every_kind_are_read() {
        let https = parse("https://org@dev.azure.com/org/proj/_git/repo").unwrap();
        assert_eq!(https.target(), "https://dev.azure.com/org/proj/_git/repo");
        assert_eq!(https.http_host(), Some("dev.azure.com"));
        assert_eq!(https.name(), "repo");
        let port = parse("http://127.0.0.1:8080/a/b.git").unwrap();
        assert_eq!(port.name(), "b");
        assert!(matches!(
            port.kind(),
            Kind::Http(HttpHost { port: 8080, .. })
        ));
        assert!(matches!(
            parse("HTTPS://GitHub.com/a/b").unwrap().kind(),
            Kind::Http(HttpHost { port: 443, host, .. }) if host == "github.com"
        ));
        for ssh in [
            "git@github.com:a/b.git",
            "ssh://git@host:2222/a/b.git",
            "ssh://[::1]/b",
        ] {
            assert_eq!(*parse(ssh).unwrap().kind(), Kind::Ssh, "{ssh}");
            assert_eq!(parse(ssh).unwrap().name(), "b");
        }
    }

    #[test]
    fn addresses_that_could_do_harm_are_refused() {
        for address in [
            "",
            "not an address",
            "relative/path",
            "--upload-pack=touch /tmp/x",
            "ext::sh -c touch% /tmp/x",
            "ext::sh",
            "ftp://host/x",
            "git://host/x",
            "ssh://-oProxyCommand=x/y",
            "ssh://-l@host/y",
            "-x@host:y",
            "a@-host:y",
            "a@host:-y",
            "https://host",
            "https:///path",
            "https://host/x?y",
            "https://host:port/x",
            "https://host\n/x",
            "/etc/passwd",
            "file:///etc",
            "file://host/etc",
        ] {
            let refused = parse(address);
            assert!(
                matches!(refused, Err(GitError::BadAddress { .. })),
                "{address}"
            );
        }
    }

    #[test]
    fn a_password_in_the_address_is_refused_and_not_repeated() {
        let error = parse("https://me:hunter2@github.com/a/b")
            .unwrap_err()
            .to_string();
        assert!(error.contains("Git credential"), "{error}");
        assert!(!error.contains("hunter2"), "{error}");
    }

    #[test]
    fn local_addresses_stay_below_their_roots() {
        let dir = tempfile::tempdir().unwrap();
        let top = dir.path().canonicalize().unwrap();
        let (root, outside) = (top.join("root"), top.join("outside"));
        for repo in [root.join("a.git"), root.join("work/.git"), outside.clone()] {
            std::fs::create_dir_all(&repo).unwrap();
            std::fs::write(repo.join("HEAD"), "ref: refs/heads/main\n").unwrap();
        }
        std::fs::create_dir(root.join("plain")).unwrap();
        std::os::unix::fs::symlink(&outside, root.join("link")).unwrap();
        std::fs::create_dir(root.join("sly")).unwrap();
        std::os::unix::fs::symlink(&outside, root.join("sly/.git")).unwrap();
        let roots = [root.clone()];
        let parse = |address: String| Remote::parse(&address, &roots);
        let shown = root.display();
        assert!(parse(format!("{shown}/a.git")).is_ok());
        assert!(parse(format!("file://{shown}/a.git")).is_ok());
        let work = parse(format!("{shown}/work")).unwrap();
        assert_eq!(work.target(), format!("{shown}/work/.git"));
        for bad in [
            "link",
            "sly",
            "plain",
            "none",
            "../outside",
            "a.git/../../outside",
        ] {
            assert!(parse(format!("{shown}/{bad}")).is_err(), "{bad}");
        }
    }
}
