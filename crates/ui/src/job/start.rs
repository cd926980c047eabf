//! "Run now": a form with the job's parameters.

use std::collections::BTreeMap;

use axum::Form;
use axum::extract::{Path, State};
use axum::response::{IntoResponse, Redirect};
use forebay_control::jobs::JobDocument;
use forebay_control::runs::RunNow;
use forebay_store::Job;
use maud::{Markup, html};
use serde_json::{Map, Value};

use super::job_id;
use crate::failure::{Failure, PageResult};
use crate::notice::Notice;
use crate::session::Session;
use crate::site::Pages;

/// Before the names of parameters in the form, so that none is taken for another field.
const PREFIX: &str = "parameter.";
/// From this many characters on a value gets more than one line.
const LINE_CHARS: usize = 60;

/// What a run of the job can be given.
struct Inputs {
    /// Else they are parameters of its notebooks.
    of_job: bool,
    values: BTreeMap<String, String>,
}

impl Inputs {
    /// The job's parameters; for a job without, those of its notebooks.
    fn of(document: &JobDocument) -> Self {
        let spec = &document.spec;
        let of_job = !spec.parameters.is_empty();
        let values = if of_job {
            let parameters = spec.parameters.iter();
            parameters
                .map(|one| (one.name.clone(), one.default.clone()))
                .collect()
        } else {
            let notebooks = spec
                .tasks
                .iter()
                .filter_map(|task| task.notebook_task.as_ref());
            notebooks
                .flat_map(|task| task.base_parameters.clone())
                .collect()
        };
        Self { of_job, values }
    }
}

pub(super) fn form(session: &Session, job: &Job, document: &JobDocument) -> Markup {
    let inputs = Inputs::of(document);
    let most = document.spec.max_concurrent_runs.unwrap_or(1);
    // The same form sent twice starts one run.
    let once = format!("page-{:032x}", rand::random::<u128>());
    html! {
        details class="action" {
            summary { "Run now" }
            form method="post" action={ "/jobs/" (job.id) "/run" } {
                input type="hidden" name="form_token" value=(session.form_token());
                input type="hidden" name="once" value=(once);
                @for (index, (name, value)) in inputs.values.iter().enumerate() {
                    label for={ "parameter-" (index) } { (name) }
                    @if value.len() > LINE_CHARS || value.contains('\n') {
                        textarea id={ "parameter-" (index) } name={ (PREFIX) (name) } rows="4" { (value) }
                    } @else {
                        input id={ "parameter-" (index) } name={ (PREFIX) (name) } value=(value)
                            autocomplete="off" spellcheck="false";
                    }
                }
                @if inputs.values.is_empty() { p class="soft" { "It has no parameters." } }
                label class="check" {
                    input type="checkbox" name="queue" value="yes" checked;
                    " Wait in line if " (most) @if most == 1 { " run is" } @else { " runs are" } " active already"
                }
                button type="submit" class="main" { "Start the run" }
            }
        }
    }
}

pub(crate) async fn run(
    State(pages): State<Pages>,
    session: Session,
    Path(id): Path<String>,
    Form(sent): Form<Vec<(String, String)>>,
) -> PageResult {
    let field = |name: &str| {
        let found = sent.iter().find(|(key, _)| key == name);
        found.map(|(_, value)| value.as_str())
    };
    session.check_form(field("form_token").unwrap_or_default())?;
    let services = pages.services();
    let job = services.jobs.get(&session.ctx, job_id(&id)?).await?;
    let document = JobDocument::of_normal(job.settings)?;
    let inputs = Inputs::of(&document);
    let mut request = RunNow {
        // A box that is not ticked is not sent.
        queue: Some(field("queue").is_some()),
        idempotency_token: field("once").map(str::to_owned),
        ..RunNow::default()
    };
    let given = if inputs.of_job {
        &mut request.job_parameters
    } else {
        &mut request.notebook_params
    };
    *given = changed(&inputs.values, &sent);
    let run = services.runs.run_now(&session.ctx, job.id, request).await;
    let run = run.map_err(Failure::of_form)?;
    let page = Notice::Started.at(&format!("/jobs/{}/runs/{run}", job.id));
    Ok(Redirect::to(&page).into_response())
}

/// What differs from the definition: the rest goes on following it.
fn changed(defaults: &BTreeMap<String, String>, sent: &[(String, String)]) -> Map<String, Value> {
    let parameters = sent
        .iter()
        .filter_map(|(field, value)| Some((field.strip_prefix(PREFIX)?, value)));
    parameters
        // Forms send every line break as two characters.
        .map(|(name, value)| (name, value.replace("\r\n", "\n")))
        .filter(|(name, value)| defaults.get(*name) != Some(value))
        .map(|(name, value)| (name.to_owned(), Value::String(value)))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_was_changed_is_sent() {
        let defaults = BTreeMap::from([
            ("day".to_owned(), "today".to_owned()),
            ("text".to_owned(), "a\nb".to_owned()),
        ]);
        let sent = [
            ("form_token", "x"),
            ("parameter.day", "monday"),
            ("parameter.text", "a\r\nb"),
        ];
        let sent = sent.map(|(name, value)| (name.to_owned(), value.to_owned()));
        let changed = changed(&defaults, &sent);
        assert_eq!(Value::Object(changed), serde_json::json!({"day": "monday"}));
    }
}
