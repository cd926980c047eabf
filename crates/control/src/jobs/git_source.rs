use forebay_types::{Error, Result};
use serde::Deserialize;
use serde_json::{Map, Value};

use crate::git_credentials::provider_name;
use crate::repos::Revision;

/// A repository, and exactly one of branch, tag and commit. Tasks take their code from it unless
/// they say otherwise.
#[derive(Debug, Clone, Deserialize)]
pub struct GitSourceSpec {
    pub git_url: String,
    pub git_provider: Option<String>,
    pub git_branch: Option<String>,
    pub git_tag: Option<String>,
    pub git_commit: Option<String>,
    /// What is refused by name when it is given.
    #[serde(flatten)]
    pub others: Map<String, Value>,
}

impl GitSourceSpec {
    /// # Errors
    /// `INVALID_PARAMETER_VALUE` unless exactly one of branch, tag and commit is given.
    pub fn revision(&self) -> Result<Revision> {
        let given = |text: &Option<String>| text.clone().filter(|text| !text.is_empty());
        match (
            given(&self.git_branch),
            given(&self.git_tag),
            given(&self.git_commit),
        ) {
            (Some(branch), None, None) => Ok(Revision::Branch(branch)),
            (None, Some(tag), None) => Ok(Revision::Tag(tag)),
            (None, None, Some(commit)) => Ok(Revision::Commit(commit)),
            _ => Err(Error::invalid(
                "Field 'git_source' must have exactly one of git_branch, git_tag and git_commit.",
            )),
        }
    }

    /// # Errors
    /// The first field that is wrong, or that has no effect here.
    pub(super) fn check(&self) -> Result<()> {
        if let Some((name, _)) = self.others.iter().find(|(_, value)| !value.is_null()) {
            return Err(match name.as_str() {
                "job_source" | "sparse_checkout" => {
                    Error::not_implemented(format!("Field 'git_source.{name}'"))
                }
                _ => Error::invalid(format!("Field 'git_source.{name}' cannot be given.")),
            });
        }
        if self.git_url.is_empty() || self.git_url.contains(char::is_control) {
            return Err(Error::invalid("Field 'git_source.git_url' is no address."));
        }
        if let Some(provider) = self.git_provider.as_deref().filter(|p| !p.is_empty()) {
            provider_name("git_source.git_provider", provider)?;
        }
        if let Revision::Commit(id) = self.revision()?
            && !(id.len() >= 7 && id.len() <= 64 && id.chars().all(|c| c.is_ascii_hexdigit()))
        {
            return Err(Error::invalid(format!(
                "Field 'git_source.git_commit' is '{id}'; give at least 7 digits of a commit's id."
            )));
        }
        Ok(())
    }
}
