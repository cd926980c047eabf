use std::path::{Path, PathBuf};

use forebay_config::{Config, env_var};
use thiserror::Error;

/// Which workspace to talk to, and as whom.
#[derive(Clone, PartialEq, Eq)]
pub struct Profile {
    pub host: String,
    pub token: String,
}

impl std::fmt::Debug for Profile {
    /// Leaves the token out.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Profile").field("host", &self.host).finish()
    }
}

/// What the caller said about the workspace; the rest comes from the environment.
#[derive(Debug, Clone, Default)]
pub struct ProfileChoice {
    pub profile: Option<String>,
    /// A server's data folder, which holds the `databrickscfg` of its workspaces.
    pub data: Option<PathBuf>,
}

#[derive(Debug, Error)]
pub enum ProfileError {
    #[error("there is no server's profile file at {path}")]
    NoFile { path: PathBuf },
    #[error("cannot read {path}")]
    Read {
        path: PathBuf,
        source: std::io::Error,
    },
    #[error("{path} has no profile '{profile}'; it has: {known}")]
    NoProfile {
        path: PathBuf,
        profile: String,
        known: String,
    },
    #[error("{path}: the profile '{profile}' has no {field}")]
    Incomplete {
        path: PathBuf,
        profile: String,
        field: &'static str,
    },
    #[error("DATABRICKS_HOST is set but DATABRICKS_TOKEN is not")]
    NoToken,
    #[error(transparent)]
    Config(#[from] forebay_config::ConfigError),
}

impl Profile {
    /// A flag beats the environment, and the environment beats the default profile `dev` in the
    /// data folder.
    ///
    /// # Errors
    /// When the file or the profile is missing, or lacks its host or token.
    pub fn find(choice: &ProfileChoice) -> Result<Self, ProfileError> {
        let named = choice.profile.is_some() || choice.data.is_some();
        if !named && let Some(host) = env_var("DATABRICKS_HOST") {
            let token = env_var("DATABRICKS_TOKEN").ok_or(ProfileError::NoToken)?;
            return Ok(Self { host, token });
        }
        let path = match (&choice.data, env_var("DATABRICKS_CONFIG_FILE")) {
            (Some(data), _) => data.join("databrickscfg"),
            (None, Some(file)) => PathBuf::from(file),
            (None, None) => Config::load(None)?.data.join("databrickscfg"),
        };
        let profile = choice.profile.clone();
        let profile = profile.or_else(|| env_var("DATABRICKS_CONFIG_PROFILE"));
        Self::read(&path, profile.as_deref().unwrap_or("dev"))
    }

    /// One profile of a file in the form that the SDK and the legacy CLI read.
    ///
    /// # Errors
    /// As [`Profile::find`].
    pub fn read(path: &Path, profile: &str) -> Result<Self, ProfileError> {
        let text = std::fs::read_to_string(path).map_err(|source| match source.kind() {
            std::io::ErrorKind::NotFound => ProfileError::NoFile {
                path: path.to_owned(),
            },
            _ => ProfileError::Read {
                path: path.to_owned(),
                source,
            },
        })?;
        let sections = sections(&text);
        let Some((_, fields)) = sections.iter().find(|(name, _)| *name == profile) else {
            let known: Vec<_> = sections.iter().map(|(name, _)| *name).collect();
            return Err(ProfileError::NoProfile {
                path: path.to_owned(),
                profile: profile.to_owned(),
                known: known.join(", "),
            });
        };
        let field = |wanted: &'static str| {
            let found = fields.iter().rev().find(|(name, _)| *name == wanted);
            found
                .map(|(_, value)| (*value).to_owned())
                .ok_or_else(|| ProfileError::Incomplete {
                    path: path.to_owned(),
                    profile: profile.to_owned(),
                    field: wanted,
                })
        };
        Ok(Self {
            host: field("host")?,
            token: field("token")?,
        })
    }
}

type Section<'a> = (&'a str, Vec<(&'a str, &'a str)>);

/// Names and fields, in the order of the file; lines of other forms are left out.
fn sections(text: &str) -> Vec<Section<'_>> {
    let mut sections: Vec<Section<'_>> = Vec::new();
    for line in text.lines().map(str::trim) {
        let header = line.strip_prefix('[').and_then(|l| l.strip_suffix(']'));
        if let Some(name) = header {
            sections.push((name.trim(), Vec::new()));
        } else if let Some((name, value)) = line.split_once('=')
            && !line.starts_with(['#', ';'])
            && let Some((_, fields)) = sections.last_mut()
        {
            fields.push((name.trim(), value.trim()));
        }
    }
    sections
}

#[cfg(test)]
mod tests {
    use super::*;

    fn file(text: &str) -> tempfile::NamedTempFile {
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(file.path(), text).unwrap();
        file
    }

    #[test]
    fn a_profile_is_read_with_its_own_fields_only() {
        let file = file(
            "# ours\n[dev]\nhost = http://a:1\ntoken=one\n\n[prod]\n# token = old\nhost = http://b\ntoken = t=2\n",
        );
        let dev = Profile::read(file.path(), "dev").unwrap();
        assert_eq!(
            (dev.host.as_str(), dev.token.as_str()),
            ("http://a:1", "one")
        );
        assert_eq!(Profile::read(file.path(), "prod").unwrap().token, "t=2");
    }

    #[test]
    fn an_unknown_profile_is_answered_with_the_known_ones() {
        let file = file("[dev]\nhost=h\ntoken=t\n[prod]\nhost=h\n");
        let text = Profile::read(file.path(), "qa").unwrap_err().to_string();
        assert!(
            text.ends_with("no profile 'qa'; it has: dev, prod"),
            "{text}"
        );
        let text = Profile::read(file.path(), "prod").unwrap_err().to_string();
        assert!(text.ends_with("the profile 'prod' has no token"), "{text}");
    }

    #[test]
    fn a_missing_file_is_its_own_error() {
        let folder = tempfile::tempdir().unwrap();
        let error = Profile::read(&folder.path().join("databrickscfg"), "dev").unwrap_err();
        assert!(matches!(error, ProfileError::NoFile { .. }), "{error}");
    }
}
