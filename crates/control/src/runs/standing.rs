//! Where a new run stands in line: what its job says about key, priority and share, with the
//! references in the key resolved.

use std::collections::BTreeMap;

use forebay_engine::{References, resolve};
use forebay_store::Standing;
use forebay_types::{Error, JobId, Result};
use serde_json::{Map, Value};

use crate::jobs::JobDocument;

const KEY_CHARS_MAX: usize = 200;
/// Waiting runs of one job or key: what a runaway producer may leave behind.
const QUEUE_MAX: usize = 10_000;

/// # Errors
/// When the key refers to something that is not known before the run, or comes to nothing.
pub(super) fn standing(
    document: &JobDocument,
    job: Option<JobId>,
    parameters: &Map<String, Value>,
    trigger: &str,
) -> Result<Standing> {
    let own = &document.spec.own;
    let key = match &own.key {
        None => String::new(),
        Some(key) => resolved(key, &references(document, job, parameters, trigger))?,
    };
    Ok(Standing {
        key,
        key_max: own.key_max.unwrap_or(0) as usize,
        priority: own.priority,
        weight: own.weight.unwrap_or(1),
        queue_max: own.queue_max.map_or(QUEUE_MAX, |max| max as usize),
        coalesce: own.coalesce,
        whole: true,
    })
}

fn resolved(key: &str, references: &References) -> Result<String> {
    let key = resolve(key, references)
        .map_err(|e| Error::invalid(format!("Field 'forebay.key': {e}.")))?;
    let key = key.trim();
    if key.is_empty() || key.chars().count() > KEY_CHARS_MAX {
        return Err(Error::invalid(format!(
            "Field 'forebay.key' comes to '{}' in this run; 1 to {KEY_CHARS_MAX} characters are \
             allowed.",
            key.chars().take(40).collect::<String>()
        )));
    }
    Ok(key.to_owned())
}

/// What is known of a run before there is one.
fn references(
    document: &JobDocument,
    job: Option<JobId>,
    parameters: &Map<String, Value>,
    trigger: &str,
) -> References {
    let mut values = BTreeMap::new();
    values.insert("job.name".to_owned(), document.name().to_owned());
    values.insert("job.trigger.type".to_owned(), trigger.to_owned());
    if let Some(job) = job {
        values.insert("job.id".to_owned(), job.to_string());
        values.insert("job_id".to_owned(), job.to_string());
    }
    let mut set = |name: &str, value: String| {
        values.insert(format!("job.parameters.{name}"), value);
    };
    for parameter in &document.spec.parameters {
        set(&parameter.name, parameter.default.clone());
    }
    let given = parameters.get("job_parameters").and_then(Value::as_object);
    for (name, value) in given.into_iter().flatten() {
        set(
            name,
            value
                .as_str()
                .map_or_else(|| value.to_string(), str::to_owned),
        );
    }
    References {
        values,
        ..References::default()
    }
}
