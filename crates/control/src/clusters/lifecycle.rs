//! The life of a cluster, decided purely: each function takes a cluster and the time, changes the
//! cluster, and returns the event to note; or refuses.
//!
//! ```text
//! create, start ─▶ PENDING ──prepared──▶ RUNNING ──restart, edit──▶ RESTARTING ──prepared──▶ RUNNING
//!                     └──failed──▶ ERROR     └──terminate──▶ TERMINATED ──start──▶ PENDING
//! ```

use forebay_store::{Cluster, ClusterEvent};
use forebay_types::{ClusterState, Error, Millis, Result};
use serde_json::{Map, Value, json};

/// Why a cluster ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Ending<'a> {
    Request { user: &'a str },
    Inactivity { minutes: i64 },
    JobFinished,
}

impl Ending<'_> {
    fn reason(self) -> Value {
        match self {
            Self::Request { user } => {
                json!({"code": "USER_REQUEST", "type": "SUCCESS", "parameters": {"username": user}})
            }
            Self::Inactivity { minutes } => json!({
                "code": "INACTIVITY", "type": "SUCCESS",
                "parameters": {"inactivity_duration_min": minutes.to_string()}
            }),
            Self::JobFinished => {
                json!({"code": "JOB_FINISHED", "type": "SUCCESS", "parameters": {}})
            }
        }
    }
}

pub(super) fn event(now: Millis, kind: &str, details: Value) -> ClusterEvent {
    ClusterEvent {
        at: now,
        kind: kind.to_owned(),
        details,
    }
}

/// The state in words, as clients print it: `Running`.
fn word(state: ClusterState) -> String {
    let name = state.as_str();
    name[..1].to_owned() + &name[1..].to_ascii_lowercase()
}

fn unexpected(cluster: &Cluster, need: &str) -> Error {
    Error::state(format!(
        "Cluster {} is in unexpected state {}: {need}.",
        cluster.id,
        word(cluster.state)
    ))
}

pub(super) fn start(cluster: &mut Cluster, user: &str, now: Millis) -> Result<ClusterEvent> {
    if cluster.state.is_active() {
        return Err(unexpected(
            cluster,
            "only a terminated cluster can be started",
        ));
    }
    cluster.state = ClusterState::Pending;
    cluster.state_message = "Preparing the environment".to_owned();
    cluster.started_at = Some(now);
    cluster.last_used_at = now;
    cluster.terminated_at = None;
    cluster.termination = None;
    Ok(event(now, "STARTING", json!({"user": user})))
}

pub(super) fn restart(cluster: &mut Cluster, user: &str, now: Millis) -> Result<ClusterEvent> {
    if !cluster.state.is_active() {
        return Err(unexpected(
            cluster,
            "only a running cluster can be restarted",
        ));
    }
    to_restarting(cluster, now);
    Ok(event(now, "RESTARTING", json!({"user": user})))
}

fn to_restarting(cluster: &mut Cluster, now: Millis) {
    // What never ran is not restarting.
    if cluster.state == ClusterState::Running {
        cluster.state = ClusterState::Restarting;
    }
    cluster.state_message = "Preparing the environment".to_owned();
    cluster.restarted_at = Some(now);
    cluster.last_used_at = now;
}

/// `None` when it has ended already.
pub(super) fn terminate(
    cluster: &mut Cluster,
    ending: Ending<'_>,
    now: Millis,
) -> Option<ClusterEvent> {
    if cluster.state == ClusterState::Terminated {
        return None;
    }
    let reason = ending.reason();
    cluster.state = ClusterState::Terminated;
    cluster.state_message = match ending {
        Ending::Request { user } => format!("Terminated by {user}"),
        Ending::Inactivity { minutes } => format!("Terminated after {minutes} minutes without use"),
        Ending::JobFinished => "Terminated because its run has ended".to_owned(),
    };
    cluster.terminated_at = Some(now);
    cluster.termination = Some(reason.clone());
    Some(event(now, "TERMINATING", json!({"reason": reason})))
}

/// New settings; a cluster that is up restarts with them.
pub(crate) fn edit(
    cluster: &mut Cluster,
    settings: Map<String, Value>,
    user: &str,
    now: Millis,
) -> ClusterEvent {
    let details = json!({
        "user": user,
        "attributes": settings,
        "previous_attributes": std::mem::take(&mut cluster.settings),
    });
    cluster.settings = settings;
    if cluster.state.is_active() {
        to_restarting(cluster, now);
    }
    event(now, "EDITED", details)
}

/// Takes the new size down; it is one machine all the same.
pub(super) fn resize(
    cluster: &mut Cluster,
    settings: Map<String, Value>,
    user: &str,
    now: Millis,
) -> Result<ClusterEvent> {
    if cluster.state != ClusterState::Running {
        return Err(Error::state(format!(
            "Cluster is not running: {} is {}.",
            cluster.id,
            word(cluster.state)
        )));
    }
    cluster.settings = settings;
    Ok(event(now, "RESIZING", json!({"user": user})))
}

/// The environment is ready, or cannot be made so.
pub(super) fn prepared(
    cluster: &mut Cluster,
    outcome: Result<String, String>,
    now: Millis,
) -> Option<ClusterEvent> {
    if !cluster.state.is_preparing() {
        return None;
    }
    match outcome {
        Ok(message) => {
            cluster.state = ClusterState::Running;
            cluster.state_message = message;
            cluster.last_used_at = now;
            Some(event(now, "RUNNING", json!({})))
        }
        Err(reason) => {
            let termination = json!({
                "code": "DRIVER_LAUNCH_FAILURE", "type": "SERVICE_FAULT",
                "parameters": {"databricks_error_message": reason}
            });
            cluster.state = ClusterState::Error;
            cluster.terminated_at = Some(now);
            cluster.termination = Some(termination.clone());
            cluster.state_message = reason;
            let details = json!({"reason": termination});
            Some(event(now, "DRIVER_UNAVAILABLE", details))
        }
    }
}

#[cfg(test)]
mod tests {
    use forebay_types::{ClusterId, ClusterSource};

    use super::*;

    const NOW: Millis = Millis(5);

    fn cluster(state: ClusterState) -> Cluster {
        Cluster {
            id: ClusterId("c".to_owned()),
            settings: Map::new(),
            creator: "ann".to_owned(),
            source: ClusterSource::Api,
            state,
            state_message: String::new(),
            version: 1,
            pinned: false,
            created_at: Millis(1),
            started_at: None,
            restarted_at: None,
            terminated_at: None,
            last_used_at: Millis(1),
            termination: None,
        }
    }

    /// For every state, the state after a call; `None` where the call is refused.
    fn after(step: impl Fn(&mut Cluster) -> bool) -> Vec<Option<&'static str>> {
        let states = ClusterState::ALL.into_iter().map(cluster);
        states
            .map(|mut cluster| step(&mut cluster).then(|| cluster.state.as_str()))
            .collect()
    }

    #[test]
    fn every_call_in_every_state() {
        const P: Option<&str> = Some("PENDING");
        const R: Option<&str> = Some("RUNNING");
        const S: Option<&str> = Some("RESTARTING");
        const T: Option<&str> = Some("TERMINATED");
        const E: Option<&str> = Some("ERROR");
        // In:       PENDING, RUNNING, RESTARTING, TERMINATED, ERROR
        assert_eq!(
            after(|c| start(c, "a", NOW).is_ok()),
            [None, None, None, P, P]
        );
        assert_eq!(
            after(|c| restart(c, "a", NOW).is_ok()),
            [P, S, S, None, None]
        );
        let edit = |c: &mut Cluster| edit(c, Map::new(), "a", NOW).kind == "EDITED";
        assert_eq!(after(edit), [P, S, S, T, E]);
        let resize = |c: &mut Cluster| resize(c, Map::new(), "a", NOW).is_ok();
        assert_eq!(after(resize), [None, R, None, None, None]);
        let end = |c: &mut Cluster| terminate(c, Ending::JobFinished, NOW).is_some();
        assert_eq!(after(end), [T, T, T, None, T]);
        let ready = |c: &mut Cluster| prepared(c, Ok(String::new()), NOW).is_some();
        assert_eq!(after(ready), [R, None, R, None, None]);
        let broken = |c: &mut Cluster| prepared(c, Err("no uv".to_owned()), NOW).is_some();
        assert_eq!(after(broken), [E, None, E, None, None]);
    }

    #[test]
    fn start_forgets_how_it_ended() {
        let mut cluster = cluster(ClusterState::Running);
        terminate(&mut cluster, Ending::Request { user: "ann" }, NOW);
        assert_eq!(cluster.terminated_at, Some(NOW));
        assert!(start(&mut cluster, "bob", Millis(9)).is_ok());
        assert_eq!((cluster.terminated_at, cluster.termination), (None, None));
        assert_eq!(cluster.started_at, Some(Millis(9)));
    }
}
