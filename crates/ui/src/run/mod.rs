//! The page of one run: how it stands, what went wrong first, then its tasks, their output as it
//! comes, and what it cost.

mod axis;
mod bars;
mod facts;
mod graph;
mod output;
mod parts;
mod repair;
mod tasks;
mod watch;

pub(crate) use self::facts::git_source;

use axum::Form;
use axum::extract::{Path, Query, State};
use axum::http::header::{CONTENT_DISPOSITION, CONTENT_TYPE};
use axum::response::{IntoResponse, Redirect, Response};
use forebay_control::Ctx;
use forebay_control::jobs::JobDocument;
use forebay_control::runs::RunView;
use forebay_engine::{Phase, Plan, Verdict};
use forebay_store::Attempt;
use forebay_types::{Error, Millis, RunId};
use maud::{Markup, html};
use serde::Deserialize;

use self::repair::Time;
use crate::failure::{Failure, PageResult};
use crate::layout::{Page, Section};
use crate::notice::{self, Notice};
use crate::runs::run_link;
use crate::session::Session;
use crate::site::Pages;

pub(crate) use repair::repair;
pub(crate) use watch::live;

#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default)]
pub(crate) struct Asked {
    /// The attempt whose output to show; else the most telling one.
    task: Option<i64>,
    /// Only the tasks in this state; empty for all.
    show: String,
    /// How many tasks to leave out at the beginning.
    from: usize,
    /// Which time of a repaired run, from 0; else the latest.
    time: Option<usize>,
    said: Option<Notice>,
}

impl Asked {
    /// As it stands in an address, with its question mark.
    fn query(&self) -> String {
        let mut query = form_urlencoded::Serializer::new(String::new());
        if let Some(task) = self.task {
            query.append_pair("task", &task.to_string());
        }
        if !self.show.is_empty() {
            query.append_pair("show", &self.show);
        }
        if self.from > 0 {
            query.append_pair("from", &self.from.to_string());
        }
        if let Some(time) = self.time {
            query.append_pair("time", &time.to_string());
        }
        match query.finish() {
            query if query.is_empty() => query,
            query => format!("?{query}"),
        }
    }
}

/// A run and the attempt in view.
#[derive(Debug, Clone)]
struct Seen {
    view: RunView,
    /// Its tasks and their order; nothing for settings that cannot be read any more.
    plan: Option<Plan>,
    attempt: Option<Attempt>,
    /// The times it began and ended, the oldest first.
    times: Vec<Time>,
    /// Which of them the rest is about.
    time: usize,
    latest_repair: Option<RunId>,
    may_manage: bool,
}

impl Seen {
    async fn load(pages: &Pages, ctx: &Ctx, id: RunId, asked: &Asked) -> PageResult<Self> {
        let runs = &pages.services().runs;
        let view = runs.get(ctx, id).await?;
        let may_manage = runs.may_manage(ctx, &view.run).await?;
        let repairs = runs.repairs(view.run.id).await?;
        let times = Time::all(&view, &repairs);
        let time = asked.time.unwrap_or(repairs.len()).min(repairs.len());
        let view = view.as_of(&repairs, time);
        let wanted = asked.task.map(RunId).or(view.task);
        let chosen = wanted.and_then(|id| view.attempts.iter().find(|attempt| attempt.id == id));
        let attempt = chosen.or_else(|| telling(&view)).cloned();
        let document = JobDocument::of_normal(view.run.settings.clone());
        let plan = document.ok().map(|document| document.plan);
        Ok(Self {
            view,
            plan,
            attempt,
            times,
            time,
            latest_repair: repairs.last().map(|repair| repair.id),
            may_manage,
        })
    }

    fn is_latest(&self) -> bool {
        self.time + 1 == self.times.len()
    }

    /// The output of an attempt, at the time in view.
    fn link_to(&self, attempt: &Attempt) -> String {
        let asked = Asked {
            task: Some(attempt.id.0),
            time: (!self.is_latest()).then_some(self.time),
            ..Asked::default()
        };
        format!("{}{}#output", run_link(&self.view.run), asked.query())
    }

    /// When what is on the timeline began.
    fn began_at(&self) -> Millis {
        let run = &self.view.run;
        match self.time {
            0 => run.started_at.unwrap_or(run.created_at),
            time => self.times[time].began_at,
        }
    }
}

/// The task a reader most likely came for: the failed one, else the running one, else the last.
fn telling(view: &RunView) -> Option<&Attempt> {
    let newest: Vec<_> = view.newest().collect();
    let first = |wanted: fn(Phase) -> bool| newest.iter().find(|one| wanted(one.phase)).copied();
    first(is_bad)
        .or_else(|| first(|phase| matches!(phase, Phase::Running | Phase::Terminating)))
        .or_else(|| {
            newest
                .iter()
                .rfind(|one| one.executed_at.is_some())
                .copied()
        })
        .or_else(|| newest.last().copied())
}

fn is_bad(phase: Phase) -> bool {
    use Verdict::{Failed, InternalError, TimedOut};
    matches!(phase, Phase::Ended(Failed | TimedOut | InternalError))
}

fn run_id(text: &str) -> PageResult<RunId> {
    let id = text.parse().map(RunId);
    id.map_err(|_| Failure(Error::missing(format!("'{text}' is not the id of a run."))))
}

/// The page under the address that clients print.
pub(crate) async fn show_of_job(
    pages: State<Pages>,
    session: Session,
    Path((_job, run)): Path<(String, String)>,
    asked: Query<Asked>,
) -> PageResult<Markup> {
    show(pages, session, Path(run), asked).await
}

pub(crate) async fn show(
    State(pages): State<Pages>,
    session: Session,
    Path(run): Path<String>,
    Query(asked): Query<Asked>,
) -> PageResult<Markup> {
    let seen = Seen::load(&pages, &session.ctx, run_id(&run)?, &asked).await?;
    let run = &seen.view.run;
    let live = (!run.phase.is_ended()).then(|| {
        let asked = Asked {
            task: seen.attempt.as_ref().map(|attempt| attempt.id.0),
            ..asked.clone()
        };
        format!("/runs/{}/live{}", run.id, asked.query())
    });
    let fragments = parts::all(&pages, &session, &seen, &asked).await?;
    let body = html! {
        (notice::show(asked.said))
        article class="run" data-live=[live] {
            @for fragment in &fragments { (fragment.render()) }
        }
    };
    let page = Page {
        changes: !run.phase.is_ended(),
        ..Page::new(&run.name, Section::Runs, body)
    };
    Ok(pages.page(Some(&session), page))
}

#[derive(Deserialize)]
pub(crate) struct Sent {
    #[serde(default)]
    form_token: String,
}

/// Stops a run, or one of its tasks by the task's own id.
pub(crate) async fn cancel(
    State(pages): State<Pages>,
    session: Session,
    Path(run): Path<String>,
    Form(sent): Form<Sent>,
) -> PageResult {
    session.check_form(&sent.form_token)?;
    let runs = &pages.services().runs;
    let id = run_id(&run)?;
    let view = runs.get(&session.ctx, id).await?;
    runs.cancel(&session.ctx, id).await?;
    let link = run_link(&view.run);
    let page = match view.task {
        Some(task) => format!("{}&task={task}", Notice::TaskCanceled.at(&link)),
        None => Notice::Canceled.at(&link),
    };
    Ok(Redirect::to(&page).into_response())
}

/// The notebook with its outputs as an `.ipynb` document.
pub(crate) async fn download(
    State(pages): State<Pages>,
    session: Session,
    Path(run): Path<String>,
) -> PageResult<Response> {
    let id = run_id(&run)?;
    let document = pages.services().runs.notebook(&session.ctx, id).await?;
    let name = format!("attachment; filename=\"run-{id}.ipynb\"");
    let headers = [
        (CONTENT_TYPE, "application/x-ipynb+json".to_owned()),
        (CONTENT_DISPOSITION, name),
    ];
    Ok((headers, document).into_response())
}
