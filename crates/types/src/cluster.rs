use serde::{Deserialize, Serialize};

/// Where a cluster stands. A cluster is a named environment with limits, so that "running" says
/// that its environment is ready, and stopping takes no time.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "SCREAMING_SNAKE_CASE")]
pub enum ClusterState {
    /// Its environment is being prepared.
    Pending,
    Running,
    /// As `Pending`, but it ran before.
    Restarting,
    Terminated,
    /// Its environment could not be prepared; the state message says why.
    Error,
}

impl ClusterState {
    pub const ALL: [Self; 5] = [
        Self::Pending,
        Self::Running,
        Self::Restarting,
        Self::Terminated,
        Self::Error,
    ];

    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Pending => "PENDING",
            Self::Running => "RUNNING",
            Self::Restarting => "RESTARTING",
            Self::Terminated => "TERMINATED",
            Self::Error => "ERROR",
        }
    }

    #[must_use]
    pub fn parse(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|state| state.as_str() == name)
    }

    /// Whether the cluster is up or on its way.
    #[must_use]
    pub fn is_active(self) -> bool {
        matches!(self, Self::Pending | Self::Running | Self::Restarting)
    }

    #[must_use]
    pub fn is_preparing(self) -> bool {
        matches!(self, Self::Pending | Self::Restarting)
    }
}

/// Who made a cluster.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum ClusterSource {
    /// A person or tool, through the API.
    Api,
    /// A run, for itself; it ends with the run.
    Job,
}

impl ClusterSource {
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Api => "API",
            Self::Job => "JOB",
        }
    }
}
