//! Pages while they change: their pieces as server-sent events.

use std::collections::{HashMap, VecDeque};
use std::convert::Infallible;
use std::time::Duration;

use axum::response::sse::{Event, KeepAlive, Sse};
use axum::response::{IntoResponse, Response};
use futures_util::stream;
use serde_json::json;

use crate::fragment::Fragment;
use crate::site::Pages;

/// How long a change may wait for others, so that a chatty page costs one rendering for many lines.
const PAUSE: Duration = Duration::from_millis(200);
/// The pause is at least this many times what the rendering took.
const PAUSE_FACTOR: i64 = 4;
/// How long nothing may happen before states are looked at again.
pub(crate) const LOOK_EVERY: Duration = Duration::from_secs(2);

/// A page at one moment.
pub(crate) struct Look {
    pub(crate) fragments: Vec<Fragment>,
    /// Whether nothing of it can change any more.
    pub(crate) ended: bool,
}

/// A page that goes on changing. Both methods give nothing when it is not there any more, or not
/// for this reader.
pub(crate) trait Living: Send + 'static {
    fn pages(&self) -> &Pages;

    fn look(&mut self) -> impl Future<Output = Option<Look>> + Send;

    /// Until it is worth looking again.
    fn wait(&mut self) -> impl Future<Output = Option<()>> + Send {
        let clock = self.pages().clock().clone();
        async move {
            clock.sleep(LOOK_EVERY).await;
            Some(())
        }
    }
}

/// `patch` events with `{"id", "hash", "html"}` of each changed piece, and `end` after the last.
pub(crate) fn follow(living: impl Living) -> Response {
    let watch = Watch {
        living,
        sent: HashMap::new(),
        ready: VecDeque::new(),
        pause: PAUSE,
        ended: false,
    };
    let events = stream::unfold(watch, |mut watch| async move {
        let event = watch.next().await?;
        Some((Ok::<_, Infallible>(event), watch))
    });
    Sse::new(events)
        .keep_alive(KeepAlive::default())
        .into_response()
}

struct Watch<L> {
    living: L,
    /// What the reader has, by piece.
    sent: HashMap<String, u64>,
    ready: VecDeque<Event>,
    pause: Duration,
    ended: bool,
}

impl<L: Living> Watch<L> {
    async fn next(&mut self) -> Option<Event> {
        let stop = self.living.pages().services().setup.tasks.stopping();
        while self.ready.is_empty() && !self.ended {
            stop.run_until_cancelled(self.look()).await??;
        }
        self.ready.pop_front()
    }

    /// Waits for a change, unless this is the first look, and makes events of what is new.
    async fn look(&mut self) -> Option<()> {
        let clock = self.living.pages().clock().clone();
        if !self.sent.is_empty() {
            clock.sleep(self.pause).await;
            self.living.wait().await?;
        }
        let began = clock.now();
        let look = self.living.look().await?;
        for fragment in &look.fragments {
            self.send_changes(fragment);
        }
        if look.ended {
            let end = Event::default().event("end").data("{}");
            self.ready.push_back(end);
            self.ended = true;
        }
        let took = clock.now().since(began).saturating_mul(PAUSE_FACTOR);
        self.pause = Duration::from_millis(took.unsigned_abs()).max(PAUSE);
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
