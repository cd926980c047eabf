//! Whose rights the runs of a job have, when not those of its creator.

use forebay_types::{Error, Result};
use serde_json::{Map, Value};

use super::Jobs;
use super::spec::RunAs;
use crate::Ctx;

/// The user or service principal that settings name, if they do.
#[must_use]
pub fn run_as(settings: &Map<String, Value>) -> Option<&str> {
    let named = settings.get("run_as")?;
    let user = named.get("user_name").and_then(Value::as_str);
    user.or_else(|| named.get("service_principal_name")?.as_str())
}

impl Jobs {
    /// `kept` is what the job had before: who may change a job need not be that user.
    ///
    /// # Errors
    /// A group; nobody or several; a name that is no active user's; somebody else, unless an
    /// administrator asks.
    pub(crate) async fn check_run_as(
        &self,
        ctx: &Ctx,
        settings: &Map<String, Value>,
        wanted: Option<&RunAs>,
        kept: Option<&str>,
    ) -> Result<()> {
        let Some(wanted) = wanted else {
            return Ok(());
        };
        if wanted.group_name.is_some() {
            return Err(Error::not_implemented("Field 'run_as.group_name'"));
        }
        let name = match (&wanted.user_name, &wanted.service_principal_name) {
            (Some(_), Some(_)) | (None, None) => {
                return Err(Error::invalid(
                    "Field 'run_as' needs one of user_name and service_principal_name.",
                ));
            }
            _ => run_as(settings).unwrap_or_default(),
        };
        if kept == Some(name) {
            return Ok(());
        }
        let user = self.store.user_get_by_name(name).await?;
        let user = user.filter(|user| user.active).ok_or_else(|| {
            Error::invalid(format!(
                "Field 'run_as' names '{name}', who is no active user of this workspace."
            ))
        })?;
        if user.id != ctx.user.id && !ctx.is_admin() {
            return Err(Error::denied(format!(
                "Only an administrator can set 'run_as' to somebody else, here {name}."
            )));
        }
        Ok(())
    }
}
