//! The page of a run while it goes on.

use axum::extract::{Path, Query, State};
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use forebay_control::runs::Cursor;
use forebay_types::RunId;

use super::{Asked, Seen, parts, run_id};
use crate::failure::PageResult;
use crate::live::{LOOK_EVERY, Living, Look, follow};
use crate::session::Session;
use crate::site::Pages;

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
    Ok(follow(LiveRun {
        pages,
        session,
        run: run_id(&run)?,
        asked,
        read: Cursor::default(),
    }))
}

struct LiveRun {
    pages: Pages,
    session: Session,
    run: RunId,
    asked: Asked,
    /// The output of the attempt up to the last look.
    read: Cursor,
}

impl LiveRun {
    async fn load(&self) -> Option<Seen> {
        let ctx = &self.session.ctx;
        Seen::load(&self.pages, ctx, self.run, &self.asked)
            .await
            .ok()
    }
}

impl Living for LiveRun {
    fn pages(&self) -> &Pages {
        &self.pages
    }

    async fn look(&mut self) -> Option<Look> {
        let seen = self.load().await?;
        let fragments = parts::all(&self.pages, &self.session, &seen, &self.asked);
        Some(Look {
            fragments: fragments.await.ok()?,
            ended: seen.view.run.phase.is_ended(),
        })
    }

    async fn wait(&mut self) -> Option<()> {
        let seen = self.load().await?;
        let (runs, ctx) = (&self.pages.services().runs, &self.session.ctx);
        match &seen.attempt {
            Some(attempt) if !attempt.phase.is_ended() => {
                let events = runs.events(ctx, attempt.id, self.read, LOOK_EVERY);
                self.read = events.await.ok()?.next;
            }
            _ => drop(runs.wait(ctx, self.run, LOOK_EVERY).await.ok()?),
        }
        Some(())
    }
}
