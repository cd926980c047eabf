//! The page of a run while it goes on: pieces that changed, as server-sent events.

use std::collections::{HashMap, VecDeque};
use std::convert::Infallible;
use std::time::Duration;

use axum::extract::{Path, Query, State};
use axum::http::StatusCode;
use axum::response::sse::{Event, KeepAlive, Sse};
use axum::response::{IntoResponse, Response};
use forebay_control::runs::Cursor;
use forebay_types::RunId;
use futures_util::stream;
use serde_json::json;

use super::fragment::Fragment;
use super::{Asked, Seen, parts, run_id};
use crate::failure::PageResult;
use crate::session::Session;
use crate::site::Pages;

/// How long a change may wait for others, so that a chatty run costs one rendering for many lines.
const PAUSE: Duration = Duration::from_millis(200);
/// How long nothing may happen before states are looked at again.
const LOOK_EVERY: Duration = Duration::from_secs(2);
/// The pause is at least this many times what the rendering took.
const PAUSE_FACTOR: i64 = 4;

/// `patch` events with `{"id", "hash", "html"}` of each changed piece, and `end` after the last.
pub(crate) async fn live(
    State(pages): State<Pages>,
    session: Option<Session>,
    Path(run): Path<String>,
    Query(asked): Query<Asked>,
) -> PageResult<Response> {
    // No redirect: an event source would take the sign-in page for an answer and come back for ever.
    let Some(session) = session else {
        return Ok(StatusCode::UNAUTHORIZED.into_response());
    };
    let watch = Watch {
        pages,
        session,
        run: run_id(&run)?,
        asked,
        sent: HashMap::new(),
        read: Cursor::default(),
        ready: VecDeque::new(),
        pause: PAUSE,
        ended: false,
    };
    let events = stream::unfold(watch, |mut watch| async move {
        let event = watch.next().await?;
        Some((Ok::<_, Infallible>(event), watch))
    });
    Ok(Sse::new(events)
        .keep_alive(KeepAlive::default())
        .into_response())
}

struct Watch {
    pages: Pages,
    session: Session,
    run: RunId,
    asked: Asked,
    /// What the reader has, by piece.
    sent: HashMap<String, u64>,
    /// The output of the attempt up to the last look.
    read: Cursor,
    ready: VecDeque<Event>,
    pause: Duration,
    ended: bool,
}

impl Watch {
    async fn next(&mut self) -> Option<Event> {
        let stop = self.pages.services().setup.tasks.stopping();
        while self.ready.is_empty() && !self.ended {
            stop.run_until_cancelled(self.look()).await??;
        }
        self.ready.pop_front()
    }

    /// Waits for a change, unless this is the first look, and makes events of what is new. Nothing
    /// when the run is not there any more, or not for this reader.
    async fn look(&mut self) -> Option<()> {
        let clock = self.pages.clock().clone();
        if !self.sent.is_empty() {
            clock.sleep(self.pause).await;
            self.wait().await?;
        }
        let began = clock.now();
        let seen = self.load().await?;
        let fragments = parts::all(&self.pages, &self.session, &seen, &self.asked)
            .await
            .ok()?;
        for fragment in &fragments {
            self.send_changes(fragment);
        }
        if seen.view.run.phase.is_ended() {
            let end = Event::default().event("end").data("{}");
            self.ready.push_back(end);
            self.ended = true;
        }
        let took = clock.now().since(began).saturating_mul(PAUSE_FACTOR);
        self.pause = Duration::from_millis(took.unsigned_abs()).max(PAUSE);
        Some(())
    }

    async fn load(&self) -> Option<Seen> {
        let ctx = &self.session.ctx;
        Seen::load(&self.pages, ctx, self.run, &self.asked)
            .await
            .ok()
    }

    async fn wait(&mut self) -> Option<()> {
        let seen = self.load().await?;
        let runs = &self.pages.services().runs;
        match &seen.attempt {
            Some(attempt) if !attempt.phase.is_ended() => {
                let events = runs.events(&self.session.ctx, attempt.id, self.read, LOOK_EVERY);
                self.read = events.await.ok()?.next;
            }
            _ => drop(
                runs.wait(&self.session.ctx, self.run, LOOK_EVERY)
                    .await
                    .ok()?,
            ),
        }
        Some(())
    }

    fn send_changes(&mut self, fragment: &Fragment) {
        let hash = fragment.hash();
        if self.sent.get(&fragment.id) == Some(&hash) {
            for part in &fragment.parts {
                self.send_changes(part);
            }
            return;
        }
        self.remember(fragment);
        let patch = json!({
            "id": fragment.id,
            "hash": format!("{hash:x}"),
            "html": fragment.render().into_string(),
        });
        self.ready
            .push_back(Event::default().event("patch").data(patch.to_string()));
    }

    fn remember(&mut self, fragment: &Fragment) {
        self.sent.insert(fragment.id.clone(), fragment.hash());
        for part in &fragment.parts {
            self.remember(part);
        }
    }
}
